//! The target with two cores, a bystander, and hosts that do as they like.

pub mod controller;
pub mod far;
mod host;
mod pdus;
mod templates;
mod world;

pub use host::{Host, Manners};
pub use pdus::{capsule, connect_capsule, h2c_data, ic_req, term_req};
pub use templates::{TEMPLATES, natural_len, takes_data};
pub use world::World;
