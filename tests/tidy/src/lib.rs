//! What a program can check about this repository itself.
//!
//! 1. Dependencies point one way: [`arrows`], from `cargo metadata`.
//! 2. Versions are pinned and lints inherited: [`manifests`].
//! 3. Sources keep the house style: [`style`], on text whose comments and strings [`mask`] blanks.
//!
//! Each check takes text or plain data and gives [`Problem`]s that name a file, a line and a
//! remedy; beside each, unit tests prove that it can fail. `tests/tidy.rs` runs them on the real
//! tree, which [`Repository`] reads. Neighbours: none; it depends on no crate of the project.

pub mod arrows;
pub mod manifests;
mod mask;
mod repository;
pub mod style;

pub use mask::mask;
pub use repository::{Dependency, Kind, Package, Repository, Source};

use std::fmt;

/// Something that breaks a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The file, relative to the root of the repository.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, what, remedy } = self;
        write!(f, "{file}:{line}: {what}; {remedy}")
    }
}
