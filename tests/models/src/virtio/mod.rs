//! What all virtio devices have in common: registers on PCI, features and split queues.
//!
//! After virtio 1.2 §2.7 and §4.1.

mod device;

use basalt_env::PhysAddr;
use basalt_hosted::{Bus, BusError};

pub use device::{ModelDevice, ModelRegisters};

use crate::lies::Lies;

const QUEUE_SIZE_MAX: u16 = 1024;

/// A device behind the registers.
pub trait Card {
    /// Vendor and device identifier, and class code, as dwords of configuration space.
    const IDS: [u32; 2];

    /// Its transport.
    fn common(&mut self) -> &mut Common;

    /// The device-specific configuration.
    fn config(&self) -> &[u8];

    /// Does what there is to do, now that the driver has rung for a queue or changed the status.
    fn work(&mut self);
}

/// Something a device does wrong from now on.
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
    /// Notifications go to a register that does not exist.
    NotifyOutside,
    /// A network card's received frames claim to span this many buffers.
    BufferCount(u16),
    /// A network card's received frames are cut off within the header.
    NoHeader,
    /// A network card answers every command that it failed.
    RefusesCommands,
    /// A network card answers no command.
    SilentCommands,
    /// A network card says that it answered a command, and wrote nothing.
    EmptyAnswers,
}

/// Whether a device wants to be told of new buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoticeWish {
    /// It does.
    Notify,
    /// It polls for now.
    Silent,
}

/// A queue as the device knows it.
#[derive(Clone, Default)]
struct Ring {
    size: u16,
    enabled: bool,
    addresses: [u64; 3],
    taken: u16,
    used: u16,
}

/// A descriptor of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Where it is.
    pub address: PhysAddr,
    /// Bytes.
    pub len: usize,
    /// Whether the device writes it.
    pub is_written: bool,
}

/// The transport's side of a device.
pub struct Common {
    pub(crate) bus: Bus,
    /// Features it offers.
    pub offered: u64,
    pub(crate) agreed: u64,
    feature_half: u32,
    driver_half: u32,
    status: u8,
    queue: u16,
    size_max: u16,
    rings: Vec<Ring>,
    bus_master: bool,
    /// Features, and others that a driver has to accept with them.
    pub(crate) dependencies: &'static [(u64, u64)],
    wants_notice: bool,
    pub(crate) notices: u64,
    pub(crate) fault: Option<Fault>,
    pub(crate) lies: Lies,
}

impl Common {
    /// One with so many queues that offers these features.
    pub fn new(bus: Bus, offered: u64, queues: usize) -> Self {
        Self {
            bus,
            offered,
            agreed: 0,
            feature_half: 0,
            driver_half: 0,
            status: 0,
            queue: 0,
            size_max: QUEUE_SIZE_MAX,
            rings: vec![Ring::default(); queues],
            bus_master: false,
            dependencies: &[],
            wants_notice: true,
            notices: 0,
            fault: None,
            lies: Lies::default(),
        }
    }

    /// Lets queues have at most so many entries.
    pub fn set_queue_size_max(&mut self, size: u16) {
        self.size_max = size;
    }

    /// Has so many queues from now on.
    pub fn set_queues(&mut self, queues: usize) {
        self.rings = vec![Ring::default(); queues];
    }

    /// Whether its driver lets it work.
    pub(crate) fn is_at_work(&self) -> bool {
        self.working()
    }

    /// Has it give up and ask for a reset.
    pub fn ask_for_reset(&mut self) {
        self.status |= 64;
    }

    pub(crate) fn set_wish(&mut self, wish: NoticeWish) {
        self.wants_notice = wish == NoticeWish::Notify;
        self.show_wish();
    }

    pub(crate) fn wish(&self) -> NoticeWish {
        if self.wants_notice { NoticeWish::Notify } else { NoticeWish::Silent }
    }

    /// Whether it may use that queue.
    pub fn is_working(&self, queue: usize) -> bool {
        self.working() && self.rings.get(queue).is_some_and(|ring| ring.enabled)
    }

