//! The target against a miniature host that speaks real PDUs over an in-memory network.

mod aborts;
mod admin;
mod ana;
mod associations;
mod capsules;
mod configure;
mod copies;
mod discovery;
mod discovery_changes;
mod faults;
mod features;
mod fused;
mod host;
mod io;
mod life;
mod limits;
mod logs;
mod masking;
mod passthru;
mod removal;
mod reservations;
mod reset;
mod rules;
mod transfers;
mod world;
mod zones;
