//! What a run asks of the bdev.

use basalt_bdev::Op;

/// One of bdevperf's workloads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Workload {
    /// As bdevperf calls it.
    pub name: &'static str,
    pub order: Order,
    pub kind: Kind,
}

/// Where the next Io starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    Random,
    Sequential,
}

/// What the Ios do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// All the same.
    One(Op),
    /// Reads and writes, mixed by `rwmixread`.
    Mixed,
    /// Each place is written, read back and compared.
    Verify,
}

const ALL: [Workload; 10] = [
    new("randread", Order::Random, Kind::One(Op::Read)),
    new("randwrite", Order::Random, Kind::One(Op::Write)),
    new("randrw", Order::Random, Kind::Mixed),
    new("read", Order::Sequential, Kind::One(Op::Read)),
    new("write", Order::Sequential, Kind::One(Op::Write)),
    new("rw", Order::Sequential, Kind::Mixed),
    new("verify", Order::Sequential, Kind::Verify),
    new("flush", Order::Sequential, Kind::One(Op::Flush)),
    new("unmap", Order::Random, Kind::One(Op::Unmap)),
    new("write_zeroes", Order::Random, Kind::One(Op::WriteZeroes)),
];

const fn new(name: &'static str, order: Order, kind: Kind) -> Workload {
    Workload { name, order, kind }
}

impl Workload {
    /// The one of that name.
    pub fn find(name: &str) -> Option<Self> {
        ALL.into_iter().find(|workload| workload.name == name)
    }

    /// The names there are.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ALL.into_iter().map(|workload| workload.name)
    }

    /// Whether it does `op`.
    pub fn does(&self, op: Op) -> bool {
        match self.kind {
            Kind::One(only) => only == op,
            Kind::Mixed | Kind::Verify => op.has_data(),
        }
    }

    /// Whether it changes what is on the bdev.
    pub fn writes(&self) -> bool {
        [Op::Write, Op::Unmap, Op::WriteZeroes].into_iter().any(|op| self.does(op))
    }

    /// Whether its Ios carry data.
    pub fn has_data(&self) -> bool {
        self.does(Op::Read) || self.does(Op::Write)
    }
}
