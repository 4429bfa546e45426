//! `basalt-runner`: see the library of the same name.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = basalt_runner::cli::Arguments::parse();
    match basalt_runner::run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
