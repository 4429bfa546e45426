use std::collections::BTreeMap;
use std::ops::Range;

use basalt_nvme_spec::{
    Command, CopyRange, DsmAttributes, DsmRange, NvmOpcode, Status, StatusType,
};
use zerocopy::IntoBytes;

use super::connection::{Connection, Ended};
use super::machine::Machine;
use super::plan::Plan;
use super::random::Random;
use super::reference::Reference;

/// Commands of a queue at a time.
const DEPTH: usize = 16;
/// I/O queues of the host.
const QUEUES: u16 = 3;
/// Steps in which all that is under way has to end.
const PATIENCE: u32 = 300_000;

/// What a command does to which blocks.
#[derive(Clone, Debug)]
struct Job {
    opcode: NvmOpcode,
    blocks: Range<u64>,
    /// Of a copy, where it is from.
    from: Option<Range<u64>>,
    /// What they hold after it, if it changes them.
    value: Option<u64>,
}

/// A host that keeps commands under way on several queues, and knows what they do.
pub struct Host {
    admin: Connection,
    cntlid: u16,
    queues: Vec<Option<Connection>>,
    jobs: BTreeMap<u64, Job>,
    pub reference: Reference,
    random: Random,
    values: u64,
    next_tag: u64,
    most_blocks: u64,
    /// Commands that ended well, and those that did not.
    pub succeeded: u64,
    pub failed: u64,
    /// Those nobody heard of again, for their connection ended.
    pub lost: u64,
}

impl Host {
    pub fn new(machine: &mut Machine, plan: &Plan) -> Self {
        let (mut admin, cntlid) = Connection::admin(machine);
        let identify = Command::identify(basalt_nvme_spec::Cns::NAMESPACE, 1);
        let page = admin.run(machine, identify, &[], 4096).expect("the namespace");
        let blocks = u64::from_le_bytes(page.data[..8].try_into().unwrap());
        let mut host = Self {
            admin,
            cntlid,
            queues: (0..QUEUES).map(|_| None).collect(),
            jobs: BTreeMap::new(),
            reference: Reference::new(blocks, plan.block_size as usize),
            random: Random::new(plan.seed ^ 0x4057),
            values: 0,
            next_tag: 0,
            most_blocks: u64::from(plan.io_len_max / plan.block_size),
            succeeded: 0,
            failed: 0,
            lost: 0,
        };
        host.dial(machine);
        host
    }

    /// Connects the queues that are not.
    fn dial(&mut self, machine: &mut Machine) {
        for index in 0..self.queues.len() {
            if self.queues[index].is_some() {
                continue;
            }
            let core = self.random.below(machine.cores() as u64) as usize;
            let mut queue = Connection::dial(machine, core);
            // The target may not have noticed yet that the last one is gone.
            let connected = queue.connect(machine, index as u16 + 1, self.cntlid);
            if connected.is_some() {
                self.queues[index] = Some(queue);
            } else {
                queue.hang_up(machine);
            }
        }
    }

    /// One more command, if there is room for it; and what has come is seen to.
    pub fn turn(&mut self, machine: &mut Machine) {
        let index = self.random.below(self.queues.len() as u64) as usize;
        if let Some(queue) = &self.queues[index]
            && queue.in_flight() < DEPTH
            && let Some(job) = self.choose()
        {
            self.submit(machine, index, job);
        }
        self.pump(machine);
    }

    fn pump(&mut self, machine: &mut Machine) {
        for index in 0..self.queues.len() {
            let Some(queue) = &mut self.queues[index] else { continue };
            let (ended, is_over) = (queue.pump(machine), queue.is_over(machine));
            ended.into_iter().for_each(|ended| self.end(ended));
            if is_over {
                self.lose(machine, index);
            }
        }
    }

    /// Cuts a connection with all that is under way on it.
    pub fn hang_up(&mut self, machine: &mut Machine) {
        let index = self.random.below(self.queues.len() as u64) as usize;
        if self.queues[index].is_some() {
            self.lose(machine, index);
        }
        self.dial(machine);
    }

    fn lose(&mut self, machine: &Machine, index: usize) {
        let Some(mut queue) = self.queues[index].take() else { return };
        queue.hang_up(machine);
        for tag in queue.give_up() {
            let job = self.jobs.remove(&tag).expect("a command ends once");
            self.lost += 1;
            if let Some(value) = job.value {
                // The target may still be at it: nobody else may use the blocks before it is done,
                // which the host cannot know. So they stay taken.
                self.reference.may_hold(job.blocks.clone(), value);
                continue;
            }
            self.release(&job);
        }
    }

    fn release(&mut self, job: &Job) {
        self.reference.give_back(&job.blocks);
        job.from.iter().for_each(|from| self.reference.give_back(from));
    }

    /// A command on blocks that no other is about.
    fn choose(&mut self) -> Option<Job> {
        let most = self.random.pick(&[1, 8, self.most_blocks]).min(self.most_blocks);
        let count = 1 + self.random.below(most.min(self.reference.blocks()));
        let start = self.random.below(self.reference.blocks() - count + 1);
        let blocks = start..start + count;
        if !self.reference.take(&blocks) {
            return None;
        }
        self.values += 1;
        let write = (NvmOpcode::WRITE, Some(self.values));
        let (opcode, value) = match self.random.below(20) {
            0..8 => write,
            8..14 => (NvmOpcode::READ, None),
            14 => (NvmOpcode::WRITE_ZEROES, Some(0)),
            15 => (NvmOpcode::DATASET_MANAGEMENT, Some(0)),
            16 => (NvmOpcode::FLUSH, None),
            17 => (NvmOpcode::VERIFY, None),
            18 => (NvmOpcode::COMPARE, None),
            _ => return Some(self.choose_copy(blocks)),
        };
        let known = blocks.clone().all(|block| self.reference.value(block).is_some());
        let opcode = if opcode == NvmOpcode::COMPARE && !known { NvmOpcode::READ } else { opcode };
        Some(Job { opcode, blocks, from: None, value })
    }

