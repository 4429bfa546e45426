mod injected;

use alloc::boxed::Box;

use basalt_bdev::{Channel, Io, IoError, IoStatus, Op, SgList};
use basalt_env::{DmaBuf, DmaPool, OutOfDmaMemory, Registers};
use basalt_nvme::{
    Direction, Ended, IoQueue, Namespace, Payload, RejectReason as DriverReason, Rejected, Ticket,
    Window,
};
use basalt_nvme_spec::{Command, DsmRange, Hold, Status, ZoneAction, ZoneReportHeader};
use zerocopy::FromBytes;

use crate::inbox::{InboxId, Inboxes};
use crate::split::{self, Limits, Piece};

pub(crate) use self::injected::opcode_of;

/// How often an Io is sent again that failed for no fault of its own, as SPDK's
/// `bdev_retry_count`.
const RETRIES_MAX: u8 = 3;
/// In place of that number: the Io is not wanted any more.
const GIVEN_UP: u8 = u8::MAX;

/// An Io in the core's queue: the payload of its commands.
///
/// One command at a time is in flight for it. An Io that one command cannot carry goes in pieces,
/// one after the other: whoever sends such Ios has the next one in the queue anyway, and so there
/// is no parent to count children, nor a question of who owns the buffers.
pub(crate) struct Pending {
    pub(crate) io: Io,
    /// Where it goes to in the end.
    pub(crate) inbox: InboxId,
    /// Blocks that earlier pieces have covered.
    blocks_done: u32,
    /// Blocks of the piece in flight.
    blocks: u32,
    carrier: Carrier,
    /// How often it was sent again.
    retries: u8,
}

/// Where the data of the piece in flight is.
enum Carrier {
    /// In all of the Io's buffers, or there is none.
    Whole,
    /// In some of its buffers: from the first to before the second number, as far as it is not
    /// before or after the window.
    Part(u16, u16, Window),
    /// In a buffer of our own.
    Bounce(DmaBuf),
    /// Of an append: in all of the Io's buffers, or in one of our own.
    Append(Option<DmaBuf>),
    /// Of a report of zones: in a buffer of our own, which has room for what comes before it.
    Report(DmaBuf),
    /// Where it was when the command was sent, which is to end with that status if it succeeds.
    Forged(Box<(Self, Status)>),
    /// Nowhere: the command is held back.
    Held(Box<Hold>),
}

/// Which way the data of an Io goes that one command can carry as it is: so it is with nearly all
/// reads and writes. For other Ios, `None`.
#[inline]
pub(crate) fn plain_transfer(io: &Io, limits: Limits) -> Option<Direction> {
    let direction = match io.op {
        Op::Read => Direction::Read,
        Op::Write => Direction::Write,
        _ => return None,
    };
    match &io.data {
        SgList::One(only) if only.len() <= limits.plain_max => Some(direction),
        _ => None,
    }
}

impl Payload for Pending {
    #[inline(always)]
    fn segments(&self) -> &[DmaBuf] {
        match &self.carrier {
            Carrier::Whole | Carrier::Append(None) => self.io.data.as_slice(),
            Carrier::Part(first, end, _) => {
                &self.io.data.as_slice()[usize::from(*first)..usize::from(*end)]
            }
            Carrier::Bounce(own) | Carrier::Append(Some(own)) | Carrier::Report(own) => {
                core::slice::from_ref(own)
            }
            Carrier::Forged(_) | Carrier::Held(_) => &[],
        }
    }

    #[inline(always)]
    fn only_segment(&self) -> Option<&DmaBuf> {
        match (&self.carrier, &self.io.data) {
            (Carrier::Whole, SgList::One(only)) => Some(only),
            _ => None,
        }
    }

    fn window(&self) -> Option<Window> {
        match self.carrier {
            Carrier::Part(.., window) => Some(window),
            _ => None,
        }
    }

    #[inline(always)]
    fn is_hollow(&self) -> bool {
        matches!(self.io.data, SgList::Empty) && !self.has_own_buffer()
    }
}

impl Pending {
    /// Whether there is anything to be done with its carrier.
    #[inline(always)]
    fn has_own_buffer(&self) -> bool {
        !matches!(self.carrier, Carrier::Whole | Carrier::Part(..))
    }

