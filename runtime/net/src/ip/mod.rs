//! The stack of one core: IP, neighbours and addresses by smoltcp, TCP by [`crate::tcp`].

mod configure;
mod datagrams;
mod life;
mod linger;
mod neighbours;
mod path;
mod phy;
mod ports;
mod secret;
mod segments;
mod table;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_env::{DmaRun, Instant, Work};
use basalt_reactor::Doze;
use smoltcp::iface::{self, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::wire::{EthernetAddress, IpCidr};

use crate::port::{Frame, FramePort, Listening};
use crate::tcp::{self, SegmentStats, State};
use crate::wire::Segment;
use crate::{
    Addresses, ConnectError, DatagramError, DatagramId, Endpoint, IpAddress, Ipv6Cidr, ListenError,
    ListenerId, NetStack, SocketError, SocketId,
};
pub use configure::MTU_MIN_V6;
use configure::smol_v6;
use datagrams::Addressee;
use linger::Linger;
use phy::Phy;
use ports::LocalPorts;
use secret::Secret;
use table::Table;

/// Frames taken in per poll, so that the network cannot starve the rest of the core.
const INGRESS_BUDGET: u32 = 64;
/// Rounds of one frame per socket that smoltcp sends per poll.
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
    /// Frames with a wrong checksum or a malformed header, and frames there was no room to send.
    pub frames_dropped: u64,
    /// Connections that became ready to be accepted.
    pub accepted: u64,
    /// Requests for a connection that were ignored for want of room.
    pub refused: u64,
    /// Of those, frames there was no room to send.
    pub tx_dropped: u64,
    /// Connections now, in whatever state.
    pub connections: usize,
    /// What did not simply come and go in order, if it is counted.
    pub segments: Option<SegmentStats>,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Datagrams that were queued and not sent: whom they were for was given up, or the address
    /// they were to be sent from.
    pub datagrams_dropped: u64,
}

/// Where a stack knows of routers from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Routers {
    /// It asks for them and hears what they advertise.
    Asked,
    /// It does not hear them.
    Unheard,
}

/// Whether connections that no user holds are to be looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sweep {
    Idle,
    Due,
}

struct Listener {
    id: ListenerId,
    port: u16,
}

/// A [`NetStack`] whose frames move through a [`FramePort`].
///
/// Life of a connection: a SYN to a listened port makes one (opening) -> handshake done (ready) ->
/// [`NetStack::accept`] (open) -> [`NetStack::close`] or [`NetStack::abort`] (closing) -> freed
/// once the peer has everything, or after 30 seconds; of one that we were the first to end, what it
/// takes to repeat its last acknowledgement is kept for a minute.
pub struct IpStack<P: FramePort> {
    phy: Phy<P>,
    mac: [u8; 6],
    interface: Interface,
    sockets: SocketSet<'static>,
    table: Table<P::Frame>,
    linger: Linger,
    /// Connections that may have something to send, by their slots.
    queued: VecDeque<u32>,
    sweep: Sweep,
    listeners: Vec<Listener>,
    listener_next: u32,
    ports: LocalPorts,
    secret: Secret,
    options: StackOptions,
    addressees: Vec<Addressee>,
    addressee_next: u32,
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
    /// When to look at those of connections.
    tcp_timer: Option<Instant>,
    now: Instant,
    stats: StackStats,
    /// Of connections that are no more.
    ended: SegmentStats,
}

impl<P: FramePort> IpStack<P> {
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
        let mut phy = Phy::new(port);
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
            mac,
            interface,
            sockets: SocketSet::new(Vec::new()),
            table: Table::new(options.connections_max),
            linger: Linger::default(),
            queued: VecDeque::new(),
            sweep: Sweep::Idle,
            listeners: Vec::new(),
            listener_next: 0,
            ports: LocalPorts::new(seed, 0, 1),
            secret: Secret::new(seed),
            options,
            addressees: Vec::new(),
            addressee_next: 0,
            dhcp: None,
            addresses: Addresses::default(),
            addresses_version: 0,
            routers_seen: smoltcp::time::Instant::ZERO,
            dirty: true,
            timer: None,
            tcp_timer: None,
            now,
            stats: StackStats::default(),
            ended: SegmentStats::default(),
        }
    }

    /// Connects from ports of its own, as one of so many stacks that share an address.
    pub(crate) fn share_ports(&mut self, seed: u64, index: u16, count: u16) {
        self.ports = LocalPorts::new(seed, index, count);
    }

    /// What it has counted.
    pub fn stats(&self) -> StackStats {
        let tx_dropped = self.phy.tx_dropped;
        let connections = self.table.iter().map(|connection| connection.tcp.segments());
        StackStats {
            frames_dropped: self.phy.dropped + tx_dropped,
            tx_dropped,
            connections: self.table.len(),
            segments: Some(connections.fold(self.ended, SegmentStats::plus)),
            ..self.stats
        }
    }

    /// How its core's rest may end as far as it knows; its port may know of more.
    pub fn doze(&self) -> Doze {
        if self.dirty || self.phy.is_staged() || !self.queued.is_empty() {
            return Doze::Polled;
        }
        let first = self.timer.into_iter().chain(self.tcp_timer).min();
        first.map_or(Doze::Signalled, Doze::Until)
    }

    /// Its port, to use it directly.
    pub(crate) fn port_mut(&mut self) -> &mut P {
        &mut self.phy.port
    }

    /// Its port.
    pub fn port(&self) -> &P {
        &self.phy.port
    }

    /// Takes frames in: TCP's to their connections, all others to smoltcp.
    fn ingress(&mut self) -> Work {
        let mut work = Work::IDLE;
        while work.0 < INGRESS_BUDGET && self.has_staged_given() {
            let Some(frame) = self.phy.next_good() else { break };
            work += Work(1);
            match Segment::of_frame(&frame) {
                Some(segment) => self.take_segment(frame, &segment),
                None => {
                    self.hear_neighbour(frame.head());
                    self.phy.stage(frame);
                }
            }
        }
        self.stats.frames_in += u64::from(work.0);
        work
    }

    /// Gives smoltcp the frame that is staged for it; `false` if it could not answer that now.
    fn has_staged_given(&mut self) -> bool {
        !self.phy.is_staged() || self.give_staged()
    }

    #[cold]
    fn give_staged(&mut self) -> bool {
        if !self.phy.port.can_transmit(1) {
            return false;
        }
        let (phy, sockets) = (&mut self.phy, &mut self.sockets);
        let _ = self.interface.poll_ingress_single(smol_time(self.now), phy, sockets);
        self.phy.unstage();
        self.dirty = true;
        true
    }

    /// Has smoltcp do what it has to.
    #[cold]
    fn serve_interface(&mut self) {
        let now = smol_time(self.now);
        self.interface.poll_maintenance(now);
        self.dirty = true; // Until there is nothing left to send.
        for _ in 0..EGRESS_ROUNDS {
            self.feed_datagrams();
            let result = self.interface.poll_egress(now, &mut self.phy, &mut self.sockets);
            if result == PollResult::None {
                self.dirty = !self.phy.port.can_transmit(1);
                break;
            }
        }
        self.ask_for_addressees();
        self.follow_dhcp();
        self.follow_routers();
        let next = self.interface.poll_at(smol_time(self.now), &self.sockets);
        let next = next.map(|at| Instant::from_ns(at.total_micros().max(0) as u64 * 1000));
        // smoltcp 0.13 names a time that is over for ever once no router has answered.
        let next = next.map(|at| if at < self.now { self.now + STALE_GRAIN } else { at });
        self.timer = next.map(|at| at.max(self.now + TIMER_GRAIN));
    }
}

