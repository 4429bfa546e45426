/// A value a device or a peer claimed, not yet checked.
///
/// There is no way to read it but through a check, so an index that came over the wire cannot
/// reach a slice by accident.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Untrusted<T>(T);

impl<T: Copy> Untrusted<T> {
    /// Marks a value as a claim.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value if `valid` holds for it.
    pub fn check(self, valid: impl FnOnce(T) -> bool) -> Option<T> {
        valid(self.0).then_some(self.0)
    }

    /// The raw claim, for printing it in an error only.
    pub const fn claimed(self) -> T {
        self.0
    }
}

impl Untrusted<u16> {
    /// The value as an index below `len`.
    pub fn index_below(self, len: usize) -> Option<usize> {
        let index = usize::from(self.0);
        (index < len).then_some(index)
    }
}

impl Untrusted<u32> {
    /// The value as an index below `len`.
    pub fn index_below(self, len: usize) -> Option<usize> {
        let index = self.0 as usize;
        (index < len).then_some(index)
    }
}
