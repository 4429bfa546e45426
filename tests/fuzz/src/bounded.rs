use std::fmt::Write as _;
use std::fs;
use std::panic::{catch_unwind, set_hook, take_hook};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::mutate::mutate;
use crate::random::Random;
use crate::seed::Seed;
use crate::targets::Target;

/// How long an input that fails is made smaller.
const MINIMISING: Duration = Duration::from_secs(20);

/// One thread at a time silences panics.
static SILENCE: Mutex<()> = Mutex::new(());

/// Gives a target what once broke it, its seeds as they are, and then so many inputs made of them.
///
/// # Panics
/// One of them fails: it is printed, made as small as it could be in 20 seconds.
pub fn bounded(target: Target) {
    let asked = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let first = asked("BASALT_FUZZ_SEED").unwrap_or(1);
    let runs = asked("BASALT_FUZZ_RUNS").unwrap_or(u64::from(target.runs));
    for (name, bytes) in found(target.name) {
        check(target, &bytes, &name);
    }
    let seeds = (target.seeds)();
    for (index, seed) in seeds.iter().enumerate() {
        check(target, &seed.bytes, &format!("its seed {index}"));
    }
    for number in 0..runs {
        let bytes = input_of(&seeds, first.wrapping_add(number));
        let origin = format!("BASALT_FUZZ_SEED={} BASALT_FUZZ_RUNS=1", first + number);
        check(target, &bytes, &origin);
    }
}

/// The inputs in `seeds/found` that are called after a target.
fn found(name: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/found");
    let entries = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries
        .filter(|path| {
            path.file_stem().is_some_and(|stem| stem.to_string_lossy().starts_with(name))
        })
        .collect();
    paths.sort();
    paths.iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect()
}

/// The input that follows from a number.
fn input_of(seeds: &[Seed], number: u64) -> Vec<u8> {
    mutate(&mut Random::new(number), seeds)
}

fn check(target: Target, bytes: &[u8], origin: &str) {
    if catch_unwind(|| target.run(bytes)).is_ok() {
        return;
    }
    let small = minimised(target, bytes);
    let hex = small.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    panic!("{} fails by {origin}, and by these {} bytes: {hex}", target.name, small.len());
}

/// As few of `bytes` as still fail.
fn minimised(target: Target, bytes: &[u8]) -> Vec<u8> {
    let _alone = SILENCE.lock().unwrap_or_else(PoisonError::into_inner);
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let end = Instant::now() + MINIMISING;
    let mut best = bytes.to_vec();
    let mut len = best.len().div_ceil(2);
    while len > 0 {
        let mut at = 0;
        while at < best.len() && Instant::now() < end {
            let mut fewer = best.clone();
            fewer.drain(at..best.len().min(at + len));
            if catch_unwind(|| target.run(&fewer)).is_err() {
                best = fewer;
            } else {
                at += len;
            }
        }
        len = if len == 1 { 0 } else { len.div_ceil(2) };
    }
    set_hook(hook);
    best
}
