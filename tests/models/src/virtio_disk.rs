//! A virtio block device, and a virtio SCSI host with disks.
//!
//! [`VirtioDiskModel`] is a whole device with its media in memory, which works when its driver
//! rings. What a driver must not do is taken down ([`VirtioDiskModel::violations`]); what a device
//! can do wrong or slowly is set by the other functions. After virtio 1.2 §5.2 and §5.6, SPC-4 and
//! SBC-3.

mod blk;
mod scsi;

use std::collections::BTreeMap;
use std::sync::Arc;

use basalt_hosted::Bus;
use spin::Mutex;

use crate::lies::Lies;
use crate::virtio::{Card, Common, Fault, Segment};

const VERSION_1: u64 = 1 << 32;
/// Queues of requests that a device has.
const QUEUES: u16 = 2;

/// What one disk is.
pub struct Medium {
    bytes: Vec<u8>,
    block_size: usize,
    /// What it says is its serial number.
    pub serial: String,
    /// How many commands find it busy.
    pub busy: u32,
    /// A block that can be neither read nor written.
    pub bad: Option<u64>,
}

impl Medium {
    /// One of so many blocks, all zeroes.
    pub fn new(blocks: usize, block_size: usize) -> Self {
        let bytes = vec![0; blocks * block_size];
        Self { bytes, block_size, serial: String::new(), busy: 0, bad: None }
    }

    fn blocks(&self) -> u64 {
        (self.bytes.len() / self.block_size) as u64
    }

    /// The bytes of blocks, if they are inside and none is bad.
    fn range(&mut self, lba: u64, blocks: u64) -> Option<&mut [u8]> {
        let end = lba.checked_add(blocks).filter(|end| *end <= self.blocks())?;
        let is_bad = self.bad.is_some_and(|bad| (lba..end).contains(&bad));
        let [from, to] = [lba, end].map(|lba| lba as usize * self.block_size);
        if is_bad { None } else { self.bytes.get_mut(from..to) }
    }
}

/// Limits that a device sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Most segments of data.
    pub segments_max: u32,
    /// Most bytes of a segment, of a block device.
    pub segment_len_max: u32,
    /// Most sectors of 512 bytes of a discard or unmap, of a write of zeroes, and of a transfer to
    /// a SCSI disk.
    pub sectors_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { segments_max: 126, segment_len_max: 1 << 22, sectors_max: 0xffff }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Blk,
    Scsi,
}

/// The device behind the handles.
pub struct DiskCard {
    common: Common,
    kind: Kind,
    config: Vec<u8>,
    limits: Limits,
    /// By target; a block device is the only one.
    media: BTreeMap<u8, Medium>,
    /// Events of a SCSI host that the driver has not been told of.
    events: u32,
    /// It takes requests and does not finish them.
    is_stuck: bool,
    violations: Vec<String>,
}

impl DiskCard {
    fn violate(&mut self, what: String) {
        self.violations.push(what);
    }

    fn check_segments(&mut self, segments: &[Segment]) {
        let Limits { segments_max, segment_len_max, .. } = self.limits;
        // Header and response are two more.
        if segments.len() > segments_max as usize + 2 {
            self.violate(format!("{} segments", segments.len() - 2));
        }
        let longest = segments.iter().map(|segment| segment.len).max().unwrap_or(0);
        if self.kind == Kind::Blk && longest > segment_len_max as usize {
            self.violate(format!("a segment of {longest} bytes"));
        }
        if segments.iter().any(|segment| segment.len == 0) {
            self.violate("an empty segment".into());
        }
        if !segments.is_sorted_by_key(|segment| segment.is_written) {
            self.violate("a segment to be read after one to be written".into());
        }
    }

    fn serve(&mut self, queue: usize) {
        while self.common.is_working(queue) && self.common.shown(queue).is_ok_and(|n| n > 0) {
            let Ok((head, segments)) = self.common.take_chain(queue) else { return };
            if self.is_stuck {
                continue;
            }
            self.check_segments(&segments);
            let room = segments.iter().filter(|segment| segment.is_written).map(|s| s.len).sum();
            let Ok(request) = self.common.read_chain(&segments) else { return };
            let mut answer = match self.kind {
                Kind::Blk => self.blk(&request, room),
                Kind::Scsi => self.scsi(&request, room),
            };
            self.common.lies.change(&mut answer);
            let Ok(written) = self.common.write_chain(&segments, &answer) else { return };
            // As QEMU's SCSI host, which counts what it has read as well.
            let data_len = request.len().saturating_sub(scsi::HEADER_LEN);
            let read = if self.kind == Kind::Scsi { data_len } else { 0 };
            let _ = self.common.give_back(queue, head, written + read);
        }
    }
}

