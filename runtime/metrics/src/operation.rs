use crate::Counter;

/// What is done to data, for which some machines have engines (SPDK's acceleration framework).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// It is copied.
    Copy,
    /// It is made of zeroes.
    Fill,
    /// It is compared with other data; that fails if they are not the same.
    Compare,
    /// A CRC-32C of it is computed.
    Crc32c,
    /// Parity is computed of it and other data.
    Xor,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Copy, Self::Fill, Self::Compare, Self::Crc32c, Self::Xor];

    /// SPDK's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Fill => "fill",
            Self::Compare => "compare",
            Self::Crc32c => "crc32c",
            Self::Xor => "xor",
        }
    }
}

/// How often an operation was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OperationStats {
    /// How often.
    pub executed: u64,
    /// How often of those it failed.
    pub failed: u64,
    /// Bytes of data; where several are made one, of that.
    pub bytes: u64,
}

impl OperationStats {
    /// These and those of another core.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            executed: self.executed.wrapping_add(other.executed),
            failed: self.failed.wrapping_add(other.failed),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }
}

/// One core's operations.
#[derive(Debug, Default)]
pub struct Operations {
    counters: [Counters; Operation::ALL.len()],
}

#[derive(Debug, Default)]
struct Counters {
    executed: Counter,
    failed: Counter,
    bytes: Counter,
}

impl Operations {
    /// Counts `times` operations on `bytes` bytes together.
    pub fn add(&self, operation: Operation, times: usize, bytes: usize) {
        let counters = &self.counters[operation as usize];
        counters.executed.add(times as u64);
        counters.bytes.add(bytes as u64);
    }

    /// One of those that were counted has failed.
    pub fn fail(&self, operation: Operation) {
        self.counters[operation as usize].failed.add(1);
    }

    /// How often one was done.
    pub fn get(&self, operation: Operation) -> OperationStats {
        let Counters { executed, failed, bytes } = &self.counters[operation as usize];
        OperationStats { executed: executed.get(), failed: failed.get(), bytes: bytes.get() }
    }
}
