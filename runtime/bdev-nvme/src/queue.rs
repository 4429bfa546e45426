mod abort;
mod channel;
mod fused;
mod injected;
mod order;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::time::Duration;

use basalt_bdev::{Io, IoError, Op, RejectReason};
use basalt_env::{CoreId, DmaPool, Registers, WakeMessage, Work};
use basalt_nvme::{Ended, IoQueue, IoQueueStats, NotQuiesced, QueueAddress, QueueError, Quiesced};
use basalt_nvme_spec::InjectedErrors;
use basalt_reactor::{Doze, Local, Poller, Rest};

use crate::controllers::{ControllerId, NvmeControllers, Run, Unwanted};
use crate::inbox::{Inbox, Inboxes};
use crate::pending::{Pending, plain_transfer};
use crate::poll_group::PollGroupStats;

pub(crate) use self::channel::NvmeChannel;
pub(crate) use self::order::QueueOrder;

/// Completions one round takes from one queue at most.
const BUDGET: u32 = 128;

/// One core's queue pair of one controller, shared by all channels of that core.
///
/// ```text
///          (1) put            (2) go_live           (3) fault or suspend       (4) abort
///  Empty -----------> Made ---------------> Live -------------------> Suspended --------> Empty
///                                                                                          |
///                                    Closed: the device is gone <--- (5) close ------------+
/// ```
///
/// The controller is quiet between (3) and (4), so that it no longer reaches the memory that (4)
/// hands back. What (4) finds under way is sent again after the next (2), where that is safe. Only
/// a live queue takes Ios. A closed one says that the device is gone; in between, the queue is said
/// to be full, for it may come back.
pub(crate) struct CoreQueue<R: Registers> {
    pub(crate) id: ControllerId,
    state: Cell<State>,
    /// Whether it is live, nothing waits for a slot, and no errors are injected: all that
    /// [`Self::submit`] has to know.
    open: Cell<bool>,
    queue: RefCell<Option<IoQueue<R, Pending>>>,
    /// Ios with pieces still to be sent. Each has just left a slot, so there is a slot for each.
    backlog: RefCell<VecDeque<Pending>>,
    /// A fault that core 0 has not been told of yet.
    unreported: Cell<Option<QueueError>>,
    /// The run of the controller that the queue pair belongs to.
    run: Cell<Run>,
    depth: usize,
    pool: Rc<DmaPool>,
    /// What ends the core's rest; none if the device has to be polled.
    message: RefCell<Option<WakeMessage<R>>>,
    /// Whether the device may send it.
    allowed: Cell<bool>,
    inboxes: Inboxes,
    /// Made when it is first needed.
    pairs: RefCell<Option<Box<fused::Pairs>>>,
    /// What its commands are to get.
    errors: RefCell<InjectedErrors>,
    /// Ios whose commands are held back from the device.
    #[expect(clippy::vec_box, reason = "the code that moves them is large, and seldom runs")]
    held: RefCell<Vec<Box<Pending>>>,
    /// Whether there is either.
    injecting: Cell<bool>,
    /// Whether a channel has emptied the completion queue in this round.
    polled: Cell<bool>,
    /// What the queue pairs of earlier runs have done.
    past: Cell<IoQueueStats>,
    /// Commands that did not go out with the submission of their Io, but in a later round.
    queued: Cell<u64>,
    pollers: RefCell<Vec<Poller>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting,
    Live,
    Closed,
}

impl<R: Registers> CoreQueue<R> {
    /// A queue without a queue pair, for at most `depth` Ios at a time.
    pub(crate) fn new(id: ControllerId, depth: usize, pool: Rc<DmaPool>) -> Rc<Self> {
        Rc::new(Self {
            id,
            state: Cell::new(State::Waiting),
            open: Cell::new(false),
            queue: RefCell::new(None),
            backlog: RefCell::new(VecDeque::with_capacity(depth)),
            unreported: Cell::new(None),
            run: Cell::new(0),
            depth,
            pool,
            message: RefCell::new(None),
            allowed: Cell::new(false),
            inboxes: Inboxes::default(),
            pairs: RefCell::default(),
            errors: RefCell::default(),
            held: RefCell::default(),
            injecting: Cell::new(false),
            polled: Cell::new(false),
            past: Cell::default(),
            queued: Cell::new(0),
            pollers: RefCell::default(),
        })
    }

