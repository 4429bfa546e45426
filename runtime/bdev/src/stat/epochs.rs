use core::sync::atomic::AtomicU32;

/// Counters that are set to zero together.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Sums,
    Extremes,
    Errors,
}

impl Part {
    pub(super) const ALL: [Self; 3] = [Self::Sums, Self::Extremes, Self::Errors];
}

/// How often each part of the counters was to be set to zero, and on a core how often that was
/// seen to.
#[derive(Debug)]
pub(crate) struct Epochs {
    /// How often any was, which is all that is looked at for each Io.
    pub(super) any: AtomicU32,
    parts: [AtomicU32; Part::ALL.len()],
}

impl Epochs {
    pub(super) const fn new() -> Self {
        Self { any: AtomicU32::new(0), parts: [const { AtomicU32::new(0) }; Part::ALL.len()] }
    }

    pub(super) const fn of(&self, part: Part) -> &AtomicU32 {
        &self.parts[part as usize]
    }
}
