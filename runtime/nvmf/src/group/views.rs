use alloc::sync::Arc;
use alloc::vec::Vec;

use basalt_bdev::{Descriptor, Op};
use basalt_nvme_spec::Status;
use basalt_reactor::Local;

use super::channels::Channels;
use crate::health::Health;

/// A subsystem's namespaces as the control plane hands them to the cores.
#[derive(Clone)]
pub(crate) struct SubsystemView {
    /// Which subsystem.
    pub(crate) subsystem: u32,
    /// Grows with every change.
    pub(crate) version: u64,
    /// Namespace identifiers and what is behind them.
    pub(crate) namespaces: Vec<(u32, Descriptor)>,
    /// Where the subsystem's work is counted.
    pub(crate) health: Arc<Health>,
}

/// A namespace as the I/O path sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Namespace {
    nsid: u32,
    /// `None` if this core could not open a channel.
    channel: Option<u16>,
    /// Block size as a power of two.
    pub(crate) block_shift: u32,
    blocks: u64,
    supported: [bool; Op::ALL.len()],
}

impl Namespace {
    /// Whether the bdev does `op` itself.
    pub(crate) const fn supports(&self, op: Op) -> bool {
        self.supported[op.index()]
    }

    /// The channel to it.
    pub(crate) fn channel(&self) -> Result<u16, Status> {
        self.channel.ok_or(Status::NAMESPACE_NOT_READY)
    }

    /// Checks that `blocks` from `lba` exist.
    pub(crate) fn check_range(&self, lba: u64, blocks: u32) -> Result<(), Status> {
        match lba.checked_add(u64::from(blocks)) {
            Some(end) if end <= self.blocks => Ok(()),
            _ => Err(Status::LBA_OUT_OF_RANGE.with_dnr()),
        }
    }
}

struct View {
    subsystem: u32,
    version: u64,
    /// Ascending by identifier.
    namespaces: Vec<Namespace>,
}

/// This core's view of the subsystems it serves.
#[derive(Default)]
pub(crate) struct Views {
    views: Vec<View>,
}

impl Views {
    /// Takes over `fresh` unless a newer view is there already; gives its index, which stays.
    pub(crate) fn update(
        &mut self,
        fresh: &SubsystemView,
        channels: &mut Channels,
        local: &Local,
    ) -> usize {
        let at = self.index_of(fresh.subsystem);
        let view = &mut self.views[at];
        if view.version >= fresh.version {
            return at;
        }
        view.version = fresh.version;
        let open = |(nsid, bdev)| open(nsid, bdev, channels, local);
        let namespaces = fresh.namespaces.iter().map(|(nsid, bdev)| (*nsid, bdev)).map(open);
        let old = core::mem::replace(&mut view.namespaces, namespaces.collect());
        // Released only now, so that a bdev in both keeps its channel.
        for channel in old.iter().filter_map(|namespace| namespace.channel) {
            channels.release(channel);
        }
        at
    }

    /// Whether `subsystem` has been used on this core.
    pub(crate) fn knows(&self, subsystem: u32) -> bool {
        self.views.iter().any(|view| view.subsystem == subsystem)
    }

    /// Namespace `nsid` of the view at `index`.
    pub(crate) fn namespace(&self, index: usize, nsid: u32) -> Result<Namespace, Status> {
        let namespaces = self.views.get(index).map_or(&[][..], |view| &view.namespaces);
        // Identifiers are handed out from 1, so the guess nearly always hits.
        if let Some(guess) = namespaces.get((nsid as usize).wrapping_sub(1))
            && guess.nsid == nsid
        {
            return Ok(*guess);
        }
        match namespaces.binary_search_by_key(&nsid, |namespace| namespace.nsid) {
            Ok(at) => Ok(namespaces[at]),
            Err(_) => Err(Status::INVALID_NAMESPACE.with_dnr()),
        }
    }

    fn index_of(&mut self, subsystem: u32) -> usize {
        match self.views.iter().position(|view| view.subsystem == subsystem) {
            Some(at) => at,
            None => {
                self.views.push(View { subsystem, version: 0, namespaces: Vec::new() });
                self.views.len() - 1
            }
        }
    }
}

fn open(nsid: u32, bdev: &Descriptor, channels: &mut Channels, local: &Local) -> Namespace {
    let info = bdev.info();
    let channel = channels.open(bdev, local).inspect_err(|error| {
        log::error!(
            target: "nvmf",
            "namespace {nsid} ({}) cannot be served on core {}: {error}",
            info.name,
            local.core()
        );
    });
    Namespace {
        nsid,
        channel: channel.ok(),
        block_shift: info.block_size.trailing_zeros(),
        blocks: info.num_blocks.get(),
        supported: Op::ALL.map(|op| bdev.allows(op)),
    }
}
