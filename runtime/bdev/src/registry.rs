use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::time::Duration;

use basalt_env::CoreId;
use basalt_reactor::Local;

use crate::depth::{self, DepthStat};
use crate::latency::{HistogramShape, Latencies, LatencyHistogram};
use crate::node::Node;
use crate::qos::QosLimits;
use crate::uuid::{self, Uuid};
use crate::{Access, Bdev, BdevInfo, Descriptor, IoStat, Latency, OpenError, StatReset};

/// The table of all bdevs, a service of core 0.
///
/// Names are unique, and so are the UUIDs, which serve as aliases. The order is that of
/// registration. Other cores get [`Descriptor`]s or `Arc<dyn Bdev>`s, never the registry.
pub struct Registry {
    nodes: RefCell<Vec<Arc<Node>>>,
    listeners: RefCell<Vec<Listener>>,
    cores: usize,
    seed: u64,
    uuids_made: Cell<u64>,
}

type Listener = Rc<dyn Fn(&Event)>;

/// A change of the table.
#[derive(Clone)]
pub enum Event {
    /// A bdev was added.
    Registered(Arc<dyn Bdev>),
    /// A bdev has another size now; it was so many blocks before.
    Resized(Arc<dyn Bdev>, u64),
    /// A bdev was taken out. Who has it open should close it; its channels refuse submissions.
    Removed(Arc<dyn Bdev>),
}

/// Why a bdev cannot be registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegisterError {
    /// The name is empty or taken, also as another bdev's UUID.
    NameTaken,
    /// Another bdev has the same UUID.
    UuidTaken,
    /// Block size not a power of two from 512, no blocks, or more bytes than 2^63.
    BadGeometry,
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NameTaken => "a bdev of that name exists already",
            Self::UuidTaken => "a bdev with that UUID exists already",
            Self::BadGeometry => {
                "the block size is not a power of two from 512, or the size is zero or too large"
            }
        })
    }
}

/// Why a bdev cannot have another size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResizeError {
    /// There is no bdev of that name.
    NoSuchBdev,
    /// No blocks, or more bytes than 2^63.
    BadGeometry,
    /// It would become smaller while somebody has it open.
    Busy,
}

impl fmt::Display for ResizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchBdev => "there is no bdev of that name",
            Self::BadGeometry => "the size is zero or too large",
            Self::Busy => "the bdev is open and cannot become smaller",
        })
    }
}

/// Why a bdev cannot be unregistered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnregisterError {
    /// There is no bdev of that name.
    NoSuchBdev,
    /// Somebody has it open.
    Busy,
}

impl fmt::Display for UnregisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchBdev => "there is no bdev of that name",
            Self::Busy => "the bdev is open",
        })
    }
}

impl Registry {
    /// An empty table for a machine with `cores` cores. UUIDs that nobody chose are derived from
    /// `seed`, which should differ between machines and boots (a clock, a MAC address).
    pub fn new(cores: usize, seed: u64) -> Self {
        Self {
            nodes: RefCell::default(),
            listeners: RefCell::default(),
            cores,
            seed,
            uuids_made: Cell::new(0),
        }
    }

    /// How many cores the machine has.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// Adds a bdev.
    pub fn register(&self, bdev: Arc<dyn Bdev>) -> Result<(), RegisterError> {
        self.admit(bdev.info())?;
        self.nodes.borrow_mut().push(Node::new(Arc::clone(&bdev), self.cores));
        log::info!(target: "bdev", "{} registered", Summary(bdev.info()));
        self.announce(&Event::Registered(bdev));
        Ok(())
    }

    /// Takes out a bdev that nobody has open.
    pub fn unregister(&self, name: &str) -> Result<Arc<dyn Bdev>, UnregisterError> {
        let node = self.node(name).ok_or(UnregisterError::NoSuchBdev)?;
        if !node.claims.remove_if_unused() {
            return Err(UnregisterError::Busy);
        }
        Ok(self.take_out(&node))
    }

    /// Takes out a bdev whose device is gone or going, open or not: from now on its channels
    /// refuse submissions, and listeners are told so that openers let go of it.
    pub fn remove(&self, name: &str) -> Result<Arc<dyn Bdev>, UnregisterError> {
        let node = self.node(name).ok_or(UnregisterError::NoSuchBdev)?;
        node.claims.remove();
        Ok(self.take_out(&node))
    }

