use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

/// A number that one core writes and any core reads.
///
/// As there is one writer, counting is a plain load and store. A second writer would lose counts,
/// nothing worse.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    pub const fn new() -> Self {
        Self::from_value(0)
    }

    /// A counter at `value`.
    pub const fn from_value(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    /// Counts `n` more, wrapping at 2^64.
    #[inline(always)]
    pub fn add(&self, n: u64) {
        self.set(self.get().wrapping_add(n));
    }

    /// Replaces the number, for a gauge.
    #[inline(always)]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number now.
    #[inline(always)]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One `T` per core, each on cache lines of its own.
#[derive(Debug)]
pub struct PerCore<T> {
    values: Box<[Line<T>]>,
}

/// Two lines, as the processor fetches them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

impl<T> PerCore<T> {
    /// One `T` for each of `cores` cores.
    pub fn new(cores: usize) -> Self
    where
        T: Default,
    {
        Self { values: (0..cores).map(|_| Line::default()).collect() }
    }

    /// The `T` of a core, by its index, if there is such a core.
    #[inline]
    pub fn get(&self, core: usize) -> Option<&T> {
        self.values.get(core).map(|line| &line.0)
    }

    /// Every core's, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.values.iter().map(|line| &line.0)
    }
}

impl PerCore<Counter> {
    /// The sum over all cores, wrapping at 2^64.
    pub fn sum(&self) -> u64 {
        self.iter().fold(0, |sum, counter| sum.wrapping_add(counter.get()))
    }
}
