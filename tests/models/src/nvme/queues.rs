use std::collections::VecDeque;

use basalt_env::PhysAddr;
use basalt_nvme_spec::log_page::ErrorEntry;
use basalt_nvme_spec::{
    AsyncEvent, Cc, Command, Completion, Csts, FeatureId, LogPageId, NvmOpcode, QueueId,
    QueuePriority, Status,
};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::fault::Trigger;
use super::state::State;
use super::{Fault, Shadowing};

/// Entries the error log keeps.
pub(super) const ERRORS_MAX: usize = 64;

/// Steps after which a completion comes that was to be overtaken, and was not.
const REORDER_STEPS: u32 = 16;

/// A submission queue as the controller knows it.
pub(super) struct SubmissionQueue {
    base: u64,
    entries: u32,
    head: u32,
    tail: u32,
    pub(super) cqid: QueueId,
    pub(super) priority: QueuePriority,
}

impl SubmissionQueue {
    pub(super) fn new(base: u64, entries: u32, cqid: QueueId) -> Self {
        Self { base, entries, head: 0, tail: 0, cqid, priority: QueuePriority::Urgent }
    }

    /// Whether there are no commands to fetch.
    pub(super) fn is_empty(&self) -> bool {
        self.head == self.tail
    }
}

/// A completion queue as the controller knows it.
pub(super) struct CompletionQueue {
    base: u64,
    entries: u32,
    head: u32,
    tail: u32,
    phase: bool,
    /// What waits for room.
    waiting: VecDeque<(Completion, bool)>,
}

impl CompletionQueue {
    pub(super) fn new(base: u64, entries: u32) -> Self {
        Self { base, entries, head: 0, tail: 0, phase: true, waiting: VecDeque::new() }
    }
}

/// A completion that comes later.
pub(super) struct Delayed {
    steps: u32,
    sqid: QueueId,
    completion: Completion,
    /// Whether the next of its queue brings it along.
    overtaken: bool,
}

/// What executing a command gives: its result, or `None` if it completes some other time.
pub(super) type Answer = Option<Result<u32, Status>>;

impl State {
    pub(super) fn doorbell(&mut self, offset: usize, value: u32) {
        self.doorbells += 1;
        let index = offset / self.config.doorbell_stride;
        let (qid, is_cq) = ((index / 2) as QueueId, index % 2 == 1);
        let known = if is_cq { self.ring_cq(qid, value) } else { self.ring_sq(qid, value) };
        if qid != 0 && self.shadow.is_some() && self.read_shadow(qid, is_cq) != Some(value) {
            self.violate(format!("doorbell at {offset:#x} is not what is in memory"));
        }
        self.told = true;
        if !known || !offset.is_multiple_of(self.config.doorbell_stride) {
            self.violate(format!("doorbell at {offset:#x} given {value}"));
        }
        self.step();
    }

    fn ring_sq(&mut self, qid: QueueId, tail: u32) -> bool {
        let Some(queue) = self.sqs.get_mut(&qid) else { return false };
        queue.tail = tail % queue.entries;
        tail < queue.entries
    }

    fn ring_cq(&mut self, qid: QueueId, head: u32) -> bool {
        let Some(queue) = self.cqs.get_mut(&qid) else { return false };
        let used = (queue.tail + queue.entries - queue.head) % queue.entries;
        let freed = (head + queue.entries - queue.head) % queue.entries;
        queue.head = head % queue.entries;
        head < queue.entries && freed <= used
    }

    /// A doorbell in memory.
    fn read_shadow(&self, qid: QueueId, is_cq: bool) -> Option<u32> {
        let (doorbells, _) = self.shadow?;
        let index = 2 * u64::from(qid) + u64::from(is_cq);
        let mut bytes = [0; 4];
        let at = doorbells + index * self.config.doorbell_stride as u64;
        self.bus.read(PhysAddr::new(at), &mut bytes).ok()?;
        Some(u32::from_le_bytes(bytes))
    }

    /// Takes note of a queue's doorbells in memory, and says from where on it wants to be told.
    fn look_at_shadow(&mut self, qid: QueueId) {
        let looks = self.config.shadow == Shadowing::Always || self.told;
        let Some((_, events)) = self.shadow.filter(|_| qid != 0 && looks) else { return };
        if let Some(tail) = self.read_shadow(qid, false) {
            let known = self.ring_sq(qid, tail);
            // One that is far behind is as good as none.
            let event = if self.config.shadow == Shadowing::Always { tail + 0x8000 } else { tail };
            let at = events + 2 * u64::from(qid) * self.config.doorbell_stride as u64;
            if !known || self.bus.write(PhysAddr::new(at), &event.to_le_bytes()).is_err() {
                self.violate(format!("tail {tail} of queue {qid} in memory"));
            }
        }
        if let Some(head) = self.read_shadow(qid, true) {
            self.ring_cq(qid, head);
        }
    }

