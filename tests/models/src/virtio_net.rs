//! A virtio network card and the wire between two of them.
//!
//! [`VirtioNetModel`] is a whole device: PCI capabilities, registers and both queues, which it
//! reaches by bus address as hardware would. It works when the driver rings its doorbell or a
//! frame arrives, and does what it is told to do wrong by a [`Fault`]. [`Wire`] carries frames
//! between models, losing, doubling and reordering some of them as its seed says.
//! After virtio 1.2 §2.7, §4.1 and §5.1.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use basalt_env::PhysAddr;
use basalt_hosted::{Bus, BusError};

mod device;
mod wire;

pub use device::{ModelDevice, ModelRegisters};
pub use wire::{Wire, WirePlan};

/// Bytes of the header before a frame.
const HEADER_LEN: usize = 12;
const QUEUE_SIZE_MAX: u16 = 1024;
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
    /// Delivers large TCP segments.
    pub const GUEST_TSO4: u64 = 1 << 7;
    /// Spreads a frame over buffers.
    pub const MRG_RXBUF: u64 = 1 << 15;
    /// Names the state of the link.
    pub const STATUS: u64 = 1 << 16;
    /// Speaks virtio 1.
    pub const VERSION_1: u64 = 1 << 32;
    /// All of the above.
    pub const ALL: u64 =
        CSUM | GUEST_CSUM | MTU | MAC | GUEST_TSO4 | MRG_RXBUF | STATUS | VERSION_1;
}

/// Something a card does wrong from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A reset never finishes.
    ResetHangs,
    /// It refuses whatever features the driver accepts.
    RefusesFeatures,
    /// Used entries name a buffer it does not have.
    BadUsedId,
    /// Used entries claim more bytes than the buffer has.
    OverlongUsed,
    /// The used index runs ahead.
    UsedIndexJumps,
    /// Received frames claim to span this many buffers.
    BufferCount(u16),
    /// Received frames are cut off within the header.
    NoHeader,
    /// Notifications go to a register that does not exist.
    NotifyOutside,
}

#[derive(Default)]
struct Ring {
    size: u16,
    enabled: bool,
    addresses: [u64; 3],
    taken: u16,
    used: u16,
}

struct State {
    bus: Bus,
    offered: u64,
    agreed: u64,
    feature_half: u32,
    driver_half: u32,
    status: u8,
    queue: u16,
    rings: [Ring; 2],
    config: [u8; 12],
    bus_master: bool,
    wants_notice: bool,
    notices: u64,
    fault: Option<Fault>,
    inbox: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
}

/// A network card. Clones are handles on the same card.
#[derive(Clone)]
pub struct VirtioNetModel {
    state: Rc<RefCell<State>>,
}

impl VirtioNetModel {
    /// A card on `bus` with address `mac`, an MTU of 1500, a link, and all features.
    pub fn new(bus: Bus, mac: [u8; 6]) -> Self {
        let mut config = [0; 12];
        config[..6].copy_from_slice(&mac);
        config[6] = 1;
        config[10..].copy_from_slice(&1500u16.to_le_bytes());
        let state = State {
            bus,
            offered: feature::ALL,
            agreed: 0,
            feature_half: 0,
            driver_half: 0,
            status: 0,
            queue: 0,
            rings: Default::default(),
            config,
            bus_master: false,
            wants_notice: true,
            notices: 0,
            fault: None,
            inbox: VecDeque::new(),
            sent: VecDeque::new(),
        };
        Self { state: Rc::new(RefCell::new(state)) }
    }

    /// Offers these features instead. Takes effect with the next driver.
    #[must_use]
    pub fn with_features(self, features: u64) -> Self {
        self.state.borrow_mut().offered = features;
        self
    }

    /// Names this MTU instead.
    #[must_use]
    pub fn with_mtu(self, mtu: u16) -> Self {
        self.state.borrow_mut().config[10..].copy_from_slice(&mtu.to_le_bytes());
        self
    }

    /// The card as a driver claims it.
    pub fn device(&self) -> ModelDevice {
        ModelDevice { state: Rc::clone(&self.state) }
    }

