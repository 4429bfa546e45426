//! A channel on a core that the device has no queue for: another core lends its own.
//!
//! ```text
//!  borrowing core                              lending core
//!    submit -> requests ----------------------> taken in, submitted to its own channel
//!    poll   <- replies  <---------------------- what that has finished
//! ```
//!
//! Both are rings with room for all that is in flight, so that nothing waits and nothing is
//! allocated. When the channel is dropped, what is still in flight is dropped where it is; its
//! memory returns to the pools it is of.

mod lenders;
mod packed;

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use basalt_env::{CoreId, DmaPool, Work};
use basalt_reactor::Local;
use basalt_ring::{Full, spsc};

pub use self::lenders::Lenders;
use crate::copy::copy_of;
use crate::{Io, IoChannel, IoError, OpenError, RejectReason, SgList};
use packed::PackedIo;

/// Most Ios in flight on one channel.
const DEPTH: usize = 128;

/// A channel for the core of `local`, by way of `lender`, which makes a channel of its own by
/// `open`.
///
/// If that fails there, every Io comes back as removed.
///
/// # Errors
/// The core has no DMA pool, or `lender` cannot be told.
pub fn remote_channel(
    local: &Local,
    lender: CoreId,
    open: impl FnOnce(&Local) -> Result<Box<dyn IoChannel>, OpenError> + Send + 'static,
) -> Result<Box<dyn IoChannel>, OpenError> {
    let pool = local.service::<DmaPool>().ok_or(OpenError::NoMemory)?;
    let (requests, to_serve) = spsc::channel(DEPTH);
    let (served, replies) = spsc::channel(DEPTH);
    let borrower = local.core();
    let begin = move |local: &Local| {
        let channel = open(local);
        let tenant = Tenant { borrower, channel, requests: to_serve, replies: served, held: None };
        Tenants::of(local).add(tenant);
    };
    let begin: Box<dyn FnOnce(&Local) + Send> = Box::new(begin);
    let told = local.send(lender, move |local| begin(local));
    told.map_err(|_| OpenError::NoQueueOnCore)?;
    let local = local.clone();
    Ok(Box::new(Borrowed { local, pool, lender, requests, replies, in_flight: 0 }))
}

/// What the borrowing core asks of the other.
enum Request {
    Submit(PackedIo),
    /// The Ios with that tag need not be done any more.
    Abort(u64),
}

/// The borrowing core's end.
struct Borrowed {
    local: Local,
    pool: Rc<DmaPool>,
    lender: CoreId,
    requests: spsc::Producer<Request>,
    replies: spsc::Consumer<PackedIo>,
    in_flight: usize,
}

impl IoChannel for Borrowed {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        if self.requests.is_abandoned() {
            return Err(RejectReason::Removed);
        }
        if self.in_flight >= DEPTH {
            return Err(RejectReason::QueueFull);
        }
        if let SgList::Shared(list) = &io.data {
            // What others share cannot leave the core.
            let copy = copy_of(list, &self.pool).map_err(|_| RejectReason::QueueFull)?;
            io.data = copy;
        }
        match self.requests.push(Request::Submit(PackedIo::new(io.take()))) {
            Err(Full(Request::Submit(packed))) => {
                *io = packed.open(&self.pool);
                return Err(RejectReason::QueueFull);
            }
            Ok(()) | Err(Full(Request::Abort(_))) => {}
        }
        self.in_flight += 1;
        self.local.wake(self.lender);
        Ok(())
    }

    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        let mut count = 0;
        while let Some(packed) = self.replies.pop() {
            count += 1;
            done(&mut packed.open(&self.pool));
        }
        self.in_flight -= count;
        Work(count as u32)
    }

    /// The other core looks for it: whether it finds any is not known here.
    fn abort(&mut self, tag: u64) -> bool {
        let told = self.in_flight > 0 && self.requests.push(Request::Abort(tag)).is_ok();
        if told {
            self.local.wake(self.lender);
        }
        told
    }
}

/// The lending core's end.
struct Tenant {
    borrower: CoreId,
    channel: Result<Box<dyn IoChannel>, OpenError>,
    requests: spsc::Consumer<Request>,
    replies: spsc::Producer<PackedIo>,
    /// An Io that the channel had no room for; those behind it wait in the ring.
    held: Option<Io>,
}

impl Tenant {
    /// Whether the borrower's end is still there.
    fn is_there(&self) -> bool {
        !self.requests.is_abandoned()
    }

    fn poll(&mut self, local: &Local, pool: &DmaPool) -> Work {
        let Self { channel, requests, replies, held, .. } = self;
        let mut work = Work::IDLE;
        let mut reply = |io: &mut Io| {
            // There is room for as many as are in flight, unless the borrower has gone.
            let _ = replies.push(PackedIo::new(io.take()));
            local.wake(self.borrower);
        };
        loop {
            let mut io = match held.take() {
                Some(io) => io,
                None => match requests.pop() {
                    Some(Request::Submit(packed)) => packed.open(pool),
                    Some(Request::Abort(tag)) => {
                        channel.iter_mut().for_each(|channel| {
                            channel.abort(tag);
                        });
                        continue;
                    }
                    None => break,
                },
            };
            let submitted = match channel {
                Ok(channel) => channel.submit(&mut io),
                Err(_) => Err(RejectReason::Removed),
            };
            match submitted {
                Ok(()) => work += Work(1),
                Err(RejectReason::QueueFull) => {
                    *held = Some(io);
                    break;
                }
                Err(reason) => {
                    io.status = Err(IoError::from(reason));
                    reply(&mut io);
                    work += Work(1);
                }
            }
        }
        if let Ok(channel) = channel {
            work += channel.poll(&mut reply);
        }
        work
    }
}

/// All that one core lends: a service of the core.
#[derive(Default)]
struct Tenants {
    tenants: RefCell<Vec<Tenant>>,
}

impl Tenants {
    fn of(local: &Local) -> Rc<Self> {
        local.service().unwrap_or_else(|| {
            let tenants = Rc::new(Self::default());
            local.provide(Rc::clone(&tenants));
            let lending = Rc::clone(&tenants);
            local.poller("bdev_lend", move |local| lending.poll(local)).detach();
            tenants
        })
    }

    fn add(&self, tenant: Tenant) {
        self.tenants.borrow_mut().push(tenant);
    }

    fn poll(&self, local: &Local) -> Work {
        let mut tenants = self.tenants.borrow_mut();
        if tenants.is_empty() {
            return Work::IDLE;
        }
        tenants.retain(Tenant::is_there);
        let Some(pool) = local.service::<DmaPool>() else { return Work::IDLE };
        tenants.iter_mut().fold(Work::IDLE, |work, tenant| work + tenant.poll(local, &pool))
    }
}