    /// An Io of which all is to be done: by one [`plain_transfer`], or else [`Self::prepare`] comes
    /// next.
    #[inline(always)]
    pub(crate) fn new(io: Io, inbox: InboxId) -> Self {
        Self { blocks: io.blocks, io, inbox, blocks_done: 0, carrier: Carrier::Whole, retries: 0 }
    }

    /// One that is not tried again.
    pub(crate) fn once(io: Io, inbox: InboxId) -> Self {
        Self { retries: RETRIES_MAX, ..Self::new(io, inbox) }
    }

    /// One of the two commands of an Io that is kept elsewhere. It is not tried again, for it does
    /// nothing on its own.
    pub(crate) fn half(io: Io) -> Self {
        Self::once(io, InboxId::NONE)
    }

    /// Whether it is one.
    pub(crate) fn is_half(&self) -> bool {
        self.inbox == InboxId::NONE
    }

    /// Sends what carries the data of the whole Io, or of the piece that was prepared. `namespace`
    /// is that of its channel.
    ///
    /// Always inlined, so that it moves but once: to its slot.
    #[inline(always)]
    pub(crate) fn transfer<R: Registers>(
        self,
        direction: Direction,
        queue: &mut IoQueue<R, Self>,
        namespace: &Namespace,
    ) -> Result<(), Rejected<Self>> {
        let (lba, blocks) = self.next_blocks();
        queue.transfer(direction, namespace, lba, blocks, self).map(drop)
    }

    /// Decides what the next command carries.
    pub(crate) fn prepare(&mut self, limits: Limits, pool: &DmaPool) -> Result<(), OutOfDmaMemory> {
        let left = self.io.blocks - self.blocks_done;
        self.carrier = Carrier::Whole;
        match self.io.op {
            Op::Read | Op::Write | Op::Compare => self.choose_piece(left, limits, pool),
            Op::ZoneAppend => self.prepare_append(left, limits, pool),
            Op::ZoneReport => self.prepare_report(limits, pool),
            op => {
                self.blocks = left.min(match op {
                    Op::WriteZeroes => limits.dataless.write_zeroes,
                    Op::Unmap => limits.dataless.unmap,
                    Op::Verify => limits.dataless.verify,
                    Op::WriteUncorrectable => limits.dataless.write_uncorrectable,
                    Op::Copy => limits.dataless.copy,
                    _ => u32::MAX,
                });
                Ok(())
            }
        }
    }

    /// Sends the command that [`Self::prepare`] decided on.
    #[inline(never)]
    pub(crate) fn send<R: Registers>(
        self,
        queue: &mut IoQueue<R, Self>,
        namespace: &Namespace,
    ) -> Result<Ticket, Rejected<Self>> {
        let (lba, blocks) = self.next_blocks();
        match self.io.op {
            Op::Read => queue.read(namespace, lba, blocks, self),
            Op::Write => queue.write(namespace, lba, blocks, self),
            Op::Compare => queue.compare(namespace, lba, blocks, self),
            Op::NvmeIo => {
                let command = match &self.io.data {
                    SgList::Nvme(passthru) => {
                        zerocopy::transmute!(passthru.command.map(u32::to_le))
                    }
                    _ => Command::default(),
                };
                queue.raw(namespace, command, self)
            }
            Op::Verify => queue.verify(namespace, lba, blocks, self),
            Op::WriteUncorrectable => queue.write_uncorrectable(namespace, lba, blocks, self),
            Op::Copy => {
                let from = match self.io.data {
                    SgList::Blocks(from) => from + u64::from(self.blocks_done),
                    _ => lba,
                };
                queue.copy(namespace, from, lba, blocks, self)
            }
            Op::ZoneAppend => queue.append(namespace, lba, blocks, self),
            Op::ZoneReport => queue.report_zones(namespace, lba, self),
            Op::ZoneOpen | Op::ZoneClose | Op::ZoneFinish | Op::ZoneReset => {
                match (zone_action(self.io.op), namespace.zones()) {
                    (Some(action), Some(zones)) if zones.blocks == u64::from(blocks) => {
                        queue.manage_zone(namespace, lba, action, self)
                    }
                    (_, Some(_)) => {
                        Err(Rejected { payload: self, reason: DriverReason::OutOfRange })
                    }
                    _ => Err(Rejected { payload: self, reason: DriverReason::Unsupported }),
                }
            }
            Op::CompareAndWrite | Op::NvmeAdmin | Op::Reset => {
                Err(Rejected { payload: self, reason: DriverReason::Unsupported })
            }
            Op::Flush => queue.flush(namespace, self),
            Op::WriteZeroes => queue.write_zeroes(namespace, lba, blocks, self),
            Op::Unmap => queue.deallocate(namespace, &[DsmRange::new(lba, blocks)], self),
        }
    }

