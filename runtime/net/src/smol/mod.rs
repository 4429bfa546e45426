//! The TCP/IP stack of one core, on smoltcp.

mod configure;
pub(crate) mod cut;
pub(crate) mod large;
mod life;
mod phy;
mod ports;
mod table;

use alloc::vec::Vec;
use core::time::Duration;

use basalt_env::{Instant, Work};
use basalt_reactor::Doze;
use smoltcp::iface::{self, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{RecvError, Socket, State};
use smoltcp::wire::{EthernetAddress, IpCidr, IpEndpoint};

use crate::port::{FramePort, Listening};
use crate::wire::Segment;
use crate::{
    Addresses, ConnectError, Endpoint, IpAddress, Ipv6Cidr, ListenError, ListenerId, NetStack,
};
use crate::{SocketError, SocketId};
pub use configure::MTU_MIN_V6;
use configure::smol_v6;
use phy::Phy;
use ports::LocalPorts;
use table::Table;

/// Frames taken in per poll, so that the network cannot starve the rest of the core.
const INGRESS_BUDGET: u32 = 64;
/// Rounds of one frame per socket sent per poll.
const EGRESS_ROUNDS: u32 = 32;
/// How long smoltcp's timers may be looked at late.
const TIMER_GRAIN: Duration = Duration::from_millis(1);
/// How long they are looked at late when smoltcp says that one is due and does nothing.
const STALE_GRAIN: Duration = Duration::from_millis(20);
/// How long a connection that its user closed may take to send what is left.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(30);

/// Sizes and limits of a stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StackOptions {
    /// Receive buffer of a connection, bytes.
    pub rx_buffer_len: usize,
    /// Send buffer of a connection, bytes.
    pub tx_buffer_len: usize,
    /// Most connections at once, in whatever state.
    pub connections_max: usize,
    /// Most connections per listener that are not accepted yet.
    pub backlog_max: usize,
}

impl Default for StackOptions {
    fn default() -> Self {
        Self {
            rx_buffer_len: 128 << 10,
            tx_buffer_len: 128 << 10,
            connections_max: 1024,
            backlog_max: 64,
        }
    }
}

impl StackOptions {
    /// The defaults, with as many connections as have their buffers in `bytes` of memory (at least
    /// 8, at most 1024).
    #[must_use]
    pub fn within(bytes: usize) -> Self {
        let defaults = Self::default();
        let each = defaults.rx_buffer_len + defaults.tx_buffer_len;
        Self { connections_max: (bytes / each).clamp(8, 1024), ..defaults }
    }
}

/// What a stack has counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StackStats {
    /// Frames taken in.
    pub frames_in: u64,
    /// Frames with a wrong checksum, and frames there was no room to send.
    pub frames_dropped: u64,
    /// Acknowledgements that were passed over, as a later one had come with them.
    pub superseded: u64,
    /// Connections that became ready to be accepted.
    pub accepted: u64,
    /// Requests for a connection that were ignored for want of room.
    pub refused: u64,
    /// Connections now, in whatever state.
    pub connections: usize,
}

/// Where a stack knows of routers from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Routers {
    /// It asks for them and hears what they advertise.
    Asked,
    /// It does not hear them.
    Unheard,
}

struct Listener {
    id: ListenerId,
    port: u16,
}

/// A [`NetStack`] over smoltcp, whose frames move through a [`FramePort`].
///
/// Life of a connection: a SYN to a listened port makes a socket (opening) -> handshake done
/// (ready) -> [`NetStack::accept`] (open) -> [`NetStack::close`] or [`NetStack::abort`] (closing)
/// -> freed once the peer has everything, or after 30 seconds.
/// Sockets exist from the SYN on only, so a listener costs no buffers.
pub struct SmolStack<P: FramePort> {
    phy: Phy<P>,
    interface: Interface,
    sockets: SocketSet<'static>,
    table: Table,
    listeners: Vec<Listener>,
    listener_next: u32,
    ports: LocalPorts,
    options: StackOptions,
    dhcp: Option<SocketHandle>,
    /// Fixed ones and the one from DHCP; the interface has those that routers advertise too.
    addresses: Addresses,
    addresses_version: u32,
    /// When what routers advertise last changed, as far as it is followed.
    routers_seen: smoltcp::time::Instant,
    /// Something happened that smoltcp may have to answer.
    dirty: bool,
    /// When to look at smoltcp's timers.
    timer: Option<Instant>,
    now: Instant,
    stats: StackStats,
}

impl<P: FramePort> SmolStack<P> {
    /// A stack without an address but the link-local one; it looks for routers. `seed` makes its
    /// sequence numbers hard to guess: give it entropy.
    pub fn new(port: P, options: StackOptions, seed: u64, now: Instant) -> Self {
        Self::build(port, options, seed, now, Routers::Asked)
    }

    /// A stack that is told what another has learnt of routers.
    pub(crate) fn follower(port: P, options: StackOptions, seed: u64, now: Instant) -> Self {
        Self::build(port, options, seed, now, Routers::Unheard)
    }

