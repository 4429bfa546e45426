//! A virtio network card and the wire between two of them.
//!
//! [`VirtioNetModel`] is a whole device: PCI capabilities, registers and its queues, which it
//! reaches by bus address as hardware would. It works when the driver rings its doorbell or a
//! frame arrives, and does what it is told to do wrong by a [`Fault`]. [`Wire`] carries frames
//! between models, losing, doubling and reordering some of them as its seed says.
//! After virtio 1.2 §2.7, §4.1 and §5.1.

use std::collections::VecDeque;
use std::sync::Arc;

use basalt_hosted::{Bus, BusError};
use spin::Mutex;

mod pairs;
mod segments;
mod wire;

use crate::lies::Lies;
use crate::virtio::{Card, Common};
pub use crate::virtio::{Fault, NoticeWish, Segment};
use pairs::Steering;
pub use wire::{Wire, WirePlan};

/// Bytes of the header before a frame.
const HEADER_LEN: usize = 12;
/// Ethernet header and one VLAN tag, bytes.
const ETHERNET_MAX: usize = 18;
/// Frames a card holds for a driver that gives it no buffers.
const INBOX_MAX: usize = 1024;

/// Feature bits, as in the specification.
pub mod feature {
    /// Completes checksums of frames sent.
    pub const CSUM: u64 = 1 << 0;
    /// Vouches for checksums of frames received.
    pub const GUEST_CSUM: u64 = 1 << 1;
    /// Names an MTU.
    pub const MTU: u64 = 1 << 3;
    /// Names a MAC address.
    pub const MAC: u64 = 1 << 5;
    /// Delivers large TCP segments over IPv4.
    pub const GUEST_TSO4: u64 = 1 << 7;
    /// Delivers large TCP segments over IPv6.
    pub const GUEST_TSO6: u64 = 1 << 8;
    /// Cuts large TCP segments over IPv4.
    pub const HOST_TSO4: u64 = 1 << 11;
    /// Cuts large TCP segments over IPv6.
    pub const HOST_TSO6: u64 = 1 << 12;
    /// Spreads a frame over buffers.
    pub const MRG_RXBUF: u64 = 1 << 15;
    /// Names the state of the link.
    pub const STATUS: u64 = 1 << 16;
    /// Takes commands.
    pub const CTRL_VQ: u64 = 1 << 17;
    /// Has several pairs of queues.
    pub const MQ: u64 = 1 << 22;
    /// Speaks virtio 1.
    pub const VERSION_1: u64 = 1 << 32;
    /// All of the above.
    pub const ALL: u64 =
        CSUM | GUEST_CSUM | MTU | MAC | MRG_RXBUF | STATUS | VERSION_1 | LARGE | QUEUES;
    /// Features, and what a driver has to accept with them (virtio 1.2 §5.1.3.1).
    pub const DEPENDENCIES: &[(u64, u64)] =
        &[(GUEST_TSO4 | GUEST_TSO6, GUEST_CSUM), (HOST_TSO4 | HOST_TSO6, CSUM), (MQ, CTRL_VQ)];
    /// Large segments, both ways.
    pub const LARGE: u64 = GUEST_TSO4 | GUEST_TSO6 | HOST_TSO4 | HOST_TSO6;
    /// Several pairs of queues.
    pub const QUEUES: u64 = CTRL_VQ | MQ;
}

/// The card behind the handles.
pub struct NetCard {
    common: Common,
    config: [u8; 12],
    /// Frames for each pair of queues.
    inboxes: Vec<VecDeque<Vec<u8>>>,
    sent: VecDeque<Vec<u8>>,
    steering: Steering,
    /// Frames the driver described wrongly.
    refused: u64,
    /// Where frames were read from, if somebody wants to know.
    sources: Option<Vec<Segment>>,
}

impl Card for NetCard {
    const IDS: [u32; 2] = [0x1041_1af4, 0x0200_0001];

