//! Virtual bdevs: bdevs over other bdevs, to any depth (SPDK's vbdev modules).
//!
//! - [`Vbdevs`] knows which virtual bdevs were asked for, makes each as soon as its bases are
//!   there, and takes it away when one of them goes.
//! - A module ([`passthru`], [`split`], [`delay`], [`error`], [`gpt`], [`raid`]) claims its bases,
//!   makes its bdevs, and passes Ios on.

#[cfg(test)]
mod aborted;
mod base;
pub mod delay;
pub mod error;
mod frames;
pub mod gpt;
mod part;
pub mod passthru;
pub mod raid;
mod recipe;
pub mod split;
#[cfg(test)]
mod tests;

pub use recipe::{Made, Recipe, Survives, Vbdevs};
