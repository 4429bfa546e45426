use core::ops::{Add, AddAssign};

/// How many units of work (completions, frames, events) a poll found. Zero means idle.
///
/// The reactor accounts busy and idle time from it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[must_use]
pub struct Work(pub u32);

impl Work {
    /// Nothing was found.
    pub const IDLE: Self = Self(0);

    /// Whether anything was found.
    pub const fn is_busy(self) -> bool {
        self.0 != 0
    }
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
