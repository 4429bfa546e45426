//! Keeping a bdev's other users away for a moment, on all cores: for an operation that must be the
//! only one on its blocks, or on the bdev.
//!
//! ```text
//!   holder                                  each core
//!     (1) hold: one holder at a time
//!     (2) tell ---------------------------> its channels take no more Ios
//!                                           until all they have taken are back
//!     (3) is_drained <--------------------- then they take those that the hold leaves alone
//!     (4) release
//! ```
//!
//! A channel says that its queue is full while it must not take an Io, so that its user tries
//! again.

use alloc::boxed::Box;
use alloc::rc::{Rc, Weak};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use basalt_env::{CoreId, Instant};
use basalt_reactor::{Doze, Local};
use spin::Mutex;

use crate::node::Node;
use crate::{Io, Op};

/// How often a core looks whether its channels have got everything back.
const DRAIN_PERIOD: Duration = Duration::from_micros(10);
/// How long a core may rest before it tries again what a hold keeps out.
pub(crate) const AGAIN: Duration = Duration::from_micros(100);

/// What a holder keeps others from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Hold {
    /// Changing these blocks.
    Blocks(Range<u64>),
    /// Everything.
    All,
}

impl Hold {
    fn bars(&self, io: &Io) -> bool {
        match self {
            Self::All => true,
            Self::Blocks(blocks) => {
                if !io.op.has_blocks() {
                    // Nobody knows what a command does that is passed on as it is.
                    return io.op != Op::Flush;
                }
                let end = io.lba.saturating_add(u64::from(io.blocks));
                io.op.changes_blocks() && io.lba < blocks.end && end > blocks.start
            }
        }
    }
}

/// A bdev's gate.
#[derive(Debug)]
pub(crate) struct Gate {
    held: Mutex<Option<Hold>>,
    /// Counts holds.
    turn: AtomicU32,
    /// By core, the last hold for which its channels have got everything back.
    drained: Box<[AtomicU32]>,
}

impl Gate {
    pub(crate) fn new(cores: usize) -> Self {
        let drained = (0..cores).map(|_| AtomicU32::new(0)).collect();
        Self { held: Mutex::new(None), turn: AtomicU32::new(0), drained }
    }

    /// Takes the gate, unless somebody else has it.
    pub(crate) fn try_hold(&self, hold: Hold) -> bool {
        let mut held = self.held.lock();
        if held.is_some() {
            return false;
        }
        *held = Some(hold);
        self.turn.fetch_add(1, Ordering::Release);
        true
    }

    fn release(&self) {
        *self.held.lock() = None;
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held.lock().is_some()
    }

    /// Whether a channel of `core` must not take `io` now.
    pub(crate) fn bars(&self, core: CoreId, io: &Io) -> bool {
        let held = self.held.lock();
        held.as_ref().is_some_and(|hold| !self.has_drained(core) || hold.bars(io))
    }

    fn has_drained(&self, core: CoreId) -> bool {
        let turn = self.turn.load(Ordering::Relaxed);
        self.drained.get(core.index()).is_none_or(|last| last.load(Ordering::Acquire) == turn)
    }

    /// Whether all cores' channels have got everything back that they took before the hold.
    pub(crate) fn is_drained(&self) -> bool {
        (0..self.drained.len()).all(|core| self.has_drained(CoreId(core as u16)))
    }
}

impl Node {
    /// Takes the gate, unless somebody else has it.
    pub(crate) fn try_hold(&self, hold: Hold) -> bool {
        let mut holds = false;
        self.change_attention(|| holds = self.gate.try_hold(hold));
        holds
    }

    /// Lets go of the gate.
    pub(crate) fn release(&self) {
        self.change_attention(|| self.gate.release());
    }
}

