use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use basalt_bdev::{Descriptor, Op, Zones};
use basalt_nvme_spec::{AnaState, Csi, Status};
use basalt_reactor::Local;

use super::channels::Channels;
use super::guard::{Access, Excluded, Guard, HostId};
use crate::control::SeenBy;
use crate::health::Health;

/// How a command ends whose namespace is not there, or not to be seen.
const NO_NAMESPACE: Status = Status::INVALID_NAMESPACE.with_dnr();

/// A subsystem as the control plane hands it to the cores.
pub(crate) struct SubsystemView {
    /// Which subsystem.
    pub(crate) subsystem: u32,
    /// Grows with every change.
    pub(crate) version: u64,
    /// The namespaces, ascending by identifier.
    pub(crate) namespaces: Vec<SharedNamespace>,
    /// The states of ANA groups 1 and up by listener; `None` if all access is symmetric.
    pub(crate) ana: Option<Vec<(u32, Vec<AnaState>)>>,
    /// Where the subsystem's work is counted.
    pub(crate) health: Arc<Health>,
}

/// A namespace of a [`SubsystemView`].
pub(crate) struct SharedNamespace {
    /// Its identifier.
    pub(crate) nsid: u32,
    /// What is behind it.
    pub(crate) bdev: Descriptor,
    /// Its ANA group, from 1.
    pub(crate) anagrpid: u32,
    /// Which hosts see it.
    pub(crate) seen_by: SeenBy,
    /// What a reservation keeps other hosts from, if there is one.
    pub(crate) guard: Option<Arc<Guard>>,
}

/// The I/O command sets that a host has selected (CC.CSS).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CommandSets {
    /// The NVM Command Set alone: namespaces of others are not attached to its controller.
    Nvm,
    /// All that there are.
    All,
}

impl CommandSets {
    /// Whether `set` is one of them.
    pub(crate) fn include(self, set: Csi) -> bool {
        self == Self::All || set == Csi::NVM
    }
}

/// The I/O command set of a namespace with `bdev` behind it.
pub(crate) fn command_set(bdev: &Descriptor) -> Csi {
    if bdev.bdev().zones().is_some() { Csi::ZONED } else { Csi::NVM }
}

/// Who uses a subsystem, and which way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Visitor {
    /// The listener its controller was connected by.
    pub(crate) listener: u32,
    /// The host's name, by which it sees namespaces.
    pub(crate) host: String,
    /// The host's identifier, by which it reserves them.
    pub(crate) hostid: HostId,
    /// What it speaks.
    pub(crate) sets: CommandSets,
}

/// What stands between a visitor and a namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Gate {
    /// Nothing.
    Open,
    /// A reservation of others.
    Reserved(Excluded),
    /// It cannot be used: commands end like that.
    Closed(Status),
}

impl Gate {
    #[cold]
    fn check(self, access: Access) -> Result<(), Status> {
        match self {
            Self::Open => Ok(()),
            Self::Reserved(excluded) => excluded.check(access),
            Self::Closed(status) => Err(status),
        }
    }
}

impl SubsystemView {
    /// How `visitor` finds `namespace`: whether it sees it goes before whether it reaches it, and
    /// that before reservations.
    fn gate(&self, namespace: &SharedNamespace, visitor: &Visitor) -> Gate {
        if let Some(status) = self.refusal(namespace, visitor) {
            return Gate::Closed(status);
        }
        let excluded = namespace.guard.as_ref().and_then(|g| g.excluded_for(&visitor.hostid));
        excluded.map_or(Gate::Open, Gate::Reserved)
    }

    /// Why `visitor` may not use `namespace` at all, if so.
    fn refusal(&self, namespace: &SharedNamespace, visitor: &Visitor) -> Option<Status> {
        let is_seen = namespace.seen_by.includes(&visitor.host);
        if !is_seen || !visitor.sets.include(command_set(&namespace.bdev)) {
            return Some(NO_NAMESPACE);
        }
        let listeners = self.ana.as_ref()?;
        let states = listeners.iter().find(|(listener, _)| *listener == visitor.listener);
        let state = states.and_then(|(_, states)| states.get(namespace.anagrpid as usize - 1));
        // Where a listener is gone, its controllers are about to be.
        state.map_or(Some(Status::ANA_INACCESSIBLE), |state| state.refusal())
    }
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
    /// A bit for each operation.
    supported: u32,
}

impl Namespace {
    /// Whether the bdev does `op` itself.
    pub(crate) const fn supports(&self, op: Op) -> bool {
        self.supported & 1 << op.index() != 0
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
    /// As the control plane told it last.
    told: Option<Arc<SubsystemView>>,
    /// Ascending by identifier.
    namespaces: Vec<Namespace>,
}

/// A visitor's way to the namespaces of a view: worked out when something changes, so that a
/// command has one test to pass.
struct Path {
    /// Index of the view.
    view: usize,
    visitor: Visitor,
    /// Queues that use it; without any its place is free.
    users: u32,
    /// By the namespaces' places in the view.
    gates: Vec<Gate>,
}

/// This core's view of the subsystems it serves.
#[derive(Default)]
pub(crate) struct Views {
    views: Vec<View>,
    paths: Vec<Path>,
}

impl Views {
    /// Takes over `fresh` unless a newer view is there already; gives its index, which stays.
    pub(crate) fn update(
        &mut self,
        fresh: &Arc<SubsystemView>,
        channels: &mut Channels,
        local: &Local,
    ) -> usize {
        let at = self.index_of(fresh.subsystem);
        let view = &mut self.views[at];
        if view.told.as_ref().is_some_and(|told| told.version >= fresh.version) {
            return at;
        }
        view.told = Some(Arc::clone(fresh));
        let open = |shared: &SharedNamespace| open(shared, channels, local);
        let namespaces = fresh.namespaces.iter().map(open).collect();
        let old = core::mem::replace(&mut view.namespaces, namespaces);
        // Released only now, so that a bdev in both keeps its channel.
        for channel in old.iter().filter_map(|namespace| namespace.channel) {
            channels.release(channel);
        }
        for path in self.paths.iter_mut().filter(|path| path.view == at) {
            path.gates = gates(fresh, &path.visitor);
        }
        at
    }