    fn reset(&mut self) {
        self.status = 0;
        self.agreed = 0;
        self.rings = vec![Ring::default(); self.rings.len()];
        for ring in &mut self.rings {
            ring.size = self.size_max;
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
        let value = match offset {
            0x04 if feature_half < 2 => offered >> (32 * feature_half) & 0xffff_ffff,
            0x12 => self.rings.len() as u64,
            0x14 if self.fault == Some(Fault::ResetHangs) => u64::from(self.status | 1),
            0x14 => u64::from(self.status),
            0x18 => ring.map_or(0, |ring| u64::from(ring.size)),
            0x1c => ring.map_or(0, |ring| u64::from(ring.enabled)),
            0x1e if self.fault == Some(Fault::NotifyOutside) => 0xffff,
            0x1e => u64::from(queue),
            _ => 0,
        };
        self.lies.number(value)
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
        let lacks = |(feature, needed): &(u64, u64)| {
            self.agreed & feature != 0 && self.agreed & needed == 0
        };
        if !subset
            || self.dependencies.iter().any(lacks)
            || self.fault == Some(Fault::RefusesFeatures)
        {
            self.status &= !8;
        }
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

    /// How many entries of a queue the driver has shown and the device has not taken.
    pub fn shown(&self, index: usize) -> Result<u16, BusError> {
        let ring = &self.rings[index];
        let mut bytes = [0; 2];
        self.bus.read(PhysAddr::new(ring.addresses[1] + 2), &mut bytes)?;
        Ok(u16::from_le_bytes(bytes).wrapping_sub(ring.taken))
    }

    /// Takes the next buffer: its descriptor's index, address and length.
    pub(crate) fn take(&mut self, index: usize) -> Result<(u16, PhysAddr, usize), BusError> {
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

    /// Gives back what begins with that descriptor.
    pub fn give_back(&mut self, index: usize, id: u16, written: usize) -> Result<(), BusError> {
        let ring = &mut self.rings[index];
        let at = ring.addresses[2] + 4 + 8 * u64::from(ring.used % ring.size);
        let id = if self.fault == Some(Fault::BadUsedId) { 0xdead } else { u32::from(id) };
        let overlong = self.fault == Some(Fault::OverlongUsed);
        let written = if overlong { 1 << 30 } else { written as u32 };
        let id = self.lies.number(id.into()) as u32;
        let written = self.lies.number(written.into()) as u32;
        self.bus.write(PhysAddr::new(at), &id.to_le_bytes())?;
        self.bus.write(PhysAddr::new(at + 4), &written.to_le_bytes())?;
        let jump = if self.fault == Some(Fault::UsedIndexJumps) { 5000 } else { 1 };
        ring.used = ring.used.wrapping_add(jump);
        let used = self.lies.number(ring.used.into()) as u16;
        self.bus.write(PhysAddr::new(ring.addresses[2] + 2), &used.to_le_bytes())
    }

    /// Puts back the entries taken since so many had been.
    pub(crate) fn untake(&mut self, index: usize, taken: u16) {
        self.rings[index].taken = taken;
    }

    pub(crate) fn taken(&self, index: usize) -> u16 {
        self.rings[index].taken
    }

    /// Takes the next chain: its first descriptor, and where its parts are.
    pub fn take_chain(&mut self, index: usize) -> Result<(u16, Vec<Segment>), BusError> {
        let (head, ..) = self.take(index)?;
        let (mut segments, mut next) = (Vec::new(), Some(head));
        while let Some(id) = next.filter(|_| segments.len() < usize::from(self.size_max)) {
            let at = PhysAddr::new(self.rings[index].addresses[0] + 16 * u64::from(id));
            let address = PhysAddr::new(self.bus.read_u64(at)?);
            let word = self.bus.read_u64(at.offset(8))?;
            let (len, flags) = ((word & 0xffff_ffff) as usize, (word >> 32) as u16);
            segments.push(Segment { address, len, is_written: flags & 2 != 0 });
            next = (flags & 1 != 0).then_some((word >> 48) as u16);
        }
        Ok((head, segments))
    }

    /// The bytes of what the device reads of a chain.
    pub fn read_chain(&self, segments: &[Segment]) -> Result<Vec<u8>, BusError> {
        let mut bytes = Vec::new();
        for segment in segments.iter().filter(|segment| !segment.is_written) {
            let mut part = vec![0; segment.len];
            self.bus.read(segment.address, &mut part)?;
            bytes.extend(part);
        }
        Ok(bytes)
    }

    /// Writes `bytes` to what the device writes of a chain; how many there was room for.
    pub fn write_chain(&self, segments: &[Segment], bytes: &[u8]) -> Result<usize, BusError> {
        let mut done = 0;
        for segment in segments.iter().filter(|segment| segment.is_written) {
            let len = segment.len.min(bytes.len() - done);
            self.bus.write(segment.address, &bytes[done..done + len])?;
            done += len;
        }
        Ok(done)
    }
}
