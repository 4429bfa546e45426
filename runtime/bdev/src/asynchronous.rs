use alloc::collections::VecDeque;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::mem;
use core::num::NonZeroU16;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use basalt_env::Work;
use basalt_reactor::{Local, Poller};
use basalt_ring::{Slots, StaleTag, Tag};

use crate::{Channel, Io, IoError, IoStatus, Op, OpenError, RejectReason, SgList};

/// A [`Channel`] whose operations can be awaited. Cheap to clone; stays on its core.
///
/// Nothing is allocated per operation: the slots are made with the channel. An operation that
/// finds no free slot or a full queue waits for one. Life cycle of a slot:
///
/// ```text
///          (1) submit             (2) poller: Io back             (3) future takes it
///  Free ----------------> Waiting -------------------> Done --------------------> Free
///                            | (4) future dropped                                   ^
///                            +-----------> Orphaned --------------------------------+
///                                                     (5) poller: buffers freed
/// ```
///
/// Dropping a future never frees memory the device may still use. Dropping the last clone drops
/// the channel below, which keeps what the device still has.
#[derive(Clone)]
pub struct AsyncChannel {
    shared: Rc<Shared>,
}

struct Shared {
    channel: RefCell<Channel>,
    slots: RefCell<Slots<Slot, 32>>,
    /// Tasks waiting for a slot or for room in the queue.
    waiting: RefCell<VecDeque<Waker>>,
    /// Runs the poller for as long as this lives.
    poller: Cell<Option<Poller>>,
}

enum Slot {
    Waiting(Waker),
    Done(SgList, IoStatus),
    Orphaned,
}

impl AsyncChannel {
    /// Wraps `channel`, with at most `depth` operations in flight, polled on `local`'s reactor
    /// under the name `poller`.
    pub fn new(
        local: &Local,
        channel: Channel,
        depth: NonZeroU16,
        poller: &'static str,
    ) -> Result<Self, OpenError> {
        let depth = usize::from(depth.get());
        let slots = Slots::with_capacity(depth).map_err(|_| OpenError::NoMemory)?;
        let shared = Rc::new(Shared {
            channel: RefCell::new(channel),
            slots: RefCell::new(slots),
            waiting: RefCell::new(VecDeque::with_capacity(depth)),
            poller: Cell::new(None),
        });
        let weak = Rc::downgrade(&shared);
        let poll = move |_: &Local| weak.upgrade().map_or(Work::IDLE, |shared| shared.poll());
        shared.poller.set(Some(local.poller(poller, poll)));
        Ok(Self { shared })
    }

    /// Reads `blocks` blocks from `lba` into `data`.
    pub fn read(&self, lba: u64, blocks: u32, data: SgList) -> Transfer {
        self.submit(Io::with_data(Op::Read, lba, blocks, data, 0))
    }

    /// Writes `blocks` blocks at `lba` from `data`.
    pub fn write(&self, lba: u64, blocks: u32, data: SgList) -> Transfer {
        self.submit(Io::with_data(Op::Write, lba, blocks, data, 0))
    }

    /// Makes all completed writes durable.
    pub fn flush(&self) -> Transfer {
        self.submit(Io::new(Op::Flush, 0, 0, 0))
    }

    /// Gives up the contents of `blocks` blocks from `lba`.
    pub fn unmap(&self, lba: u64, blocks: u32) -> Transfer {
        self.submit(Io::new(Op::Unmap, lba, blocks, 0))
    }

    /// Makes `blocks` blocks from `lba` zero.
    pub fn write_zeroes(&self, lba: u64, blocks: u32) -> Transfer {
        self.submit(Io::new(Op::WriteZeroes, lba, blocks, 0))
    }

    /// Any operation; its tag is not used. A refused one ends with the refusal as an error.
    pub fn submit(&self, io: Io) -> Transfer {
        Transfer { shared: Rc::clone(&self.shared), state: State::New(io) }
    }

    /// Operations the device has, those of dropped futures included.
    pub fn in_flight(&self) -> u32 {
        self.shared.channel.borrow().in_flight()
    }
}

/// An operation under way. Gives back the data, if there was any, and how it ended. Nothing is
/// submitted before it is first polled.
#[must_use = "nothing happens before it is awaited"]
pub struct Transfer {
    shared: Rc<Shared>,
    state: State,
}

enum State {
    New(Io),
    InFlight(Tag<32>),
    Over,
}