    /// At the end of every round, takes completions if no channel has, and rings the doorbell if
    /// anything was submitted; looks for late commands every `check_period`.
    pub(crate) fn start(self: &Rc<Self>, local: &Local, check_period: Duration) {
        let resting = Rc::downgrade(self);
        local
            .on_rest(move |_, rest| resting.upgrade().map_or(Doze::Gone, |queue| queue.doze(rest)));
        let [polled, checked] = [(); 2].map(|()| Rc::downgrade(self));
        let poll = local.late_poller("bdev_nvme_poll", move |local| {
            polled.upgrade().map_or(Work::IDLE, |queue| queue.end_round(local))
        });
        let check = local.timed_poller("bdev_nvme_check", check_period, move |local| {
            checked.upgrade().map_or(Work::IDLE, |queue| queue.check(local))
        });
        self.pollers.borrow_mut().extend([poll, check]);
    }

    /// Takes the pair the controller is to be told of.
    pub(crate) fn put(&self, queue: IoQueue<R, Pending>) -> QueueAddress {
        let address = queue.address();
        *self.queue.borrow_mut() = Some(queue);
        address
    }

    /// The controller knows the pair: Ios may come.
    pub(crate) fn go_live(&self, run: Run, message: Option<WakeMessage<R>>) {
        self.run.set(run);
        *self.message.borrow_mut() = message;
        self.allowed.set(false);
        self.unreported.set(None);
        self.set_state(State::Live);
    }

    /// Lets the device end the core's rests. It still may once the core works again, and is only
    /// stopped when it does ([`Self::hold`]): to change that takes a write to the device, which a
    /// drive without anything to do is spared.
    fn doze(&self, rest: Rest) -> Doze {
        let message = self.message.borrow();
        // The device does not tell of what it did not get.
        let is_told = self.state.get() == State::Live && self.held.borrow().is_empty();
        let Some(message) = message.as_ref().filter(|_| is_told) else {
            // Nothing comes from a device that is out of use, but a report may be left to send.
            let silent = self.unreported.get().is_none() && self.state.get() != State::Live;
            return if silent { Doze::Signalled } else { Doze::Polled };
        };
        if rest == Rest::Begins {
            self.queue.borrow_mut().iter_mut().for_each(IoQueue::settle);
            if !self.allowed.replace(true) {
                message.allow();
            }
        }
        Doze::Signalled
    }

    /// Stops the device from interrupting a core that polls it.
    #[cold]
    fn hold(&self) {
        self.allowed.set(false);
        self.message.borrow().iter().for_each(WakeMessage::hold);
    }

    /// No more Ios for now.
    fn suspend(&self) {
        if self.state.get() == State::Live {
            self.set_state(State::Waiting);
        }
        self.end_injection();
    }

    /// Takes every Io under way back, now that the device is proven quiet. It is sent again once
    /// the device is back, or ends with `error` if it must not be, or never will be.
    fn abort(&self, proof: Quiesced, error: IoError) -> Result<(), NotQuiesced> {
        self.suspend();
        let mut kept = Vec::new();
        let comes_back = error != IoError::Removed;
        if let Some(queue) = self.queue.borrow_mut().as_mut() {
            queue.abort_all(proof, |mut pending| {
                let inbox = self.inboxes.get(pending.inbox);
                let repeatable =
                    inbox.is_some_and(|inbox| pending.is_repeatable(&inbox.namespace()));
                if comes_back && repeatable && pending.try_again() {
                    return kept.push(pending);
                }
                if pending.is_half() {
                    return self.half_ended(&pending.io, Err(error));
                }
                pending.fail(error, &self.inboxes);
            })?;
        }
        self.drop_pair();
        self.queued.set(self.queued.get() + kept.len() as u64);
        self.backlog.borrow_mut().extend(kept);
        if !comes_back {
            self.fail_backlog();
        }
        Ok(())
    }

    fn drop_pair(&self) {
        self.past.set(self.stats().queues);
        self.queue.take();
    }

    /// What its queue pairs have done so far.
    pub(crate) fn stats(&self) -> PollGroupStats {
        let now = self.queue.borrow().as_ref().map_or_else(Default::default, IoQueue::stats);
        PollGroupStats { queues: self.past.get().plus(now), queued: self.queued.get() }
    }

    /// Ends what was to be sent, for there is nowhere to send it any more.
    fn fail_backlog(&self) {
        let backlog = self.backlog.take();
        backlog.into_iter().for_each(|pending| pending.fail(IoError::Removed, &self.inboxes));
    }

