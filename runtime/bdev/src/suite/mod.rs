//! The behaviours every bdev is held to, as one test that any module can run on its own bdevs.
//!
//! It panics at the first behaviour that is not met, which is what a test wants.

mod aborted;
mod alone;
pub mod disk;
mod emulated;
mod limits;
mod passthru;
mod random;
mod transfer;
mod units;

use alloc::vec;
use alloc::vec::Vec;

use basalt_env::{DmaBuf, DmaPool};
use basalt_reactor::Local;

use crate::{Channel, Descriptor, Io, Op, RejectReason, SgList};

/// The machine the bdev runs on.
pub trait Rig {
    /// One round of everything: clock, reactors, device models.
    fn step(&mut self);

    /// The core the channels are made on.
    fn local(&self) -> Local;

    /// Its DMA memory; at least 8 MiB.
    fn pool(&self) -> DmaPool;
}

/// What the bdev does with data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Medium {
    /// It keeps it, and unmapped blocks read as zeroes.
    Keeps,
    /// It forgets it; only the outcomes are looked at.
    Forgets,
}

/// Runs every behaviour on a bdev of at least 64 blocks that `descriptor` may write.
pub fn run(rig: &mut dyn Rig, descriptor: &Descriptor, medium: Medium) {
    let mut bench = Bench { rig, descriptor, medium };
    bench.what_is_written_is_read_back();
    bench.several_buffers_make_one_transfer();
    bench.the_last_block_can_be_used();
    bench.zeroes_and_unmapped_blocks_read_as_zeroes();
    bench.transfers_of_any_length_keep_their_data();
    bench.zeroes_of_any_length_leave_their_neighbours_alone();
    bench.overlapping_writes_leave_the_later_data();
    bench.a_transfer_may_have_a_buffer_for_each_block();
    bench.a_compare_tells_equal_blocks_from_others();
    bench.what_can_be_read_is_verified();
    bench.a_copy_copies_also_where_both_ends_overlap();
    bench.a_compare_and_write_writes_if_nothing_has_changed();
    bench.of_those_who_compare_and_write_at_once_one_wins();
    bench.a_reset_ends_all_that_is_under_way();
    bench.what_is_aborted_comes_back_once_and_leaves_the_others_alone();
    bench.commands_are_passed_on_or_refused();
    bench.a_flush_ends_well();
    bench.blocks_outside_are_refused();
    bench.wrong_data_lengths_are_refused();
    bench.channels_get_their_own_completions();
    bench.a_full_queue_refuses_and_recovers();
    for seed in 1..=8 {
        bench.random_operations_match_an_array(seed);
    }
    bench.everything_was_counted();
}

/// One run of the suite.
pub(crate) struct Bench<'a> {
    rig: &'a mut dyn Rig,
    descriptor: &'a Descriptor,
    medium: Medium,
}

/// Rounds after which a bdev that has not answered is taken to hang.
const ROUNDS_MAX: u32 = 100_000;

impl Bench<'_> {
    fn channel(&self) -> Channel {
        match self.descriptor.channel(&self.rig.local()) {
            Ok(channel) => channel,
            Err(error) => panic!("no channel: {error}"),
        }
    }

    fn block_size(&self) -> usize {
        self.descriptor.info().block_size as usize
    }

    fn num_blocks(&self) -> u64 {
        self.descriptor.info().num_blocks.get()
    }

    fn buf(&self, len: usize) -> DmaBuf {
        match self.rig.pool().alloc(len) {
            Ok(buf) => buf,
            Err(error) => panic!("the rig has too little memory: {error}"),
        }
    }

    /// A buffer that holds `bytes`.
    fn filled(&self, bytes: &[u8]) -> DmaBuf {
        let mut buf = self.buf(bytes.len());
        buf.as_mut_slice().copy_from_slice(bytes);
        buf
    }

    /// A transfer of `blocks` in one buffer of just the right length.
    fn transfer(&self, op: Op, lba: u64, blocks: u32) -> Io {
        let buf = self.buf(blocks as usize * self.block_size());
        Io::with_data(op, lba, blocks, SgList::One(buf), 0)
    }

    /// Submits and waits.
    fn finish(&mut self, channel: &mut Channel, io: Io) -> Io {
        let (op, lba, blocks, tag) = (io.op, io.lba, io.blocks, io.tag);
        if let Err(refused) = channel.submit(io) {
            panic!("{op:?} of {blocks} blocks at {lba} refused: {:?}", refused.reason);
        }
        let mut ended = self.drain(channel, 1);
        let Some(io) = ended.pop() else { panic!("{op:?} did not come back") };
        assert_eq!((io.op, io.lba, io.blocks, io.tag), (op, lba, blocks, tag));
        io
    }

    /// Submits, waits, and wants success.
    fn succeed(&mut self, channel: &mut Channel, io: Io) -> Io {
        let io = self.finish(channel, io);
        assert_eq!(io.status, Ok(()), "{:?} of {} blocks at {}", io.op, io.blocks, io.lba);
        io
    }

    /// Runs the machine until `channel` has handed back `count` Ios.
    fn drain(&mut self, channel: &mut Channel, count: usize) -> Vec<Io> {
        let mut ended = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let _ = channel.poll(|io| ended.push(io));
            if ended.len() >= count {
                return ended;
            }
            self.rig.step();
        }
        panic!("{} of {count} Ios came back: the bdev hangs", ended.len());
    }

    fn refused(&mut self, channel: &mut Channel, io: Io, reason: RejectReason) {
        let (op, lba, blocks, len) = (io.op, io.lba, io.blocks, io.data.len());
        match channel.submit(io) {
            Ok(()) => panic!("{op:?} of {blocks} blocks at {lba} was not refused"),
            Err(refused) => {
                assert_eq!(refused.reason, reason, "{op:?} of {blocks} blocks at {lba}");
                assert_eq!(refused.io.data.len(), len, "the data came back");
            }
        }
    }

    fn write(&mut self, channel: &mut Channel, lba: u64, bytes: &[u8]) {
        let blocks = (bytes.len() / self.block_size()) as u32;
        let data = SgList::One(self.filled(bytes));
        let io = self.change(channel, Io::with_data(Op::Write, lba, blocks, data, lba));
        assert_eq!(io.data.as_slice()[0].as_slice(), bytes, "a write leaves its data alone");
    }

    fn read(&mut self, channel: &mut Channel, lba: u64, blocks: u32) -> Vec<u8> {
        let io = self.transfer(Op::Read, lba, blocks);
        let io = self.succeed(channel, io);
        io.data.as_slice().iter().flat_map(|buf| buf.as_slice().iter().copied()).collect()
    }

    /// Wants `bytes` at `lba`, of a medium that keeps anything.
    fn expect(&mut self, channel: &mut Channel, lba: u64, bytes: &[u8]) {
        let blocks = (bytes.len() / self.block_size()) as u32;
        let found = self.read(channel, lba, blocks);
        if self.medium == Medium::Keeps {
            assert!(found == bytes, "blocks {lba}..{} differ", lba + u64::from(blocks));
        }
    }
}

/// Bytes that tell their place and `salt`.
fn pattern(len: usize, salt: u64) -> Vec<u8> {
    let mut random = random::Random::new(salt);
    let mut bytes = vec![0; len];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
    }
    bytes
}