    /// Where the piece to be sent begins, and how many blocks it has.
    #[inline]
    fn next_blocks(&self) -> (u64, u32) {
        (self.io.lba + u64::from(self.blocks_done), self.blocks)
    }

    /// Takes note of how the piece in flight ended, `block` bytes being the size of a block.
    /// Whether there is another one to do, or the same once more.
    #[inline]
    pub(crate) fn piece_ended<R: Registers>(&mut self, ended: &Ended<'_, R>, block: usize) -> bool {
        let status = ended.status();
        if !status.is_success() {
            return self.piece_failed(status);
        }
        if self.has_own_buffer() {
            let told = self.empty_carrier(block, ended.result());
            if !told.is_success() {
                return self.piece_failed(told);
            }
        }
        self.blocks_done += self.blocks;
        self.io.status = Ok(());
        self.blocks_done < self.io.blocks
    }

    /// Whether the piece in flight, which has failed, is to be sent again.
    #[cold]
    #[inline(never)]
    fn piece_failed(&mut self, status: Status) -> bool {
        self.io.status = Err(failure(status));
        if self.is_given_up() && status.is(Status::ABORT_REQUESTED) {
            self.io.status = Err(IoError::Aborted);
        }
        self.io.op != Op::NvmeIo && is_passing(status) && self.try_again()
    }

    /// Whether it has the same outcome if it is done twice.
    pub(crate) fn is_repeatable(&self, namespace: &Namespace) -> bool {
        // A zone is written but once.
        let in_order = namespace.zones().is_some() && self.io.op.changes_blocks();
        self.io.op != Op::NvmeIo && !in_order
    }

    /// Whether the piece in flight may be sent again, which is then to be done: so it is unless it
    /// has been tried often enough.
    #[cold]
    pub(crate) fn try_again(&mut self) -> bool {
        let may = self.retries < RETRIES_MAX;
        self.retries += u8::from(may);
        may
    }

    /// Nobody wants it any more: what is under way of it is the last.
    pub(crate) fn give_up(&mut self) {
        self.retries = GIVEN_UP;
    }

    pub(crate) const fn is_given_up(&self) -> bool {
        self.retries == GIVEN_UP
    }

    /// Moves it out of where it lies; what stays behind has no data.
    pub(crate) fn take(&mut self) -> Self {
        let carrier = core::mem::replace(&mut self.carrier, Carrier::Whole);
        Self { io: self.io.take(), carrier, ..*self }
    }

    /// Gives the Io to its channel as failed.
    pub(crate) fn fail(mut self, error: IoError, inboxes: &Inboxes) {
        self.io.status = Err(error);
        inboxes.put(self.inbox, self.io);
    }

    /// The Io, of which nothing was done yet.
    pub(crate) fn into_io(self) -> Io {
        self.io
    }

    fn choose_piece(
        &mut self,
        left: u32,
        limits: Limits,
        pool: &DmaPool,
    ) -> Result<(), OutOfDmaMemory> {
        let skip = self.skip(limits.block);
        let left = limits.before_boundary(self.next_blocks().0, left) as usize * limits.block;
        let segments = self.io.data.as_slice().iter().map(split::segment);
        match split::next_piece(segments, skip, left, limits) {
            // The driver's list of pages has no room for more buffers than this anyway.
            Piece::Direct { bufs, skip, bytes } if bufs.end <= usize::from(u16::MAX) => {
                let window = Window { skip, bytes };
                self.carrier = Carrier::Part(bufs.start as u16, bufs.end as u16, window);
                self.blocks = (bytes / limits.block) as u32;
            }
            Piece::Direct { bytes, .. } | Piece::Bounced { bytes } => {
                self.blocks = (bytes / limits.block) as u32;
                self.carrier = Carrier::Bounce(self.fill_bounce(skip, pool.alloc(bytes)?));
            }
        }
        Ok(())
    }

    /// Where in the Io's data the piece in flight begins, bytes.
    fn skip(&self, block: usize) -> usize {
        self.blocks_done as usize * block
    }

    fn fill_bounce(&self, skip: usize, mut bounce: DmaBuf) -> DmaBuf {
        if self.io.op != Op::Read {
            split::gather(self.io.data.as_slice(), skip, &mut bounce);
        }
        bounce
    }

