//! A bdev with zones in memory, as much of a drive as the target relies on.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use std::sync::Mutex;

use basalt_bdev::{
    Bdev, BdevInfo, Io, IoChannel, IoError, NvmePassthru, Op, OpenError, RejectReason, SgList,
    Zones,
};
use basalt_env::Work;
use basalt_nvme_spec::{Command, NvmOpcode, Status, ZoneDescriptor, ZoneState};
use basalt_reactor::Local;
use zerocopy::IntoBytes;

pub const BLOCK: usize = 512;
/// Blocks of a zone, and how many of them can be written.
pub const ZONE: u64 = 64;
pub const CAPACITY: u64 = 40;
pub const ZONES: u64 = 4;
/// Most blocks of one append.
const APPEND_MAX: u32 = 40;

pub struct ZonedDisk {
    info: BdevInfo,
    lacks: Option<Op>,
    shared: Arc<Shared>,
}

struct Shared {
    drive: Mutex<Drive>,
    commands: AtomicU32,
    flushes: AtomicU32,
}

struct Drive {
    bytes: Vec<u8>,
    /// State, and blocks written.
    zones: [(ZoneState, u64); ZONES as usize],
}

impl ZonedDisk {
    pub fn new() -> Self {
        let info = BdevInfo {
            name: String::from("Zoned0"),
            product_name: "test disk",
            block_size: BLOCK as u32,
            num_blocks: (ZONES * ZONE).into(),
            uuid: [8; 16],
            optimal_io_boundary: 0,
        };
        let drive = Drive {
            bytes: vec![0; (ZONES * ZONE) as usize * BLOCK],
            zones: [(ZoneState::Empty, 0); ZONES as usize],
        };
        let (commands, flushes) = (AtomicU32::new(0), AtomicU32::new(0));
        let shared = Shared { drive: Mutex::new(drive), commands, flushes };
        Self { info, lacks: None, shared: Arc::new(shared) }
    }

    pub fn lacking(op: Op) -> Self {
        Self { lacks: Some(op), ..Self::new() }
    }

    /// Ios it has been given.
    pub fn commands(&self) -> u32 {
        self.shared.commands.load(Ordering::Relaxed)
    }

    pub fn flushes(&self) -> u32 {
        self.shared.flushes.load(Ordering::Relaxed)
    }

    /// The first byte of a block.
    pub fn byte(&self, lba: u64) -> u8 {
        self.shared.drive.lock().unwrap().bytes[lba as usize * BLOCK]
    }
}

impl Bdev for ZonedDisk {
    fn info(&self) -> &BdevInfo {
        &self.info
    }

    fn supports(&self, op: Op) -> bool {
        let has = matches!(op, Op::Read | Op::Write | Op::Flush | Op::WriteZeroes | Op::NvmeIo);
        (has || op.is_zoned()) && self.lacks != Some(op)
    }

    fn zones(&self) -> Option<Zones> {
        Some(Zones { blocks: ZONE, append_max: APPEND_MAX, open_max: 2, active_max: 0 })
    }

    fn channel(&self, _: &Local) -> Result<Box<dyn IoChannel>, OpenError> {
        Ok(Box::new(ZonedChannel { shared: Arc::clone(&self.shared), done: Vec::new() }))
    }
}

struct ZonedChannel {
    shared: Arc<Shared>,
    done: Vec<Io>,
}

impl IoChannel for ZonedChannel {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        self.done.push(io.take());
        self.shared.commands.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        let count = self.done.len() as u32;
        for mut io in self.done.drain(..) {
            if io.op == Op::Flush {
                self.shared.flushes.fetch_add(1, Ordering::Relaxed);
            }
            let run = self.shared.drive.lock().unwrap().run(&mut io);
            io.status = run.map_err(|status| {
                let (sct, sc) = (status.sct(), status.sc());
                IoError::Nvme { sct, sc, dnr: false }
            });
            done(&mut io);
        }
        Work(count)
    }
}

