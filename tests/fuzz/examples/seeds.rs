//! Writes the seeds of every target to a directory of its name below the one given: what
//! cargo-fuzz begins with.

use std::path::PathBuf;
use std::{env, fs, io};

use basalt_fuzz::ALL;

fn main() -> io::Result<()> {
    let directory: PathBuf = env::args_os().nth(1).unwrap_or_else(|| "corpus".into()).into();
    for target in ALL {
        let directory = directory.join(target.name);
        fs::create_dir_all(&directory)?;
        for (index, seed) in (target.seeds)().into_iter().enumerate() {
            fs::write(directory.join(format!("seed-{index}")), seed.bytes)?;
        }
    }
    Ok(())
}
