//! One card, a stack per core.
//!
//! [`Switch`] has the card and lives on its core. It gives each frame of a TCP flow to the core
//! that the flow was given to, and keeps everything else for its own core's stack; answers to
//! questions for neighbours and routers go to all, as any of them may have asked. Cores are
//! numbered here as *lanes*: lane 0 is the card's core, which reaches the switch through a
//! [`LocalPort`]; the others have a [`RemotePort`] each, at the end of four rings: frames in,
//! frames out, and the empty buffers of both on their way back.

mod core_port;
mod flows;
mod local;
mod remote;
mod rings;
mod switch;
#[cfg(test)]
mod tests;

pub use core_port::CorePort;
pub use local::LocalPort;
pub use remote::{RemoteFrame, RemotePort};
pub use switch::{Switch, SwitchStats};