    fn build(port: P, options: StackOptions, seed: u64, now: Instant, routers: Routers) -> Self {
        let mut phy = Phy::new(port, options.connections_max);
        let mac = phy.port.mac();
        let mut config = iface::Config::new(EthernetAddress(mac).into());
        config.random_seed = seed;
        let is_v6 = phy.port.mtu() >= MTU_MIN_V6;
        config.slaac = is_v6 && routers == Routers::Asked;
        let mut interface = Interface::new(config, &mut phy, smol_time(now));
        if is_v6 {
            let link_local = IpCidr::Ipv6(smol_v6(Ipv6Cidr::link_local(mac)));
            interface.update_ip_addrs(|addresses| addresses.extend([link_local]));
        }
        Self {
            phy,
            interface,
            sockets: SocketSet::new(Vec::new()),
            table: Table::new(options.connections_max),
            listeners: Vec::new(),
            listener_next: 0,
            ports: LocalPorts::new(seed, 0, 1),
            options,
            dhcp: None,
            addresses: Addresses::default(),
            addresses_version: 0,
            routers_seen: smoltcp::time::Instant::ZERO,
            dirty: true,
            timer: None,
            now,
            stats: StackStats::default(),
        }
    }

    /// Connects from ports of its own, as one of so many stacks that share an address.
    pub(crate) fn share_ports(&mut self, seed: u64, index: u16, count: u16) {
        self.ports = LocalPorts::new(seed, index, count);
    }

    /// What it has counted.
    pub fn stats(&self) -> StackStats {
        let frames_dropped = self.phy.dropped;
        let superseded = self.phy.superseded;
        StackStats { frames_dropped, superseded, connections: self.table.len(), ..self.stats }
    }

    /// How its core's rest may end as far as it knows; its port may know of more.
    pub fn doze(&self) -> Doze {
        match self.timer {
            _ if self.dirty => Doze::Polled,
            Some(timer) => Doze::Until(timer),
            None => Doze::Signalled,
        }
    }

    /// Its port, to use it directly.
    pub(crate) fn port_mut(&mut self) -> &mut P {
        &mut self.phy.port
    }

    /// Its port.
    pub fn port(&self) -> &P {
        &self.phy.port
    }

    fn open(&self, id: SocketId) -> Option<&Socket<'static>> {
        let connection = self.table.open(id)?;
        Some(self.sockets.get(connection.handle))
    }

    fn open_mut(&mut self, id: SocketId) -> Result<&mut Socket<'static>, SocketError> {
        let connection = self.table.open(id).ok_or(SocketError::Reset)?;
        Ok(self.sockets.get_mut(connection.handle))
    }

    /// Takes frames in; whether there is anything to be sent for their sake at once.
    fn ingress(&mut self) -> (Work, Urgency) {
        let (mut work, mut urgency) = (Work::IDLE, Urgency::None);
        while work.0 < INGRESS_BUDGET {
            let Some(segment) = self.phy.stage() else { break };
            urgency = urgency.max(Urgency::of(segment.as_ref()));
            let syn = segment.filter(Segment::is_syn);
            let opening = syn.filter(Segment::opens);
            work += Work(1);
            let Ok(admitted) = opening.map(|segment| self.admit(&segment)).transpose() else {
                self.stats.refused += 1;
                self.phy.unstage();
                continue;
            };
            if let Some(syn) = syn {
                self.present(&syn, admitted.flatten());
            }
            let (phy, sockets) = (&mut self.phy, &mut self.sockets);
            let _ = self.interface.poll_ingress_single(smol_time(self.now), phy, sockets);
            self.phy.unstage();
            if let Some(handle) = admitted.flatten() {
                self.settle(handle);
            }
        }
        self.stats.frames_in += u64::from(work.0);
        (work, urgency)
    }

    fn egress(&mut self) {
        let now = smol_time(self.now);
        self.interface.poll_maintenance(now);
        self.dirty = true; // Until there is nothing left to send.
        for _ in 0..EGRESS_ROUNDS {
            let result = self.interface.poll_egress(now, &mut self.phy, &mut self.sockets);
            if result == PollResult::None {
                self.dirty = !self.phy.can_transmit();
                return;
            }
        }
    }

    /// Sets the timer: coarsely after each change, exactly once that is due.
    fn set_timer(&mut self, due: bool) {
        let soon = self.now + TIMER_GRAIN;
        if !due {
            self.timer = Some(self.timer.map_or(soon, |timer| timer.min(soon)));
            return;
        }
        let next = self.interface.poll_at(smol_time(self.now), &self.sockets);
        let next = next.map(|at| Instant::from_ns(at.total_micros().max(0) as u64 * 1000));
        // smoltcp 0.13 names a time that is over for ever once no router has answered.
        let next = next.map(|at| if at < self.now { self.now + STALE_GRAIN } else { at });
        let sweep = self.next_deadline();
        self.timer = next.into_iter().chain(sweep).min().map(|at| at.max(soon));
    }
}

