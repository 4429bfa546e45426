use alloc::boxed::Box;
use alloc::vec::Vec;

use basalt_env::{DmaPool, Instant, Parcel};

use crate::{Io, IoStatus, NvmePassthru, Op, SgList};

/// An [`Io`] on its way to another core or back.
#[derive(Debug)]
pub(super) struct PackedIo {
    op: Op,
    lba: u64,
    blocks: u32,
    data: PackedList,
    tag: u64,
    status: IoStatus,
    submitted: Instant,
}

#[derive(Debug)]
enum PackedList {
    Empty,
    One(Parcel),
    Many(Vec<Parcel>),
    Blocks(u64),
    Nvme([u32; 16], Option<Parcel>, u32),
}

impl PackedIo {
    pub(super) fn new(io: Io) -> Self {
        let Io { op, lba, blocks, data, tag, status, submitted } = io;
        let data = match data {
            // A channel packs no shared data, which cannot leave its core.
            SgList::Empty | SgList::Shared(_) => PackedList::Empty,
            SgList::Blocks(from) => PackedList::Blocks(from),
            SgList::Nvme(passthru) => {
                let NvmePassthru { command, data, result } = *passthru;
                PackedList::Nvme(command, data.map(Parcel::new), result)
            }
            SgList::One(buf) => PackedList::One(Parcel::new(buf)),
            // In place: a parcel has the layout of a buffer.
            SgList::Many(bufs) => PackedList::Many(bufs.into_iter().map(Parcel::new).collect()),
        };
        Self { op, lba, blocks, data, tag, status, submitted }
    }

    /// Opens it on the core of `pool`.
    pub(super) fn open(self, pool: &DmaPool) -> Io {
        let Self { op, lba, blocks, data, tag, status, submitted } = self;
        let data = match data {
            PackedList::Empty => SgList::Empty,
            PackedList::Blocks(from) => SgList::Blocks(from),
            PackedList::Nvme(command, data, result) => {
                let data = data.map(|parcel| parcel.open(pool));
                SgList::Nvme(Box::new(NvmePassthru { command, data, result }))
            }
            PackedList::One(parcel) => SgList::One(parcel.open(pool)),
            PackedList::Many(parcels) => {
                SgList::Many(parcels.into_iter().map(|parcel| parcel.open(pool)).collect())
            }
        };
        Io { op, lba, blocks, data, tag, status, submitted }
    }
}
