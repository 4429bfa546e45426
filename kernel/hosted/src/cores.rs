//! Threads as cores.

use std::hash::{BuildHasher, RandomState};
use std::thread;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The processors this process may use, by the host's numbers.
///
/// # Errors
/// The host does not tell.
pub fn processors() -> Result<Vec<usize>, Errno> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu) == Ok(true)).collect())
}

/// Runs `main` with each of `seeds` on a thread of its own, the first on the calling one, each
/// bound to one of `processors` (as many as there are seeds).
///
/// # Errors
/// A thread cannot be started or bound; those before it run.
pub fn run<T: Send + 'static>(
    seeds: Vec<T>,
    processors: &[usize],
    main: fn(T),
) -> std::io::Result<()> {
    let mut cores = seeds.into_iter().zip(processors.iter().copied()).enumerate();
    let boot = cores.next();
    for (core, (seed, processor)) in cores {
        let body = move || {
            if let Err(error) = bind(processor) {
                log::warn!("core {core} is not bound to processor {processor}: {error}");
            }
            main(seed);
        };
        thread::Builder::new().name(format!("core {core}")).spawn(body)?;
    }
    let Some((_, (seed, processor))) = boot else { return Ok(()) };
    bind(processor)?;
    main(seed);
    Ok(())
}

fn bind(processor: usize) -> Result<(), Errno> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// Bits nobody can foretell, for identifiers and not for keys.
pub fn entropy() -> u64 {
    RandomState::new().hash_one(0)
}
