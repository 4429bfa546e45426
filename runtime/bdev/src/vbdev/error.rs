//! A bdev that fails on demand (SPDK's `bdev_error`): what stands on it can be seen to cope.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use basalt_env::Work;
use basalt_reactor::Local;

use super::Recipe;
use super::base::Base;
use super::frames::Frames;
use crate::uuid::Uuid;
use crate::{
    BaseChannel, Bdev, BdevInfo, Io, IoChannel, IoError, Op, OpenError, RejectReason, Zones,
};

/// The module's product name, as SPDK prints it.
pub const PRODUCT_NAME: &str = "Error Injection Disk";

/// Ios of one channel that can be pending for good.
const PENDING_MAX: usize = 1024;

/// Operations that can be made to fail.
pub const FALLIBLE: [Op; 4] = [Op::Read, Op::Write, Op::Unmap, Op::Flush];

/// What is to go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The operation fails, as an internal error of the device.
    Failure,
    /// It fails with this NVMe status.
    NvmeFailure {
        /// Status code type.
        sct: u8,
        /// Status code.
        sc: u8,
    },
    /// It never ends, but by a reset or with its channel.
    Pending,
    /// A byte of the data is changed: of what was read, or of what is to be written.
    CorruptData {
        /// Which byte.
        offset: u64,
        /// What it is combined with by exclusive or; not zero.
        value: u8,
    },
    /// There is no room for it just now.
    NoMemory,
}

/// What is to go wrong, how often, and from when on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Injection {
    /// What.
    pub fault: Fault,
    /// How many operations.
    pub count: u32,
    /// Only while at least so many are under way on the channel.
    pub queue_depth: u64,
}

/// The faults to come of one bdev. Clones are the same faults.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    of: Arc<[Slot; FALLIBLE.len()]>,
    /// How often the bdev was reset: all channels end what is pending then.
    resets: Arc<AtomicU32>,
    /// How often what is pending was told to go on.
    resumes: Arc<AtomicU32>,
}

/// Written by core 0, read by all. While it is written, nothing is left of it.
#[derive(Debug, Default)]
struct Slot {
    left: AtomicU32,
    /// Kind, status code type and status code or value.
    fault: AtomicU32,
    offset: AtomicU64,
    queue_depth: AtomicU64,
}

impl Slot {
    fn set(&self, injection: Injection) {
        self.left.store(0, Ordering::Release);
        let (kind, bytes, offset) = match injection.fault {
            Fault::Failure => (0, [0, 0], 0),
            Fault::NvmeFailure { sct, sc } => (1, [sct, sc], 0),
            Fault::Pending => (2, [0, 0], 0),
            Fault::CorruptData { offset, value } => (3, [value, 0], offset),
            Fault::NoMemory => (4, [0, 0], 0),
        };
        self.fault.store(u32::from_le_bytes([kind, bytes[0], bytes[1], 0]), Ordering::Relaxed);
        self.offset.store(offset, Ordering::Relaxed);
        self.queue_depth.store(injection.queue_depth, Ordering::Relaxed);
        self.left.store(injection.count, Ordering::Release);
    }

    /// What befalls an operation that is about to begin, if anything does.
    #[inline]
    fn take(&self, under_way: u64) -> Option<Fault> {
        if self.left.load(Ordering::Acquire) == 0 {
            return None;
        }
        if under_way < self.queue_depth.load(Ordering::Relaxed) {
            return None;
        }
        let one_less = |left: u32| left.checked_sub(1);
        self.left.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_less).ok()?;
        let [kind, first, second, _] = self.fault.load(Ordering::Relaxed).to_le_bytes();
        Some(match kind {
            0 => Fault::Failure,
            1 => Fault::NvmeFailure { sct: first, sc: second },
            2 => Fault::Pending,
            3 => Fault::CorruptData { offset: self.offset.load(Ordering::Relaxed), value: first },
            _ => Fault::NoMemory,
        })
    }
}

impl Faults {
    /// Lets operations `op` fail, in place of what was said of them before.
    pub fn inject(&self, op: Op, injection: Injection) {
        self.slot(op).into_iter().for_each(|slot| slot.set(injection));
    }

    /// Lets nothing fail any more.
    pub fn clear(&self) {
        self.of.iter().for_each(|slot| slot.left.store(0, Ordering::Release));
    }

    /// Lets what is pending on all channels be carried out after all.
    pub fn resume_pending(&self) {
        self.resumes.fetch_add(1, Ordering::Release);
    }

    fn slot(&self, op: Op) -> Option<&Slot> {
        let at = FALLIBLE.iter().position(|fallible| *fallible == op)?;
        self.of.get(at)
    }
}

/// `EE_<base>` over the bdev called `base`, which fails as `faults` say.
pub fn recipe(base: &str, faults: Faults, uuid: Option<Uuid>) -> Recipe {
    let (own, below) = (format!("EE_{base}"), String::from(base));
    Recipe {
        name: own.clone(),
        product_name: PRODUCT_NAME,
        survives: None,
        handle: Some(Box::new(faults.clone())),
        bases: vec![below.clone()],
        make: Box::new(move |registry| {
            let base = Base::claim_any(registry, &below)?;
            let info = base.same_shape(&own, PRODUCT_NAME, uuid);
            Ok(vec![Arc::new(ErrorDisk { info, base, faults: faults.clone() })])
        }),
    }
}

struct ErrorDisk {
    info: BdevInfo,
    base: Base,
    faults: Faults,
}

impl Bdev for ErrorDisk {
    fn info(&self) -> &BdevInfo {
        &self.info
    }

    fn supports(&self, op: Op) -> bool {
        // It ends what is pending, whether or not the base can be reset.
        op == Op::Reset || self.base.descriptor.bdev().supports(op)
    }

