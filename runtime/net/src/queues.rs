//! A card's pairs of queues, one for each core as far as there are some.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::pin::Pin;
use core::time::Duration;

use basalt_env::{CoreId, Device, DmaPool, Instant};
use basalt_reactor::Local;
use basalt_virtio_net::{
    BringUpError, CardOptions, Opening, PairAddress, PairBells, PairMemory, PairPlan, VirtioNet,
};

use crate::port::{FramePort, NetStats};

/// How long another core may take to do as told.
const CORE_PATIENCE: Duration = Duration::from_secs(5);
/// The share of a core's free DMA memory that a pair may take: one in this many bytes.
const MEMORY_SHARE: usize = 4;

/// A pair of queues that waits on its core for the stack there; a service.
pub struct OwnQueue<P> {
    queue: RefCell<Option<P>>,
}

impl<P> OwnQueue<P> {
    /// One that is to be taken.
    pub fn new(queue: P) -> Self {
        Self { queue: RefCell::new(Some(queue)) }
    }

    /// Takes it; once.
    pub fn take(&self) -> Option<P> {
        self.queue.take()
    }
}

impl<P> fmt::Debug for OwnQueue<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnQueue")
    }
}

/// What a pair of queues has moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueStats {
    /// Frames and their bytes. Received ones of other cores count here too.
    pub card: NetStats,
    /// Frames received that had to be given to another core.
    pub steered: u64,
    /// Frames of other cores that there was no room to send.
    pub tx_dropped: u64,
}

impl QueueStats {
    pub(crate) fn of(queue: &impl FramePort, steered: u64) -> Self {
        Self { card: queue.stats(), steered, tx_dropped: 0 }
    }
}

/// Counts a core's queues; a service.
pub struct NetQueue {
    count: Box<dyn Fn() -> Option<QueueStats>>,
}

impl NetQueue {
    pub(crate) fn new(count: impl Fn() -> Option<QueueStats> + 'static) -> Self {
        Self { count: Box::new(count) }
    }
}

impl NetQueue {
    /// What they have moved; `None` for a core without queues.
    pub fn stats(&self) -> Option<QueueStats> {
        (self.count)()
    }
}

impl fmt::Debug for NetQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.count)().fmt(f)
    }
}

/// What the pairs of queues have moved, by their cores.
pub async fn queue_stats(local: &Local) -> Vec<(CoreId, QueueStats)> {
    let mut all = Vec::new();
    for core in cores(local) {
        let count = |local: &Local| Some(Answer::Moved((local.service::<NetQueue>()?.count)()?));
        if let Some(Answer::Moved(stats)) = ask(local, core, Box::new(count)).await {
            all.push((core, stats));
        }
    }
    all
}

/// Brings a card up, with a pair of queues for each core as far as the card has some and the core
/// has memory to spare: the first pair with what is returned, the others as the service
/// [`OwnQueue`] on their cores, of which each must have its [`DmaPool`] as one. `mtu` bounds what
/// is sent, as in [`CardOptions`]; `clock` bounds waits.
///
/// Each pair takes some 1 MiB of DMA memory for what is received and 2.5 MiB for what is sent, but
/// no more than a quarter of what its core has free; a core without a pair goes by the card's core.
///
/// # Errors
/// The card is of no use; it is left turned off.
pub async fn bring_up<D>(
    local: &Local,
    device: D,
    pool: &DmaPool,
    clock: &dyn Fn() -> Instant,
    mtu: Option<u16>,
) -> Result<VirtioNet<D>, BringUpError>
where
    D: Device + 'static,
    D::Registers: Send,
{
    let options = CardOptions { core: local.core(), pairs_max: local.cores() as u16, mtu };
    let mut opening = Opening::new(device, pool, clock, options)?;
    let mut told = Vec::new();
    for core in cores(local).filter(|core| *core != local.core()) {
        let Some(plan) = opening.plan() else { break };
        let Some(pair) = make_on(local, core, plan).await else { continue };
        match opening.add_pair(pair, core) {
            Ok(bells) => told.push((core, bells)),
            // The card may know of a part of it, so that it stays where it is.
            Err(error) => {
                log::warn!(target: "net", "{}: no queues for core {core}: {error}", plan.address());
                break;
            }
        }
    }
    let finished = opening.finish(pool, clock);
    let pairs = finished.as_ref().map_or(0, |(_, pairs)| usize::from(*pairs));
    for (at, (core, bells)) in (1..).zip(told) {
        // Those the card does not use have been forgotten by its reset.
        let bells = (at < pairs).then_some(bells);
        let settle = move |local: &Local| Some(settle::<D>(local, bells));
        if ask(local, core, Box::new(settle)).await.is_none() {
            log::error!(target: "net", "core {core} does not answer, and its queue is of no use");
        }
    }
    finished.map(|(card, _)| card)
}

/// A pair that the card is yet to use; a service.
struct Pending(RefCell<Option<PairMemory>>);

/// Has `core` make a pair, and keep it.
async fn make_on(local: &Local, core: CoreId, plan: PairPlan) -> Option<PairAddress> {
    let make = move |local: &Local| {
        let pool = local.service::<DmaPool>()?;
        if pool.stats().bytes_free / MEMORY_SHARE < plan.bytes() {
            return Some(Answer::NoMemory);
        }
        let Ok(pair) = plan.make(&pool) else { return Some(Answer::NoMemory) };
        let address = pair.address();
        local.provide(Rc::new(Pending(RefCell::new(Some(pair)))));
        Some(Answer::Pair(address))
    };
    let why = match ask(local, core, Box::new(make)).await {
        Some(Answer::Pair(address)) => return Some(address),
        Some(_) => "it has too little DMA memory free; give the machine more memory",
        None => "it does not answer",
    };
    log::warn!(target: "net", "core {core} gets no queues of its own: {why}");
    None
}

/// The card uses this core's pair now, or has forgotten it.
fn settle<D: Device + 'static>(local: &Local, bells: Option<PairBells<D::Registers>>) -> Answer {
    let pending = local.service::<Pending>().and_then(|pending| pending.0.take());
    if let (Some(pair), Some(bells)) = (pending, bells) {
        local.provide(Rc::new(OwnQueue::new(pair.join::<D>(bells))));
    }
    Answer::Done
}

fn cores(local: &Local) -> impl Iterator<Item = CoreId> + use<> {
    (0..local.cores()).map(|core| CoreId(core as u16))
}

/// What another core is asked to do.
type Question = Box<dyn FnOnce(&Local) -> Option<Answer> + Send>;

/// What it has to say then.
enum Answer {
    Pair(PairAddress),
    NoMemory,
    Moved(QueueStats),
    Done,
}

/// Has `core` do that. `None` if it does not answer, or has nothing to say. Boxed, to be in the
/// image once.
fn ask<'a>(
    local: &'a Local,
    core: CoreId,
    question: Question,
) -> Pin<Box<dyn Future<Output = Option<Answer>> + 'a>> {
    Box::pin(
        async move { local.timeout(CORE_PATIENCE, local.call(core, question)).await.ok()?.ok()? },
    )
}