impl Card for DiskCard {
    const IDS: [u32; 2] = [0x1042_1af4, 0x0100_0001];

    fn common(&mut self) -> &mut Common {
        &mut self.common
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn work(&mut self) {
        let first = if self.kind == Kind::Scsi { scsi::FIRST_QUEUE } else { 0 };
        (first..first + usize::from(QUEUES)).for_each(|queue| self.serve(queue));
        if self.kind == Kind::Scsi {
            self.tell_events();
        }
    }
}

/// The device as its driver sees it.
pub type ModelDevice = crate::virtio::ModelDevice<DiskCard>;

/// A block device or a SCSI host. Clones are handles on the same device.
#[derive(Clone)]
pub struct VirtioDiskModel {
    card: Arc<Mutex<DiskCard>>,
}

impl VirtioDiskModel {
    /// A block device with that medium.
    pub fn blk(bus: Bus, medium: Medium) -> Self {
        let common = Common::new(bus, blk::FEATURES | VERSION_1, QUEUES.into());
        Self::new(common, Kind::Blk, [(0, medium)].into())
    }

    /// A SCSI host with those targets.
    pub fn scsi(bus: Bus, targets: impl IntoIterator<Item = (u8, Medium)>) -> Self {
        let queues = scsi::FIRST_QUEUE + usize::from(QUEUES);
        let common = Common::new(bus, scsi::FEATURES | VERSION_1, queues);
        Self::new(common, Kind::Scsi, targets.into_iter().collect())
    }

    fn new(common: Common, kind: Kind, media: BTreeMap<u8, Medium>) -> Self {
        let card = DiskCard {
            common,
            kind,
            config: Vec::new(),
            limits: Limits::default(),
            media,
            events: 0,
            is_stuck: false,
            violations: Vec::new(),
        };
        let model = Self { card: Arc::new(Mutex::new(card)) };
        model.set_limits(Limits::default());
        model
    }

    /// The device as a driver claims it.
    pub fn device(&self) -> ModelDevice {
        ModelDevice::new(&self.card)
    }

    /// Sets its limits, for drivers that come from now on.
    pub fn set_limits(&self, limits: Limits) {
        let mut card = self.card.lock();
        card.limits = limits;
        card.describe();
    }

    /// Does something with a medium, or puts one in or takes one out; a SCSI host tells of it.
    pub fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<u8, Medium>) -> T) -> T {
        let mut card = self.card.lock();
        let result = change(&mut card.media);
        card.events += 1;
        card.describe();
        card.work();
        result
    }

    /// Makes the medium of a target larger or smaller.
    pub fn resize(&self, target: u8, blocks: usize) {
        self.change(|media| {
            if let Some(medium) = media.get_mut(&target) {
                medium.bytes.resize(blocks * medium.block_size, 0);
            }
        });
    }

    /// A block of a medium.
    pub fn block(&self, target: u8, lba: usize) -> Vec<u8> {
        let card = self.card.lock();
        let medium = &card.media[&target];
        medium.bytes[lba * medium.block_size..][..medium.block_size].to_vec()
    }

    /// Makes the device do something wrong, or nothing.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.card.lock().common.fault = fault;
    }

    /// Has it lie from now on: in its registers, its queues, and its answers.
    pub fn lie(&self, lies: Lies) {
        self.card.lock().common.lies = lies;
    }

    /// Has it take requests and not finish them, from now on.
    pub fn get_stuck(&self) {
        self.card.lock().is_stuck = true;
    }

    /// Changes its transport.
    pub fn transport<T>(&self, change: impl FnOnce(&mut Common) -> T) -> T {
        change(&mut self.card.lock().common)
    }

    /// What its driver has done that it must not do.
    pub fn violations(&self) -> Vec<String> {
        self.card.lock().violations.clone()
    }
}

impl DiskCard {
    /// Writes its configuration anew.
    fn describe(&mut self) {
        self.config = match self.kind {
            Kind::Blk => self.blk_config(),
            Kind::Scsi => self.scsi_config(),
        };
    }
}