    fn channel(&self, local: &Local) -> Result<Box<dyn IoChannel>, OpenError> {
        Ok(Box::new(ErrorChannel {
            resets: self.faults.resets.load(Ordering::Relaxed),
            resumes: self.faults.resumes.load(Ordering::Relaxed),
            base: self.base.descriptor.base_channel(local)?,
            faults: self.faults.clone(),
            frames: Frames::new()?,
            ended: Vec::new(),
            pending: Vec::new(),
        }))
    }

    fn zones(&self) -> Option<Zones> {
        self.base.descriptor.bdev().zones()
    }

    fn write_unit(&self) -> u32 {
        self.base.descriptor.bdev().write_unit()
    }

    fn compare_and_write_max(&self) -> u32 {
        self.base.descriptor.bdev().compare_and_write_max()
    }

    fn can_abort(&self) -> bool {
        true
    }

    fn resized_with_base(&self) -> Option<u64> {
        Some(self.base.descriptor.info().num_blocks.get())
    }

    fn driver_specific(&self) -> String {
        format!("{{\"error_disk\":{{\"base_bdev\":{}}}}}", self.base.name_json())
    }
}

struct ErrorChannel {
    base: BaseChannel,
    faults: Faults,
    /// The byte that is to be changed in each Io under way, if any.
    frames: Frames<Option<(u64, u8)>>,
    /// Ios that have ended here and wait for the next poll.
    ended: Vec<Io>,
    /// Ios that never end but by a reset, or once they may go on.
    pending: Vec<Io>,
    /// When they last went on: behind what the bdev says until all of them have.
    resumes: u32,
    /// Resets that were seen to.
    resets: u32,
}

impl ErrorChannel {
    fn fail(&mut self, io: &mut Io, sct: u8, sc: u8) -> Result<(), RejectReason> {
        io.status = Err(IoError::Nvme { sct, sc, dnr: false });
        self.ended.push(io.take());
        Ok(())
    }

    /// Resets the base if it can be, and ends all that is pending.
    fn reset(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        if self.base.descriptor().bdev().supports(Op::Reset) {
            self.pass_on(io, None)?;
        } else {
            io.status = Ok(());
            self.ended.push(io.take());
        }
        self.faults.resets.fetch_add(1, Ordering::Release);
        Ok(())
    }

    #[cold]
    fn end_pending(&mut self) {
        for mut io in self.pending.drain(..) {
            io.status = Err(IoError::Aborted);
            self.ended.push(io);
        }
    }

    /// Has the base carry out what is pending, as far as it has room.
    #[cold]
    fn resume(&mut self, resumes: u32) {
        while let Some(mut io) = self.pending.pop() {
            match self.pass_on(&mut io, None) {
                Ok(()) => {}
                Err(RejectReason::QueueFull) => return self.pending.push(io),
                Err(_) => {
                    io.status = Err(IoError::Aborted);
                    self.ended.push(io);
                }
            }
        }
        self.resumes = resumes;
    }

    fn pass_on(&mut self, io: &mut Io, change: Option<(u64, u8)>) -> Result<(), RejectReason> {
        self.frames.push(io, change)?;
        if io.op == Op::Write {
            corrupt(io, change);
        }
        self.base.submit(io).inspect_err(|_| {
            if io.op == Op::Write {
                corrupt(io, change);
            }
            self.frames.pop(io);
        })
    }
}

impl IoChannel for ErrorChannel {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        if self.pending.len() + self.ended.len() >= PENDING_MAX {
            return Err(RejectReason::QueueFull);
        }
        if io.op == Op::Reset {
            return self.reset(io);
        }
        let under_way = u64::from(self.base.in_flight());
        match self.faults.slot(io.op).and_then(|slot| slot.take(under_way)) {
            None => self.pass_on(io, None),
            Some(Fault::Failure) => self.fail(io, 0, 0x06),
            Some(Fault::NvmeFailure { sct, sc }) => self.fail(io, sct, sc),
            Some(Fault::NoMemory) => Err(RejectReason::QueueFull),
            Some(Fault::CorruptData { offset, value }) => self.pass_on(io, Some((offset, value))),
            Some(Fault::Pending) => {
                self.pending.push(io.take());
                Ok(())
            }
        }
    }

    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        let resets = self.faults.resets.load(Ordering::Acquire);
        if resets != self.resets {
            self.resets = resets;
            self.end_pending();
        }
        let resumes = self.faults.resumes.load(Ordering::Acquire);
        if resumes != self.resumes {
            self.resume(resumes);
        }
        let Self { base, frames, ended, .. } = self;
        let work = Work(ended.len() as u32);
        ended.iter_mut().for_each(&mut *done);
        ended.clear();
        work + base.poll(|io| {
            // A write's data is given back as it came.
            let change = frames.pop(io).flatten();
            corrupt(io, change.filter(|_| io.op == Op::Write || io.status.is_ok()));
            done(io);
        })
    }

    fn abort(&mut self, tag: u64) -> bool {
        let Self { base, frames, ended, pending, .. } = self;
        let below = frames.marks(tag).filter(|mark| base.abort(*mark)).count() > 0;
        let aborted = pending.extract_if(.., |io| io.tag == tag).map(|mut io| {
            io.status = Err(IoError::Aborted);
            io
        });
        let before = ended.len();
        ended.extend(aborted);
        ended.len() > before || below
    }
}

/// Changes a byte; doing it again undoes it.
fn corrupt(io: &mut Io, change: Option<(u64, u8)>) {
    let Some((mut offset, value)) = change else { return };
    for buf in io.data.as_mut_slice() {
        if let Some(byte) = buf.as_mut_slice().get_mut(offset as usize) {
            *byte ^= value;
            return;
        }
        offset -= buf.len() as u64;
    }
}
