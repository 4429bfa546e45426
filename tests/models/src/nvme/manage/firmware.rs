use std::collections::BTreeMap;

use basalt_nvme_spec::identify::Oacs;
use basalt_nvme_spec::log_page::FirmwareSlots;
use basalt_nvme_spec::{Command, Status};
use zerocopy::IntoBytes;

use crate::nvme::state::State;

/// Slots there can be.
const SLOTS: usize = 7;
/// The revision of what is there at first.
const FIRST: [u8; 8] = *b"1.0     ";

/// The images. An image is its revision: its first eight bytes.
pub(in crate::nvme) struct Firmware {
    slots: [Option<[u8; 8]>; SLOTS],
    /// The slot that runs, and the one that does after a reset; from 0.
    active: usize,
    next: Option<usize>,
    running: [u8; 8],
    /// What was downloaded, by offset in bytes.
    pieces: BTreeMap<u64, Vec<u8>>,
}

impl Firmware {
    pub(super) fn new() -> Self {
        let mut slots = [None; SLOTS];
        slots[0] = Some(FIRST);
        Self { slots, active: 0, next: None, running: FIRST, pieces: BTreeMap::new() }
    }

    /// The revision that runs.
    pub(super) fn revision(&self) -> [u8; 8] {
        self.running
    }

    pub(super) fn reset(&mut self) {
        self.pieces.clear();
        if let Some(slot) = self.next.take() {
            self.activate(slot);
        }
    }

    fn activate(&mut self, slot: usize) {
        self.active = slot;
        self.running = self.slots[slot].unwrap_or(self.running);
    }

    /// Takes a piece, unless a byte of it is there already.
    fn add(&mut self, offset: u64, piece: Vec<u8>) -> Result<(), Status> {
        let end = offset + piece.len() as u64;
        let overlaps =
            |(at, other): (&u64, &Vec<u8>)| *at < end && offset < at + other.len() as u64;
        if self.pieces.iter().any(overlaps) {
            return Err(Status::OVERLAPPING_RANGE.with_dnr());
        }
        self.pieces.insert(offset, piece);
        Ok(())
    }

    /// The revision of the image that was downloaded, if it has no gaps.
    fn image(&mut self) -> Result<[u8; 8], Status> {
        let mut image = Vec::new();
        for (offset, piece) in std::mem::take(&mut self.pieces) {
            if offset != image.len() as u64 {
                return Err(Status::INVALID_FIRMWARE_IMAGE.with_dnr());
            }
            image.extend(piece);
        }
        image.first_chunk::<8>().copied().ok_or(Status::INVALID_FIRMWARE_IMAGE.with_dnr())
    }

    pub(in crate::nvme) fn page(&self) -> Vec<u8> {
        let mut page = FirmwareSlots::default();
        let next = self.next.map_or(0, |slot| slot + 1);
        page.active = ((self.active + 1) | (next << 4)) as u8;
        for (revision, slot) in page.revision.iter_mut().zip(self.slots) {
            *revision = slot.unwrap_or_default();
        }
        page.as_bytes().to_vec()
    }
}

impl State {
    pub(super) fn download(&mut self, command: &Command) -> Result<u32, Status> {
        self.offers(Oacs::FIRMWARE)?;
        let offset = u64::from(command.cdw11.get()) * 4;
        let bytes = (u64::from(command.cdw10.get()) + 1) * 4;
        let limit = 4096_u64 << self.config.mdts;
        if !offset.is_multiple_of(4096 * u64::from(self.config.manage.fwug).max(1))
            || self.config.mdts != 0 && bytes > limit
        {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        let mut piece = vec![0; bytes as usize];
        self.fetch_data(command, &mut piece)?;
        self.managed.firmware.add(offset, piece).map(|()| 0)
    }

    pub(super) fn commit(&mut self, command: &Command) -> Result<u32, Status> {
        self.offers(Oacs::FIRMWARE)?;
        let (slot, action) = (command.cdw10.get() as usize & 7, command.cdw10.get() >> 3 & 7);
        let (config, firmware) = (&self.config.manage, &mut self.managed.firmware);
        let count = usize::from(config.firmware_slots);
        // Of its own choice: the last, or the one before if that runs.
        let chosen = if firmware.active + 1 == count { count - 1 } else { count };
        let slot = if slot == 0 { chosen } else { slot };
        let has_image = !firmware.pieces.is_empty();
        let stores = action < 2 || action == 3 && has_image;
        if slot == 0 || slot > count || stores && slot == 1 && config.first_is_fixed {
            return Err(Status::INVALID_FIRMWARE_SLOT.with_dnr());
        }
        if stores {
            firmware.slots[slot - 1] = Some(firmware.image()?);
        }
        if action != 0 && firmware.slots[slot - 1].is_none() {
            return Err(Status::INVALID_FIRMWARE_IMAGE.with_dnr());
        }
        match action {
            0 => {}
            1 | 2 => firmware.next = Some(slot - 1),
            3 if config.activates_now => firmware.activate(slot - 1),
            3 => {
                firmware.next = Some(slot - 1);
                return Err(Status::FIRMWARE_NEEDS_CONTROLLER_RESET);
            }
            _ => return Err(Status::INVALID_FIELD.with_dnr()),
        }
        Ok(0)
    }
}
