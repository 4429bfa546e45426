use basalt_env::{Device, Registers};
use basalt_virtio::{Transport, TransportError};
use bitflags::bitflags;

bitflags! {
    /// Feature bits (virtio 1.2 §5.6.3) that this driver uses.
    struct Features: u64 {
        /// Disks may come and go.
        const HOTPLUG = 1 << 1;
        /// Changes of disks are told.
        const CHANGE = 1 << 2;
    }
}

/// Offsets in the device configuration (§5.6.4), bytes.
mod config {
    pub const NUM_QUEUES: usize = 0x00;
    pub const SEG_MAX: usize = 0x04;
    pub const MAX_SECTORS: usize = 0x08;
    /// u16.
    pub const MAX_TARGET: usize = 0x1e;
    pub const LEN: usize = 0x24;
}

/// What a SCSI host is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Host {
    /// How many queues of requests it has; at least one.
    pub queues: u16,
    /// Most segments of the data of one request.
    pub segments_max: u32,
    /// Most sectors of 512 bytes of one transfer.
    pub sectors_max: u32,
    /// The highest number of a target.
    pub target_max: u8,
}

/// Agrees on features with a device that was just reset.
///
/// # Errors
/// The transport fails.
pub fn negotiate<D: Device>(transport: &mut Transport<D>) -> Result<Host, TransportError> {
    transport.negotiate(Features::all().bits())?;
    transport.read_config(config::LEN, |at| {
        let queues = at.read32(config::NUM_QUEUES).max(1);
        Host {
            queues: u16::try_from(queues).unwrap_or(u16::MAX),
            segments_max: at.read32(config::SEG_MAX).max(1),
            sectors_max: at.read32(config::MAX_SECTORS).max(1),
            target_max: u8::try_from(at.read16(config::MAX_TARGET)).unwrap_or(u8::MAX),
        }
    })
}

/// Bytes of an event.
pub const EVENT_LEN: usize = 16;

/// What the host says unasked (§5.6.6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Disks have come, gone or changed, or events were lost: look at them again.
    Changed,
    /// Nothing of interest.
    Other,
}

impl Event {
    /// Reads one; of too few bytes it is none of interest.
    pub fn read(bytes: &[u8]) -> Self {
        const EVENTS_MISSED: u32 = 1 << 31;
        const TRANSPORT_RESET: u32 = 1;
        const PARAM_CHANGE: u32 = 3;
        let Some(kind) = bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)) else {
            return Self::Other;
        };
        let lost = kind & EVENTS_MISSED != 0;
        let changed = matches!(kind & !EVENTS_MISSED, TRANSPORT_RESET | PARAM_CHANGE);
        if lost || changed { Self::Changed } else { Self::Other }
    }
}
