//! The partition that a configuration is kept in, read and written.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU16;
use core::pin::Pin;

use basalt_bdev::{AsyncChannel, Descriptor, Io, IoError, Op, OpenError, SgList};
use basalt_env::{DmaBuf, DmaPool};
use basalt_reactor::Local;

use super::slot::{Header, Layout, Mark, Read, Slot, newest_first};

/// Why a partition cannot be read or written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    NotOpen(OpenError),
    NoMemory,
    TooSmall,
    Io(IoError),
    Damaged,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOpen(error) => write!(f, "{error}"),
            Self::Io(error) => write!(f, "{error}"),
            Self::NoMemory => f.write_str("there is no memory left"),
            Self::TooSmall => f.write_str("the partition is too small, 1 MiB is usual"),
            Self::Damaged => f.write_str("what was saved is damaged"),
        }
    }
}

/// What counts in a partition.
pub(super) struct Stored {
    slot: Slot,
    pub(super) header: Header,
    pub(super) text: Vec<u8>,
}

/// Boxed, so that what waits for it takes no code for what it is made of.
pub(super) type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + 'a>>;

/// A partition that is open.
pub(super) struct Volume {
    disk: Descriptor,
    channel: AsyncChannel,
    pool: Rc<DmaPool>,
    pub(super) layout: Layout,
}

impl Volume {
    pub(super) fn open(local: &Local, disk: Descriptor) -> Result<Self, Failure> {
        let info = disk.info();
        let layout = Layout::new(info.num_blocks.get(), info.block_size);
        let layout = layout.ok_or(Failure::TooSmall)?;
        let pool = local.service::<DmaPool>().ok_or(Failure::NoMemory)?;
        let channel = disk.channel(local).map_err(Failure::NotOpen)?;
        let channel = AsyncChannel::new(local, channel, NonZeroU16::MIN, "kept_config")
            .map_err(Failure::NotOpen)?;
        Ok(Self { disk, channel, pool, layout })
    }

    pub(super) fn name(&self) -> &str {
        &self.disk.info().name
    }

    /// What was saved last, if anything was. If that is damaged, but not what was saved before, it
    /// is that.
    pub(super) fn load(&self) -> Doing<'_, Option<Stored>> {
        Box::pin(async move {
            let headers = self.read(0, self.layout.headers_len()).await?;
            let read = Slot::BOTH.map(|slot| {
                let at = self.layout.header_at(slot);
                Header::read(&headers.as_slice()[at..], self.layout.text_len_max())
            });
            let mut is_damaged = read.contains(&Read::Damaged);
            for (slot, header) in newest_first(read) {
                let len = header.text.len as usize;
                let buf = self.read(self.layout.text_lba(slot), len).await?;
                let text = &buf.as_slice()[..len];
                if Mark::of(text) == header.text {
                    return Ok(Some(Stored { slot, header, text: text.into() }));
                }
                log::error!(target: "rpc", "{}: what was saved last is damaged", self.name());
                is_damaged = true;
            }
            if is_damaged { Err(Failure::Damaged) } else { Ok(None) }
        })
    }

    /// Saves a text in the slot that does not count; what it is under. Whatever happens meanwhile,
    /// what counts is then either this text or the one before.
    pub(super) fn save<'a>(&'a self, text: &'a [u8], handed_over: Mark) -> Doing<'a, Header> {
        Box::pin(async move {
            let (slot, generation) = match self.load().await {
                Ok(Some(before)) => (before.slot.other(), before.header.generation + 1),
                Ok(None) | Err(Failure::Damaged) => (Slot::First, 1),
                Err(failure) => return Err(failure),
            };
            let header = Header { generation, text: Mark::of(text), handed_over };
            let mut block = self.buffer(1)?;
            header.write(block.as_mut_slice());
            let mut data = self.buffer(text.len())?;
            let (front, rest) = data.as_mut_slice().split_at_mut(text.len());
            front.copy_from_slice(text);
            rest.fill(0);
            let header_lba = self.layout.header_lba(slot);
            // What makes the text count is not to be there before it.
            let steps = [
                (Op::Write, self.layout.text_lba(slot), SgList::One(data)),
                (Op::Flush, 0, SgList::Empty),
                (Op::Write, header_lba, SgList::One(block)),
                (Op::Flush, 0, SgList::Empty),
            ];
            for (op, lba, data) in steps {
                if self.disk.allows(op) || op == Op::Write {
                    self.transfer(op, lba, data).await?;
                }
            }
            Ok(header)
        })
    }

    /// At least so many bytes from `lba` on.
    fn read(&self, lba: u64, bytes: usize) -> Doing<'_, DmaBuf> {
        Box::pin(async move {
            let buf = self.buffer(bytes)?;
            match self.transfer(Op::Read, lba, SgList::One(buf)).await? {
                SgList::One(buf) => Ok(buf),
                _ => Err(Failure::NoMemory),
            }
        })
    }

    fn transfer(&self, op: Op, lba: u64, data: SgList) -> Doing<'_, SgList> {
        let blocks = data.len() / self.layout.block_size();
        let transfer = self.channel.submit(Io::with_data(op, lba, blocks as u32, data, 0));
        Box::pin(async move {
            let (data, status) = transfer.await;
            status.map(|()| data).map_err(Failure::Io)
        })
    }

    /// Memory for so many bytes, in whole blocks, and at least one.
    fn buffer(&self, bytes: usize) -> Result<DmaBuf, Failure> {
        let bytes = bytes.max(1).next_multiple_of(self.layout.block_size());
        self.pool.alloc(bytes).map_err(|_| Failure::NoMemory)
    }
}
