use alloc::vec::Vec;
use core::fmt;

use basalt_env::{CoreId, Device, DmaPool, Instant, OutOfDmaMemory, Registers};
use basalt_virtio::{Direction, Queue, Transport, TransportError};

use crate::layout::{self, Features, config, header};
use crate::{NetStats, VirtioNet};

/// The message that tells of received frames.
const RX_MESSAGE: u16 = 0;
/// Most entries of either queue.
const QUEUE_SIZE: u16 = 256;
/// Receive buffers the frames of large receive are spread over, bytes.
const MERGE_BUFFER_LEN: usize = 4096;
/// Bytes spent on transmit buffers, unless that would be fewer than [`TX_BUFFERS_MIN`].
const TX_BYTES: usize = 1 << 20;
const TX_BUFFERS_MIN: usize = 32;
/// Bytes of a buffer for large segments, and how many there are.
const TX_LARGE_LEN: usize = 64 << 10;
const TX_LARGE_BUFFERS: usize = 32;
/// Merged frames the user may hold at once.
const MERGED_FRAMES: usize = 4;
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
            Self::OutOfDmaMemory(error) => error.fmt(f),
        }
    }
}

impl<D: Device> VirtioNet<D> {
    /// Brings `device` up with buffers from `pool`, to be polled by `core`; `clock` bounds the wait
    /// for its reset.
    pub fn bring_up(
        device: D,
        pool: &DmaPool,
        clock: &dyn Fn() -> Instant,
        core: CoreId,
    ) -> Result<Self, BringUpError> {
        let mut transport = Transport::open(device)?;
        transport.reset(clock)?;
        let has_message = transport.wake(RX_MESSAGE, core);
        let features = negotiate(&mut transport)?;
        let mac = read_mac(&transport, features)?;
        let mtu = read_mtu(&transport, features)?;
        let (rx, rx_doorbell) = transport.set_up_queue(pool, layout::RX_QUEUE, QUEUE_SIZE)?;
        let (tx, tx_doorbell) = transport.set_up_queue(pool, layout::TX_QUEUE, QUEUE_SIZE)?;
        let wakes = has_message && transport.set_queue_vector(layout::RX_QUEUE, RX_MESSAGE);
        let frame_max = usize::from(mtu) + layout::ETHERNET_HEADER_MAX;
        let tx_len = header::LEN + frame_max;
        let large = features.intersects(Features::GUEST_TSO4 | Features::GUEST_TSO6);
        let cuts = features.intersects(Features::HOST_TSO4 | Features::HOST_TSO6);
        let large_max = TX_LARGE_LEN - header::LEN - layout::ETHERNET_HEADER_MAX;
        let large_max = if cuts { large_max } else { usize::from(mtu) };
        let merged_max = if large { layout::LARGE_FRAME_MAX } else { frame_max };
        let mut net = Self {
            transport,
            rx,
            tx,
            rx_doorbell,
            tx_doorbell,
            features,
            mac,
            mtu,
            tx_free: Vec::new(),
            tx_large: Vec::new(),
            large_max,
            merged_free: Vec::new(),
            merged_max,
            partial: None,
            stats: NetStats::default(),
            reported: false,
            wakes,
        };
        let rx_len = if large { MERGE_BUFFER_LEN } else { tx_len.next_power_of_two() };
        fill_rx(&mut net.rx, pool, rx_len)?;
        let tx_count = (TX_BYTES / tx_len.next_power_of_two()).max(TX_BUFFERS_MIN);
        for _ in 0..tx_count.min(usize::from(net.tx.size())) {
            net.tx_free.push(pool.alloc(tx_len)?);
        }
        for _ in 0..if cuts { TX_LARGE_BUFFERS } else { 0 } {
            net.tx_large.push(pool.alloc(TX_LARGE_LEN)?);
        }
        if features.contains(Features::MRG_RXBUF) {
            net.merged_free.resize_with(MERGED_FRAMES, || Vec::with_capacity(merged_max));
        }
        net.transport.start();
        net.commit();
        log::info!(target: "virtio-net", "{}: {features:?}, mtu {mtu}", net.transport.address());
        Ok(net)
    }
}

fn fill_rx(rx: &mut Queue, pool: &DmaPool, len: usize) -> Result<(), OutOfDmaMemory> {
    for _ in 0..rx.size() {
        let buf = pool.alloc(len)?;
        if rx.push(buf, Direction::FromDevice).is_err() {
            break;
        }
    }
    Ok(())
}

fn negotiate<D: Device>(transport: &mut Transport<D>) -> Result<Features, TransportError> {
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
    Ok(Features::from_bits_truncate(transport.negotiate(wanted.bits())?))
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

fn read_mtu<D: Device>(transport: &Transport<D>, features: Features) -> Result<u16, BringUpError> {
    if !features.contains(Features::MTU) {
        return Ok(MTU_DEFAULT);
    }
    let mtu = transport.read_config(config::MTU + 2, |registers| registers.read16(config::MTU))?;
    if mtu < MTU_MIN { Err(BringUpError::BadMtu(mtu)) } else { Ok(mtu.min(MTU_MAX)) }
}
