use alloc::vec::Vec;
use core::fmt;

use basalt_env::{Device, DmaBuf, DmaPool, OutOfDmaMemory, PciAddress, Registers};
use basalt_virtio::{Direction, Doorbell, Queue, RingAddress};

use crate::device::PARTS_MAX;
use crate::frame::Part;
use crate::layout::{self, Features, header};
use crate::{NetStats, VirtioNet};

/// Receive buffers the frames of large receive are spread over, bytes.
const MERGE_BUFFER_LEN: usize = 4096;
/// Bytes spent on transmit buffers, unless that would be fewer than [`TX_BUFFERS_MIN`].
const TX_BYTES: usize = 1 << 20;
const TX_BUFFERS_MIN: usize = 32;
/// Bytes of a buffer for large segments, and how many there are.
const TX_LARGE_LEN: usize = 64 << 10;
const TX_LARGE_BUFFERS: usize = 32;
/// Frames of several buffers that the user may hold at once.
pub const SEVERAL_FRAMES: usize = 16;
/// A link that carries less gets no large segments to cut: headers take too much of each piece.
const MTU_MIN_LARGE: u16 = 576;

/// What a pair of queues of a card is made by: it goes to the core that is to have the pair.
#[derive(Clone, Copy, Debug)]
pub struct PairPlan {
    pub(crate) address: PciAddress,
    pub(crate) features: Features,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u16,
    /// Largest IP packet that may come, bytes.
    pub(crate) rx_mtu: u16,
    /// Entries of the receive and the transmit queue.
    pub(crate) sizes: [u16; 2],
}

/// A pair's queues and buffers, which belong to the core that made them. The card is told of them
/// by [`Opening::add_pair`](crate::Opening::add_pair) and has to be stopped before they go.
pub struct PairMemory {
    plan: PairPlan,
    rx: Queue,
    tx: Queue,
    tx_free: Vec<DmaBuf>,
    tx_large: Vec<DmaBuf>,
    parts_free: Vec<Vec<Part>>,
}

/// Where the card finds a pair's queues.
#[derive(Clone, Copy, Debug)]
pub struct PairAddress {
    pub(crate) rx: RingAddress,
    pub(crate) tx: RingAddress,
}

/// How the card is told of what is new in a pair's queues.
#[derive(Clone, Debug)]
pub struct PairBells<R: Registers> {
    pub(crate) rx: Doorbell<R>,
    pub(crate) tx: Doorbell<R>,
    /// Whether a received frame can end the core's rest.
    pub(crate) wakes: bool,
}

impl PairPlan {
    /// Where the card sits.
    pub fn address(&self) -> PciAddress {
        self.address
    }

    /// Bytes of DMA memory that a pair takes for its buffers.
    pub fn bytes(&self) -> usize {
        let [rx, tx] = self.sizes.map(usize::from);
        let large = if self.cuts() { TX_LARGE_BUFFERS * TX_LARGE_LEN } else { 0 };
        let small = self.tx_len().next_power_of_two();
        rx * self.rx_len() + self.tx_count(tx) * small + large
    }

    /// Makes queues and buffers from the memory of this core.
    ///
    /// # Errors
    /// There is not enough of it.
    pub fn make(self, pool: &DmaPool) -> Result<PairMemory, OutOfDmaMemory> {
        let [rx, tx] = self.sizes;
        let (mut rx, tx) = (Queue::new(pool, rx)?, Queue::new(pool, tx)?);
        for _ in 0..rx.size() {
            let _ = rx.push(pool.alloc(self.rx_len())?, Direction::FromDevice);
        }
        let tx_free = buffers(pool, self.tx_count(tx.size().into()), self.tx_len())?;
        let large = if self.cuts() { TX_LARGE_BUFFERS } else { 0 };
        let tx_large = buffers(pool, large, TX_LARGE_LEN)?;
        let mut parts_free = Vec::new();
        if self.features.contains(Features::MRG_RXBUF) {
            while parts_free.len() < SEVERAL_FRAMES {
                parts_free.push(Vec::with_capacity(PARTS_MAX));
            }
        }
        Ok(PairMemory { plan: self, rx, tx, tx_free, tx_large, parts_free })
    }

    fn joins(&self) -> bool {
        self.features.intersects(Features::GUEST_TSO4 | Features::GUEST_TSO6)
    }

    fn cuts(&self) -> bool {
        self.features.intersects(Features::HOST_TSO4 | Features::HOST_TSO6)
            && self.mtu >= MTU_MIN_LARGE
    }

    fn rx_len(&self) -> usize {
        let whole = header::LEN + frame_max(self.rx_mtu);
        if self.joins() { MERGE_BUFFER_LEN } else { whole.next_power_of_two() }
    }

    fn tx_len(&self) -> usize {
        header::LEN + frame_max(self.mtu)
    }

    fn tx_count(&self, size: usize) -> usize {
        (TX_BYTES / self.tx_len().next_power_of_two()).max(TX_BUFFERS_MIN).min(size)
    }

    fn large_max(&self) -> usize {
        let most = TX_LARGE_LEN - header::LEN - layout::ETHERNET_HEADER_MAX;
        if self.cuts() { most } else { usize::from(self.mtu) }
    }

    fn rx_frame_max(&self) -> usize {
        if self.joins() { layout::LARGE_FRAME_MAX } else { frame_max(self.rx_mtu) }
    }
}

fn buffers(pool: &DmaPool, count: usize, len: usize) -> Result<Vec<DmaBuf>, OutOfDmaMemory> {
    let mut buffers = Vec::with_capacity(count);
    while buffers.len() < count {
        buffers.push(pool.alloc(len)?);
    }
    Ok(buffers)
}

fn frame_max(mtu: u16) -> usize {
    usize::from(mtu) + layout::ETHERNET_HEADER_MAX
}

impl PairMemory {
    /// Where the card is to find the queues.
    pub fn address(&self) -> PairAddress {
        PairAddress { rx: self.rx.address(), tx: self.tx.address() }
    }

    /// The card uses the pair now: gives it to its core to work with. What only the core that
    /// brought the card up can ask of it is not known here: it has a link.
    pub fn join<D: Device>(self, bells: PairBells<D::Registers>) -> VirtioNet<D> {
        let Self { plan, rx, tx, tx_free, tx_large, parts_free } = self;
        let PairBells { rx: rx_doorbell, tx: tx_doorbell, wakes } = bells;
        let mut net = VirtioNet {
            owner: None,
            address: plan.address,
            rx,
            tx,
            rx_doorbell,
            tx_doorbell,
            features: plan.features,
            mac: plan.mac,
            mtu: plan.mtu,
            tx_free,
            tx_large,
            large_max: plan.large_max(),
            parts_free,
            frame_max: plan.rx_frame_max(),
            partial: None,
            stats: NetStats::default(),
            reported: false,
            wakes,
        };
        net.commit();
        net
    }
}

impl fmt::Debug for PairMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PairMemory({:?})", self.plan)
    }
}