/// Tells `core` of a hold; whether it was told.
pub(crate) fn tell(local: &Local, core: CoreId, node: &Arc<Node>) -> bool {
    let node = Arc::clone(node);
    let turn = node.gate.turn.load(Ordering::Relaxed);
    let drain = move |local: &Local| {
        let core = local.core();
        let waits = local.clone();
        local.spawn("bdev_drain", async move {
            // A hold that is over must not be taken for the one after it.
            let is_over = || node.gate.turn.load(Ordering::Relaxed) != turn;
            while OpenChannels::of(&waits).are_busy(&node) {
                if is_over() || !node.gate.is_held() {
                    return;
                }
                waits.sleep(DRAIN_PERIOD).await;
            }
            let drained = node.gate.drained.get(core.index()).filter(|_| !is_over());
            if let Some(drained) = drained {
                drained.store(turn, Ordering::Release);
            }
        });
    };
    local.send(core, drain).is_ok()
}

/// The bdevs that have channels on this core, and how many each.
pub fn open_channels(local: &Local) -> Vec<(String, u32)> {
    let channels = OpenChannels::of(local);
    let mut bdevs: Vec<(String, u32)> = Vec::new();
    for open in channels.list.borrow().iter().filter(|open| open.out.strong_count() > 0) {
        match bdevs.iter_mut().find(|(name, _)| *name == open.name) {
            Some((_, count)) => *count += 1,
            None => bdevs.push((open.name.clone(), 1)),
        }
    }
    bdevs
}

/// The bdevs that have channels on this core, and how many Ios each has under way here.
pub fn under_way(local: &Local) -> Vec<(String, u32)> {
    let channels = OpenChannels::of(local);
    let list = channels.list.borrow();
    let open = list.iter().filter_map(|open| Some((&open.name, open.out.upgrade()?.get())));
    let mut bdevs: Vec<(String, u32)> = Vec::new();
    for (name, count) in open {
        match bdevs.iter_mut().find(|(other, _)| other == name) {
            Some((_, sum)) => *sum += count,
            None => bdevs.push((name.clone(), count)),
        }
    }
    bdevs
}

/// How many Ios each open channel of this core has out: a service of the core.
#[derive(Default)]
pub(crate) struct OpenChannels {
    list: RefCell<Vec<OpenChannel>>,
    /// When an Io that was kept out may be tried again. The core has to be awake then.
    again: Cell<Instant>,
}

struct OpenChannel {
    node: NodeId,
    /// The bdev's name.
    name: String,
    out: Weak<Cell<u32>>,
}

/// Tells nodes apart as long as they live.
type NodeId = *const Node;

impl OpenChannels {
    pub(crate) fn of(local: &Local) -> Rc<Self> {
        local.service().unwrap_or_else(|| {
            let channels = Rc::new(Self::default());
            local.provide(Rc::clone(&channels));
            let resting = Rc::downgrade(&channels);
            let clock = local.clone();
            local.on_rest(move |_, _| {
                match resting.upgrade().map(|channels| channels.again.get()) {
                    Some(again) if again > clock.now() => Doze::Until(again),
                    Some(_) => Doze::Signalled,
                    None => Doze::Gone,
                }
            });
            channels
        })
    }

    /// An Io was kept out, and may be tried again at that time.
    pub(crate) fn try_again(&self, at: Instant) {
        self.again.set(at);
    }

    /// Adds a channel of `node` that counts its Ios there.
    pub(crate) fn add(&self, node: &Node, out: &Rc<Cell<u32>>) {
        let mut list = self.list.borrow_mut();
        list.retain(|open| open.out.strong_count() > 0);
        let (name, out) = (node.bdev.info().name.clone(), Rc::downgrade(out));
        list.push(OpenChannel { node: core::ptr::from_ref(node), name, out });
    }

    fn are_busy(&self, node: &Node) -> bool {
        self.count(node) > 0
    }

    /// How many Ios the channels of `node` have out together.
    pub(crate) fn count(&self, node: &Node) -> u32 {
        let node = core::ptr::from_ref(node);
        let list = self.list.borrow();
        let channels = list.iter().filter(|open| open.node == node);
        channels.filter_map(|open| open.out.upgrade()).map(|out| out.get()).sum()
    }
}
