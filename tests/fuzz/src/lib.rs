//! Fuzzing of every parser of bytes from the wire, from a device or from a file.
//!
//! 1. A [`Target`] is a plain function of bytes that panics if a rule is broken: no panic anywhere,
//!    nothing left over, nobody else hurt, every answer well formed.
//! 2. Its [`Seed`]s are inputs that are well formed, made by code; [`mutate`] changes a few places
//!    of one: bits, numbers, lengths, and whole parts, which it doubles, drops, exchanges or
//!    borrows.
//! 3. `cargo test -p basalt-fuzz` runs so many inputs of each target ([`bounded`]). They follow
//!    from `BASALT_FUZZ_SEED`; `BASALT_FUZZ_RUNS` says how many there are. A run that fails prints
//!    both, and the smallest input found that fails alike. What once failed is in `seeds/found`, by
//!    the target's name, and comes first.
//! 4. `fuzz/` has the same targets for cargo-fuzz, which lets coverage guide what is tried; its
//!    manifest says how.
//!
//! Neighbours: the devices are those of `tests/models`; the machine is `kernel/hosted`'s.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a target fails by panicking")]

mod bounded;
mod input;
mod machine;
mod mutate;
mod nvmf;
mod random;
mod rpc;
mod seed;
mod served;
pub mod targets;
mod wire;

pub use bounded::bounded;
pub use input::Input;
pub use mutate::mutate;
pub use random::Random;
pub use seed::Seed;
pub use targets::{ALL, Target};
