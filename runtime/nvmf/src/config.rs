use core::time::Duration;

use basalt_nvme_spec::NvmOpcode;
use basalt_nvme_spec::identify::Oncs;

use crate::pdu::Limits;

/// When a read's response capsule may be left out (NVMe/TCP §3.6.2.9, SUCCESS flag).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum C2hSuccess {
    /// Only on queues whose host disabled submission queue flow control, as the specification has
    /// it.
    WithoutFlowControl,
    /// On every queue, as SPDK does by default (`c2h_success`); with flow control a response is
    /// still sent often enough that the host's view of the queue head lags by less than half the
    /// queue.
    Always,
}

/// Whether hosts are told of fused operations (FUSES).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FusedOperations {
    /// They are.
    Announced,
    /// They are not, and find them refused.
    Masked,
}

/// Data bytes a command capsule of an admin queue may carry.
const ADMIN_IN_CAPSULE: u32 = 8192;

/// What the transport announces and how patient it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransportConfig {
    /// Largest queue, entries (MQES + 1, MAXCMD), 2 to 1024.
    pub queue_size_max: u16,
    /// Largest admin queue, entries, 32 to 1024 (ASQSZ).
    pub admin_queue_size_max: u16,
    /// I/O queues a controller may have.
    pub io_queues_max: u16,
    /// Data bytes a command capsule may carry, a multiple of 16 (IOCCSZ).
    pub in_capsule_len: u32,
    /// Largest transfer of one command, bytes; 4 KiB times a power of two (MDTS, MAXH2CDATA).
    pub io_len_max: u32,
    /// When to leave response capsules out.
    pub c2h_success: C2hSuccess,
    /// How long a new connection may take to its ICReq, and from there to its Connect command.
    pub handshake_timeout: Duration,
    /// How long a host may take to accept our last words before the connection is reset.
    pub drain_timeout: Duration,
    /// How long a command may wait for a data buffer before it fails.
    pub buffer_timeout: Duration,
    /// How long an Abort waits for the bdev to end the command.
    pub abort_timeout: Duration,
    /// Shortest keep-alive timeout a host may have, milliseconds: what is shorter is made as long.
    pub kato_min_ms: u32,
    /// Optional commands that hosts are not told of.
    pub masked_oncs: Oncs,
    /// Whether they are told that Compare and Write may be fused.
    pub fused: FusedOperations,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            queue_size_max: 256,
            admin_queue_size_max: 128,
            io_queues_max: 127,
            in_capsule_len: 8192,
            io_len_max: 1 << 20,
            c2h_success: C2hSuccess::WithoutFlowControl,
            handshake_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(5),
            buffer_timeout: Duration::from_secs(20),
            abort_timeout: Duration::from_secs(1),
            kato_min_ms: 0,
            masked_oncs: Oncs::empty(),
            fused: FusedOperations::Announced,
        }
    }
}

impl TransportConfig {
    /// The same with every value brought into its range.
    #[must_use]
    pub fn clamped(mut self) -> Self {
        const PAGE: u32 = 4096;
        const IO_LEN_MAX: u32 = 4 << 20;
        // Every host may count on an admin queue of 32 entries (base §5.16.1.23).
        self.admin_queue_size_max = self.admin_queue_size_max.clamp(32, 1024);
        self.queue_size_max = self.queue_size_max.clamp(2, 1024);
        self.io_queues_max = self.io_queues_max.clamp(1, 1024);
        self.in_capsule_len = self.in_capsule_len.clamp(PAGE, 64 << 10) / 16 * 16;
        self.io_len_max = PAGE << (self.io_len_max.clamp(PAGE, IO_LEN_MAX) / PAGE).ilog2();
        self
    }

    /// The limits of received PDUs, whatever the queue.
    pub const fn limits(&self) -> Limits {
        Limits { in_capsule: self.capsule_data_max(), data: self.io_len_max }
    }

    /// Data bytes any command capsule may carry: on the admin queue 8 KiB are always allowed
    /// (NVMe/TCP §3.3.2.2.1), whatever is announced for I/O queues.
    pub(crate) const fn capsule_data_max(&self) -> u32 {
        if self.in_capsule_len > ADMIN_IN_CAPSULE { self.in_capsule_len } else { ADMIN_IN_CAPSULE }
    }

    /// Whether an I/O command is one that hosts are not told of, and find unknown.
    #[inline]
    pub(crate) fn masks(&self, opcode: NvmOpcode) -> bool {
        !self.masked_oncs.is_empty() && self.masked_oncs.intersects(optional(opcode))
    }

    /// The keep-alive timeout of a host that asks for `kato_ms` milliseconds; 0 is none.
    pub(crate) const fn kato(&self, kato_ms: u32) -> u32 {
        if kato_ms == 0 || kato_ms > self.kato_min_ms { kato_ms } else { self.kato_min_ms }
    }

    /// MDTS: the largest transfer as a power of two of 4 KiB pages.
    pub const fn mdts(&self) -> u8 {
        (self.io_len_max / 4096).ilog2() as u8
    }
}

/// What stands for an I/O command in ONCS, if it is an optional one.
fn optional(opcode: NvmOpcode) -> Oncs {
    match opcode {
        NvmOpcode::COMPARE => Oncs::COMPARE,
        NvmOpcode::DATASET_MANAGEMENT => Oncs::DATASET_MANAGEMENT,
        NvmOpcode::WRITE_ZEROES => Oncs::WRITE_ZEROES,
        NvmOpcode::COPY => Oncs::COPY,
        NvmOpcode::RESERVATION_REGISTER
        | NvmOpcode::RESERVATION_REPORT
        | NvmOpcode::RESERVATION_ACQUIRE
        | NvmOpcode::RESERVATION_RELEASE => Oncs::RESERVATIONS,
        _ => Oncs::empty(),
    }
}