    /// Takes what the command has brought; `result` is its result. Gives the status that it is said
    /// to have ended with.
    #[cold]
    #[inline(never)]
    fn empty_carrier(&mut self, block: usize, result: u64) -> Status {
        let skip = self.skip(block);
        match core::mem::replace(&mut self.carrier, Carrier::Whole) {
            Carrier::Bounce(bounce) if self.io.op == Op::Read => {
                split::scatter(&bounce, self.io.data.as_mut_slice(), skip);
            }
            Carrier::Append(_) => self.io.lba = result,
            Carrier::Report(report) => take_report(&report, &mut self.io.data),
            Carrier::Forged(forged) => {
                let (carrier, status) = *forged;
                if !status.is_success() {
                    return status;
                }
                self.carrier = carrier;
                return self.empty_carrier(block, result);
            }
            Carrier::Whole | Carrier::Part(..) | Carrier::Bounce(_) | Carrier::Held(_) => {}
        }
        Status::SUCCESS
    }

    /// All goes with one command, for nobody knows where a second would begin.
    fn prepare_append(
        &mut self,
        blocks: u32,
        limits: Limits,
        pool: &DmaPool,
    ) -> Result<(), OutOfDmaMemory> {
        let bytes = blocks as usize * limits.block;
        let segments = self.io.data.as_slice().iter().map(split::segment);
        let in_place = match split::next_piece(segments, 0, bytes, limits) {
            Piece::Direct { bytes: direct, .. } => direct == bytes,
            Piece::Bounced { .. } => false,
        };
        // What is too much for one is refused for that.
        let own = !in_place && bytes <= limits.transfer_max;
        let bounce = if own { Some(self.fill_bounce(0, pool.alloc(bytes)?)) } else { None };
        self.carrier = Carrier::Append(bounce);
        self.blocks = blocks;
        Ok(())
    }

    fn prepare_report(&mut self, limits: Limits, pool: &DmaPool) -> Result<(), OutOfDmaMemory> {
        let len = (self.io.data.len() + REPORT_HEADER).min(limits.transfer_max);
        self.carrier = Carrier::Report(pool.alloc(len)?);
        self.blocks = self.io.blocks;
        Ok(())
    }
}

/// Bytes before the descriptors of a report.
const REPORT_HEADER: usize = size_of::<ZoneReportHeader>();

/// Copies the descriptors of a report; what there is none for becomes zero.
fn take_report(report: &DmaBuf, data: &mut SgList) {
    let (header, descriptors) = report.as_slice().split_at(REPORT_HEADER);
    let zones = ZoneReportHeader::read_from_bytes(header).map_or(0, |header| header.zones.get());
    let len = usize::try_from(zones).unwrap_or(usize::MAX).saturating_mul(Channel::ZONE_LEN);
    let mut rest = &descriptors[..len.min(descriptors.len())];
    for buf in data.as_mut_slice() {
        let (now, later) = rest.split_at(rest.len().min(buf.len()));
        buf.as_mut_slice()[..now.len()].copy_from_slice(now);
        buf.as_mut_slice()[now.len()..].fill(0);
        rest = later;
    }
}

const fn zone_action(op: Op) -> Option<ZoneAction> {
    match op {
        Op::ZoneOpen => Some(ZoneAction::Open),
        Op::ZoneClose => Some(ZoneAction::Close),
        Op::ZoneFinish => Some(ZoneAction::Finish),
        Op::ZoneReset => Some(ZoneAction::Reset),
        _ => None,
    }
}

/// Whether what has failed a command is likely to pass soon, and the command may be sent again.
fn is_passing(status: Status) -> bool {
    let passing = [Status::NAMESPACE_NOT_READY, Status::INTERRUPTED];
    !status.dnr() && passing.iter().any(|passing| status.is(*passing))
}

/// How a command looks above that is said to have ended with `status`.
pub(crate) fn outcome(status: Status) -> IoStatus {
    if status.is_success() { Ok(()) } else { Err(failure(status)) }
}

/// How a failed command looks above.
#[cold]
#[inline(never)]
fn failure(status: Status) -> IoError {
    // It was aborted for being late.
    if status.is(Status::ABORT_REQUESTED) {
        return IoError::Timeout;
    }
    IoError::Nvme { sct: status.sct(), sc: status.sc(), dnr: status.dnr() }
}
