use basalt_ring::Slots;

use crate::{Io, OpenError, RejectReason};

/// What a layer remembers of each Io it has passed on: the Io's own tag, and a `T`.
///
/// An Io goes down with a tag of the layer's and comes up with its own again. Nothing is allocated
/// on the way; when there is no room left, the layer's queue is full.
pub(crate) struct Frames<T> {
    slots: Slots<(u64, T), 32>,
}

impl<T> Frames<T> {
    /// Ios of one channel that a layer can have under way.
    pub(crate) const DEPTH: usize = 1024;

    pub(crate) fn new() -> Result<Self, OpenError> {
        let slots = Slots::with_capacity(Self::DEPTH).map_err(|_| OpenError::NoMemory)?;
        Ok(Self { slots })
    }

    /// Marks `io` and remembers `value`.
    #[inline]
    pub(crate) fn push(&mut self, io: &mut Io, value: T) -> Result<(), RejectReason> {
        let slot = self.slots.insert((io.tag, value)).map_err(|_| RejectReason::QueueFull)?;
        io.tag = u64::from(slot.as_u32());
        Ok(())
    }

    /// The marks of the Ios whose own tag that is.
    pub(crate) fn marks(&mut self, tag: u64) -> impl Iterator<Item = u64> + '_ {
        let of_tag = self.slots.iter_mut().filter(move |(_, (own, _))| *own == tag);
        of_tag.map(|(slot, _)| u64::from(slot.as_u32()))
    }

    /// Gives `io` its own tag again, and what was remembered of it.
    #[inline]
    pub(crate) fn pop(&mut self, io: &mut Io) -> Option<T> {
        let slot = basalt_ring::Tag::from_u32(io.tag as u32);
        let (tag, value) = self.slots.remove(slot).ok()?;
        io.tag = tag;
        Some(value)
    }
}
