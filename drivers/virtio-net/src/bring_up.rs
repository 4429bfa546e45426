use core::fmt;

use basalt_env::{CoreId, Device, DmaPool, Instant, OutOfDmaMemory, Registers};
use basalt_virtio::{Transport, TransportError};

use crate::control::Control;
use crate::device::Owner;
use crate::layout::{self, Features, config};
use crate::{PairAddress, PairBells, PairMemory, PairPlan, VirtioNet};

/// Most entries of either queue.
const QUEUE_SIZE: u16 = 256;
/// IP MTU where the device names none.
const MTU_DEFAULT: u16 = 1500;
/// Smallest MTU that carries IPv4 (RFC 791), and the largest this driver makes use of.
const MTU_MIN: u16 = 576;
const MTU_MAX: u16 = 9216;

/// Why a network device could not be brought up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BringUpError {
    /// The transport failed.
    Transport(TransportError),
    /// It has no MAC address, or one that no card can have.
    BadMac,
    /// Its MTU is too small for IPv4.
    BadMtu(u16),
    /// A larger MTU is wanted than the card's.
    MtuTooLarge {
        /// What is wanted.
        wanted: u16,
        /// The card's.
        card: u16,
    },
    /// No memory for buffers.
    OutOfDmaMemory(OutOfDmaMemory),
}

impl From<TransportError> for BringUpError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

impl From<OutOfDmaMemory> for BringUpError {
    fn from(error: OutOfDmaMemory) -> Self {
        Self::OutOfDmaMemory(error)
    }
}

impl fmt::Display for BringUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(error) => error.fmt(f),
            Self::BadMac => f.write_str("the card has no usable MAC address"),
            Self::BadMtu(mtu) => write!(f, "the card's MTU of {mtu} is too small for IPv4"),
            Self::MtuTooLarge { wanted, card } => write!(
                f,
                "an MTU of {wanted} is configured, but the card's is {card}: configure that or \
                 less, or give the card a larger one"
            ),
            Self::OutOfDmaMemory(error) => error.fmt(f),
        }
    }
}

/// What a card is to be like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CardOptions {
    /// The core that brings it up and has its first pair of queues.
    pub core: CoreId,
    /// Most pairs of queues that are of use, at least one.
    pub pairs_max: u16,
    /// Largest IP packet to be sent, bytes; the card's own if none is wanted.
    pub mtu: Option<u16>,
}

impl CardOptions {
    /// One pair, and the card's MTU.
    pub const fn one(core: CoreId) -> Self {
        Self { core, pairs_max: 1, mtu: None }
    }
}

/// What was agreed on with a card.
#[derive(Clone, Copy)]
struct Agreed {
    features: Features,
    /// Pairs of queues that it has.
    pairs: u16,
}

/// A card on its way up: it is told of the pairs of queues of other cores.
///
/// ```text
///            for each further pair
///  new --> [ plan -> PairPlan::make on its core -> add_pair ] --> finish --> VirtioNet
///                        |                                          |
///                        +-- PairMemory --------------------------> join on its core
/// ```
///
/// It has to be dropped, or what comes of it, before the memory of other pairs is: that stops the
/// card.
pub struct Opening<D: Device> {
    /// First, to be dropped before the queues: the device must be stopped before its memory goes.
    transport: Transport<D>,
    control: Option<Control<D>>,
    memory: PairMemory,
    bells: PairBells<D::Registers>,
    /// Pairs that it has and that are of use.
    pairs_max: u16,
    plan: PairPlan,
    options: CardOptions,
    /// Pairs that it was told of.
    pairs: u16,
}

impl<D: Device> Opening<D> {
    /// Resets `device` and agrees on features; sets up the first pair of queues, with buffers from
    /// `pool`. `clock` bounds the wait for its reset.
    ///
    /// # Errors
    /// The card is of no use; it is left turned off.
    pub fn new(
        device: D,
        pool: &DmaPool,
        clock: &dyn Fn() -> Instant,
        options: CardOptions,
    ) -> Result<Self, BringUpError> {
        let mut transport = Transport::open(device)?;
        transport.reset(clock)?;
        Self::agree(transport, pool, options)
    }