/// Requests of up to so many bytes are acknowledged by what they are answered with, if that comes
/// before the timer does: within [`TIMER_GRAIN`].
const SMALL: usize = 256;

/// How soon something is to be sent for the sake of what was received.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Urgency {
    /// Nothing was received.
    None,
    /// A small request, which its answer acknowledges.
    Small,
    /// At once.
    Now,
}

impl Urgency {
    fn of(segment: Option<&Segment>) -> Self {
        let len = segment.and_then(Segment::data_len);
        if len.is_some_and(|len| len <= SMALL) { Self::Small } else { Self::Now }
    }
}

impl<P: FramePort> NetStack for SmolStack<P> {
    fn poll(&mut self, now: Instant) -> Work {
        self.now = now;
        let mut work = self.phy.port.poll(now);
        let (frames, urgency) = self.ingress();
        work += frames;
        let due = self.timer.is_some_and(|timer| now >= timer);
        if urgency == Urgency::Small {
            self.set_timer(due);
        }
        if urgency == Urgency::Now || self.dirty || due {
            self.egress();
            self.sweep();
            self.follow_dhcp();
            self.follow_routers();
            self.set_timer(due);
        }
        self.phy.port.commit();
        work
    }

    fn listen(&mut self, port: u16) -> Result<ListenerId, ListenError> {
        if port == 0 || self.listeners.iter().any(|listener| listener.port == port) {
            return Err(ListenError::InUse);
        }
        let id = ListenerId(self.listener_next);
        self.listener_next = self.listener_next.wrapping_add(1);
        self.listeners.push(Listener { id, port });
        self.phy.port.announce(port, Listening::Started);
        Ok(id)
    }

    fn unlisten(&mut self, listener: ListenerId) {
        let Some(at) = self.listeners.iter().position(|other| other.id == listener) else {
            return;
        };
        let Listener { port, .. } = self.listeners.swap_remove(at);
        self.phy.port.announce(port, Listening::Stopped);
        self.abandon(listener);
    }

    fn accept(&mut self, listener: ListenerId) -> Option<SocketId> {
        self.table.accept(listener)
    }

    fn connect(&mut self, peer: Endpoint) -> Result<SocketId, ConnectError> {
        self.dial(peer)
    }

    fn recv(
        &mut self,
        socket: SocketId,
        take: &mut dyn FnMut(&[u8]) -> usize,
    ) -> Result<usize, SocketError> {
        let socket = self.open_mut(socket)?;
        if socket.recv_queue() == 0 && (socket.may_recv() || is_connecting(socket)) {
            return Ok(0);
        }
        let taken = socket.recv(|bytes| {
            let taken = take(bytes).min(bytes.len());
            (taken, taken)
        });
        match taken {
            Ok(0) | Err(_) => {}
            // It is answered soon, which acknowledges it as well; or else the timer does.
            Ok(1..=SMALL) if socket.send_queue() == 0 => self.set_timer(false),
            // What was taken may open the window, which the peer has to hear of; and what the peer
            // has acknowledged with it may let us send more.
            Ok(_) => self.dirty = true,
        }
        taken.map_err(|error| match error {
            RecvError::Finished => SocketError::Closed,
            RecvError::InvalidState => SocketError::Reset,
        })
    }

    fn send(&mut self, socket: SocketId, bytes: &[u8]) -> Result<usize, SocketError> {
        let socket = self.open_mut(socket)?;
        if is_connecting(socket) {
            return Ok(0);
        }
        let sent = socket.send_slice(bytes).map_err(|_| SocketError::Reset)?;
        self.dirty |= sent > 0;
        Ok(sent)
    }

    fn close(&mut self, socket: SocketId) {
        let deadline = self.now + CLOSE_TIME_MAX;
        if let Some(handle) = self.table.start_closing(socket, deadline) {
            self.sockets.get_mut::<Socket>(handle).close();
            self.dirty = true;
        }
    }

    fn abort(&mut self, socket: SocketId) {
        if let Some(handle) = self.table.start_closing(socket, self.now) {
            self.sockets.get_mut::<Socket>(handle).abort();
            self.dirty = true;
        }
    }

    fn peer(&self, socket: SocketId) -> Option<Endpoint> {
        self.open(socket)?.remote_endpoint().map(endpoint)
    }

    fn local(&self, socket: SocketId) -> Option<Endpoint> {
        self.open(socket)?.local_endpoint().map(endpoint)
    }

    fn address(&self) -> Option<IpAddress> {
        self.addresses().iter().next()
    }
}

fn is_connecting(socket: &Socket<'_>) -> bool {
    matches!(socket.state(), State::SynSent | State::SynReceived)
}

fn smol_time(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(now.as_us() as i64)
}

fn endpoint(endpoint: IpEndpoint) -> Endpoint {
    Endpoint::new(endpoint.addr.into(), endpoint.port)
}
