//! Zoned namespaces (Zoned Namespace command set 1.1).

use basalt_nvme_spec::{
    Command, IdentifyZonedNamespace, Status, ZoneAction, ZoneDescriptor, ZoneReportHeader,
    ZoneState,
};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromZeros, IntoBytes};

use super::state::{Namespace, State};

/// What the zones of a namespace are like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZoneConfig {
    /// Blocks from the start of one to that of the next.
    pub blocks: u64,
    /// Blocks of each that can be written.
    pub capacity: u64,
    /// Most that are open, and most that are active; 0 for no limit.
    pub open_max: u32,
    /// See [`Self::open_max`].
    pub active_max: u32,
}

/// A zone as it is now.
pub(super) struct Zone {
    state: ZoneState,
    /// Blocks written.
    written: u64,
}

impl Namespace {
    pub(super) fn make_zones(&mut self) {
        let Some(config) = self.config.zones else { return };
        let count = self.config.blocks / config.blocks;
        let empty = || Zone { state: ZoneState::Empty, written: 0 };
        self.zones = (0..count).map(|_| empty()).collect();
    }

    fn count(&self, states: &[ZoneState]) -> u32 {
        self.zones.iter().filter(|zone| states.contains(&zone.state)).count() as u32
    }

    /// Whether one more zone may be open, or active; room is made by closing one that was opened by
    /// a write.
    fn make_room(&mut self, is_active: bool) -> Result<(), Status> {
        use ZoneState::{Closed, ExplicitlyOpened, ImplicitlyOpened};
        let Some(config) = self.config.zones else { return Ok(()) };
        let active = self.count(&[Closed, ExplicitlyOpened, ImplicitlyOpened]);
        if !is_active && config.active_max != 0 && active >= config.active_max {
            return Err(Status::TOO_MANY_ACTIVE_ZONES);
        }
        if config.open_max == 0
            || self.count(&[ExplicitlyOpened, ImplicitlyOpened]) < config.open_max
        {
            return Ok(());
        }
        let implicit = self.zones.iter_mut().find(|zone| zone.state == ImplicitlyOpened);
        implicit.map(|zone| zone.state = Closed).ok_or(Status::TOO_MANY_OPEN_ZONES)
    }

    /// Takes note of a write to a zone, if there are any; it is checked first.
    pub(super) fn write_to_zone(&mut self, lba: u64, blocks: u64) -> Result<(), Status> {
        let Some(config) = self.config.zones else { return Ok(()) };
        let index = (lba / config.blocks) as usize;
        let zone = self.zones.get(index).ok_or(Status::LBA_OUT_OF_RANGE)?;
        match zone.state {
            ZoneState::Full => return Err(Status::ZONE_FULL),
            ZoneState::ReadOnly => return Err(Status::ZONE_READ_ONLY),
            ZoneState::Offline => return Err(Status::ZONE_OFFLINE),
            _ => {}
        }
        if lba % config.blocks != zone.written {
            return Err(Status::ZONE_INVALID_WRITE);
        }
        if zone.written + blocks > config.capacity {
            return Err(Status::ZONE_BOUNDARY);
        }
        if matches!(zone.state, ZoneState::Empty | ZoneState::Closed) {
            let is_active = zone.state == ZoneState::Closed;
            self.make_room(is_active)?;
            self.zones[index].state = ZoneState::ImplicitlyOpened;
        }
        let zone = &mut self.zones[index];
        zone.written += blocks;
        if zone.written == config.capacity {
            zone.state = ZoneState::Full;
        }
        Ok(())
    }

    /// Whether a read stays within a zone, if there are any.
    pub(super) fn check_zones(&self, lba: u64, blocks: u64) -> Result<(), Status> {
        match self.config.zones {
            Some(config) if lba % config.blocks + blocks > config.blocks => {
                Err(Status::ZONE_BOUNDARY)
            }
            _ => Ok(()),
        }
    }