    /// Makes the card do something wrong, or nothing.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.state.borrow_mut().fault = fault;
    }

    /// Plugs the cable in or out.
    pub fn set_link(&self, up: u8) {
        self.state.borrow_mut().config[6] = up;
    }

    /// Whether the card asks the driver to be notified.
    pub fn set_wants_notice(&self, wants: NoticeWish) {
        let mut state = self.state.borrow_mut();
        state.wants_notice = wants == NoticeWish::Notify;
        state.show_wish();
    }

    /// How often the driver rang.
    pub fn notices(&self) -> u64 {
        self.state.borrow().notices
    }

    /// A frame arrives from the wire.
    pub fn inject(&self, frame: Vec<u8>) {
        let mut state = self.state.borrow_mut();
        if state.inbox.len() < INBOX_MAX {
            state.inbox.push_back(frame);
        }
        state.deliver();
    }

    /// The next frame that went out on the wire.
    pub fn take_sent(&self) -> Option<Vec<u8>> {
        self.state.borrow_mut().sent.pop_front()
    }
}

/// Whether a card wants to be told of new buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoticeWish {
    /// It does.
    Notify,
    /// It polls for now.
    Silent,
}

impl State {
    fn reset(&mut self) {
        self.status = 0;
        self.agreed = 0;
        self.rings = Default::default();
        for ring in &mut self.rings {
            ring.size = QUEUE_SIZE_MAX;
        }
    }

    fn working(&self) -> bool {
        self.status & 4 != 0 && self.bus_master
    }

    fn show_wish(&self) {
        let flags = u16::from(!self.wants_notice).to_le_bytes();
        for ring in self.rings.iter().filter(|ring| ring.enabled) {
            let _ = self.bus.write(PhysAddr::new(ring.addresses[2]), &flags);
        }
    }

    fn read_common(&mut self, offset: usize) -> u64 {
        let Self { queue, feature_half, offered, .. } = *self;
        let ring = self.rings.get(usize::from(queue));
        match offset {
            0x04 if feature_half < 2 => offered >> (32 * feature_half) & 0xffff_ffff,
            0x12 => 2,
            0x14 if self.fault == Some(Fault::ResetHangs) => u64::from(self.status | 1),
            0x14 => u64::from(self.status),
            0x18 => ring.map_or(0, |ring| u64::from(ring.size)),
            0x1c => ring.map_or(0, |ring| u64::from(ring.enabled)),
            0x1e if self.fault == Some(Fault::NotifyOutside) => 0xffff,
            0x1e => u64::from(queue),
            _ => 0,
        }
    }

    fn write_common(&mut self, offset: usize, value: u64) {
        match offset {
            0x00 => self.feature_half = value as u32,
            0x08 => self.driver_half = value as u32,
            0x0c if self.driver_half == 0 => self.agreed = self.agreed >> 32 << 32 | value,
            0x0c if self.driver_half == 1 => {
                self.agreed = self.agreed & 0xffff_ffff | value << 32;
            }
            0x14 => self.write_status(value as u8),
            0x16 => self.queue = value as u16,
            _ => self.write_ring(offset, value),
        }
    }

    fn write_status(&mut self, value: u8) {
        if value == 0 {
            if self.fault != Some(Fault::ResetHangs) {
                self.reset();
            }
            return;
        }
        self.status = value;
        let subset = self.agreed & !self.offered == 0;
        if !subset || self.fault == Some(Fault::RefusesFeatures) {
            self.status &= !8;
        }
        self.deliver();
    }

    fn write_ring(&mut self, offset: usize, value: u64) {
        let Some(ring) = self.rings.get_mut(usize::from(self.queue)) else { return };
        match offset {
            0x18 => ring.size = value as u16,
            0x1c => {
                ring.enabled = value == 1;
                self.show_wish();
            }
            0x20..0x38 if offset.is_multiple_of(4) => {
                let address = &mut ring.addresses[(offset - 0x20) / 8];
                let shift = if offset.is_multiple_of(8) { 0 } else { 32 };
                *address = *address & !(0xffff_ffff << shift) | value << shift;
            }
            _ => {}
        }
    }

    fn notified(&mut self, queue: u64) {
        self.notices += 1;
        match queue {
            0 => self.deliver(),
            1 => self.send(),
            _ => {}
        }
    }

    /// How many buffers of a ring the driver has shown and the card has not taken.
    fn shown(&self, index: usize) -> Result<u16, BusError> {
        let ring = &self.rings[index];
        let mut bytes = [0; 2];
        self.bus.read(PhysAddr::new(ring.addresses[1] + 2), &mut bytes)?;
        Ok(u16::from_le_bytes(bytes).wrapping_sub(ring.taken))
    }

