//! What everything is and has done, gathered from all cores at about one time. Nobody waits for it
//! but who asked: each core answers in an event of its own.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_bdev::{Bdev, IoError, IoStat, Latency, Registry, under_way};
use basalt_env::{CoreId, DmaPool, DmaStats, log_lines_lost};
use basalt_net::{NetHandle, NetStats, QueueStats, StackStats};
use basalt_nvmf::{
    AnaState, ControllerInfo, DISCOVERY_NQN, GroupStats, Listener, NamespaceInfo, PollGroup,
    QueueInfo, SubsystemInfo, Target,
};
use basalt_reactor::{Local, PollerStats, ReactorStats, yield_now};
use basalt_rpc::methods::{InterfaceState, NetControl, NvmeControl, NvmeState};

use crate::collector::{Health, HeapUse};

/// How long a core may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Most of each kind that is shown, for what is shown must not fill the memory.
pub const BDEVS_MAX: usize = 256;
pub const SUBSYSTEMS_MAX: usize = 256;
pub const CONTROLLERS_MAX: usize = 1024;

/// What a core is and has done.
pub struct CoreView {
    pub core: CoreId,
    pub reactor: ReactorStats,
    pub pollers: Vec<PollerStats>,
    pub dma: Option<DmaStats>,
    pub group: Option<GroupStats>,
    pub queues: Vec<QueueInfo>,
    pub card: Option<QueueStats>,
    pub stack: Option<StackStats>,
    /// Ios under way, by bdevs' names.
    pub under_way: Vec<(String, u32)>,
}

/// A bdev and what it has done.
pub struct BdevView {
    pub bdev: Arc<dyn Bdev>,
    pub stat: IoStat,
    pub latencies: [Latency; 2],
    pub failures: [u64; IoError::KINDS.len()],
    pub is_claimed: bool,
    /// The bdevs that it stands on.
    pub bases: Vec<String>,
}

/// A subsystem and how it is reached.
pub struct SubsystemView {
    pub nqn: String,
    pub serial: String,
    pub is_discovery: bool,
    pub namespaces: Vec<NamespaceInfo>,
    pub listeners: Vec<(Listener, AnaState)>,
}

/// All of it.
pub struct Snapshot {
    pub now_ns: u64,
    pub unix_s: Option<u64>,
    pub environment: &'static str,
    pub heap: Option<HeapUse>,
    pub cores: Vec<CoreView>,
    pub bdevs: Vec<BdevView>,
    pub drives: Vec<(NvmeState, Option<Health>)>,
    pub subsystems: Vec<SubsystemView>,
    pub controllers: Vec<ControllerInfo>,
    pub interfaces: Vec<InterfaceState>,
    /// How many bdevs, subsystems and controllers there are beyond those that are shown.
    pub left_out: u64,
}

impl Snapshot {
    /// Ios that are under way at a bdev.
    pub fn depth_of(&self, name: &str) -> u64 {
        let here = self.cores.iter().flat_map(|core| &core.under_way);
        here.filter(|(bdev, _)| bdev == name).map(|(_, count)| u64::from(*count)).sum()
    }

    /// What the network card has moved, if there is one that counts.
    pub fn moved(&self) -> Option<NetStats> {
        let moved = self.cores.iter().filter_map(|core| Some(core.card?.card));
        moved.reduce(|sum, of| NetStats {
            rx_frames: sum.rx_frames + of.rx_frames,
            rx_bytes: sum.rx_bytes + of.rx_bytes,
            rx_dropped: sum.rx_dropped + of.rx_dropped,
            tx_frames: sum.tx_frames + of.tx_frames,
            tx_bytes: sum.tx_bytes + of.tx_bytes,
        })
    }

    /// What has gone wrong, by kind.
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let groups =
            |of: fn(&GroupStats) -> u64| self.sum(|core| core.group.as_ref().map_or(0, of));
        let stacks =
            |of: fn(&StackStats) -> u64| self.sum(|core| core.stack.as_ref().map_or(0, of));
        let own = [
            ("nvmf_protocol", groups(|group| group.faults)),
            ("nvmf_stale_completion", groups(|group| group.stale)),
            ("net_frame", stacks(|stack| stack.frames_dropped)),
            ("net_card_dropped", self.moved().map_or(0, |moved| moved.rx_dropped)),
            ("tcp_refused", stacks(|stack| stack.refused)),
            ("log_line_lost", log_lines_lost()),
        ];
        let bdevs = (0..).zip(IoError::KINDS).map(|(kind, name): (usize, _)| {
            (name, self.bdevs.iter().map(|bdev| bdev.failures[kind]).sum())
        });
        own.into_iter().chain(bdevs)
    }

    /// A number of all cores together.
    pub fn sum(&self, of: impl Fn(&CoreView) -> u64) -> u64 {
        self.cores.iter().map(of).sum()
    }
}

