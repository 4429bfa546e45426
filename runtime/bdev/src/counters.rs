use basalt_env::{CoreId, Instant};

use crate::stat::Stats;
use crate::{Io, IoStat};

/// Counters of I/O beside those that every bdev has, such as of each of several paths to one. Every
/// core counts what ends there; any core may read.
#[derive(Debug)]
pub struct IoCounters(Stats);

impl IoCounters {
    /// Those of `cores` cores, on which I/O is in blocks of `block_size` bytes.
    pub fn new(cores: usize, block_size: u32) -> Self {
        Self(Stats::new(cores, block_size))
    }

    /// Counts an Io that has ended at the time `now`; to be called on that core only.
    pub fn record(&self, core: CoreId, io: &Io, now: Instant) {
        self.0.writer(core).into_iter().for_each(|stat| stat.record(io, now));
    }

    /// What all cores have counted.
    pub fn total(&self) -> IoStat {
        self.0.total()
    }
}
