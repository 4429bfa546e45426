use alloc::rc::Rc;

use basalt_bdev::{Io, IoError, Op, SgList};
use basalt_nvme_spec::{Command, CopyRange, DsmAttributes, DsmRange, Status};
use zerocopy::IntoBytes;

use crate::inbox::Inbox;
use crate::namespace::Limits;
use crate::queue::Data;

/// How often an Io is sent again that the controller failed for a reason that is likely to pass, as
/// SPDK's `bdev_retry_count`. Ios that have lost their path are sent again as long as there may be
/// another.
const RETRIES_MAX: u8 = 3;
/// How often it is sent by another path after one has said that it does not lead there.
const DETOURS_MAX: u8 = 32;
/// In place of that number: the Io is not wanted any more.
const GIVEN_UP: u8 = u8::MAX;

/// An Io under way: one command at a time is sent for it. What one cannot carry goes in pieces.
pub struct Pending {
    /// The Io.
    pub io: Io,
    /// Where it goes to in the end.
    pub inbox: Rc<Inbox>,
    /// Blocks that earlier pieces have covered.
    blocks_done: u32,
    /// Blocks of the piece in flight.
    blocks: u32,
    retries: u8,
    detours: u8,
}

/// What becomes of an Io whose command has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// It has ended, too.
    Ended,
    /// There is more of it, or the same is to be tried again.
    Send,
    /// The same, by another path: this one does not lead to the namespace now.
    SendElsewhere,
}

impl Pending {
    pub(crate) const fn new(io: Io, inbox: Rc<Inbox>) -> Self {
        Self { io, inbox, blocks_done: 0, blocks: 0, retries: 0, detours: 0 }
    }

    /// The next command for it, to a namespace of blocks of `block` bytes, and what that moves.
    pub(crate) fn next_command(
        &mut self,
        nsid: u32,
        block: usize,
        limits: &Limits,
    ) -> (Command, Data) {
        if !self.io.op.has_blocks() {
            return self.blockless(nsid);
        }
        let left = self.io.blocks - self.blocks_done;
        self.blocks = left.min(limits.blocks_of(self.io.op));
        let (lba, blocks) = (self.io.lba + u64::from(self.blocks_done), self.blocks);
        let skip = self.blocks_done as usize * block;
        let len = || blocks * block as u32;
        match self.io.op {
            Op::Read => (Command::read(nsid, lba, blocks), Data::In { skip, len: len() }),
            Op::Write => (Command::write(nsid, lba, blocks), Data::Out { skip, len: len() }),
            Op::Compare => (Command::compare(nsid, lba, blocks), Data::Out { skip, len: len() }),
            Op::Unmap => {
                let command = Command::dataset_management(nsid, 1, DsmAttributes::DEALLOCATE);
                (command, range(DsmRange::new(lba, blocks).as_bytes()))
            }
            Op::WriteZeroes => (Command::write_zeroes(nsid, lba, blocks), Data::None),
            Op::Verify => (Command::verify(nsid, lba, blocks), Data::None),
            Op::Copy => {
                let from = source(&self.io) + u64::from(self.blocks_done);
                (Command::copy(nsid, lba, 1), range(CopyRange::new(from, blocks).as_bytes()))
            }
            // Nothing else is supported.
            _ => (Command::write_uncorrectable(nsid, lba, blocks), Data::None),
        }
    }

    /// A flush, or a command as its sender wrote it.
    fn blockless(&mut self, nsid: u32) -> (Command, Data) {
        self.blocks = 0;
        let SgList::Nvme(passthru) = &self.io.data else {
            return (Command::flush(nsid), Data::None);
        };
        let mut command: Command = zerocopy::transmute!(passthru.command.map(u32::to_le));
        command.nsid = nsid.into();
        let len = passthru.data.as_ref().map_or(0, |data| data.len() as u32);
        let data = match command.opcode & 3 {
            1 if len > 0 => Data::Out { skip: 0, len },
            2 if len > 0 => Data::In { skip: 0, len },
            _ => Data::None,
        };
        (command, data)
    }

    /// Takes note of how the command has ended.
    pub(crate) fn ended(&mut self, ended: &Answered) -> Next {
        let status = ended.status;
        if !status.is_success() {
            return self.failed(status);
        }
        if ended.received < ended.expected {
            return self.failed(Status::DATA_TRANSFER_ERROR);
        }
        (self.retries, self.detours) = (0, 0);
        self.blocks_done += self.blocks;
        if self.blocks_done < self.io.blocks && self.io.op.has_blocks() {
            return Next::Send;
        }
        self.io.status = Ok(());
        Next::Ended
    }

    fn failed(&mut self, status: Status) -> Next {
        let is_wanted = self.retries != GIVEN_UP;
        if is_wanted && is_of_path(status) && self.detours < DETOURS_MAX {
            self.detours += 1;
            return Next::SendElsewhere;
        }
        if is_wanted && self.retries < RETRIES_MAX && self.may_repeat() && is_passing(status) {
            self.retries += 1;
            return Next::Send;
        }
        let aborted = status.is(Status::ABORT_REQUESTED);
        self.io.status = Err(if aborted {
            IoError::Aborted
        } else {
            IoError::Nvme { sct: status.sct(), sc: status.sc(), dnr: status.dnr() }
        });
        Next::Ended
    }

    /// Whether it may be done twice, as far as we know what it does.
    pub(crate) fn may_repeat(&self) -> bool {
        self.io.op != Op::NvmeIo
    }

    /// Nobody wants it any more: what is under way of it is the last.
    pub(crate) fn give_up(&mut self) {
        self.retries = GIVEN_UP;
    }

    pub(crate) const fn is_given_up(&self) -> bool {
        self.retries == GIVEN_UP
    }

    /// Hands the Io back as failed.
    pub(crate) fn fail(mut self, error: IoError) {
        self.io.status = Err(error);
        self.finish();
    }

    /// Hands the Io back.
    pub(crate) fn finish(self) {
        self.inbox.put(self.io);
    }
}

/// How a command of an Io was answered.
pub(crate) struct Answered {
    pub(crate) status: Status,
    /// Bytes that came.
    pub(crate) received: u32,
    /// Bytes that should have.
    pub(crate) expected: u32,
}

fn range(bytes: &[u8]) -> Data {
    let mut range = [0; 32];
    range[..bytes.len()].copy_from_slice(bytes);
    Data::Range(range, bytes.len() as u8)
}

const fn source(io: &Io) -> u64 {
    match io.data {
        SgList::Blocks(from) => from,
        _ => 0,
    }
}

/// Whether the path is at fault (base specification 2.0, figure 101).
pub(crate) fn is_of_path(status: Status) -> bool {
    const PATH_RELATED: u8 = 3;
    status.sct() == PATH_RELATED && !status.is(Status::ABORTED_BY_HOST)
}

/// Whether what has failed a command is likely to pass soon.
fn is_passing(status: Status) -> bool {
    let passing = [Status::NAMESPACE_NOT_READY, Status::INTERRUPTED, Status::TRANSIENT_TRANSPORT];
    !status.dnr() && passing.iter().any(|passing| status.is(*passing))
}