    /// Gives a bdev another size, as its owner asks for; refused if it would become smaller under
    /// somebody who has it open, as SPDK refuses that.
    ///
    /// # Errors
    /// See [`ResizeError`].
    pub fn resize(&self, name: &str, num_blocks: u64) -> Result<(), ResizeError> {
        let node = self.node(name).ok_or(ResizeError::NoSuchBdev)?;
        if num_blocks < node.num_blocks.get() && node.claims.is_open() {
            return Err(ResizeError::Busy);
        }
        self.set_size(&node, num_blocks)
    }

    /// Takes note that the medium has another size, whether or not that suits anybody: what lies
    /// beyond a new end is gone.
    ///
    /// # Errors
    /// See [`ResizeError`]; never that the bdev is open.
    pub fn has_size(&self, name: &str, num_blocks: u64) -> Result<(), ResizeError> {
        let node = self.node(name).ok_or(ResizeError::NoSuchBdev)?;
        self.set_size(&node, num_blocks)
    }

    /// Opens the bdev with that name or UUID.
    pub fn open(&self, name: &str, access: Access) -> Result<Descriptor, OpenError> {
        let node = self.node(name).ok_or(OpenError::NoSuchBdev)?;
        Descriptor::open(&node, access)
    }

    /// The bdev with that name or UUID.
    pub fn get(&self, name: &str) -> Option<Arc<dyn Bdev>> {
        self.node(name).map(|node| Arc::clone(&node.bdev))
    }

    /// All bdevs in order of registration.
    pub fn list(&self) -> Vec<Arc<dyn Bdev>> {
        self.nodes.borrow().iter().map(|node| Arc::clone(&node.bdev)).collect()
    }

    /// The name of the bdev that traces call by that number, if it is still there.
    pub fn traced_name(&self, number: u32) -> Option<String> {
        let nodes = self.nodes.borrow();
        let node = nodes.iter().find(|node| node.number == number)?;
        Some(node.bdev.info().name.clone())
    }

    /// Whether there is a claim on the bdev (`claimed` in `bdev_get_bdevs`).
    pub fn is_claimed(&self, name: &str) -> bool {
        self.claim(name).is_some()
    }

    /// The claim on the bdev, if there is one.
    pub fn claim(&self, name: &str) -> Option<Access> {
        self.node(name)?.claims.claim()
    }

    /// Whether somebody has the bdev open.
    pub fn is_open(&self, name: &str) -> bool {
        self.node(name).is_some_and(|node| node.claims.is_open())
    }

    /// What a bdev has done, on all cores together.
    pub fn iostat(&self, name: &str) -> Option<IoStat> {
        self.node(name).map(|node| node.stats.total())
    }

    /// What a bdev has done on one core.
    pub fn iostat_of_core(&self, name: &str, core: CoreId) -> Option<IoStat> {
        self.node(name).map(|node| node.stats.core(core))
    }

    /// How long the reads of a bdev took, and its writes, on all cores together.
    pub fn latencies(&self, name: &str) -> Option<[Latency; 2]> {
        self.node(name).map(|node| node.stats.latencies())
    }

    /// Sets a bdev's counters to zero, or some of them. Says whether there is such a bdev.
    pub fn reset_iostat(&self, name: &str, what: StatReset) -> bool {
        let node = self.node(name);
        node.inspect(|node| node.stats.reset(what)).is_some()
    }

    /// The limits on what is asked of a bdev.
    pub fn qos_limits(&self, name: &str) -> Option<QosLimits> {
        self.node(name).map(|node| node.qos.limits())
    }

    /// Sets them. Says whether there is such a bdev.
    pub fn set_qos_limits(&self, name: &str, limits: QosLimits) -> bool {
        let node = self.node(name);
        node.inspect(|node| node.change_attention(|| node.qos.set_limits(limits))).is_some()
    }

    /// Begins a histogram of how long a bdev's Ios take, or ends it.
    ///
    /// # Errors
    /// There is no such bdev, or no memory.
    pub fn set_histogram(
        &self,
        name: &str,
        shape: Option<HistogramShape>,
    ) -> Result<(), OpenError> {
        let node = self.node(name).ok_or(OpenError::NoSuchBdev)?;
        let make = |shape| Latencies::new(shape, self.cores).ok_or(OpenError::NoMemory);
        node.set_latencies(shape.map(make).transpose()?);
        Ok(())
    }

    /// The histogram of a bdev, if there is such a bdev and it has one.
    pub fn histogram(&self, name: &str) -> Option<LatencyHistogram> {
        Some(self.node(name)?.latencies()?.read())
    }