    /// Takes the next buffer: its descriptor's index, address and length.
    fn take(&mut self, index: usize) -> Result<(u16, PhysAddr, usize), BusError> {
        let ring = &mut self.rings[index];
        let entry = u64::from(ring.taken % ring.size);
        ring.taken = ring.taken.wrapping_add(1);
        let mut id = [0; 2];
        self.bus.read(PhysAddr::new(ring.addresses[1] + 4 + 2 * entry), &mut id)?;
        let id = u16::from_le_bytes(id);
        let at = PhysAddr::new(ring.addresses[0] + 16 * u64::from(id));
        let address = PhysAddr::new(self.bus.read_u64(at)?);
        let len = self.bus.read_u64(at.offset(8))? as u32;
        Ok((id, address, len as usize))
    }

    fn give_back(&mut self, index: usize, id: u16, written: usize) -> Result<(), BusError> {
        let ring = &mut self.rings[index];
        let at = ring.addresses[2] + 4 + 8 * u64::from(ring.used % ring.size);
        let id = if self.fault == Some(Fault::BadUsedId) { 0xdead } else { u32::from(id) };
        let overlong = self.fault == Some(Fault::OverlongUsed);
        let written = if overlong { 1 << 30 } else { written as u32 };
        self.bus.write(PhysAddr::new(at), &id.to_le_bytes())?;
        self.bus.write(PhysAddr::new(at + 4), &written.to_le_bytes())?;
        let jump = if self.fault == Some(Fault::UsedIndexJumps) { 5000 } else { 1 };
        ring.used = ring.used.wrapping_add(jump);
        self.bus.write(PhysAddr::new(ring.addresses[2] + 2), &ring.used.to_le_bytes())
    }

    fn send(&mut self) {
        while self.working() && self.rings[1].enabled && self.shown(1).is_ok_and(|n| n > 0) {
            let Ok((id, address, len)) = self.take(1) else { return };
            let mut bytes = vec![0; len];
            if len >= HEADER_LEN && self.bus.read(address, &mut bytes).is_ok() {
                self.sent.push_back(finished(bytes));
            }
            let _ = self.give_back(1, id, 0);
        }
    }

    fn deliver(&mut self) {
        while self.working() && self.rings[0].enabled {
            let Some(frame) = self.inbox.pop_front() else { return };
            if let Ok(Some(frame)) = self.try_deliver(frame) {
                self.inbox.push_front(frame);
                return;
            }
        }
    }

    /// Puts a frame into the driver's buffers; gives it back if there are too few of them.
    fn try_deliver(&mut self, frame: Vec<u8>) -> Result<Option<Vec<u8>>, BusError> {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[0] = if self.agreed & feature::GUEST_CSUM != 0 { 2 } else { 0 };
        bytes.extend_from_slice(&frame);
        let (taken, shown) = (self.rings[0].taken, self.shown(0)?);
        let mut parts = Vec::new();
        let mut done = 0;
        while done < bytes.len() {
            if parts.len() == usize::from(shown) {
                self.rings[0].taken = taken;
                return Ok(Some(frame));
            }
            let (id, address, len) = self.take(0)?;
            let len = len.min(bytes.len() - done);
            parts.push((id, address, done..done + len));
            done += len;
            if self.agreed & feature::MRG_RXBUF == 0 {
                break;
            }
        }
        let count = match self.fault {
            Some(Fault::BufferCount(count)) => count,
            _ => parts.len() as u16,
        };
        bytes[10..12].copy_from_slice(&count.to_le_bytes());
        for (id, address, range) in parts {
            self.bus.write(address, &bytes[range.clone()])?;
            let cut = self.fault == Some(Fault::NoHeader);
            self.give_back(0, id, if cut { 5 } else { range.len() })?;
        }
        Ok(None)
    }
}

/// The frame after its header, with the checksum the header asks for.
fn finished(mut bytes: Vec<u8>) -> Vec<u8> {
    let word = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let (flags, start, offset) = (bytes[0], word(6), word(8));
    let mut frame = bytes.split_off(HEADER_LEN);
    if flags & 1 != 0 && start + offset + 2 <= frame.len() {
        let sum = frame[start..].chunks(2).fold(0u32, |sum, pair| {
            sum + u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))
        });
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = (folded & 0xffff) + (folded >> 16);
        frame[start + offset..][..2].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    }
    frame
}
