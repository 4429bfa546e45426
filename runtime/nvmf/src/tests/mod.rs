//! The target against a miniature host that speaks real PDUs over an in-memory network.

mod admin;
mod configure;
mod disk;
mod faults;
mod host;
mod io;
mod life;
mod net;
mod world;