    pub(super) fn step(&mut self) {
        self.deliver_delayed();
        self.manage_step();
        let qids: Vec<_> = self.sqs.keys().copied().collect();
        for qid in qids {
            self.look_at_shadow(qid);
        }
        self.serve();
        self.told = false;
        let cqids: Vec<_> = self.cqs.keys().copied().collect();
        for cqid in cqids {
            self.flush_completions(cqid);
        }
    }

    /// Ends a command that would complete later, as Abort asks (base specification 2.0 §5.1);
    /// whether there was one.
    pub(super) fn abort(&mut self, command: &Command) -> bool {
        let (sqid, cid) = (command.cdw10.get() as QueueId, (command.cdw10.get() >> 16) as u16);
        let asked =
            |delayed: &&mut Delayed| (delayed.sqid, delayed.completion.cid.get()) == (sqid, cid);
        let found = self.delayed.iter_mut().find(asked);
        if let Some(delayed) = found {
            // With the next step.
            delayed.steps = 1;
            delayed.completion = Completion::new(cid, Status::ABORT_REQUESTED);
            return true;
        }
        false
    }

    fn deliver_delayed(&mut self) {
        if !self.runs() {
            return;
        }
        for delayed in &mut self.delayed {
            delayed.steps = delayed.steps.saturating_sub(1);
        }
        let (due, later) =
            std::mem::take(&mut self.delayed).into_iter().partition(|delayed| delayed.steps == 0);
        self.delayed = later;
        let due: Vec<Delayed> = due;
        for delayed in due {
            self.post(delayed.sqid, delayed.completion, false);
        }
    }

    /// A queue as Create I/O Submission Queue asks for it.
    pub(super) fn new_sq(
        &mut self,
        command: &Command,
        entries: u32,
        cqid: QueueId,
    ) -> SubmissionQueue {
        let (qid, base) = (command.cdw10.get() as QueueId, command.prp1());
        self.check_place(qid, base, entries);
        let priority = QueuePriority::from_bits(command.priority_bits());
        if self.cc.arbitration() != Cc::AMS_WEIGHTED && command.priority_bits() != 0 {
            self.violate(format!("queue {qid} is {priority:?} where nothing is weighted"));
        }
        SubmissionQueue { priority, ..SubmissionQueue::new(base, entries, cqid) }
    }

    pub(super) fn fetch(&mut self, qid: QueueId) -> Option<Command> {
        let queue = self.sqs.get_mut(&qid)?;
        if queue.is_empty() {
            return None;
        }
        let at = queue.base + u64::from(queue.head) * 64;
        queue.head = (queue.head + 1) % queue.entries;
        let from_cmb = self.fetch_from_cmb(qid, at);
        let mut bytes = from_cmb.unwrap_or([0; 64]);
        if from_cmb.is_none() && self.bus.read(PhysAddr::new(at), &mut bytes).is_err() {
            self.violate(format!("submission queue {qid} lies outside memory at {at:#x}"));
            self.csts.insert(Csts::FATAL);
            return None;
        }
        self.io_commands += u64::from(qid != 0);
        Command::read_from_bytes(&bytes).ok()
    }

    pub(super) fn execute(&mut self, qid: QueueId, command: &Command) {
        if qid == 0 || !self.fuse(qid, command) {
            self.execute_alone(qid, command);
        }
    }

    /// Carries out a command; whether it succeeded.
    pub(super) fn execute_alone(&mut self, qid: QueueId, command: &Command) -> bool {
        let event = match qid {
            0 => Trigger::Admin(command.opcode),
            _ => Trigger::Io(command.opcode),
        };
        let fault = self.plan.strike(event);
        match fault {
            Some(Fault::FatalStatus) => {
                self.csts.insert(Csts::FATAL);
                return false;
            }
            Some(Fault::AllOnes) => {
                self.gone = true;
                return false;
            }
            Some(Fault::Status(sct, sc)) => {
                let status = Status::new(sct, sc);
                self.complete(qid, command, Err(status), None);
                return false;
            }
            _ => {}
        }
        let corrupt = fault == Some(Fault::CorruptData);
        let answer = match qid {
            0 => self.admin_command(command, corrupt),
            _ if NvmOpcode(command.opcode) == NvmOpcode::ZONE_APPEND => {
                Some(self.zone_append(command))
            }
            _ => Some(self.io_command(command, corrupt).map(|()| 0)),
        };
        if let Some(result) = answer {
            self.complete(qid, command, result, fault);
        }
        answer.is_some_and(|result| result.is_ok())
    }