    fn agree(
        mut transport: Transport<D>,
        pool: &DmaPool,
        options: CardOptions,
    ) -> Result<Self, BringUpError> {
        // The first call has to come before the device is at work.
        transport.wake(0, options.core);
        let agreed = negotiate(&mut transport, options.pairs_max)?;
        let [mtu, rx_mtu] = choose_mtu(&transport, agreed.features, options.mtu)?;
        let plan = PairPlan {
            address: transport.address(),
            features: agreed.features,
            mac: read_mac(&transport, agreed.features)?,
            mtu,
            rx_mtu,
            sizes: queue_sizes(&transport, 0)?,
        };
        let memory = plan.make(pool)?;
        let bells = enable(&mut transport, 0, memory.address(), options.core)?;
        let control = match agreed.pairs {
            1 => None,
            // Without that queue there is no further pair.
            pairs => Control::set_up(&mut transport, pool, 2 * pairs).ok(),
        };
        let pairs_max = if control.is_some() { agreed.pairs.min(options.pairs_max) } else { 1 };
        Ok(Self { transport, control, memory, bells, pairs_max, plan, options, pairs: 1 })
    }

    /// What the next pair is to be made by; `None` if there is to be none.
    pub fn plan(&self) -> Option<PairPlan> {
        if self.pairs >= self.pairs_max {
            return None;
        }
        let sizes = queue_sizes(&self.transport, self.pairs).ok()?;
        Some(PairPlan { sizes, ..self.plan })
    }

    /// Tells the card of the pair that was made by the last [`Self::plan`] and is of `core`.
    ///
    /// # Errors
    /// The card does not take it; the others are none the worse for it.
    pub fn add_pair(
        &mut self,
        pair: PairAddress,
        core: CoreId,
    ) -> Result<PairBells<D::Registers>, BringUpError> {
        let bells = enable(&mut self.transport, self.pairs, pair, core)?;
        self.pairs += 1;
        Ok(bells)
    }

    /// Lets the card work. Gives it, and how many pairs it uses: all that it was told of, or one if
    /// it refuses more, which is logged; then it was reset, and no longer knows of the others.
    ///
    /// # Errors
    /// It does not come back from that reset.
    pub fn finish(
        mut self,
        pool: &DmaPool,
        clock: &dyn Fn() -> Instant,
    ) -> Result<(VirtioNet<D>, u16), BringUpError> {
        self.transport.start();
        let pairs = self.pairs;
        let refused =
            pairs > 1 && !self.control.as_mut().is_some_and(|queue| queue.set_pairs(pairs, clock));
        if refused {
            self = self.start_over(pool, clock)?;
        }
        let Self { transport, control, memory, bells, plan, pairs, .. } = self;
        let PairPlan { address, features, mtu, .. } = plan;
        let mut net = memory.join(bells);
        net.owner = Some(Owner { transport, _control: control });
        log::info!(
            target: "virtio-net", "{address}: {features:?}, {pairs} queue pairs, mtu {mtu}"
        );
        Ok((net, pairs))
    }

    /// Begins again with one pair.
    fn start_over(self, pool: &DmaPool, clock: &dyn Fn() -> Instant) -> Result<Self, BringUpError> {
        let Self { mut transport, control, memory, options, pairs, plan, .. } = self;
        let address = plan.address;
        log::warn!(target: "virtio-net", "{address}: it refuses {pairs} queue pairs; it gets one");
        let reset = transport.reset(clock);
        if let Err(error) = reset {
            drop(transport); // Before the memory.
            return Err(error.into());
        }
        drop((control, memory));
        let mut again = Self::agree(transport, pool, CardOptions { pairs_max: 1, ..options })?;
        again.transport.start();
        Ok(again)
    }
}

impl<D: Device> VirtioNet<D> {
    /// Brings `device` up with one pair of queues and buffers from `pool`, to be polled by `core`;
    /// `clock` bounds the wait for its reset. [`Opening`] does the same for several cores.
    ///
    /// # Errors
    /// The card is of no use; it is left turned off.
    pub fn bring_up(
        device: D,
        pool: &DmaPool,
        clock: &dyn Fn() -> Instant,
        core: CoreId,
    ) -> Result<Self, BringUpError> {
        let opening = Opening::new(device, pool, clock, CardOptions::one(core))?;
        opening.finish(pool, clock).map(|(net, _)| net)
    }
}