    /// The path of `visitor` to the view at `view` for one more queue; gives its index.
    pub(crate) fn enter(&mut self, view: usize, visitor: Visitor) -> usize {
        let same = |path: &Path| path.users > 0 && path.view == view && path.visitor == visitor;
        if let Some(at) = self.paths.iter().position(same) {
            self.paths[at].users += 1;
            return at;
        }
        let told = self.views.get(view).and_then(|view| view.told.as_ref());
        let gates = told.map(|told| gates(told, &visitor)).unwrap_or_default();
        let path = Path { view, visitor, users: 1, gates };
        match self.paths.iter().position(|path| path.users == 0) {
            Some(at) => {
                self.paths[at] = path;
                at
            }
            None => {
                self.paths.push(path);
                self.paths.len() - 1
            }
        }
    }

    /// One queue fewer uses the path at `index`.
    pub(crate) fn leave(&mut self, index: usize) {
        if let Some(path) = self.paths.get_mut(index) {
            path.users = path.users.saturating_sub(1);
        }
    }

    /// Whether the path at `index` leads to `subsystem`, and by which visitor it is used.
    pub(crate) fn visitor(&self, index: usize, subsystem: u32) -> Option<&Visitor> {
        let path = self.paths.get(index)?;
        (self.views.get(path.view)?.subsystem == subsystem).then_some(&path.visitor)
    }

    /// Paths in use.
    pub(crate) fn paths(&self) -> usize {
        self.paths.iter().filter(|path| path.users > 0).count()
    }

    /// Whether `subsystem` has been used on this core.
    pub(crate) fn knows(&self, subsystem: u32) -> bool {
        self.views.iter().any(|view| view.subsystem == subsystem)
    }

    /// Namespace `nsid` on the path at `index`, for what needs `access` to it.
    pub(crate) fn namespace(
        &self,
        index: usize,
        nsid: u32,
        access: Access,
    ) -> Result<Namespace, Status> {
        let path = self.paths.get(index).ok_or(NO_NAMESPACE)?;
        let namespaces = self.views.get(path.view).map_or(&[][..], |view| &view.namespaces);
        // Identifiers are handed out from 1, so the guess nearly always hits.
        let guess = (nsid as usize).wrapping_sub(1);
        let at = match namespaces.get(guess) {
            Some(namespace) if namespace.nsid == nsid => guess,
            _ => namespaces
                .binary_search_by_key(&nsid, |other| other.nsid)
                .map_err(|_| NO_NAMESPACE)?,
        };
        match path.gates.get(at) {
            Some(Gate::Open) => Ok(namespaces[at]),
            Some(gate) => gate.check(access).map(|()| namespaces[at]),
            None => Err(NO_NAMESPACE),
        }
    }

    /// The same for what needs any access, if `nsid` is where nearly all are and nothing stands
    /// between.
    #[inline]
    pub(crate) fn open_namespace(&self, index: usize, nsid: u32) -> Option<&Namespace> {
        let path = self.paths.get(index)?;
        let at = (nsid as usize).wrapping_sub(1);
        let namespace = self.views.get(path.view)?.namespaces.get(at)?;
        let is_open = path.gates.get(at) == Some(&Gate::Open) && namespace.nsid == nsid;
        is_open.then_some(namespace)
    }

    /// The zones of namespace `nsid` on the path at `index`, if it has some.
    #[cold]
    pub(crate) fn zones(&self, index: usize, nsid: u32) -> Option<Zones> {
        let view = self.views.get(self.paths.get(index)?.view)?;
        let namespaces = &view.told.as_ref()?.namespaces;
        let at = namespaces.binary_search_by_key(&nsid, |other| other.nsid).ok()?;
        namespaces[at].bdev.bdev().zones()
    }

    fn index_of(&mut self, subsystem: u32) -> usize {
        match self.views.iter().position(|view| view.subsystem == subsystem) {
            Some(at) => at,
            None => {
                self.views.push(View { subsystem, told: None, namespaces: Vec::new() });
                self.views.len() - 1
            }
        }
    }
}

fn gates(view: &SubsystemView, visitor: &Visitor) -> Vec<Gate> {
    view.namespaces.iter().map(|namespace| view.gate(namespace, visitor)).collect()
}

fn open(shared: &SharedNamespace, channels: &mut Channels, local: &Local) -> Namespace {
    let SharedNamespace { nsid, ref bdev, .. } = *shared;
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
        supported: Op::ALL
            .into_iter()
            .filter(|op| bdev.allows(*op))
            .fold(0, |s, op| s | 1 << op.index()),
    }
}