    /// The namespace with that identifier has so many blocks now.
    fn resize(&self, nsid: u32, blocks: u64) {
        self.inboxes.resize(nsid, blocks);
    }

    /// The device will not come back, or not for this core.
    pub(crate) fn close(&self) {
        self.set_state(State::Closed);
        self.end_injection();
        self.pollers.take();
        self.drop_pair();
        self.fail_backlog();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.get() == State::Closed
    }

    /// Ios under way, without those that are held back, for which nobody need wait.
    pub(crate) fn outstanding(&self) -> usize {
        let sent = self.queue.borrow().as_ref().map_or(0, IoQueue::outstanding);
        sent + self.backlog.borrow().len()
    }

    #[inline]
    fn submit(&self, io: &mut Io, inbox: &Inbox) -> Result<(), RejectReason> {
        if !self.open.get() {
            return self.submit_closely(io, inbox);
        }
        // In use only if somebody submits from where another channel hands out its Ios.
        let Ok(mut slot) = self.queue.try_borrow_mut() else {
            return Err(RejectReason::QueueFull);
        };
        let Some(queue) = slot.as_mut().filter(|_| !inbox.is_full()) else {
            return Err(RejectReason::QueueFull);
        };
        let Some(direction) = plain_transfer(io, inbox.limits) else {
            return self.submit_other(queue, io, inbox);
        };
        let pending = Pending::new(io.take(), inbox.id);
        let sent = pending.transfer(direction, queue, &inbox.namespace());
        sent.map_err(|refused| hand_back(refused, io))?;
        inbox.expect();
        Ok(())
    }

    /// Submits what is no transfer, or does not fit one command as it is.
    #[cold]
    fn submit_other(
        &self,
        queue: &mut IoQueue<R, Pending>,
        io: &mut Io,
        inbox: &Inbox,
    ) -> Result<(), RejectReason> {
        if io.op == Op::CompareAndWrite {
            return self.submit_fused(queue, io, inbox);
        }
        let mut pending = Pending::new(io.take(), inbox.id);
        if pending.prepare(inbox.limits, &self.pool).is_err() {
            inbox.expect();
            pending.fail(IoError::NoResources, &self.inboxes);
            return Ok(());
        }
        self.send(pending, queue, &inbox.namespace()).map_err(|refused| hand_back(refused, io))?;
        inbox.expect();
        Ok(())
    }

    #[cold]
    fn refusal(&self) -> RejectReason {
        if self.is_closed() { RejectReason::Removed } else { RejectReason::QueueFull }
    }

    fn set_state(&self, state: State) {
        self.state.set(state);
        self.look_whether_open();
    }

    fn look_whether_open(&self) {
        let is_waiting = self.injecting.get() || !self.backlog.borrow().is_empty();
        self.open.set(self.state.get() == State::Live && !is_waiting);
    }

    /// Whatever is submitted from now on waits until this has been sent.
    #[cold]
    fn put_back(&self, pending: Pending) {
        if pending.is_given_up() {
            return pending.fail(IoError::Aborted, &self.inboxes);
        }
        self.queued.set(self.queued.get() + 1);
        self.backlog.borrow_mut().push_back(pending);
        self.open.set(false);
    }

    /// Empties the completion queue for all channels. What is `mine` goes to `done` where it lies,
    /// what is another's to its inbox. How many were mine, and how many there were.
    #[inline]
    fn poll(&self, mine: Option<&Inbox>, done: &mut dyn FnMut(&mut Io)) -> (Work, Work) {
        let mut slot = self.queue.borrow_mut();
        let Some(queue) = slot.as_mut().filter(|_| self.state.get() == State::Live) else {
            return (Work::IDLE, Work::IDLE);
        };
        let mut count = 0;
        let work = queue.poll_in_place(BUDGET, |pending, ended| {
            if let Some(inbox) = mine.filter(|inbox| inbox.id == pending.inbox) {
                if !pending.piece_ended(&ended, inbox.limits.block) {
                    count += 1;
                    return done(&mut pending.io);
                }
                self.put_back(pending.take());
            } else {
                self.found_for_another(pending, &ended);
            }
        });
        mine.iter().for_each(|inbox| inbox.settle(count as usize));
        if work.is_busy() && self.allowed.get() {
            self.hold();
        }
        (Work(count), work)
    }