    /// Looks how many Ios a bdev has under way every `period`; 0 for no longer. Says whether there
    /// is such a bdev.
    pub async fn sample_depth(&self, local: &Local, name: &str, period: Duration) -> bool {
        let Some(node) = self.node(name) else { return false };
        depth::sample(local, &node, period).await;
        true
    }

    /// What was found by that, if somebody looks.
    pub fn depth_stat(&self, name: &str) -> Option<DepthStat> {
        self.node(name)?.depth.stat()
    }

    /// Calls `listener` on this core after every later change of the table.
    pub fn subscribe(&self, listener: impl Fn(&Event) + 'static) {
        self.listeners.borrow_mut().push(Rc::new(listener));
    }

    /// The first of `<prefix>0`, `<prefix>1`, … that is free.
    pub fn free_name(&self, prefix: &str) -> String {
        let taken = |name: &String| self.node(name).is_some();
        let mut number = 0_u32;
        loop {
            let name = format!("{prefix}{number}");
            if !taken(&name) {
                return name;
            }
            number += 1;
        }
    }

    /// A UUID for a bdev that has none of its own: a hash of the registry's seed, the name, and a
    /// count, so that two bdevs of one name in a row differ.
    pub fn make_uuid(&self, name: &str) -> Uuid {
        let count = self.uuids_made.get();
        self.uuids_made.set(count + 1);
        uuid::derive(&[&self.seed.to_le_bytes(), &count.to_le_bytes(), name.as_bytes()])
    }

    fn admit(&self, info: &BdevInfo) -> Result<(), RegisterError> {
        let sane = info.block_size.is_power_of_two() && info.block_size >= 512;
        if !sane || !is_size(info.num_blocks.get(), info.block_size) {
            return Err(RegisterError::BadGeometry);
        }
        if info.name.is_empty() || self.node(&info.name).is_some() {
            return Err(RegisterError::NameTaken);
        }
        let same = |node: &Arc<Node>| node.bdev.info().uuid == info.uuid;
        if self.nodes.borrow().iter().any(same) {
            return Err(RegisterError::UuidTaken);
        }
        Ok(())
    }

    fn node(&self, name: &str) -> Option<Arc<Node>> {
        let nodes = self.nodes.borrow();
        let by_name = nodes.iter().find(|node| node.bdev.info().name == name);
        let by_alias = || {
            let uuid = uuid::parse(name)?;
            nodes.iter().find(|node| node.bdev.info().uuid == uuid)
        };
        by_name.or_else(by_alias).map(Arc::clone)
    }

    fn set_size(&self, node: &Node, num_blocks: u64) -> Result<(), ResizeError> {
        let info = node.bdev.info();
        if !is_size(num_blocks, info.block_size) {
            return Err(ResizeError::BadGeometry);
        }
        let before = info.num_blocks.get();
        if before == num_blocks {
            return Ok(());
        }
        info.num_blocks.set(num_blocks);
        node.num_blocks.set(num_blocks);
        let name = &info.name;
        log::info!(target: "bdev", "{name}: {num_blocks} blocks now, {before} before");
        self.announce(&Event::Resized(Arc::clone(&node.bdev), before));
        Ok(())
    }

    fn take_out(&self, node: &Arc<Node>) -> Arc<dyn Bdev> {
        self.nodes.borrow_mut().retain(|other| !Arc::ptr_eq(other, node));
        let bdev = Arc::clone(&node.bdev);
        log::info!(target: "bdev", "{} removed", bdev.info().name);
        self.announce(&Event::Removed(Arc::clone(&bdev)));
        bdev
    }

    /// Listeners may use the registry, so none of it is borrowed while they run.
    fn announce(&self, event: &Event) {
        let listeners: Box<[_]> = self.listeners.borrow().iter().map(Rc::clone).collect();
        for listener in &listeners {
            listener(event);
        }
    }
}

/// Whether a bdev can have so many blocks.
fn is_size(num_blocks: u64, block_size: u32) -> bool {
    let bytes = num_blocks.checked_mul(u64::from(block_size));
    bytes.is_some_and(|bytes| bytes > 0 && bytes < 1 << 63)
}

/// One line about a bdev, for the log.
struct Summary<'a>(&'a BdevInfo);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BdevInfo { name, product_name, block_size, num_blocks, .. } = self.0;
        let num_blocks = num_blocks.get();
        write!(f, "{name} ({product_name}, {num_blocks} blocks of {block_size} bytes)")
    }
}
