use alloc::rc::Rc;

use basalt_bdev::{Io, IoStatus, Op, Scattered, SgList};
use basalt_env::{DmaBuf, Instant};
use basalt_reactor::sync::oneshot;
use basalt_ring::Tag;
use basalt_virtio::{Direction, Payload};
use basalt_virtio_scsi::RESPONSE_LEN;

use crate::inbox::Inbox;
use crate::unit::{Header, direction, header_of};

/// What a queue's requests are: it has their buffers as long as the device may use them.
pub(crate) struct Job {
    pub(crate) work: Work,
    /// When it was sent first.
    pub(crate) since: Instant,
}

pub(crate) enum Work {
    /// An Io that one request carries.
    Whole(Rc<Inbox>, Io),
    /// A part of one that takes several.
    Piece(Piece),
    /// Something that core 0 wants to know.
    Question(Question),
}

pub(crate) struct Piece {
    pub(crate) inbox: Rc<Inbox>,
    pub(crate) parent: Tag<32>,
    /// Its number.
    pub(crate) number: usize,
    pub(crate) op: Op,
    pub(crate) lba: u64,
    pub(crate) blocks: u32,
    pub(crate) data: SgList,
}

pub(crate) struct Question {
    pub(crate) header: Header,
    pub(crate) data: SgList,
    pub(crate) answer: oneshot::Sender<Reply>,
}

/// What the device says to a [`Question`]: its response, and the data.
pub(crate) struct Reply {
    pub(crate) response: [u8; RESPONSE_LEN],
    pub(crate) data: SgList,
}

/// An Io that takes several requests.
pub(crate) struct Parent {
    pub(crate) io: Io,
    pub(crate) data: Scattered,
    pub(crate) status: IoStatus,
    /// Pieces that have not ended.
    pub(crate) left: usize,
    /// Blocks of each piece but the last.
    pub(crate) piece: u32,
}

impl Default for Parent {
    fn default() -> Self {
        let io = Io::new(Op::Flush, 0, 0, 0);
        Self { io, data: Scattered::default(), status: Ok(()), left: 0, piece: 0 }
    }
}

impl Job {
    pub(crate) fn header(&self) -> Header {
        match &self.work {
            Work::Whole(inbox, io) => header_of(&inbox.unit, io),
            Work::Piece(Piece { inbox, op, lba, blocks, .. }) => {
                inbox.unit.header(*op, *lba, *blocks)
            }
            Work::Question(question) => question.header,
        }
    }

    pub(crate) fn direction(&self) -> Direction {
        match &self.work {
            Work::Whole(_, io) => direction(io.op),
            Work::Piece(piece) => direction(piece.op),
            Work::Question(_) => Direction::FromDevice,
        }
    }
}

impl Payload for Job {
    fn buffers(&self) -> &[DmaBuf] {
        match &self.work {
            Work::Whole(_, io) => io.data.as_slice(),
            Work::Piece(piece) => piece.data.as_slice(),
            Work::Question(question) => question.data.as_slice(),
        }
    }
}
