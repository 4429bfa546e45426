//! A bdev that answers later than its base (SPDK's `bdev_delay`): a slow drive to test against.
//!
//! Reads and writes are held back, each for one of two times: one in a hundred, at random, for the
//! 99th percentile, all others for the average.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::rc::{Rc, Weak};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use core::cell::RefCell;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use basalt_env::{Instant, Work};
use basalt_reactor::{Doze, Local};

use super::Recipe;
use super::base::Base;
use super::frames::Frames;
use crate::json::json_string;
use crate::uuid::Uuid;
use crate::{
    BaseChannel, Bdev, BdevInfo, Io, IoChannel, IoError, Op, OpenError, RejectReason, Zones,
};

/// The module's product name, as SPDK prints it.
pub const PRODUCT_NAME: &str = "delay";

/// One of this many Ios is held back for the 99th percentile.
const TAIL: u64 = 100;

/// Which of the times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Latency {
    /// Of most reads.
    AvgRead,
    /// Of one read in a hundred.
    P99Read,
    /// Of most writes.
    AvgWrite,
    /// Of one write in a hundred.
    P99Write,
}

impl Latency {
    /// All of them, with SPDK's names.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::AvgRead, "avg_read"),
        (Self::P99Read, "p99_read"),
        (Self::AvgWrite, "avg_write"),
        (Self::P99Write, "p99_write"),
    ];
}

/// The times, which may be changed while Ios are under way. Clones are the same times.
#[derive(Clone, Debug)]
pub struct Latencies {
    us: Arc<[AtomicU64; 4]>,
}

impl Latencies {
    /// In the order of [`Latency::ALL`], µs.
    pub fn new(us: [u64; 4]) -> Self {
        Self { us: Arc::new(us.map(AtomicU64::new)) }
    }

    /// How long, µs.
    pub fn get_us(&self, which: Latency) -> u64 {
        self.us[which as usize].load(Ordering::Relaxed)
    }

    /// Ios that are submitted from now on are held back for so long.
    pub fn set_us(&self, which: Latency, us: u64) {
        self.us[which as usize].store(us, Ordering::Relaxed);
    }
}

/// `name` over the bdev called `base`, slower by `latencies`.
pub fn recipe(name: &str, base: &str, latencies: Latencies, uuid: Option<Uuid>) -> Recipe {
    let (own, below) = (String::from(name), String::from(base));
    Recipe {
        name: own.clone(),
        product_name: PRODUCT_NAME,
        survives: None,
        handle: Some(Box::new(latencies.clone())),
        bases: vec![below.clone()],
        make: Box::new(move |registry| {
            let base = Base::claim_any(registry, &below)?;
            let info = base.same_shape(&own, PRODUCT_NAME, uuid);
            Ok(vec![Arc::new(Delay { info, base, latencies: latencies.clone() })])
        }),
    }
}

struct Delay {
    info: BdevInfo,
    base: Base,
    latencies: Latencies,
}

impl Bdev for Delay {
    fn info(&self) -> &BdevInfo {
        &self.info
    }

    fn supports(&self, op: Op) -> bool {
        self.base.descriptor.bdev().supports(op)
    }

    fn channel(&self, local: &Local) -> Result<Box<dyn IoChannel>, OpenError> {
        let late = Rc::new(RefCell::new(Late::default()));
        let waits = Rc::downgrade(&late);
        local.on_rest(move |_, _| doze(&waits));
        Ok(Box::new(DelayChannel {
            base: self.base.descriptor.base_channel(local)?,
            local: local.clone(),
            latencies: self.latencies.clone(),
            frames: Frames::new()?,
            late,
            count: 0,
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
        let (name, base) = (json_string(&self.info.name), self.base.name_json());
        let times = Latency::ALL.map(|(which, name)| {
            let us = self.latencies.get_us(which);
            format!("\"{name}_latency\":{us}")
        });
        let times = times.join(",");
        format!("{{\"delay\":{{\"name\":{name},\"base_bdev_name\":{base},{times}}}}}")
    }
}

struct DelayChannel {
    base: BaseChannel,
    local: Local,
    latencies: Latencies,
    frames: Frames<Option<Latency>>,
    late: Rc<RefCell<Late>>,
    /// Reads and writes so far.
    count: u64,
}

/// Ios that the base has finished, each until its time. Those of one kind come in order.
#[derive(Default)]
struct Late {
    queues: [VecDeque<(Instant, Io)>; 4],
}

impl Late {
    fn len(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    /// Those with that tag have been held back for long enough; whether there are any.
    fn abort(&mut self, tag: u64, now: Instant) -> bool {
        let mut found = false;
        for queue in &mut self.queues {
            while let Some(at) = queue.iter().position(|(due, io)| io.tag == tag && *due > now) {
                let Some((_, mut io)) = queue.remove(at) else { break };
                io.status = Err(IoError::Aborted);
                queue.push_front((now, io));
                found = true;
            }
        }
        found
    }

    /// When the next one is due.
    fn next(&self) -> Option<Instant> {
        self.queues.iter().filter_map(|queue| queue.front()).map(|(due, _)| *due).min()
    }
}

/// The clock ends the core's rest in time.
fn doze(late: &Weak<RefCell<Late>>) -> Doze {
    let Some(late) = late.upgrade() else { return Doze::Gone };
    let next = late.borrow().next();
    next.map_or(Doze::Signalled, Doze::Until)
}

impl DelayChannel {
    fn choose(&mut self, op: Op) -> Option<Latency> {
        let (average, tail) = match op {
            Op::Read => (Latency::AvgRead, Latency::P99Read),
            Op::Write => (Latency::AvgWrite, Latency::P99Write),
            _ => return None,
        };
        self.count += 1;
        // A hash of the count (SplitMix64's finish): as good as random, and the same every time.
        let mut hash = self.count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let is_tail = (hash >> 32).is_multiple_of(TAIL);
        Some(if is_tail { tail } else { average })
    }
}

impl IoChannel for DelayChannel {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        if self.late.borrow().len() + self.base.in_flight() as usize >= Frames::<()>::DEPTH {
            return Err(RejectReason::QueueFull);
        }
        let latency = self.choose(io.op);
        self.frames.push(io, latency)?;
        self.base.submit(io).inspect_err(|_| {
            self.frames.pop(io);
        })
    }

    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        let Self { base, local, latencies, frames, late, .. } = self;
        let (now, mut late) = (local.now(), late.borrow_mut());
        let mut count = 0;
        let _ = base.poll(|io| {
            let us = |which| (which, latencies.get_us(which));
            match frames.pop(io).flatten().map(us) {
                None | Some((_, 0)) => {
                    count += 1;
                    done(io);
                }
                Some((which, us)) => {
                    let due = now + Duration::from_micros(us);
                    late.queues[which as usize].push_back((due, io.take()));
                }
            }
        });
        for queue in &mut late.queues {
            while let Some((_, mut io)) = queue.pop_front_if(|(due, _)| *due <= now) {
                count += 1;
                done(&mut io);
            }
        }
        Work(count)
    }

    fn abort(&mut self, tag: u64) -> bool {
        let Self { base, frames, late, local, .. } = self;
        let below = frames.marks(tag).filter(|mark| base.abort(*mark)).count() > 0;
        late.borrow_mut().abort(tag, local.now()) || below
    }
}
