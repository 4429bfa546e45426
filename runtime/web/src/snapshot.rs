//! What everything is and has done, gathered from all cores at about one time. Nobody waits for it
//! but who asked: each core answers in an event of its own.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use basalt_bdev::{Bdev, IoError, IoStat, Latency, Registry, under_way};
use basalt_env::{CoreId, DmaPool, DmaStats, log_lines_lost};
use basalt_net::{NetHandle, NetStats, QueueStats, SegmentStats, StackStats};
use basalt_nvmf::pdu::FaultKind;
use basalt_nvmf::{
    AnaState, ControllerInfo, DISCOVERY_NQN, GroupStats, Listener, NamespaceInfo, PollGroup,
    QueueInfo, SubsystemInfo, Target,
};
use basalt_reactor::{Local, PollerStats, ReactorStats};
use basalt_rpc::methods::{InterfaceState, NetControl, NvmeControl, NvmeState};
use basalt_rpc::{Finding, Found};

use crate::collector::{Environment, Health, HeapUse};

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

impl CoreView {
    /// Frames that there was no room to send.
    pub fn tx_dropped(&self) -> u64 {
        let card = self.card.map_or(0, |card| card.tx_dropped);
        card + self.stack.map_or(0, |stack| stack.tx_dropped)
    }
}

/// A bdev and what it has done.
pub struct BdevView {
    pub bdev: Arc<dyn Bdev>,
    pub stat: IoStat,
    pub latencies: [Latency; 2],
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
#[derive(Default)]
pub struct Snapshot {
    pub now_ns: u64,
    pub unix_s: Option<u64>,
    pub environment: &'static str,
    all: Vec<Arc<dyn Bdev>>,
    looked_at: usize,
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
    /// One of everything but cores, bdevs and drives' health.
    #[inline(never)]
    pub fn new(local: &Local, environment: &Environment) -> Self {
        let now = local.now();
        let mut new = Self {
            now_ns: now.as_ns(),
            unix_s: environment.started_at.map(|start| start + now.as_us() / 1_000_000),
            environment: environment.name,
            heap: (environment.heap)(),
            ..Self::default()
        };
        if let Some(control) = local.service::<NvmeControl>() {
            new.drives = control.list().into_iter().map(|drive| (drive, None)).collect();
        }
        if let Some(control) = local.service::<NetControl>() {
            new.interfaces = control.list();
        }
        if let Some(registry) = local.service::<Registry>() {
            new.all = registry.list();
        }
        new.left_out = new.all.len().saturating_sub(BDEVS_MAX) as u64;
        if let Some(target) = local.service::<Target>() {
            let (subsystems, count) = subsystems(&target);
            new.left_out += (count - subsystems.len()) as u64;
            new.subsystems = subsystems;
            new.controllers = target.controllers();
            new.left_out += new.controllers.len().saturating_sub(CONTROLLERS_MAX) as u64;
            new.controllers.truncate(CONTROLLERS_MAX);
        }
        new
    }

    /// Looks at another bdev, of which each core has counters; says whether there are more.
    pub fn look_at_bdev(&mut self, local: &Local) -> bool {
        let (Some(next), Some(registry)) =
            (self.all.get(self.looked_at), local.service::<Registry>())
        else {
            return false;
        };
        self.bdevs.extend(bdev(&registry, next, &self.all));
        self.looked_at += 1;
        self.looked_at < BDEVS_MAX
    }

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

    /// What of all segments of TCP did not simply come and go in order, if that is counted.
    pub fn segments(&self) -> Option<SegmentStats> {
        let counted = self.cores.iter().filter_map(|core| core.stack?.segments);
        counted.reduce(SegmentStats::plus)
    }

    /// What has gone wrong, by kind.
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let groups =
            |of: fn(&GroupStats) -> u64| self.sum(|core| core.group.as_ref().map_or(0, of));
        let stacks =
            |of: fn(&StackStats) -> u64| self.sum(|core| core.stack.as_ref().map_or(0, of));
        let own = [
            ("nvmf_stale_completion", groups(|group| group.stale)),
            ("net_frame", stacks(|stack| stack.frames_dropped - stack.tx_dropped)),
            ("net_card_dropped", self.moved().map_or(0, |moved| moved.rx_dropped)),
            ("net_sent_dropped", self.sum(CoreView::tx_dropped)),
            ("udp_dropped", stacks(|stack| stack.datagrams_dropped)),
            ("tcp_refused", stacks(|stack| stack.refused)),
            ("log_line_lost", log_lines_lost()),
        ];
        let bdevs = (0..).zip(IoError::KINDS).map(|(kind, name): (usize, _)| {
            (name, self.bdevs.iter().map(|bdev| bdev.stat.failures()[kind]).sum())
        });
        let faults = (0..).zip(FaultKind::NAMES).map(|(kind, name): (usize, _)| {
            let of = |core: &CoreView| core.group.map_or(0, |group| group.fault_kinds[kind]);
            (name, self.sum(of))
        });
        faults.chain(own).chain(bdevs)
    }

    /// A number of all cores together.
    pub fn sum(&self, of: impl Fn(&CoreView) -> u64) -> u64 {
        self.cores.iter().map(of).sum()
    }
}

/// What a core that was asked tells, as a [`CoreView`].
pub fn look(local: Local) -> Finding {
    Box::pin(core::future::ready(Box::new(view(&local)) as Found))
}

#[inline(never)]
fn view(local: &Local) -> CoreView {
    let group = local.service::<PollGroup>();
    CoreView {
        core: local.core(),
        reactor: local.mesh().stats(local.core()).unwrap_or_default(),
        pollers: local.pollers(),
        dma: local.service::<DmaPool>().map(|pool| pool.stats()),
        group: group.as_ref().map(|group| group.stats()),
        queues: group.map(|group| group.queues()).unwrap_or_default(),
        card: local.service::<basalt_net::NetQueue>().and_then(|queue| queue.stats()),
        stack: local.service::<NetHandle>().map(|net| net.stack().borrow().stats()),
        under_way: under_way(local),
    }
}

/// A bdev among `all`, unless it has gone meanwhile.
#[inline(never)]
fn bdev(registry: &Registry, bdev: &Arc<dyn Bdev>, all: &[Arc<dyn Bdev>]) -> Option<BdevView> {
    let name = bdev.info().name.as_str();
    Some(BdevView {
        stat: registry.iostat(name)?,
        latencies: registry.latencies(name)?,
        is_claimed: registry.is_claimed(name),
        bases: bases(&**bdev, all),
        bdev: Arc::clone(bdev),
    })
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
#[inline(never)]
fn subsystems(target: &Target) -> (Vec<SubsystemView>, usize) {
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
