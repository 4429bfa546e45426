use alloc::vec::Vec;

use super::{Bench, Medium, pattern};
use crate::{Io, IoError, Op, SgList};

/// Ios at a time, on as many blocks.
pub(super) const COUNT: u64 = 16;

impl Bench<'_> {
    pub(super) fn what_is_aborted_comes_back_once_and_leaves_the_others_alone(&mut self) {
        let mut channel = self.channel();
        let unit = self.descriptor.bdev().write_unit();
        let bytes = unit as usize * self.block_size();
        let can_abort = self.descriptor.bdev().can_abort();
        let most = COUNT.min(self.num_blocks() / u64::from(unit));
        for tag in 0..most {
            self.write(&mut channel, tag * u64::from(unit), &pattern(bytes, 1 + tag));
        }
        let ops: &[Op] = &[Op::Write, Op::Compare, Op::Read];
        for (&op, seed) in ops.iter().zip([1, 1, 2]) {
            let mut count = 0;
            for tag in 0..most {
                let data = SgList::One(self.filled(&pattern(bytes, seed + tag)));
                let io = Io::with_data(op, tag * u64::from(unit), unit, data, tag);
                if channel.submit(io).is_err() {
                    break;
                }
                count += 1;
            }
            assert!(count > 0, "no {op:?} was taken");
            let odd: Vec<_> = (0..count).filter(|tag| tag % 2 == 1).collect();
            let found = odd.iter().filter(|tag| channel.abort(**tag)).count();
            assert!(can_abort || op == Op::Compare || found == 0);
            channel.abort(count);
            let mut ended = self.drain(&mut channel, count as usize);
            ended.sort_by_key(|io| io.tag);
            assert!(ended.iter().map(|io| io.tag).eq(0..count), "each came back once");
            for io in &ended {
                let may_be_aborted = io.tag % 2 == 1;
                let is_aborted = io.status == Err(IoError::Aborted);
                let may_differ = may_be_aborted || self.medium == Medium::Forgets;
                let differs = op == Op::Compare && may_differ && io.status.is_err();
                let fine = io.status.is_ok() || may_be_aborted && is_aborted || differs;
                assert!(fine, "{op:?} {}: {:?}", io.tag, io.status);
            }
            let written: Vec<_> =
                ended.iter().map(|io| io.tag).filter(|tag| tag % 2 == 0).collect();
            for tag in written {
                self.expect(&mut channel, tag * u64::from(unit), &pattern(bytes, 1 + tag));
            }
            assert_eq!(channel.in_flight(), 0);
        }
    }
}
