//! What may be traced: SPDK's tracepoints where it has such, under its names and numbers.

use crate::TraceEntry;

/// A group of tracepoints, numbered as in SPDK's `trace_defs.h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TraceGroup {
    /// Ios of bdevs.
    Bdev = 3,
    /// Commands and PDUs of the NVMe/TCP target.
    NvmfTcp = 5,
    /// What a reactor runs.
    Thread = 10,
    /// Commands of NVMe drives.
    NvmePcie = 11,
    /// Bytes of connections.
    Sock = 15,
}

impl TraceGroup {
    /// All groups, in order.
    pub const ALL: [Self; 5] =
        [Self::Bdev, Self::NvmfTcp, Self::Thread, Self::NvmePcie, Self::Sock];

    /// Its name in JSON-RPC.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bdev => "bdev",
            Self::NvmfTcp => "nvmf_tcp",
            Self::Thread => "thread",
            Self::NvmePcie => "nvme_pcie",
            Self::Sock => "sock",
        }
    }

    /// The group of that name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.name() == name)
    }

    /// Its bit in a mask of groups.
    #[inline(always)]
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Its place among [`Self::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Self::Bdev => 0,
            Self::NvmfTcp => 1,
            Self::Thread => 2,
            Self::NvmePcie => 3,
            Self::Sock => 4,
        }
    }

    /// The bits of its tracepoints.
    pub fn tpoints(self) -> u64 {
        let all = Tpoint::ALL.iter().filter(|tpoint| tpoint.group() == self);
        all.fold(0, |mask, tpoint| mask | tpoint.bit())
    }
}

/// Tracepoints that a group has room for.
const PER_GROUP: u16 = 64;
/// The first number of those that SPDK does not have: it has some twenty in a group.
const OWN: u16 = 0x20;
/// The bits of [`TraceEntry::kind`] that say which tracepoint it is.
const ID_MASK: u64 = 0x3ff;
/// What was traced has failed.
const FAILED: u64 = 1 << 15;

/// A place in the program that writes an entry whenever it is passed.
///
/// An entry has room for five values: one of 16 bits and one of 32, which share a word with the
/// tracepoint's number, and three of 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tpoint {
    /// An Io was handed to a bdev.
    BdevIoStart,
    /// A bdev has finished an Io.
    BdevIoDone,
    /// A command's capsule has begun to arrive.
    TcpReqNew,
    /// A command has ended; its data or response goes in line to the host.
    TcpReqCompleted,
    /// A PDU's header has arrived.
    TcpPduReceived,
    /// A PDU was put together for the network.
    TcpPduSent,
    /// A round of the reactor that found work.
    ThreadRound,
    /// The events of a round.
    ThreadEvents,
    /// A poller that found work.
    ThreadPoller,
    /// A task was resumed.
    ThreadTask,
    /// A command was put in a submission queue.
    NvmePcieSubmit,
    /// A command's completion was found.
    NvmePcieComplete,
    /// Bytes were taken from a connection.
    SockReceived,
    /// Bytes were handed to a connection.
    SockSent,
}

/// What a value means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TraceValue {
    /// Itself.
    Number,
    /// One of [`OPS`].
    Op,
    /// A bdev, by the number it was given when it was registered.
    Bdev,
    /// The name of a poller or task.
    Activity,
    /// Ticks of the writer's clock.
    Ticks,
}

/// A value of an entry: what it is called, and what it means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceField {
    /// Its place among [`TraceEntry::values`].
    pub place: usize,
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub value: TraceValue,
}

const fn field(place: usize, name: &'static str, value: TraceValue) -> TraceField {
    TraceField { place, name, value }
}

/// The block layer's operations, in its order.
pub const OPS: [&str; 19] = [
    "read",
    "write",
    "flush",
    "unmap",
    "write_zeroes",
    "compare",
    "verify",
    "write_uncorrectable",
    "copy",
    "compare_and_write",
    "zone_append",
    "zone_open",
    "zone_close",
    "zone_finish",
    "zone_reset",
    "zone_report",
    "nvme_io",
    "nvme_admin",
    "reset",
];

const NUMBER: TraceValue = TraceValue::Number;
const OP: TraceField = field(0, "op", TraceValue::Op);
const BDEV: TraceField = field(1, "bdev", TraceValue::Bdev);
const CID: TraceField = field(0, "cid", NUMBER);
const CONNECTION: TraceField = field(1, "connection", NUMBER);
const OPCODE: TraceField = field(2, "opcode", NUMBER);
const LBA: TraceField = field(2, "lba", NUMBER);
const BLOCKS: TraceField = field(3, "blocks", NUMBER);
const LATENCY: TraceField = field(4, "latency_ns", NUMBER);
const TOOK: TraceField = field(4, "took_ns", TraceValue::Ticks);
const CONTROLLER: TraceField = field(1, "controller", NUMBER);
const BYTES: TraceField = field(2, "bytes", NUMBER);
const REQ_NEW: [TraceField; 5] =
    [CID, CONNECTION, OPCODE, field(3, "qid", NUMBER), field(4, "lba", NUMBER)];
const REQ_COMPLETED: [TraceField; 5] =
    [CID, CONNECTION, OPCODE, field(3, "status", NUMBER), LATENCY];
const PDU: [TraceField; 3] = [field(0, "type", NUMBER), CONNECTION, BYTES];

const NAME: TraceField = field(1, "name", TraceValue::Activity);
const WORK: TraceField = field(2, "work", NUMBER);

/// Group, number in it, name and fields.
type Description = (TraceGroup, u16, &'static str, &'static [TraceField]);

/// By tracepoint, in their order.
const DESCRIPTIONS: [Description; Tpoint::ALL.len()] = {
    use TraceGroup::{Bdev, NvmePcie, NvmfTcp, Sock, Thread};
    [
        (Bdev, 0, "BDEV_IO_START", &[OP, BDEV, LBA, BLOCKS]),
        (Bdev, 1, "BDEV_IO_DONE", &[OP, BDEV, LBA, BLOCKS, LATENCY]),
        (NvmfTcp, 0, "TCP_REQ_NEW", &REQ_NEW),
        (NvmfTcp, 12, "TCP_REQ_COMPLETED", &REQ_COMPLETED),
        (NvmfTcp, OWN, "TCP_PDU_RECEIVED", &PDU),
        (NvmfTcp, OWN + 1, "TCP_PDU_SENT", &PDU),
        (Thread, OWN, "THREAD_ROUND", &[WORK, TOOK]),
        (Thread, OWN + 1, "THREAD_EVENTS", &[WORK, TOOK]),
        (Thread, OWN + 2, "THREAD_POLLER", &[NAME, WORK, TOOK]),
        (Thread, OWN + 3, "THREAD_TASK", &[NAME, TOOK]),
        (NvmePcie, 0, "NVME_PCIE_SUBMIT", &[OP, CONTROLLER, LBA, BLOCKS]),
        (NvmePcie, 1, "NVME_PCIE_COMPLETE", &[OP, CONTROLLER, LBA, BLOCKS, LATENCY]),
        (Sock, OWN, "SOCK_RECEIVED", &[CONNECTION, BYTES]),
        (Sock, OWN + 1, "SOCK_SENT", &[CONNECTION, BYTES]),
    ]
};

impl Tpoint {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::BdevIoStart,
        Self::BdevIoDone,
        Self::TcpReqNew,
        Self::TcpReqCompleted,
        Self::TcpPduReceived,
        Self::TcpPduSent,
        Self::ThreadRound,
        Self::ThreadEvents,
        Self::ThreadPoller,
        Self::ThreadTask,
        Self::NvmePcieSubmit,
        Self::NvmePcieComplete,
        Self::SockReceived,
        Self::SockSent,
    ];

    const fn description(self) -> &'static Description {
        const TABLE: &[Description; Tpoint::ALL.len()] = &DESCRIPTIONS;
        &TABLE[self as usize]
    }

    /// Its group.
    pub const fn group(self) -> TraceGroup {
        self.description().0
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.description().2
    }

    /// The values of its entries.
    pub const fn fields(self) -> &'static [TraceField] {
        self.description().3
    }

    /// Its bit in the mask of its group.
    #[inline]
    pub const fn bit(self) -> u64 {
        1 << self.description().1
    }

    /// Its number among those of all groups.
    #[inline]
    pub const fn id(self) -> u16 {
        let (group, number, ..) = self.description();
        *group as u16 * PER_GROUP + *number
    }

    /// An entry of it.
    #[inline]
    pub const fn entry(self, at: u64, small: (u16, u32), [a, b, c]: [u64; 3]) -> TraceEntry {
        let kind = self.id() as u64 | (small.0 as u64) << 16 | (small.1 as u64) << 32;
        TraceEntry { at, kind, a, b, c }
    }

    /// What an entry is of; `None` if it is of none.
    pub fn of(entry: TraceEntry) -> Option<Self> {
        let id = (entry.kind & ID_MASK) as u16;
        Self::ALL.iter().copied().find(|tpoint| tpoint.id() == id)
    }
}

impl TraceEntry {
    /// The same of what has failed.
    #[must_use]
    pub const fn failed(self) -> Self {
        Self { kind: self.kind | FAILED, ..self }
    }

    /// Whether what it is about has failed.
    pub const fn has_failed(self) -> bool {
        self.kind & FAILED != 0
    }

    /// The values of a tracepoint's entry, by place.
    pub const fn values(self) -> [u64; 5] {
        [self.kind >> 16 & 0xffff, self.kind >> 32, self.a, self.b, self.c]
    }
}