/// How many entries the queues of a pair get.
fn queue_sizes<D: Device>(transport: &Transport<D>, pair: u16) -> Result<[u16; 2], TransportError> {
    let [rx, tx] = layout::queues_of(pair).map(|queue| transport.queue_size(queue));
    Ok([rx?.min(QUEUE_SIZE), tx?.min(QUEUE_SIZE)])
}

/// Has the device use a pair of queues, and end the rest of that core by the pair's message.
fn enable<D: Device>(
    transport: &mut Transport<D>,
    pair: u16,
    address: PairAddress,
    core: CoreId,
) -> Result<PairBells<D::Registers>, TransportError> {
    let [rx_index, tx_index] = layout::queues_of(pair);
    let rx = transport.enable_queue(rx_index, address.rx)?;
    let tx = transport.enable_queue(tx_index, address.tx)?;
    let wakes = transport.wake(pair, core) && transport.set_queue_vector(rx_index, pair);
    Ok(PairBells { rx, tx, wakes })
}

fn negotiate<D: Device>(
    transport: &mut Transport<D>,
    pairs_max: u16,
) -> Result<Agreed, TransportError> {
    // What is offered decides what is wanted: large segments go with checksums only (virtio 1.2
    // §5.1.3.1). Without merged buffers every receive buffer would have to hold the largest, so
    // that a small frame took 128 KiB; then the peer's segments come as they are.
    let offered = Features::from_bits_truncate(transport.offered());
    let mut wanted = Features::all();
    if !offered.contains(Features::GUEST_CSUM | Features::MRG_RXBUF) {
        wanted -= Features::GUEST_TSO4 | Features::GUEST_TSO6;
    }
    if !offered.contains(Features::CSUM) {
        wanted -= Features::HOST_TSO4 | Features::HOST_TSO6;
    }
    let pairs = if pairs_max > 1 { read_pairs(transport, offered)? } else { 1 };
    if pairs == 1 {
        wanted -= Features::MQ | Features::CTRL_VQ;
    }
    let features = Features::from_bits_truncate(transport.negotiate(wanted.bits())?);
    Ok(Agreed { features, pairs })
}

/// How many pairs of queues the device has; one if it lies.
fn read_pairs<D: Device>(
    transport: &Transport<D>,
    offered: Features,
) -> Result<u16, TransportError> {
    if !offered.contains(Features::MQ | Features::CTRL_VQ) {
        return Ok(1);
    }
    let pairs =
        transport.read_config(config::PAIRS + 2, |registers| registers.read16(config::PAIRS))?;
    // Of the most there can be, the queue of commands has no index that is a u16.
    Ok(if (1..layout::PAIRS_MAX).contains(&pairs) { pairs } else { 1 })
}

fn read_mac<D: Device>(
    transport: &Transport<D>,
    features: Features,
) -> Result<[u8; 6], BringUpError> {
    if !features.contains(Features::MAC) {
        return Err(BringUpError::BadMac);
    }
    let mac = transport.read_config(config::MAC + 6, |registers| {
        core::array::from_fn(|index| registers.read8(config::MAC + index))
    })?;
    let group = mac[0] & 1 != 0;
    if group || mac == [0; 6] { Err(BringUpError::BadMac) } else { Ok(mac) }
}

/// What is sent at most, and what may come at most. A network that others share may carry more
/// than we are to send, so that a smaller MTU of ours takes nothing from the latter.
fn choose_mtu<D: Device>(
    transport: &Transport<D>,
    features: Features,
    wanted: Option<u16>,
) -> Result<[u16; 2], BringUpError> {
    let named = read_mtu(transport, features)?;
    let own = named.unwrap_or(MTU_DEFAULT).min(MTU_MAX);
    let mtu = wanted.unwrap_or(own);
    match named {
        Some(card) if mtu > card => Err(BringUpError::MtuTooLarge { wanted: mtu, card }),
        _ => Ok([mtu, own.max(mtu)]),
    }
}

fn read_mtu<D: Device>(
    transport: &Transport<D>,
    features: Features,
) -> Result<Option<u16>, BringUpError> {
    if !features.contains(Features::MTU) {
        return Ok(None);
    }
    let mtu = transport.read_config(config::MTU + 2, |registers| registers.read16(config::MTU))?;
    if mtu < MTU_MIN { Err(BringUpError::BadMtu(mtu)) } else { Ok(Some(mtu)) }
}