    /// A copy of a block to all of these, or a read if there is none that it is known of.
    fn choose_copy(&mut self, blocks: Range<u64>) -> Job {
        let source = self.random.below(self.reference.blocks());
        let from = source..source + 1;
        let to = blocks.start..blocks.start + 1;
        let value = self.reference.value(source);
        let (Some(value), true) = (value, self.reference.take(&from)) else {
            return Job { opcode: NvmOpcode::READ, blocks, from: None, value: None };
        };
        self.reference.give_back(&(to.end..blocks.end));
        Job { opcode: NvmOpcode::COPY, blocks: to, from: Some(from), value: Some(value) }
    }

    fn submit(&mut self, machine: &Machine, index: usize, job: Job) {
        let count = job.blocks.end - job.blocks.start;
        let (lba, blocks) = (job.blocks.start, count as u32);
        let range = DsmRange::new(lba, blocks);
        let (command, outgoing, incoming) = match (job.opcode, &job.from) {
            (NvmOpcode::READ, _) => {
                let len = blocks * self.reference.block_len() as u32;
                (Command::read(1, lba, blocks), vec![], len)
            }
            (NvmOpcode::WRITE, _) => {
                let data = self.reference.bytes(job.value.unwrap_or(0), count);
                (Command::write(1, lba, blocks), data, 0)
            }
            (NvmOpcode::COMPARE, _) => {
                let known = job.blocks.clone().map(|block| self.reference.value(block));
                let bytes = known.map(|value| self.reference.bytes(value.unwrap(), 1));
                (Command::compare(1, lba, blocks), bytes.collect::<Vec<_>>().concat(), 0)
            }
            (NvmOpcode::COPY, Some(from)) => {
                let range = CopyRange::new(from.start, 1);
                (Command::copy(1, lba, 1), range.as_bytes().to_vec(), 0)
            }
            (NvmOpcode::DATASET_MANAGEMENT, _) => {
                let command = Command::dataset_management(1, 1, DsmAttributes::DEALLOCATE);
                (command, range.as_bytes().to_vec(), 0)
            }
            (NvmOpcode::WRITE_ZEROES, _) => (Command::write_zeroes(1, lba, blocks), vec![], 0),
            (NvmOpcode::VERIFY, _) => (Command::verify(1, lba, blocks), vec![], 0),
            _ => (Command::flush(1), vec![], 0),
        };
        self.next_tag += 1;
        self.jobs.insert(self.next_tag, job);
        if let Some(queue) = &mut self.queues[index] {
            queue.submit(machine, command, &outgoing, incoming, self.next_tag);
        }
    }

    fn end(&mut self, ended: Ended) {
        let job = self.jobs.remove(&ended.tag).expect("a command ends once");
        self.release(&job);
        if !ended.status.is_success() {
            self.failed += 1;
            log::info!(target: "host", "{job:?} ended as {}", ended.status);
            assert!(is_allowed(ended.status), "{job:?} ended as {}", ended.status);
            let value = job.value.into_iter();
            value.for_each(|value| self.reference.may_hold(job.blocks.clone(), value));
            return;
        }
        self.succeeded += 1;
        match job.value {
            Some(value) => self.reference.hold(job.blocks, value),
            None if job.opcode == NvmOpcode::READ => {
                self.reference.check(job.blocks, &ended.data);
            }
            None => {}
        }
    }

    /// Waits until all that is under way has ended.
    pub fn drain(&mut self, machine: &mut Machine) {
        for _ in 0..PATIENCE {
            if self.jobs.is_empty() {
                return;
            }
            machine.step();
            self.pump(machine);
            self.dial(machine);
        }
        panic!("these do not end: {:?}", self.jobs);
    }

    /// Reads all blocks, which must be possible now.
    pub fn verify(&mut self, machine: &mut Machine) {
        self.dial(machine);
        let mut start = 0;
        while start < self.reference.blocks() {
            let blocks = start..self.reference.blocks().min(start + self.most_blocks);
            start = blocks.end;
            self.reference.give_back(&blocks);
            let failed = self.failed;
            for _ in 0..PATIENCE {
                self.dial(machine);
                let ready = self.queues.iter().position(Option::is_some);
                let Some(index) = ready else { continue };
                assert!(self.reference.take(&blocks));
                let read = NvmOpcode::READ;
                let job = Job { opcode: read, blocks: blocks.clone(), from: None, value: None };
                self.submit(machine, index, job);
                break;
            }
            self.drain(machine);
            assert_eq!(self.failed, failed, "blocks {blocks:?} cannot be read");
        }
    }

    /// Ends all connections.
    pub fn leave(&self, machine: &Machine) {
        self.queues.iter().flatten().for_each(|queue| queue.hang_up(machine));
        self.admin.hang_up(machine);
    }
}

/// Whether a command may end so when drives go wrong. Nothing may be said to be the host's fault,
/// nor what it compares to differ.
fn is_allowed(status: Status) -> bool {
    let blames = [
        Status::INVALID_OPCODE,
        Status::INVALID_FIELD,
        Status::LBA_OUT_OF_RANGE,
        Status::COMPARE_FAILURE,
    ];
    !blames.iter().any(|blame| status.is(*blame)) && status.sct() != StatusType::COMMAND_SPECIFIC.0
}
