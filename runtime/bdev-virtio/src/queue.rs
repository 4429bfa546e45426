use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use basalt_bdev::{Io, IoChannel, IoError, IoStatus, Op, RejectReason, SgList};
use basalt_env::{CoreId, DmaPool, OutOfDmaMemory, Registers, Work as Progress};
use basalt_reactor::{Doze, Local, Poller, Rest};
use basalt_ring::Slots;
use basalt_virtio::{Doorbell, Notice, QueueError, Requests};
use basalt_virtio_scsi::{RESPONSE_LEN, UNMAP_LEN, unmap_list};

use crate::controllers::{ControllerId, VirtioControllers};
use crate::inbox::Inbox;
use crate::job::{Job, Parent, Piece, Question, Reply, Work};
use crate::unit::{Answer, BUSY_PATIENCE, Limits, Unit};

/// Completions one round takes at most.
const BUDGET: u32 = 128;
/// Ios of one core that can be in pieces at a time.
const PARENTS: usize = 64;
/// Descriptors of a request besides those of its data.
const OWN_DESCRIPTORS: u32 = 2;

type Spare = Vec<Box<Parent>>;

/// One core's queue of one device, shared by all channels of that core.
///
/// ```text
///          (1) go_live            (2) close: the device has been reset
///  Made ---------------> Live -----------------------------------------> Closed
/// ```
///
/// What is under way at (2) ends with an error, and memory that the device had is freed.
pub(crate) struct CoreQueue<R: Registers> {
    id: ControllerId,
    local: Local,
    pool: Rc<DmaPool>,
    requests: RefCell<Option<Requests<Job>>>,
    doorbell: RefCell<Option<Doorbell<R>>>,
    /// Descriptors of the queue.
    size: u32,
    /// Whether the device ends the core's rest by a message.
    wakes: Cell<bool>,
    parents: RefCell<Slots<Box<Parent>, 32>>,
    /// To be used again, so that nothing is allocated in the end.
    spare: RefCell<Spare>,
    /// What there is no room for now, or is to be tried again. While there is any, nothing else is
    /// taken.
    backlog: RefCell<VecDeque<Job>>,
    /// A fault that core 0 has not been told of yet.
    unreported: Cell<Option<QueueError>>,
    pollers: RefCell<Vec<Poller>>,
}

impl<R: Registers> CoreQueue<R> {
    pub(crate) fn new(
        id: ControllerId,
        local: &Local,
        pool: Rc<DmaPool>,
        requests: Requests<Job>,
        size: u16,
    ) -> Option<Rc<Self>> {
        Some(Rc::new(Self {
            id,
            local: local.clone(),
            pool,
            requests: RefCell::new(Some(requests)),
            doorbell: RefCell::new(None),
            size: size.into(),
            wakes: Cell::new(false),
            parents: RefCell::new(Slots::with_capacity(PARENTS).ok()?),
            spare: RefCell::default(),
            backlog: RefCell::default(),
            unreported: Cell::new(None),
            pollers: RefCell::default(),
        }))
    }

    /// The device knows the queue, and sends a message or not.
    pub(crate) fn go_live(self: &Rc<Self>, doorbell: Doorbell<R>, wakes: bool) {
        *self.doorbell.borrow_mut() = Some(doorbell);
        self.wakes.set(wakes);
        let [resting, polled] = [(); 2].map(|()| Rc::downgrade(self));
        self.local
            .on_rest(move |_, rest| resting.upgrade().map_or(Doze::Gone, |queue| queue.doze(rest)));
        let poller = self.local.late_poller("bdev_virtio_poll", move |_| {
            polled.upgrade().map_or(Progress::IDLE, |queue| queue.end_round())
        });
        self.pollers.borrow_mut().push(poller);
    }

    fn doze(&self, rest: Rest) -> Doze {
        let mut requests = self.requests.borrow_mut();
        let Some(requests) = requests.as_mut() else { return Doze::Signalled };
        if self.wakes.get() {
            let notice = if rest == Rest::Begins { Notice::Sent } else { Notice::Held };
            requests.set_notice(notice);
        }
        let silent = self.wakes.get() || requests.outstanding() == 0;
        let owes = self.unreported.get().is_some() || !self.backlog.borrow().is_empty();
        if silent && !owes { Doze::Signalled } else { Doze::Polled }
    }

    /// The device has been reset, and will not be used again: whatever is under way ends.
    pub(crate) fn close(&self) {
        self.pollers.take();
        let requests = self.requests.take();
        if let Some(mut requests) = requests {
            requests.abort_all().for_each(|job| self.fail(job, IoError::Removed));
        }
        let backlog = self.backlog.take();
        backlog.into_iter().for_each(|job| self.fail(job, IoError::Removed));
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.requests.borrow().is_none()
    }

