use alloc::rc::Rc;

use basalt_bdev::{Io, IoError, Op};
use basalt_env::{DmaBuf, DmaPool, OutOfDmaMemory, Registers};
use basalt_nvme::{IoQueue, Payload, Rejected};
use basalt_nvme_spec::{DsmRange, Status};

use crate::inbox::Inbox;
use crate::split::{self, Piece};

/// Most blocks one command without data can name (NVM §3.2.8: NLB has 16 bits).
pub(crate) const BLOCKS_MAX: u32 = 1 << 16;

/// An Io in the core's queue: the payload of its commands.
///
/// One command at a time is in flight for it. An Io that one command cannot carry goes in pieces,
/// one after the other: whoever sends such Ios has the next one in the queue anyway, and so there
/// is no parent to count children, nor a question of who owns the buffers.
pub(crate) struct Pending {
    io: Io,
    inbox: Rc<Inbox>,
    /// Blocks that earlier pieces have covered.
    blocks_done: u32,
    /// Blocks of the piece in flight.
    blocks: u32,
    /// Buffers of the piece in flight: the first, and the one after the last.
    bufs: (u16, u16),
    /// What the piece in flight uses instead of them.
    bounce: Option<DmaBuf>,
}

impl Payload for Pending {
    #[inline]
    fn segments(&self) -> &[DmaBuf] {
        match &self.bounce {
            Some(bounce) => core::slice::from_ref(bounce),
            None => {
                let (first, end) = self.bufs;
                &self.io.data.as_slice()[usize::from(first)..usize::from(end)]
            }
        }
    }
}

impl Pending {
    #[inline]
    pub(crate) fn new(io: Io, inbox: Rc<Inbox>) -> Self {
        Self { io, inbox, blocks_done: 0, blocks: 0, bufs: (0, 0), bounce: None }
    }

    /// Decides what the next command carries.
    #[inline]
    pub(crate) fn prepare(&mut self, pool: &DmaPool) -> Result<(), OutOfDmaMemory> {
        let left = self.io.blocks - self.blocks_done;
        self.bounce = None;
        match self.io.op {
            Op::Read | Op::Write => self.choose_piece(left, pool),
            Op::WriteZeroes => {
                self.blocks = left.min(BLOCKS_MAX);
                Ok(())
            }
            Op::Flush | Op::Unmap => {
                self.blocks = left;
                Ok(())
            }
        }
    }

    /// Sends the command that [`Self::prepare`] decided on.
    #[inline]
    pub(crate) fn send<R: Registers>(
        self,
        queue: &mut IoQueue<R, Self>,
    ) -> Result<(), Rejected<Self>> {
        let inbox = Rc::clone(&self.inbox);
        let namespace = &inbox.namespace;
        let (lba, blocks) = (self.io.lba + u64::from(self.blocks_done), self.blocks);
        let sent = match self.io.op {
            Op::Read => queue.read(namespace, lba, blocks, self),
            Op::Write => queue.write(namespace, lba, blocks, self),
            Op::Flush => queue.flush(namespace, self),
            Op::WriteZeroes => queue.write_zeroes(namespace, lba, blocks, self),
            Op::Unmap => queue.deallocate(namespace, &[DsmRange::new(lba, blocks)], self),
        };
        sent.map(drop)
    }

    /// Takes note of how the piece in flight ended. Whether there is another one to do.
    #[inline]
    pub(crate) fn piece_ended(&mut self, status: Status) -> bool {
        if !status.is_success() {
            let (sct, sc, dnr) = (status.sct(), status.sc(), status.dnr());
            self.io.status = Err(IoError::Nvme { sct, sc, dnr });
            return false;
        }
        self.empty_bounce();
        self.blocks_done += self.blocks;
        self.io.status = Ok(());
        self.blocks_done < self.io.blocks
    }

    /// Gives the Io to its channel as it is.
    #[inline]
    pub(crate) fn finish(self) {
        self.inbox.put(self.io);
    }

    /// Gives the Io to its channel as failed.
    pub(crate) fn fail(mut self, error: IoError) {
        self.io.status = Err(error);
        self.finish();
    }

    /// The Io, of which nothing was done yet.
    pub(crate) fn into_io(self) -> Io {
        self.io
    }

    fn choose_piece(&mut self, left: u32, pool: &DmaPool) -> Result<(), OutOfDmaMemory> {
        let limits = self.inbox.limits;
        let left = left as usize * limits.block;
        let bufs = self.io.data.as_slice();
        let whole = self.blocks_done == 0 && bufs.len() == 1 && left <= limits.transfer_max;
        let piece = if whole {
            Piece::Direct { bufs: 0..1, bytes: left }
        } else {
            split::next_piece(bufs.iter().map(split::segment), self.skip(), left, limits)
        };
        match piece {
            // The driver's list of pages has no room for more buffers than this anyway.
            Piece::Direct { bufs, bytes } if bufs.end <= usize::from(u16::MAX) => {
                self.bufs = (bufs.start as u16, bufs.end as u16);
                self.blocks = (bytes / limits.block) as u32;
            }
            Piece::Direct { bytes, .. } | Piece::Bounced { bytes } => {
                self.blocks = (bytes / limits.block) as u32;
                self.bounce = Some(self.fill_bounce(pool.alloc(bytes)?));
            }
        }
        Ok(())
    }

    /// Where in the Io's data the piece in flight begins, bytes.
    fn skip(&self) -> usize {
        self.blocks_done as usize * self.inbox.limits.block
    }

    fn fill_bounce(&self, mut bounce: DmaBuf) -> DmaBuf {
        if self.io.op == Op::Write {
            split::gather(self.io.data.as_slice(), self.skip(), &mut bounce);
        }
        bounce
    }

    #[inline]
    fn empty_bounce(&mut self) {
        let skip = self.skip();
        if let (Some(bounce), Op::Read) = (self.bounce.take(), self.io.op) {
            split::scatter(&bounce, self.io.data.as_mut_slice(), skip);
        }
    }
}