    /// Where the next block of the zone that begins at `start` goes.
    fn write_pointer(&self, start: u64) -> Result<u64, Status> {
        let config = self.config.zones.ok_or(Status::INVALID_OPCODE)?;
        if !start.is_multiple_of(config.blocks) {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        let zone = self.zones.get((start / config.blocks) as usize);
        Ok(start + zone.ok_or(Status::LBA_OUT_OF_RANGE)?.written)
    }

    fn manage(&mut self, start: u64, action: ZoneAction) -> Result<(), Status> {
        use ZoneState::{Closed, Empty, ExplicitlyOpened, Full, ImplicitlyOpened};
        let config = self.config.zones.ok_or(Status::INVALID_OPCODE)?;
        self.write_pointer(start)?;
        let index = (start / config.blocks) as usize;
        let state = self.zones[index].state;
        let next = match (action, state) {
            (ZoneAction::Open, Empty | Closed) => {
                self.make_room(state == Closed)?;
                ExplicitlyOpened
            }
            (ZoneAction::Open, ImplicitlyOpened | ExplicitlyOpened) => ExplicitlyOpened,
            (ZoneAction::Close, ImplicitlyOpened | ExplicitlyOpened | Closed) => Closed,
            (ZoneAction::Finish, Empty | Closed | ImplicitlyOpened | ExplicitlyOpened | Full) => {
                Full
            }
            (ZoneAction::Reset, Empty | Closed | ImplicitlyOpened | ExplicitlyOpened | Full) => {
                Empty
            }
            _ => return Err(Status::INVALID_ZONE_TRANSITION),
        };
        self.zones[index].state = next;
        if next == Empty {
            self.zones[index].written = 0;
            let (from, to) = (start, start + config.blocks);
            let size = u64::from(self.config.block_size);
            self.data[(from * size) as usize..(to * size) as usize].fill(0);
        }
        Ok(())
    }

    fn report(&self, lba: u64, bytes: usize) -> Vec<u8> {
        let Some(config) = self.config.zones else { return Vec::new() };
        let first = (lba / config.blocks) as usize;
        let room = bytes.saturating_sub(64) / 64;
        let mut descriptors = Vec::new();
        for (index, zone) in self.zones.iter().enumerate().skip(first).take(room) {
            let start = index as u64 * config.blocks;
            descriptors.push(ZoneDescriptor {
                zt: ZoneDescriptor::SEQUENTIAL,
                zs: (zone.state as u8) << 4,
                zcap: U64::new(config.capacity),
                zslba: U64::new(start),
                wp: U64::new(start + zone.written),
                ..ZoneDescriptor::default()
            });
        }
        let mut header = ZoneReportHeader::new_zeroed();
        header.zones = U64::new(descriptors.len() as u64);
        let mut report = header.as_bytes().to_vec();
        report.extend_from_slice(descriptors.as_slice().as_bytes());
        report.resize(bytes, 0);
        report
    }

    pub(super) fn zoned_page(&self) -> Option<IdentifyZonedNamespace> {
        let config = self.config.zones?;
        let mut page = IdentifyZonedNamespace::new_zeroed();
        page.mar = U32::new(config.active_max.wrapping_sub(1));
        page.mor = U32::new(config.open_max.wrapping_sub(1));
        page.lbafe[0].zsze = U64::new(config.blocks);
        Some(page)
    }
}

impl State {
    pub(super) fn zone_send(&mut self, command: &Command) -> Result<(), Status> {
        let action = ZoneAction::of(command.cdw13.get() as u8);
        let action = action.ok_or(Status::INVALID_FIELD.with_dnr())?;
        let namespace = self.namespace_mut(command.nsid.get());
        namespace.ok_or(Status::INVALID_NAMESPACE)?.manage(command.lba(), action)
    }

    pub(super) fn zone_receive(&mut self, command: &Command) -> Result<(), Status> {
        let bytes = (command.cdw12.get() as usize + 1) * 4;
        let namespace = self.namespace(command.nsid.get()).ok_or(Status::INVALID_NAMESPACE)?;
        if namespace.zones.is_empty() {
            return Err(Status::INVALID_OPCODE.with_dnr());
        }
        if command.lba() >= namespace.config.blocks {
            return Err(Status::LBA_OUT_OF_RANGE.with_dnr());
        }
        let report = namespace.report(command.lba(), bytes);
        self.send_data(command, &report)
    }

    /// Writes to where the zone has got; where that was.
    pub(super) fn zone_append(&mut self, command: &Command) -> Result<u32, Status> {
        let namespace = self.namespace(command.nsid.get()).ok_or(Status::INVALID_NAMESPACE)?;
        let lba = namespace.write_pointer(command.lba())?;
        let bytes = u64::from(command.blocks()) * u64::from(namespace.config.block_size);
        if self.config.zasl != 0 && bytes > 4096 << self.config.zasl {
            self.violate(format!("an append of {bytes} bytes"));
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        let mut write = *command;
        write.cdw10 = U32::new(lba as u32);
        write.cdw11 = U32::new((lba >> 32) as u32);
        self.write(&write).map(|()| lba as u32)
    }
}
