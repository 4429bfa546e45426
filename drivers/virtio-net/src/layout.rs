//! Features, configuration and the frame header (virtio 1.2 §5.1.3, §5.1.4, §5.1.6).

use bitflags::bitflags;

bitflags! {
    /// Feature bits of the network device that this driver uses.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Features: u64 {
        /// The device completes checksums of frames we send.
        const CSUM = 1 << 0;
        /// We take frames whose checksum the device vouches for.
        const GUEST_CSUM = 1 << 1;
        /// The configuration has the MTU.
        const MTU = 1 << 3;
        /// The configuration has the MAC address.
        const MAC = 1 << 5;
        /// We take TCP segments over IPv4 that are larger than the MTU.
        const GUEST_TSO4 = 1 << 7;
        /// The same over IPv6.
        const GUEST_TSO6 = 1 << 8;
        /// The device cuts large TCP segments over IPv4.
        const HOST_TSO4 = 1 << 11;
        /// The same over IPv6.
        const HOST_TSO6 = 1 << 12;
        /// A received frame may span several buffers.
        const MRG_RXBUF = 1 << 15;
        /// The configuration has the link status.
        const STATUS = 1 << 16;
        /// There is a queue for commands.
        const CTRL_VQ = 1 << 17;
        /// There are several pairs of queues.
        const MQ = 1 << 22;
    }
}

/// Offsets in the device configuration, bytes.
pub mod config {
    /// Six bytes.
    pub const MAC: usize = 0;
    /// u16; bit 0 is "link up".
    pub const STATUS: usize = 6;
    /// u16: pairs of queues, from 1 to [`super::PAIRS_MAX`].
    pub const PAIRS: usize = 8;
    /// u16, without the Ethernet header.
    pub const MTU: usize = 10;
}

/// The header before every frame, `struct virtio_net_hdr`.
pub mod header {
    /// Its size since virtio 1.0.
    pub const LEN: usize = 12;
    /// u8.
    pub const FLAGS: usize = 0;
    /// u8: what a large segment is in.
    pub const GSO_TYPE: usize = 1;
    /// u16: bytes of its headers, Ethernet included.
    pub const HEADERS_LEN: usize = 2;
    /// u16: payload of the segments it is cut into.
    pub const GSO_SIZE: usize = 4;
    /// u16: where the checksum starts.
    pub const CSUM_START: usize = 6;
    /// u16: where it goes, from its start.
    pub const CSUM_OFFSET: usize = 8;
    /// u16: how many buffers a received frame spans.
    pub const NUM_BUFFERS: usize = 10;
    /// A large segment over IPv4.
    pub const GSO_TCPV4: u8 = 1;
    /// A large segment over IPv6.
    pub const GSO_TCPV6: u8 = 4;
    /// Flag: the checksum is to be completed.
    pub const NEEDS_CSUM: u8 = 1;
    /// Flag: the checksum was found correct.
    pub const DATA_VALID: u8 = 2;
}

/// Commands (virtio 1.2 §5.1.6.5).
pub mod control {
    use basalt_virtio::{RequestFormat, ResponsePlace};

    /// How commands look: class, command and what belongs to it; then what became of it, a byte.
    pub const FORMAT: RequestFormat =
        RequestFormat { header_max: 4, response_len: 1, response: ResponsePlace::Last };
    /// Class of commands about queues (§5.1.6.5.5).
    pub const MQ: u8 = 4;
    /// How many pairs the device is to use; u16.
    pub const MQ_PAIRS_SET: u8 = 0;
    /// It was carried out.
    pub const OK: u8 = 0;
}

/// Indexes of the receive and the transmit queue of that pair (§5.1.2).
pub const fn queues_of(pair: u16) -> [u16; 2] {
    [2 * pair, 2 * pair + 1]
}

/// Most pairs that a device may have (§5.1.4.1).
pub const PAIRS_MAX: u16 = 0x8000;
/// Ethernet header and one VLAN tag, bytes.
pub const ETHERNET_HEADER_MAX: usize = 18;
/// The largest frame with large receive: an IPv6 packet of 64 KiB, which does not count its header.
pub const LARGE_FRAME_MAX: usize = 65_535 + 40 + ETHERNET_HEADER_MAX;
