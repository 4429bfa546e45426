use super::{Bench, pattern};
use crate::{Io, Op, RejectReason, SgList};

/// Ios after which a queue that takes more is taken to have no bound.
const QUEUE_MAX: usize = 4096;

impl Bench<'_> {
    pub(super) fn blocks_outside_are_refused(&mut self) {
        let mut channel = self.channel();
        let end = self.num_blocks();
        let outside = [(end, 1), (end - 1, 2), (u64::MAX, 1), (u64::MAX - 1, 4), (0, 0), (end, 0)];
        for (lba, blocks) in outside {
            for op in [Op::Read, Op::Write] {
                let io = self.transfer(op, lba, blocks);
                self.refused(&mut channel, io, RejectReason::OutOfRange);
            }
            for op in [Op::Unmap, Op::WriteZeroes] {
                if self.descriptor.allows(op) {
                    self.refused(
                        &mut channel,
                        Io::new(op, lba, blocks, 0),
                        RejectReason::OutOfRange,
                    );
                }
            }
        }
        assert_eq!(channel.in_flight(), 0);
    }

    pub(super) fn wrong_data_lengths_are_refused(&mut self) {
        let mut channel = self.channel();
        let block = self.block_size();
        for len in [block - 1, block + 1, 2 * block, 1] {
            for op in [Op::Read, Op::Write] {
                let io = Io::with_data(op, 0, 1, SgList::One(self.buf(len)), 0);
                self.refused(&mut channel, io, RejectReason::BadBuffer);
            }
        }
        self.refused(&mut channel, Io::new(Op::Read, 0, 1, 0), RejectReason::BadBuffer);
        if self.descriptor.allows(Op::Flush) {
            let flush = Io::with_data(Op::Flush, 0, 1, SgList::One(self.buf(block)), 0);
            self.refused(&mut channel, flush, RejectReason::BadBuffer);
        }
    }

    pub(super) fn channels_get_their_own_completions(&mut self) {
        let (mut one, mut two) = (self.channel(), self.channel());
        let bytes = pattern(self.block_size(), 4711);
        self.write(&mut one, 40, &bytes);
        self.expect(&mut two, 40, &bytes);
        for tag in 0..4 {
            for (channel, base) in [(&mut one, 100), (&mut two, 200)] {
                let mut io = self.transfer(Op::Read, 40, 1);
                io.tag = base + tag;
                self.submit_in_time(channel, io);
            }
        }
        for (channel, base) in [(&mut two, 200), (&mut one, 100)] {
            let mut tags: alloc::vec::Vec<_> =
                self.drain(channel, 4).iter().map(|io| io.tag).collect();
            tags.sort_unstable();
            assert!(tags.iter().copied().eq(base..base + 4), "strange completions: {tags:?}");
        }
    }

    pub(super) fn a_full_queue_refuses_and_recovers(&mut self) {
        let mut channel = self.channel();
        for _ in 0..2 {
            let accepted = self.fill(&mut channel);
            assert!(accepted > 0, "an empty queue takes an Io");
            assert_eq!(channel.in_flight() as usize, accepted);
            let ended = self.drain(&mut channel, accepted);
            assert_eq!(ended.len(), accepted, "each Io comes back once");
            assert!(ended.iter().all(|io| io.status == Ok(())));
            assert_eq!(channel.in_flight(), 0);
        }
    }

    /// Submits without polling until the queue is full. Gives the number of Ios it took.
    fn fill(&mut self, channel: &mut crate::Channel) -> usize {
        for accepted in 0..QUEUE_MAX {
            let io = self.transfer(Op::Read, accepted as u64 % self.num_blocks(), 1);
            let Err(refused) = channel.submit(io) else { continue };
            assert_eq!(refused.reason, RejectReason::QueueFull);
            return accepted;
        }
        panic!("the queue has no bound");
    }

    pub(super) fn everything_was_counted(&mut self) {
        let channel = self.channel();
        let stat = channel.descriptor().iostat();
        // What was aborted before it was done has failed.
        let can_abort = self.descriptor.bdev().can_abort();
        let errors_max = if can_abort { super::aborted::COUNT / 2 } else { 0 };
        for op in [Op::Read, Op::Write] {
            let stat = stat.op(op);
            assert!(stat.ops > 0 && stat.bytes >= stat.ops * self.block_size() as u64);
            assert!(stat.errors <= errors_max, "{} errors of {op:?}", stat.errors);
            let min_ns = stat.latency_min_ns.unwrap_or(u64::MAX);
            assert!(min_ns <= stat.latency_max_ns);
            assert!(stat.latency_total_ns <= stat.latency_max_ns * stat.ops);
            assert!(stat.latency_total_ns >= min_ns * stat.ops);
        }
    }
}
