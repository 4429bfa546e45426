use basalt_bdev::{Bounce, Io, Op, Run, SgList};
use basalt_env::{DmaBuf, DmaPool, OutOfDmaMemory};

use crate::job::Parent;
use crate::unit::Limits;

/// Most bytes of a piece of a transfer.
const PIECE_BYTES: u32 = 1 << 20;

impl Limits {
    /// Whether one request carries `io`.
    pub(crate) fn has_room_for(&self, io: &Io) -> bool {
        match io.op {
            Op::Read | Op::Write => {
                let segments = io.data.as_slice().iter().filter(|buf| !buf.is_empty());
                let fit = |buf: &DmaBuf| buf.len() <= self.segment_len_max as usize;
                io.blocks <= self.transfer_max
                    && segments.clone().count() <= self.segments_max as usize
                    && segments.clone().all(fit)
            }
            Op::Unmap => io.blocks <= self.unmap_max,
            Op::WriteZeroes => io.blocks <= self.zeroes_max,
            _ => true,
        }
    }

    /// Blocks of each piece but the last. Of a transfer, a power of two that a segment can be.
    fn piece(&self, op: Op) -> u32 {
        match op {
            Op::Unmap => self.unmap_max,
            Op::WriteZeroes => self.zeroes_max,
            _ => {
                let most = PIECE_BYTES.min(self.segment_len_max) / self.block_size;
                let most = most.min(self.transfer_max).max(1);
                1 << most.ilog2()
            }
        }
    }

    /// Whether a transfer can be carried out at all.
    pub(crate) fn is_usable(&self) -> bool {
        self.segment_len_max >= self.block_size
    }

    /// Takes `io` apart into pieces, as `parent`.
    ///
    /// # Errors
    /// There is no memory to stand in for its buffers; nothing has happened to it.
    pub(crate) fn take_apart(
        &self,
        io: &mut Io,
        parent: &mut Parent,
        pool: &DmaPool,
    ) -> Result<(), OutOfDmaMemory> {
        let piece = self.piece(io.op);
        let left = io.blocks.div_ceil(piece) as usize;
        let data = &mut parent.data;
        if io.op.has_data() {
            let runs = || runs(io.blocks, piece, self.block_size);
            data.scatter(&mut io.data, left, runs, pool, Bounce::IfNeeded)?;
            if (0..left).any(|number| data.len(number) > self.segments_max as usize) {
                io.data = data.gather(runs(), false);
                data.scatter(&mut io.data, left, runs, pool, Bounce::Always)?;
            }
        }
        parent.io = io.take();
        (parent.status, parent.left, parent.piece) = (Ok(()), left, piece);
        Ok(())
    }
}

impl Parent {
    /// The pieces: number, first block, blocks and data.
    pub(crate) fn pieces(&mut self) -> impl Iterator<Item = (usize, u64, u32, SgList)> + '_ {
        let Self { io, data, piece, left, .. } = self;
        (0..*left).map(|number| {
            let from = number as u32 * *piece;
            let blocks = (*piece).min(io.blocks - from);
            let data = if io.op.has_data() { data.take(number) } else { SgList::Empty };
            (number, io.lba + u64::from(from), blocks, data)
        })
    }

    /// The Io, once no piece is out.
    pub(crate) fn take_io(&mut self, block_size: u32) -> Io {
        let mut io = self.io.take();
        io.status = self.status;
        if io.op.has_data() {
            let fill = io.op == Op::Read && self.status.is_ok();
            io.data = self.data.gather(runs(io.blocks, self.piece, block_size), fill);
        }
        io
    }
}

fn runs(blocks: u32, piece: u32, block_size: u32) -> impl Iterator<Item = Run> {
    let starts = (0..blocks).step_by(piece as usize).enumerate();
    starts.map(move |(number, from)| {
        let blocks = piece.min(blocks - from);
        Run::of_data(number, blocks as usize * block_size as usize)
    })
}