    pub(super) fn complete(
        &mut self,
        qid: QueueId,
        command: &Command,
        result: Result<u32, Status>,
        fault: Option<Fault>,
    ) {
        let status = result.err().unwrap_or(Status::SUCCESS);
        if !status.is_success() {
            self.log_error(qid, command, status);
        }
        let dw0 = result.unwrap_or(0);
        let mut completion = Completion::new(command.cid.get(), status).with_dw0(dw0);
        match fault {
            Some(Fault::DropCompletion) => return,
            Some(Fault::Delay(steps)) => {
                // The step that is under way does not count.
                let steps = steps.saturating_add(1);
                let overtaken = false;
                return self.delayed.push(Delayed { steps, sqid: qid, completion, overtaken });
            }
            Some(Fault::Reorder) => {
                let (steps, overtaken) = (REORDER_STEPS, true);
                return self.delayed.push(Delayed { steps, sqid: qid, completion, overtaken });
            }
            Some(Fault::WrongCid) => completion.cid = U16::new(!command.cid.get()),
            Some(Fault::DuplicateCompletion) => self.post(qid, completion, false),
            _ => {}
        }
        self.post(qid, completion, fault == Some(Fault::StalePhase));
        let overtaken = |delayed: &mut Delayed| delayed.overtaken && delayed.sqid == qid;
        let late: Vec<Delayed> = self.delayed.extract_if(.., overtaken).collect();
        for delayed in late {
            self.post(qid, delayed.completion, false);
        }
    }

    fn post(&mut self, sqid: QueueId, mut completion: Completion, stale: bool) {
        let Some(queue) = self.sqs.get(&sqid) else { return };
        completion.sqid = U16::new(sqid);
        completion.sqhd = U16::new(queue.head as u16);
        let cqid = queue.cqid;
        if let Some(queue) = self.cqs.get_mut(&cqid) {
            queue.waiting.push_back((completion, stale));
        }
        self.flush_completions(cqid);
    }

    fn flush_completions(&mut self, cqid: QueueId) {
        if !self.runs() {
            return;
        }
        let Some(queue) = self.cqs.get_mut(&cqid) else { return };
        while (queue.tail + 1) % queue.entries != queue.head {
            let Some((mut completion, stale)) = queue.waiting.pop_front() else { return };
            completion.set_phase(queue.phase != stale);
            self.lies.change(completion.as_mut_bytes());
            let at = PhysAddr::new(queue.base + u64::from(queue.tail) * 16);
            if self.bus.write(at, completion.as_bytes()).is_err() {
                return self.violate(format!("completion queue {cqid} lies outside memory"));
            }
            queue.tail = (queue.tail + 1) % queue.entries;
            queue.phase ^= queue.tail == 0;
        }
    }

    /// Tells of a changed namespace, unless earlier changes have not been read of yet, or nobody
    /// wants to know (base specification 2.0 §5.2.1).
    pub(super) fn namespace_changed(&mut self, nsid: u32) {
        let told = !self.changed.is_empty();
        self.changed.push(nsid);
        let config = self.features.get(&FeatureId::ASYNC_EVENT_CONFIG.0).copied().unwrap_or(0);
        if told || config & AsyncEvent::CONFIG_NAMESPACE == 0 {
            return;
        }
        let log = LogPageId::CHANGED_NAMESPACES.0;
        let notice = AsyncEvent::NOTICE_NAMESPACE;
        self.raise_event(AsyncEvent::new(AsyncEvent::TYPE_NOTICE, notice, log));
    }

    pub(super) fn raise_event(&mut self, event: AsyncEvent) -> bool {
        let Some(cid) = self.events_waiting.pop_front() else { return false };
        self.post(0, Completion::new(cid, Status::SUCCESS).with_dw0(event.0), false);
        true
    }

    fn log_error(&mut self, qid: QueueId, command: &Command, status: Status) {
        let count = self.errors.front().map_or(0, |entry| entry.error_count.get()) + 1;
        self.smart.error_entries = (self.smart.error_entries.get() + 1).into();
        self.errors.truncate(ERRORS_MAX - 1);
        self.errors.push_front(ErrorEntry {
            error_count: U64::new(count),
            sqid: U16::new(qid),
            cid: command.cid,
            status_phase: U16::new(status.bits() << 1),
            parameter_location: U16::new(u16::MAX),
            lba: U64::new(if qid == 0 { 0 } else { command.lba() }),
            nsid: U32::new(command.nsid.get()),
            ..ErrorEntry::default()
        });
    }
}