/// The cores, as far as they answer.
pub async fn cores(local: &Local) -> Vec<CoreView> {
    let mut views = Vec::new();
    for core in (0..local.cores()).map(|core| CoreId(core as u16)) {
        let reactor = local.mesh().stats(core).unwrap_or_default();
        let asked = local.call(core, move |local| Box::new(look(local, reactor)));
        if let Ok(Ok(view)) = local.timeout(PATIENCE, asked).await {
            views.push(*view);
        }
    }
    views
}

fn look(local: &Local, reactor: ReactorStats) -> CoreView {
    let group = local.service::<PollGroup>();
    CoreView {
        core: local.core(),
        reactor,
        pollers: local.pollers(),
        dma: local.service::<DmaPool>().map(|pool| pool.stats()),
        group: group.as_ref().map(|group| group.stats()),
        queues: group.map(|group| group.queues()).unwrap_or_default(),
        card: local.service::<basalt_net::NetQueue>().and_then(|queue| queue.stats()),
        stack: local.service::<NetHandle>().map(|net| net.stack().borrow().stats()),
        under_way: under_way(local),
    }
}

/// The bdevs, and how many there are.
pub async fn bdevs(local: &Local) -> (Vec<BdevView>, usize) {
    let Some(registry) = local.service::<Registry>() else { return (Vec::new(), 0) };
    let all = registry.list();
    let mut views = Vec::new();
    for bdev in all.iter().take(BDEVS_MAX) {
        let name = bdev.info().name.as_str();
        // It may have gone meanwhile.
        if let (Some(stat), Some(latencies), Some(failures)) =
            (registry.iostat(name), registry.latencies(name), registry.failures(name))
        {
            views.push(BdevView {
                stat,
                latencies,
                failures,
                is_claimed: registry.is_claimed(name),
                bases: bases(&**bdev, &all),
                bdev: Arc::clone(bdev),
            });
        }
        // With many cores there is much to add up.
        yield_now().await;
    }
    (views, all.len())
}

/// The bdevs that `bdev` says that it stands on: their names are in what its module tells of it.
fn bases(bdev: &dyn Bdev, all: &[Arc<dyn Bdev>]) -> Vec<String> {
    let (own, told) = (&bdev.info().name, bdev.driver_specific());
    let mut bases = Vec::new();
    for text in told.split('"').skip(1).step_by(2) {
        let is_other = all.iter().any(|other| other.info().name == text);
        if is_other && text != own && !bases.iter().any(|base| base == text) {
            bases.push(text.into());
        }
    }
    bases
}

/// The subsystems, the discovery subsystem first, and how many there are.
pub fn subsystems(target: &Target) -> (Vec<SubsystemView>, usize) {
    let optimized = |at: Listener| (at, AnaState::Optimized);
    let discovery = SubsystemView {
        nqn: DISCOVERY_NQN.into(),
        serial: String::new(),
        is_discovery: true,
        namespaces: Vec::new(),
        listeners: target.discovery_listeners().into_iter().map(optimized).collect(),
    };
    let all = target.subsystems();
    let count = all.len() + 1;
    let mut views = Vec::from([discovery]);
    views.extend(all.into_iter().take(SUBSYSTEMS_MAX - 1).map(|info| subsystem(target, info)));
    (views, count)
}

fn subsystem(target: &Target, info: SubsystemInfo) -> SubsystemView {
    let SubsystemInfo { nqn, serial, namespaces, listeners, .. } = info;
    let states = target.ana_states(&nqn);
    let state = |at: Listener| {
        let told = states.iter().find(|(other, _)| *other == at);
        (at, told.and_then(|(_, states)| states.first()).copied().unwrap_or_default())
    };
    let listeners = listeners.into_iter().map(state).collect();
    SubsystemView { nqn, serial, is_discovery: false, namespaces, listeners }
}

/// The network interfaces.
pub fn interfaces(local: &Local) -> Vec<InterfaceState> {
    local.service::<NetControl>().map_or_else(Vec::new, |control| control.list())
}

/// The machine's own NVMe drives.
pub fn drives(local: &Local) -> Vec<NvmeState> {
    local.service::<NvmeControl>().map_or_else(Vec::new, |control| control.list())
}