    /// A command has completed that is not of the channel which has looked.
    #[inline(never)]
    fn found_for_another(&self, pending: &mut Pending, ended: &Ended<'_, R>) {
        let Some(inbox) = self.inboxes.get(pending.inbox) else {
            return self.half_completed(pending, ended);
        };
        match pending.piece_ended(ended, inbox.limits.block) {
            false => inbox.put(pending.io.take()),
            true => self.put_back(pending.take()),
        }
    }

    /// What a channel is handed: what was found for it before, and what there is now.
    #[inline]
    fn poll_for(&self, inbox: &Inbox, done: &mut dyn FnMut(&mut Io)) -> Work {
        let waited = inbox.drain(done);
        if self.polled.replace(true) {
            return waited;
        }
        waited + self.poll(Some(inbox), done).0
    }

    /// Once a round, for all channels: completions nobody has asked for, pieces, faults, doorbell.
    fn end_round(&self, local: &Local) -> Work {
        if self.state.get() != State::Live {
            self.report(local);
            return Work::IDLE;
        }
        let mut work = Work::IDLE;
        if !self.polled.replace(false) {
            work += self.poll(None, &mut |_| {}).1;
        }
        let mut slot = self.queue.borrow_mut();
        let Some(queue) = slot.as_mut() else { return work };
        if !self.open.get() {
            self.end_held(local);
            self.send_next_pieces(queue);
        }
        if let Some(error) = queue.fault() {
            self.fail(error, local);
        } else {
            work += queue.commit();
        }
        work
    }

    fn send_next_pieces(&self, queue: &mut IoQueue<R, Pending>) {
        let mut backlog = self.backlog.borrow_mut();
        while let Some(mut pending) = backlog.pop_front() {
            let Some(inbox) = self.inboxes.get(pending.inbox) else { continue };
            if pending.prepare(inbox.limits, &self.pool).is_err() {
                pending.fail(IoError::NoResources, &self.inboxes);
                continue;
            }
            let Err(refused) = self.send(pending, queue, &inbox.namespace()) else { continue };
            match refusal(refused.reason) {
                RejectReason::QueueFull => return backlog.push_front(refused.payload),
                reason => refused.payload.fail(reason.into(), &self.inboxes),
            }
        }
        drop(backlog);
        self.look_whether_open();
    }

    /// Looks for what a poll cannot see.
    fn check(&self, local: &Local) -> Work {
        if self.state.get() != State::Live {
            return Work::IDLE;
        }
        let mut slot = self.queue.borrow_mut();
        let Some(queue) = slot.as_mut() else { return Work::IDLE };
        let qid = queue.address().qid();
        let fault = queue.check(local.now(), |ticket| {
            // If nobody hears of it, the queue fails soon.
            let _ = self.ask_to_abort(local, (qid, ticket), Unwanted::Late);
        });
        drop(slot);
        fault.inspect(|error| self.fail(*error, local));
        Work::IDLE
    }

    #[cold]
    fn fail(&self, error: QueueError, local: &Local) {
        self.suspend();
        self.unreported.set(Some(error));
        self.report(local);
    }

    /// Tells core 0 of a fault; if its mailbox is full, again in the next round.
    fn report(&self, local: &Local) {
        let Some(error) = self.unreported.get() else { return };
        let (id, run) = (self.id, self.run.get());
        let tell = move |local: &Local| NvmeControllers::of(local).report(id, run, error);
        if local.send(CoreId::BOOT, tell).is_ok() {
            self.unreported.set(None);
        }
    }
}

/// Puts back what the driver refused, and says why as the block layer does.
#[cold]
fn hand_back(refused: basalt_nvme::Rejected<Pending>, io: &mut Io) -> RejectReason {
    *io = refused.payload.into_io();
    refusal(refused.reason)
}

/// A refusal of the driver in the block layer's terms.
fn refusal(reason: basalt_nvme::RejectReason) -> RejectReason {
    match reason {
        basalt_nvme::RejectReason::QueueFull => RejectReason::QueueFull,
        // It is about to be reset.
        basalt_nvme::RejectReason::Failed(_) => RejectReason::QueueFull,
        basalt_nvme::RejectReason::OutOfRange => RejectReason::OutOfRange,
        basalt_nvme::RejectReason::Unsupported => RejectReason::Unsupported,
        basalt_nvme::RejectReason::BadLength
        | basalt_nvme::RejectReason::Misaligned
        | basalt_nvme::RejectReason::MaxTransfer => RejectReason::BadBuffer,
    }
}