    fn common(&mut self) -> &mut Common {
        &mut self.common
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn work(&mut self) {
        if !self.common.is_at_work() {
            self.steering = Steering::default();
        }
        self.obey();
        for pair in 0..self.steering.pairs() {
            self.deliver(pair);
            self.send(pair);
        }
    }
}

/// The card as its driver sees it.
pub type ModelDevice = crate::virtio::ModelDevice<NetCard>;

/// A network card. Clones are handles on the same card.
#[derive(Clone)]
pub struct VirtioNetModel {
    state: Arc<Mutex<NetCard>>,
}

impl VirtioNetModel {
    /// A card on `bus` with address `mac`, an MTU of 1500, a link, and all features.
    pub fn new(bus: Bus, mac: [u8; 6]) -> Self {
        let mut config = [0; 12];
        config[..6].copy_from_slice(&mac);
        config[6] = 1;
        config[10..].copy_from_slice(&1500u16.to_le_bytes());
        let mut common = Common::new(bus, feature::ALL, 0);
        common.dependencies = feature::DEPENDENCIES;
        let (inboxes, sent, steering) = (Vec::new(), VecDeque::new(), Steering::default());
        let state = NetCard { common, config, inboxes, sent, steering, refused: 0, sources: None };
        Self { state: Arc::new(Mutex::new(state)) }.with_pairs(1)
    }

    /// Has that many pairs of queues, and one queue for commands.
    #[must_use]
    pub fn with_pairs(self, pairs: u16) -> Self {
        let mut state = self.state.lock();
        state.config[8..10].copy_from_slice(&pairs.to_le_bytes());
        state.common.set_queues(2 * usize::from(pairs) + 1);
        state.inboxes = vec![VecDeque::new(); usize::from(pairs.max(1))];
        drop(state);
        self
    }

    /// Claims that many pairs of queues, whatever it has.
    pub fn claim_pairs(&self, pairs: u16) {
        self.state.lock().config[8..10].copy_from_slice(&pairs.to_le_bytes());
    }

    /// Frames that went through each pair of queues in use since the driver set how many: received
    /// and sent.
    pub fn carried(&self) -> Vec<[u64; 2]> {
        self.state.lock().steering.carried().to_vec()
    }

    /// Offers these features instead. Takes effect with the next driver.
    #[must_use]
    pub fn with_features(self, features: u64) -> Self {
        self.state.lock().common.offered = features;
        self
    }

    /// Names this MTU instead.
    #[must_use]
    pub fn with_mtu(self, mtu: u16) -> Self {
        self.state.lock().config[10..].copy_from_slice(&mtu.to_le_bytes());
        self
    }

    /// The card as a driver claims it.
    pub fn device(&self) -> ModelDevice {
        ModelDevice::new(&self.state)
    }

    /// Makes the card do something wrong, or nothing.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.state.lock().common.fault = fault;
    }

    /// Has it lie from now on: in its registers, its queues, and the headers of frames.
    pub fn lie(&self, lies: Lies) {
        self.state.lock().common.lies = lies;
    }

    /// Plugs the cable in or out.
    pub fn set_link(&self, up: u8) {
        self.state.lock().config[6] = up;
    }

    /// Whether the card asks the driver to be notified.
    pub fn set_wants_notice(&self, wants: NoticeWish) {
        self.state.lock().common.set_wish(wants);
    }

    /// How often the driver rang.
    pub fn notices(&self) -> u64 {
        self.state.lock().common.notices
    }

    /// Forgets by which pair of queues flows were sent.
    pub fn forget_flows(&self) {
        self.state.lock().steering.forget();
    }

    /// Frames that broke the rules of what was agreed, and were not sent.
    pub fn refused(&self) -> u64 {
        self.state.lock().refused
    }

    /// Where the frames lay that were sent since the last time this was asked, descriptor by
    /// descriptor, the headers before them included. From the first time on it takes note.
    pub fn take_sources(&self) -> Vec<Segment> {
        self.state.lock().sources.replace(Vec::new()).unwrap_or_default()
    }

    /// A frame arrives from the wire.
    pub fn inject(&self, frame: Vec<u8>) {
        self.inject_all([frame]);
    }

