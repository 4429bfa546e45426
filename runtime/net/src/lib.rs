//! TCP/IP behind a small trait, one stack per core.
//!
//! 1. Protocols code against [`NetStack`]: polled, never blocking, one instance per core.
//! 2. [`IpStack`] is that: its TCP (`tcp`) is our own, everything below and beside it smoltcp's.
//!    It has something for connections only, never for listeners, and gives back everything a
//!    connection took. What is received is read from the frames that it came in, and what is sent
//!    out of a shared buffer is read there by the card.
//! 3. A stack's frames come through a [`FramePort`]: a virtio card, or a ring to the core that has
//!    the card.
//! 4. [`start`] puts one on every core: the card's core steers each TCP flow to the core it was
//!    given to ([`Switch`]), unless that has queues of its own ([`bring_up`]). A core finds its own
//!    by `local.service::<NetHandle>()`.
//! 5. What comes off the wire is parsed into checked views (`wire`) before anybody acts on it.
//!
//! Neighbours: `drivers/virtio-net` below, `runtime/nvmf` and `runtime/rpc` above. IPv4 (RFC 791),
//! ARP (RFC 826), ICMP echo (RFC 792, RFC 4443), TCP (RFC 9293), UDP as far as it is sent
//! (RFC 768), DHCP (RFC 2131), IPv6 (RFC 8200), neighbour and router discovery (RFC 4861),
//! addresses from routers (RFC 4862).
#![no_std]

extern crate alloc;

mod address;
mod checksum;
mod ip;
mod memory;
mod port;
mod queues;
mod stack;
mod start;
mod steer;
mod tcp;
#[cfg(test)]
pub(crate) mod tests;
mod wire;

pub use address::{Address, Addresses, BadCidr, InterfaceConfig, Ipv4Cidr, Ipv6Cidr, TooMany};
pub use ip::{IpStack, MTU_MIN_V6, StackOptions, StackStats};
pub use memory::{Cable, MemoryFrame, MemoryPort};
pub use port::{
    ChecksumState, Cut, Fill, Frame, FramePort, Insert, IpVersion, Listening, NetStats,
    PartialChecksum, TxFull,
};
pub use queues::{NetQueue, OwnQueue, QueueStats, bring_up, queue_stats};
pub use stack::{
    ConnectError, DatagramError, DatagramId, Endpoint, IpAddress, ListenError, ListenerId,
    NetStack, SocketError, SocketId,
};
pub use start::{NetConfig, NetHandle, NetInfo, NetInterface, start};
pub use steer::{LocalPort, RemoteEnd, RemotePort, Switch, SwitchStats};
pub use tcp::SegmentStats;
