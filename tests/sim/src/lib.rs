//! The whole storage stack in one thread, with time and order of events made from a seed.
//!
//! Below are models of NVMe controllers that go wrong; on them stand their bdevs, virtual bdevs,
//! and the NVMe-oF target, on one to three cores that run in any order; above is a host which knows
//! what each block may hold. Whatever goes wrong, each command ends once and in time, no block
//! holds what it may not, and nothing is left of what was under way.
//!
//! A run that fails prints its seed; `BASALT_SEED=<seed> cargo test -p basalt-sim` repeats it
//! alone, with its log, and `BASALT_SEEDS=1000 cargo test --release -p basalt-sim` tries so many.

#[cfg(test)]
mod simulation;