    /// Frames arrive from the wire at once: those of a flow may be delivered as one.
    pub fn inject_all(&self, frames: impl IntoIterator<Item = Vec<u8>>) {
        let mut state = self.state.lock();
        for frame in frames {
            let pair = state.steering.pair_for(&frame);
            let inbox = &mut state.inboxes[pair];
            if inbox.len() < INBOX_MAX {
                inbox.push_back(frame);
            }
        }
        (0..state.steering.pairs()).for_each(|pair| state.deliver(pair));
    }

    /// The next frame that went out on the wire.
    pub fn take_sent(&self) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        if state.sent.is_empty() && state.common.wish() == NoticeWish::Silent {
            state.work(); // Nobody rings: it polls.
        }
        state.sent.pop_front()
    }
}

impl NetCard {
    fn mtu(&self) -> usize {
        usize::from(u16::from_le_bytes([self.config[10], self.config[11]]))
    }

    fn send(&mut self, pair: usize) {
        let queue = 2 * pair + 1;
        while self.common.is_working(queue) && self.common.shown(queue).is_ok_and(|n| n > 0) {
            let Ok((id, chain)) = self.common.take_chain(queue) else { return };
            // Unlike a device, which is in trouble then, it says so.
            let is_sound = chain.iter().all(|part| part.len > 0 && !part.is_written);
            let bytes = self.common.read_chain(&chain).ok().filter(|_| is_sound);
            if let Some(bytes) = bytes.filter(|bytes| bytes.len() >= HEADER_LEN) {
                self.sources.as_mut().into_iter().for_each(|sources| sources.extend(&chain));
                let frame_max = self.mtu() + ETHERNET_MAX;
                match segments::outgoing(&bytes, self.common.agreed, frame_max) {
                    Some(frames) => {
                        frames.iter().for_each(|frame| self.steering.sent(pair, frame));
                        self.sent.extend(frames);
                    }
                    None => self.refused += 1,
                }
            } else {
                self.refused += 1;
            }
            let _ = self.common.give_back(queue, id, 0);
        }
    }

    fn deliver(&mut self, pair: usize) {
        while self.common.is_working(2 * pair) {
            let inbox = &mut self.inboxes[pair];
            let Some(mut frame) = inbox.pop_front() else { return };
            while let Some(next) = inbox.front()
                && segments::join(&mut frame, next, self.common.agreed)
            {
                inbox.pop_front();
            }
            match self.try_deliver(2 * pair, frame) {
                Ok(Some(frame)) => return self.inboxes[pair].push_front(frame),
                Ok(None) => self.steering.received(pair),
                Err(_) => {}
            }
        }
    }

    /// Puts a frame into the driver's buffers; gives it back if there are too few of them.
    fn try_deliver(&mut self, queue: usize, frame: Vec<u8>) -> Result<Option<Vec<u8>>, BusError> {
        let mut bytes = segments::incoming(&frame, self.common.agreed, self.mtu()).to_vec();
        bytes.extend_from_slice(&frame);
        let (taken, shown) = (self.common.taken(queue), self.common.shown(queue)?);
        let mut parts = Vec::new();
        let mut done = 0;
        while done < bytes.len() {
            if parts.len() == usize::from(shown) {
                self.common.untake(queue, taken);
                return Ok(Some(frame));
            }
            let (id, address, len) = self.common.take(queue)?;
            let len = len.min(bytes.len() - done);
            parts.push((id, address, done..done + len));
            done += len;
            if self.common.agreed & feature::MRG_RXBUF == 0 {
                break;
            }
        }
        let count = match self.common.fault {
            Some(Fault::BufferCount(count)) => count,
            _ => parts.len() as u16,
        };
        bytes[10..12].copy_from_slice(&count.to_le_bytes());
        self.common.lies.change(&mut bytes[..HEADER_LEN]);
        for (id, address, range) in parts {
            self.common.bus.write(address, &bytes[range.clone()])?;
            let cut = self.common.fault == Some(Fault::NoHeader);
            self.common.give_back(queue, id, if cut { 5 } else { range.len() })?;
        }
        Ok(None)
    }
}
