use core::fmt;

/// The index of a core, counted from 0 in the order the reactors were started.
///
/// Not the APIC identifier: the environment keeps that mapping to itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct CoreId(pub u16);

impl CoreId {
    /// The core that booted the machine and runs the control plane.
    pub const BOOT: Self = Self(0);

    /// The index for use with per-core tables.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
