//! What a core is running right now, for other cores to see.

use basalt_metrics::Counter;
use spin::Once;

/// Names that a core can tell apart; what comes after them is called [`OTHER`].
const NAMES_MAX: usize = 64;
const OTHER: &str = "another one";

/// What runs: nothing, or the place of a name plus one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Activity(u64);

impl Activity {
    /// Between two rounds.
    pub const NONE: Self = Self(0);

    /// As a number, for a trace.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// From a number that a trace held; any number is some activity.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// Written by its own core alone, read by any.
#[derive(Debug)]
pub(crate) struct Running {
    current: Counter,
    /// Each name is set once and stays: what other cores read never changes under them.
    names: [Once<&'static str>; NAMES_MAX],
}

impl Default for Running {
    fn default() -> Self {
        Self { current: Counter::new(), names: [const { Once::new() }; NAMES_MAX] }
    }
}

impl Running {
    /// The activity called `name`. To be called by the core itself.
    pub fn activity(&self, name: &'static str) -> Activity {
        let place = self.names.iter().position(|slot| *slot.call_once(|| name) == name);
        Activity(place.unwrap_or(NAMES_MAX) as u64 + 1)
    }

    /// Makes it what runs now.
    #[inline(always)]
    pub fn set(&self, activity: Activity) {
        self.current.set(activity.0);
    }

    /// What runs now, on whichever core this is.
    pub fn get(&self) -> Activity {
        Activity(self.current.get())
    }

    /// What `activity` is called; `None` if it is none.
    pub fn name(&self, activity: Activity) -> Option<&'static str> {
        let place = usize::try_from(activity.0.checked_sub(1)?).ok()?;
        Some(self.names.get(place).and_then(Once::get).copied().unwrap_or(OTHER))
    }
}