    /// What is under way.
    pub(crate) fn outstanding(&self) -> usize {
        let sent = self.requests.borrow().as_ref().map_or(0, Requests::outstanding);
        sent + self.backlog.borrow().len()
    }

    fn limits(&self, unit: &Unit) -> Limits {
        let limits = unit.limits();
        let segments_max = limits.segments_max.min(self.size - OWN_DESCRIPTORS);
        Limits { segments_max, ..limits }
    }

    fn submit(&self, io: &mut Io, inbox: &Rc<Inbox>) -> Result<(), RejectReason> {
        if self.is_closed() {
            return Err(RejectReason::Removed);
        }
        if inbox.is_full() || !self.backlog.borrow().is_empty() {
            return Err(RejectReason::QueueFull);
        }
        let limits = self.limits(&inbox.unit);
        if !limits.has_room_for(io) {
            return self.submit_in_pieces(io, inbox, limits);
        }
        if let Some(list) = self.list_for(&inbox.unit, io.op, io.lba, io.blocks) {
            io.data = list.map_err(|_| RejectReason::QueueFull)?;
        }
        let (since, op) = (io.submitted, io.op);
        let refused = self.push(Job { work: Work::Whole(Rc::clone(inbox), io.take()), since });
        if let Err(Job { work: Work::Whole(_, whole), .. }) = refused {
            *io = whole;
            if !op.has_data() {
                io.data = SgList::Empty;
            }
            return Err(RejectReason::QueueFull);
        }
        inbox.expect();
        Ok(())
    }

    /// What SCSI wants to be sent with the command, if it is an unmap.
    fn list_for(
        &self,
        unit: &Unit,
        op: Op,
        lba: u64,
        blocks: u32,
    ) -> Option<Result<SgList, OutOfDmaMemory>> {
        (op == Op::Unmap && matches!(unit, Unit::Scsi(_))).then(|| {
            let mut buf = self.pool.alloc(UNMAP_LEN)?;
            buf.as_mut_slice().copy_from_slice(&unmap_list(lba, blocks));
            Ok(SgList::One(buf))
        })
    }

    #[cold]
    fn submit_in_pieces(
        &self,
        io: &mut Io,
        inbox: &Rc<Inbox>,
        limits: Limits,
    ) -> Result<(), RejectReason> {
        let mut parents = self.parents.borrow_mut();
        if parents.is_full() {
            return Err(RejectReason::QueueFull);
        }
        let mut parent = self.spare.borrow_mut().pop().unwrap_or_default();
        if limits.take_apart(io, &mut parent, &self.pool).is_err() {
            self.spare.borrow_mut().push(parent);
            return Err(RejectReason::QueueFull);
        }
        let (op, since) = (parent.io.op, parent.io.submitted);
        // It is not full.
        let Ok((tag, parent)) = parents.insert_ref(parent) else { return Ok(()) };
        let mut backlog = self.backlog.borrow_mut();
        for (number, lba, blocks, data) in parent.pieces() {
            let inbox = Rc::clone(inbox);
            let piece = Piece { inbox, parent: tag, number, op, lba, blocks, data };
            backlog.push_back(Job { work: Work::Piece(piece), since });
        }
        drop((parents, backlog));
        inbox.expect();
        self.send_backlog();
        Ok(())
    }

    /// Asks the device something.
    pub(crate) fn ask(&self, question: Question) {
        let job = Job { work: Work::Question(question), since: self.local.now() };
        self.backlog.borrow_mut().push_back(job);
    }

    fn push(&self, job: Job) -> Result<(), Job> {
        let mut requests = self.requests.borrow_mut();
        let Some(requests) = requests.as_mut() else { return Err(job) };
        let (header, direction) = (job.header(), job.direction());
        requests.push(job, header.as_slice(), direction)
    }

    fn send_backlog(&self) {
        loop {
            let Some(mut job) = self.backlog.borrow_mut().pop_front() else { return };
            if let Work::Piece(Piece { inbox, op, lba, blocks, data, .. }) = &mut job.work
                && let Some(list) = self.list_for(&inbox.unit, *op, *lba, *blocks)
            {
                // Memory comes back with what is under way.
                let Ok(list) = list else { return self.backlog.borrow_mut().push_front(job) };
                *data = list;
            }
            if let Err(job) = self.push(job) {
                return self.backlog.borrow_mut().push_front(job);
            }
        }
    }

    /// Takes what the device has finished.
    fn take_ended(&self) -> Progress {
        let mut response = [0; RESPONSE_LEN];
        for count in 0..BUDGET {
            let mut requests = self.requests.borrow_mut();
            let Some(requests) = requests.as_mut() else { return Progress(count) };
            match requests.pop(&mut response) {
                Ok(Some(finished)) => self.ended(finished.payload, &response),
                Ok(None) => return Progress(count),
                Err(error) => {
                    self.unreported.set(Some(error));
                    return Progress(count);
                }
            }
        }
        Progress(BUDGET)
    }