impl<P: FramePort> NetStack for IpStack<P> {
    fn poll(&mut self, now: Instant) -> Work {
        self.now = now;
        let mut work = self.phy.port.poll(now);
        work += self.ingress();
        let is_due = |timer: Option<Instant>| timer.is_some_and(|timer| now >= timer);
        if is_due(self.tcp_timer) {
            self.tick();
        }
        self.transmit_queued();
        if self.dirty || is_due(self.timer) {
            self.serve_interface();
        }
        if self.sweep == Sweep::Due {
            self.sweep();
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
        let tcp = &mut self.table.open_mut(socket).ok_or(SocketError::Reset)?.tcp;
        if tcp.state() == State::Closed {
            return Err(SocketError::Reset);
        }
        if tcp.front().is_empty() {
            return if tcp.peer_finished() { Err(SocketError::Closed) } else { Ok(0) };
        }
        let mut total = 0;
        while let bytes @ [_, ..] = tcp.front() {
            let offered = bytes.len();
            let taken = take(bytes).min(offered);
            total += taken;
            if let Some(frame) = tcp.read(taken) {
                self.phy.port.recycle(frame);
            }
            if taken < offered {
                break;
            }
        }
        if tcp.is_pressed() {
            self.queue(socket.slot);
        }
        Ok(total)
    }

    fn send_vectored(
        &mut self,
        socket: SocketId,
        runs: &[DmaRun<'_>],
    ) -> Result<usize, SocketError> {
        let tcp = &mut self.table.open_mut(socket).ok_or(SocketError::Reset)?.tcp;
        if tcp.state() == State::Closed {
            return Err(SocketError::Reset);
        }
        let mut total = 0;
        for run in runs {
            let taken = match *run {
                DmaRun::Lent(bytes) => tcp.write(bytes),
                DmaRun::Shared(slice, from) => tcp.write_shared(slice, from),
            };
            total += taken;
            if taken < run.len() {
                break;
            }
        }
        if total > 0 {
            self.queue(socket.slot);
        }
        Ok(total)
    }

    fn keeps_shared(&self) -> bool {
        true
    }

    fn held(&self, socket: SocketId) -> usize {
        self.table.open(socket).map_or(0, |connection| connection.tcp.held())
    }

    fn close(&mut self, socket: SocketId) {
        self.let_go(socket, CLOSE_TIME_MAX, tcp::Connection::finish);
    }

    fn abort(&mut self, socket: SocketId) {
        self.let_go(socket, Duration::ZERO, tcp::Connection::abort);
    }

    fn peer(&self, socket: SocketId) -> Option<Endpoint> {
        Some(self.table.open(socket)?.path.flow().peer)
    }

    fn local(&self, socket: SocketId) -> Option<Endpoint> {
        Some(self.table.open(socket)?.path.flow().local)
    }

    fn address(&self) -> Option<IpAddress> {
        self.addresses().iter().next()
    }

    fn open_datagrams(&mut self, peer: Endpoint) -> Result<DatagramId, ConnectError> {
        self.add_addressee(peer)
    }

    fn send_datagram(&mut self, to: DatagramId, bytes: &[u8]) -> Result<(), DatagramError> {
        self.queue_datagram(to, bytes)
    }

    fn close_datagrams(&mut self, to: DatagramId) {
        self.remove_addressee(to);
    }

    fn stats(&self) -> StackStats {
        self.stats()
    }
}

fn smol_time(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(now.as_us() as i64)
}