impl Future for Transfer {
    type Output = (SgList, IoStatus);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = Rc::clone(&self.shared);
        match mem::replace(&mut self.state, State::Over) {
            State::New(io) => match shared.submit(io, cx.waker()) {
                Submitted::Accepted(slot) => self.state = State::InFlight(slot),
                Submitted::Wait(io) => self.state = State::New(io),
                Submitted::Refused(data, error) => return Poll::Ready((data, Err(error))),
            },
            State::InFlight(slot) => match shared.take(slot, cx.waker()) {
                Some(result) => {
                    shared.wake(1);
                    return Poll::Ready(result);
                }
                None => self.state = State::InFlight(slot),
            },
            // Polled after it was ready: a bug of the caller, answered without harm.
            State::Over => {}
        }
        Poll::Pending
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        match self.state {
            State::InFlight(slot) => self.shared.orphan(slot),
            // It may have been woken for a free slot that somebody else can now have.
            State::New(_) => self.shared.wake(1),
            State::Over => {}
        }
    }
}

enum Submitted {
    Accepted(Tag<32>),
    Wait(Io),
    Refused(SgList, IoError),
}

impl Shared {
    fn submit(&self, mut io: Io, waker: &Waker) -> Submitted {
        let claimed = self.slots.borrow_mut().insert(Slot::Waiting(waker.clone()));
        let Ok(slot) = claimed else {
            return self.wait(io, waker);
        };
        io.tag = u64::from(slot.as_u32());
        let Err(refused) = self.channel.borrow_mut().submit(io) else {
            return Submitted::Accepted(slot);
        };
        let _ = self.slots.borrow_mut().remove(slot);
        match refused.reason {
            RejectReason::QueueFull => self.wait(refused.io, waker),
            reason => Submitted::Refused(refused.io.data, reason.into()),
        }
    }

    /// The result in `slot`, which is then free; without one, `waker` is told when there is.
    fn take(&self, slot: Tag<32>, waker: &Waker) -> Option<(SgList, IoStatus)> {
        let mut slots = self.slots.borrow_mut();
        match slots.get_mut(slot) {
            Ok(Slot::Done(..)) => {}
            Ok(Slot::Waiting(old)) => {
                old.clone_from(waker);
                return None;
            }
            Ok(Slot::Orphaned) | Err(StaleTag) => return None,
        }
        match slots.remove(slot) {
            Ok(Slot::Done(data, status)) => Some((data, status)),
            _ => None,
        }
    }

    /// Nobody waits for `slot` any more.
    fn orphan(&self, slot: Tag<32>) {
        let mut slots = self.slots.borrow_mut();
        match slots.get_mut(slot) {
            Ok(waiting @ Slot::Waiting(_)) => *waiting = Slot::Orphaned,
            Ok(Slot::Done(..)) => {
                let _ = slots.remove(slot);
                drop(slots);
                self.wake(1);
            }
            Ok(Slot::Orphaned) | Err(StaleTag) => {}
        }
    }

    /// Remembers the task; where there is no room to, it asks again in the next round.
    fn wait(&self, io: Io, waker: &Waker) -> Submitted {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() < waiting.capacity() && self.channel.borrow().in_flight() > 0 {
            waiting.push_back(waker.clone());
        } else {
            waker.wake_by_ref();
        }
        Submitted::Wait(io)
    }

    fn poll(&self) -> Work {
        let mut slots = self.slots.borrow_mut();
        let mut channel = self.channel.borrow_mut();
        let work = channel.poll(|io| finish(&mut slots, io));
        // Some of the tasks that wait may be gone; whoever is left must not wait for nothing.
        let wakes = if channel.in_flight() == 0 { u32::MAX } else { work.0 };
        drop((slots, channel));
        self.wake(wakes);
        work
    }

    /// Wakes up to `count` of the tasks that wait.
    fn wake(&self, count: u32) {
        let mut waiting = self.waiting.borrow_mut();
        let count = waiting.len().min(count as usize);
        waiting.drain(..count).for_each(Waker::wake);
    }
}

/// Puts a finished Io's outcome where its future finds it.
fn finish(slots: &mut Slots<Slot, 32>, io: Io) {
    let tag = Tag::from_u32(io.tag as u32);
    match slots.get_mut(tag) {
        Ok(slot @ Slot::Waiting(_)) => {
            if let Slot::Waiting(waker) = mem::replace(slot, Slot::Done(io.data, io.status)) {
                waker.wake();
            }
        }
        Ok(Slot::Orphaned) => drop(slots.remove(tag)),
        Ok(Slot::Done(..)) | Err(StaleTag) => {
            log::error!(target: "bdev", "an Io came back that nobody submitted");
        }
    }
}
