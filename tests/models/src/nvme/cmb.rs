use std::collections::BTreeMap;

use basalt_nvme_spec::registers::{CMBMSC, CMBSTS, CMBSZ};
use basalt_nvme_spec::{CmbControl, CmbLocation, CmbSize, QueueId};

use super::state::State;

/// A controller memory buffer (base specification 2.0 §8.5), and what its registers say of it,
/// which may be a lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CmbConfig {
    /// What CMBLOC says.
    pub location: CmbLocation,
    /// What CMBSZ says.
    pub size: CmbSize,
    /// The BAR that is really there: 2 or 4, or 0 for the one with the registers.
    pub bar: u8,
    /// Length of that BAR, bytes.
    pub bar_len: usize,
    /// How it is offered.
    pub offer: CmbOffer,
}

/// How a controller offers its memory buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CmbOffer {
    /// As before 1.4: it is simply there.
    Plain,
    /// As from 1.4 on: CAP.CMBS says so, and CMBMSC turns it on.
    ToTurnOn,
    /// So, but no base address is good enough for it.
    Refusing,
}

impl CmbConfig {
    /// A true one of so many 4 KiB pages for submission queues, `offset` pages into BAR 2.
    pub fn pages(pages: u32, offset: u32) -> Self {
        Self {
            location: CmbLocation::new(2, offset),
            size: CmbSize::for_submission_queues(CmbSize::UNIT_4K, pages),
            bar: 2,
            bar_len: ((pages + offset) as usize * 4096).next_power_of_two(),
            offer: CmbOffer::ToTurnOn,
        }
    }
}

/// All words of an entry.
const WHOLE: u16 = u16::MAX;

/// The buffer and what was written to it.
pub(super) struct Cmb {
    config: CmbConfig,
    control: CmbControl,
    /// The whole BAR.
    memory: Vec<u8>,
    /// By 64 bytes, which words have been written since they were fetched.
    written: Vec<u16>,
    /// Commands fetched from it, by queue.
    pub(super) fetched: BTreeMap<QueueId, u64>,
}

/// Where the buffer is, bytes.
struct Range {
    bus: u64,
    at: usize,
    len: u64,
}

impl Cmb {
    pub(super) fn new(config: CmbConfig) -> Self {
        Self {
            config,
            control: CmbControl::OFF,
            memory: vec![0; config.bar_len],
            written: vec![0; config.bar_len.div_ceil(64)],
            fetched: BTreeMap::new(),
        }
    }

    /// What is on is off after a reset, stricter than a controller needs to be.
    pub(super) fn reset(&mut self) {
        self.control = CmbControl::OFF;
        self.written.fill(0);
    }

    /// Registers from CMBLOC to CMBSTS.
    pub(super) fn read_register(&self, at: usize) -> u32 {
        let tells = self.config.offer == CmbOffer::Plain || self.control.tells();
        match at {
            CMBMSC => self.control.0 as u32,
            _ if at == CMBMSC + 4 => (self.control.0 >> 32) as u32,
            CMBSTS => {
                u32::from(self.config.offer == CmbOffer::Refusing && self.control.base().is_some())
            }
            _ if !tells => 0,
            CMBSZ => self.config.size.0,
            _ => self.config.location.0,
        }
    }

    pub(super) fn write_control(&mut self, at: usize, value: u32) {
        let shift = 8 * (at - CMBMSC);
        let kept = self.control.0 & !(0xffff_ffff << shift);
        self.control = CmbControl(kept | u64::from(value) << shift);
    }

    fn is_on(&self) -> bool {
        match self.config.offer {
            CmbOffer::Plain => true,
            CmbOffer::ToTurnOn => self.control.base().is_some(),
            CmbOffer::Refusing => false,
        }
    }

    /// Where it is as far as it is there and on. `bar` is the BAR's address on the bus.
    fn range(&self, bar: u64) -> Option<Range> {
        let CmbConfig { location, size, offer, .. } = self.config;
        let offset = u64::from(location.offset()) * size.unit()?;
        let room = (self.memory.len() as u64).checked_sub(offset)?;
        let plain = (offer == CmbOffer::Plain).then_some(bar + offset);
        let bus = plain.or(self.control.base()).filter(|_| self.is_on())?;
        Some(Range { bus, at: offset as usize, len: size.bytes()?.min(room) })
    }

    fn write(&mut self, at: usize, value: u32) {
        let Some(bytes) = self.memory.get_mut(at..at + 4) else { return };
        bytes.copy_from_slice(&value.to_le_bytes());
        self.written[at / 64] |= 1 << (at % 64 / 4);
    }

    fn read(&self, at: usize) -> u32 {
        let bytes = self.memory.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(u32::MAX, |bytes| u32::from_le_bytes(*bytes))
    }
}

impl State {
    /// Whether an access to that place is one to the buffer.
    pub(super) fn is_cmb(&self, bar: u8, at: usize) -> bool {
        let is_there = |cmb: &Cmb| cmb.config.bar == bar;
        self.cmb.as_ref().is_some_and(is_there) && (bar != 0 || at >= super::device::BAR_LEN)
    }

    pub(super) fn write_cmb(&mut self, at: usize, value: u32) {
        let Some(cmb) = &mut self.cmb else { return };
        let is_on = cmb.is_on();
        cmb.write(at, value);
        if !is_on && !self.gone {
            self.violate(format!("memory buffer written at {at:#x} while it is off"));
        }
    }

    pub(super) fn read_cmb(&self, at: usize) -> u32 {
        let cmb = self.cmb.as_ref().filter(|_| !self.gone);
        cmb.map_or(u32::MAX, |cmb| cmb.read(at))
    }

    /// Where a submission queue is in the buffer, if that is where it is; it must be all there.
    pub(super) fn check_place(&mut self, qid: QueueId, base: u64, entries: u32) {
        let Some(cmb) = &self.cmb else { return };
        let bar = self.bar_address(cmb.config.bar);
        let (end, in_bar) = (base + u64::from(entries) * 64, |at: u64| {
            at >= bar && at < bar + cmb.memory.len() as u64
        });
        let problem = match cmb.range(bar) {
            Some(Range { bus, len, .. }) if base < bus + len && end > bus => {
                let is_inside = base >= bus && end <= bus + len;
                (!is_inside).then_some("lies partly outside the memory buffer")
            }
            _ => in_bar(base).then_some("is to lie in a memory buffer that is off"),
        };
        if let Some(problem) = problem {
            self.violate(format!("submission queue {qid} at {base:#x} {problem}"));
        }
    }

    /// Fetches an entry from the buffer, if it is there.
    pub(super) fn fetch_from_cmb(&mut self, qid: QueueId, address: u64) -> Option<[u8; 64]> {
        let bar = self.bar_address(self.cmb.as_ref()?.config.bar);
        let cmb = self.cmb.as_mut()?;
        let range = cmb.range(bar)?;
        let offset = address.checked_sub(range.bus).filter(|offset| offset + 64 <= range.len)?;
        let at = range.at + offset as usize;
        let entry = *cmb.memory.get(at..)?.first_chunk()?;
        *cmb.fetched.entry(qid).or_default() += 1;
        if std::mem::take(&mut cmb.written[at / 64]) != WHOLE {
            self.violate(format!("doorbell of queue {qid} before its entry at {at:#x}"));
        }
        Some(entry)
    }
}