impl Drive {
    fn run(&mut self, io: &mut Io) -> Result<(), Status> {
        let blocks = u64::from(io.blocks);
        match (io.op, &mut io.data) {
            (Op::Flush, _) => Ok(()),
            (Op::Write, data) => self.write(io.lba, blocks, data),
            (Op::ZoneAppend, data) => {
                assert!(io.lba.is_multiple_of(ZONE) && io.blocks <= APPEND_MAX);
                io.lba += self.zones[(io.lba / ZONE) as usize].1;
                self.write(io.lba, blocks, data)
            }
            (Op::NvmeIo, SgList::Nvme(passthru)) => self.passthru(passthru),
            (op, _) => unreachable!("{op:?}"),
        }
    }

    fn write(&mut self, lba: u64, blocks: u64, data: &SgList) -> Result<(), Status> {
        let (state, written) = &mut self.zones[(lba / ZONE) as usize];
        if *state == ZoneState::Full {
            return Err(Status::ZONE_FULL);
        }
        if lba % ZONE != *written {
            return Err(Status::ZONE_INVALID_WRITE);
        }
        if *written + blocks > CAPACITY {
            return Err(Status::ZONE_BOUNDARY);
        }
        *written += blocks;
        *state = if *written == CAPACITY { ZoneState::Full } else { ZoneState::ImplicitlyOpened };
        let bytes = data.as_slice()[0].as_slice();
        self.bytes[lba as usize * BLOCK..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn passthru(&mut self, passthru: &mut NvmePassthru) -> Result<(), Status> {
        let command: Command = zerocopy::transmute!(passthru.command.map(u32::to_le));
        let first = (command.lba() / ZONE) as usize;
        let how = command.cdw13.get();
        if command.opcode == NvmOpcode::ZONE_RECEIVE.0 {
            self.report(first, how, passthru.data.as_mut().unwrap().as_mut_slice());
            return Ok(());
        }
        assert_eq!(command.opcode, NvmOpcode::ZONE_SEND.0);
        let is_all = how & 1 << 8 != 0;
        let range = if is_all { 0..ZONES as usize } else { first..first + 1 };
        self.zones[range].iter_mut().try_for_each(|zone| manage(zone, how as u8))
    }

    /// Writes no more than there is to be told.
    fn report(&self, first: usize, how: u32, data: &mut [u8]) {
        let wanted = how >> 8 & 0xff;
        let is_wanted = |(_, (state, _)): &(usize, &(ZoneState, u64))| {
            wanted == 0 || wanted == 1 && *state == ZoneState::Empty
        };
        let zones = self.zones.iter().enumerate().skip(first).filter(is_wanted);
        let descriptors: Vec<_> = zones.map(|(n, zone)| describe(n as u64, *zone)).collect();
        let room = (data.len() - 64) / 64;
        let is_partial = how & 1 << 16 != 0;
        let count = if is_partial { descriptors.len().min(room) } else { descriptors.len() };
        data[..8].copy_from_slice(&(count as u64).to_le_bytes());
        for (place, zone) in data[64..].chunks_mut(64).zip(&descriptors) {
            place.copy_from_slice(zone.as_bytes());
        }
    }
}

fn describe(n: u64, (state, written): (ZoneState, u64)) -> ZoneDescriptor {
    ZoneDescriptor {
        zt: ZoneDescriptor::SEQUENTIAL,
        zs: (state as u8) << 4,
        zcap: CAPACITY.into(),
        zslba: (n * ZONE).into(),
        wp: (n * ZONE + written).into(),
        ..ZoneDescriptor::default()
    }
}

fn manage(zone: &mut (ZoneState, u64), action: u8) -> Result<(), Status> {
    use ZoneState::{Closed, Empty, ExplicitlyOpened, Full, ImplicitlyOpened};
    zone.0 = match (action, zone.0) {
        (1, ImplicitlyOpened | ExplicitlyOpened) => Closed,
        (2, _) => Full,
        (3, Empty | Closed) => ExplicitlyOpened,
        (4, _) => Empty,
        _ => return Err(Status::INVALID_ZONE_TRANSITION),
    };
    if zone.0 == Empty {
        zone.1 = 0;
    }
    Ok(())
}
