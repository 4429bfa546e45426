//! One card, a stack per core.
//!
//! [`Switch`] has the card and lives on its core. It gives each frame of a TCP flow to the core
//! that the flow was given to, and keeps everything else for its own core's stack; answers to
//! questions for neighbours and routers go to all, as any of them may have asked. Cores are
//! numbered here as *lanes*: lane 0 is the card's core, which reaches the switch through a
//! [`LocalPort`]; the others have a [`RemotePort`] each, at the end of rings: frames in, frames
//! out, and what both came in on its way back. Frames in are lent as the card has received them,
//! while it has buffers enough for what comes meanwhile; others, and all frames out, are copied
//! into buffers of the rings.
//!
//! A lane may have queues of the card for itself. It sends by them, and keeps a table of its own
//! flows: what comes by them of these it keeps, and all else, requests for connections among it,
//! goes to the switch, which alone decides. The switch is told what it has to know of the flows
//! that it does not see: their beginning and end, and now and then that they live. A device that
//! receives a flow by the queue it was last sent from (virtio 1.2 §5.1.6.5.5) makes all but the
//! first frames come where they belong.

mod core_port;
mod flows;
mod loans;
mod local;
mod remote;
mod rings;
mod switch;
#[cfg(test)]
mod tests;

pub use core_port::CorePort;
pub use local::LocalPort;
pub(crate) use remote::Strays;
pub use remote::{RemoteEnd, RemotePort};
pub use switch::{Switch, SwitchStats};