    fn ended(&self, job: Job, response: &[u8; RESPONSE_LEN]) {
        let (unit, op) = match &job.work {
            Work::Whole(inbox, io) => (inbox.unit, io.op),
            Work::Piece(piece) => (piece.inbox.unit, piece.op),
            Work::Question(_) => {
                if let Work::Question(Question { data, answer, .. }) = job.work {
                    answer.send(Reply { response: *response, data });
                }
                return;
            }
        };
        match unit.answer(op, response) {
            Answer::Ended(status) => self.end(job, status),
            Answer::Again if self.local.now().since(job.since) < BUSY_PATIENCE => {
                self.backlog.borrow_mut().push_back(job);
            }
            Answer::Again => self.end(job, Err(IoError::Timeout)),
        }
    }

    fn fail(&self, job: Job, error: IoError) {
        self.end(job, Err(error));
    }

    fn end(&self, job: Job, status: IoStatus) {
        match job.work {
            Work::Whole(inbox, mut io) => {
                io.status = status;
                if !io.op.has_data() {
                    io.data = SgList::Empty;
                }
                inbox.put(io);
            }
            Work::Piece(piece) => self.piece_ended(piece, status),
            // Whoever asked sees that nobody answers.
            Work::Question(_) => {}
        }
    }

    fn piece_ended(&self, piece: Piece, status: IoStatus) {
        let mut parents = self.parents.borrow_mut();
        let Ok(parent) = parents.get_mut(piece.parent) else { return };
        if piece.op.has_data() {
            parent.data.give_back(piece.number, piece.data);
        }
        parent.status = parent.status.and(status);
        parent.left -= 1;
        if parent.left > 0 {
            return;
        }
        if let Ok(mut parent) = parents.remove(piece.parent) {
            piece.inbox.put(parent.take_io(piece.inbox.unit.limits().block_size));
            self.spare.borrow_mut().push(parent);
        }
    }

    /// Once a round, for all channels.
    fn end_round(&self) -> Progress {
        let work = self.take_ended();
        self.send_backlog();
        let told = self.requests.borrow_mut().as_mut().is_some_and(Requests::commit);
        if told {
            self.doorbell.borrow().iter().for_each(Doorbell::ring);
        }
        self.report();
        work
    }

    /// Tells core 0 of a fault; if its mailbox is full, again in the next round.
    fn report(&self) {
        let Some(error) = self.unreported.get() else { return };
        let id = self.id;
        let tell = move |local: &Local| VirtioControllers::of(local).report(id, error);
        if self.local.send(CoreId::BOOT, tell).is_ok() {
            self.unreported.set(None);
        }
    }
}

/// The queues of one core, one for each device: a service of the core.
pub(crate) struct CoreQueues<R: Registers> {
    queues: RefCell<Vec<Rc<CoreQueue<R>>>>,
}

impl<R: Registers> CoreQueues<R> {
    /// This core's instance.
    pub(crate) fn of(local: &Local) -> Rc<Self> {
        local.service().unwrap_or_else(|| {
            let queues = Rc::new(Self { queues: RefCell::default() });
            local.provide(Rc::clone(&queues));
            queues
        })
    }

    pub(crate) fn add(&self, queue: Rc<CoreQueue<R>>) {
        self.queues.borrow_mut().push(queue);
    }

    pub(crate) fn find(&self, id: ControllerId) -> Option<Rc<CoreQueue<R>>> {
        self.queues.borrow().iter().find(|queue| queue.id == id).map(Rc::clone)
    }

    pub(crate) fn remove(&self, id: ControllerId) {
        self.queues.borrow_mut().retain(|queue| queue.id != id);
    }
}

/// A channel: a place to come back to, in front of the core's queue.
pub(crate) struct VirtioChannel<R: Registers> {
    queue: Rc<CoreQueue<R>>,
    inbox: Rc<Inbox>,
}

impl<R: Registers> VirtioChannel<R> {
    pub(crate) fn boxed(queue: Rc<CoreQueue<R>>, unit: Unit) -> Box<dyn IoChannel> {
        Box::new(Self { queue, inbox: Inbox::new(unit) })
    }
}

impl<R: Registers> IoChannel for VirtioChannel<R> {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        self.queue.submit(io, &self.inbox)
    }

    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Progress {
        let _ = self.queue.take_ended();
        self.inbox.drain(done)
    }
}

impl<R: Registers> Drop for VirtioChannel<R> {
    fn drop(&mut self) {
        self.inbox.close();
    }
}
