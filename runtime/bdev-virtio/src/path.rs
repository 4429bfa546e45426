use alloc::boxed::Box;
use alloc::rc::Rc;
use core::fmt;

use basalt_bdev::IoChannel;
use basalt_env::Registers;
use basalt_virtio::Doorbell;

use crate::queue::{CoreQueue, VirtioChannel};
use crate::unit::Unit;

type Open<R> = fn(Rc<CoreQueue<R>>, Unit) -> Box<dyn IoChannel>;

/// What an I/O runs through on devices with these registers, as compiled for the crate that makes
/// the value. So that crate can be compiled for speed, and the one that attaches to be small.
pub struct IoPath<R: Registers> {
    channel: Open<R>,
    go_live: fn(&Rc<CoreQueue<R>>, Doorbell<R>, bool),
}

impl<R: Registers> IoPath<R> {
    /// That of this crate.
    #[must_use]
    pub fn new() -> Self {
        Self { channel: VirtioChannel::<R>::boxed, go_live: CoreQueue::<R>::go_live }
    }

    /// The device knows the queue, and sends a message or not.
    pub(crate) fn go_live(&self, queue: &Rc<CoreQueue<R>>, doorbell: Doorbell<R>, wakes: bool) {
        (self.go_live)(queue, doorbell, wakes);
    }

    /// A channel in front of `queue`.
    pub(crate) fn channel(&self, queue: Rc<CoreQueue<R>>, unit: Unit) -> Box<dyn IoChannel> {
        (self.channel)(queue, unit)
    }
}

impl<R: Registers> Default for IoPath<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Registers> Clone for IoPath<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R: Registers> Copy for IoPath<R> {}

impl<R: Registers> fmt::Debug for IoPath<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IoPath")
    }
}
