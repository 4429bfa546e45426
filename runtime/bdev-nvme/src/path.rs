use alloc::boxed::Box;
use alloc::rc::Rc;
use core::fmt;
use core::time::Duration;

use basalt_bdev::IoChannel;
use basalt_env::Registers;
use basalt_nvme::Namespace;
use basalt_reactor::Local;

use crate::queue::{CoreQueue, NvmeChannel};
use crate::split::Limits;

type Open<R> = fn(&Local, Rc<CoreQueue<R>>, Namespace, Limits) -> Option<Box<dyn IoChannel>>;

/// What an I/O runs through on controllers with these registers, as compiled for the crate that
/// makes the value. So that crate can be compiled for speed, and the one that attaches to be small.
pub struct IoPath<R: Registers> {
    channel: Open<R>,
    start: fn(&Rc<CoreQueue<R>>, &Local, Duration),
}

impl<R: Registers> IoPath<R> {
    /// That of this crate.
    #[must_use]
    pub fn new() -> Self {
        Self { channel: NvmeChannel::<R>::boxed, start: CoreQueue::<R>::start }
    }

    /// Starts the pollers of a core's queue.
    pub(crate) fn start(&self, queue: &Rc<CoreQueue<R>>, local: &Local, check_period: Duration) {
        (self.start)(queue, local, check_period);
    }

    /// A channel in front of `queue`; `None` without memory for it.
    pub(crate) fn channel(
        &self,
        local: &Local,
        queue: Rc<CoreQueue<R>>,
        namespace: Namespace,
        limits: Limits,
    ) -> Option<Box<dyn IoChannel>> {
        (self.channel)(local, queue, namespace, limits)
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
