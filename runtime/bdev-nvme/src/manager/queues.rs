//! Each core's queue pair of a controller.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_env::{CoreId, Device, DmaPool, Registers};
use basalt_nvme::{AdminError, IoQueue, QueueAddress, QueueSpec};
use basalt_reactor::Local;

use super::Manager;
use crate::controllers::ControllerId;
use crate::path::IoPath;
use crate::poll_group::CoreQueues;
use crate::queue::CoreQueue;

/// Why a core has no queue pair.
enum NoQueue {
    /// Its core has no memory for one, or the controller wants no more: the others can do without.
    Refused,
    /// Nobody knows whether the controller uses it: it must be stopped before the memory is freed.
    Unknown,
}

impl<D: Device + 'static> Manager<D>
where
    D::Registers: Send,
{
    /// Gives the first cores in turn a queue pair each, which they lend to the others. Whether any
    /// has one now.
    pub(crate) async fn make_queues(&self) -> bool {
        self.cores().for_each(|core| self.handle.lenders.set(core, false));
        for (core, qid) in self.cores_in_turn().zip(1..) {
            let Some(spec) = self.controller.queue_spec(qid) else { break };
            let spec = spec.with_priority(self.options.priority_of(core));
            match self.make_queue(core, spec).await {
                Ok(()) => self.handle.lenders.set(core, true),
                Err(NoQueue::Refused) => self.drop_queue(core).await,
                Err(NoQueue::Unknown) => return false,
            }
        }
        let with_queue: Vec<_> = self.handle.lenders.iter().collect();
        let (made, cores, name) = (with_queue.len(), self.local.cores(), self.name());
        if made < cores {
            let with_queue: Vec<_> = with_queue.iter().map(|core| core.0).collect();
            log::warn!(
                target: "bdev_nvme",
                "{name}: queues for {made} of {cores} cores, which lend them to the others: \
                 {with_queue:?}"
            );
        }
        self.handle.info.borrow_mut().queues = with_queue;
        made > 0
    }

    /// The core allocates the rings from its own memory, the controller is told of them, and the
    /// core is told that it was.
    async fn make_queue(&self, core: CoreId, spec: QueueSpec<D::Registers>) -> Result<(), NoQueue> {
        let (id, timeout) = (self.handle.id, self.options.io_timeout);
        let path = self.path;
        let allocate = move |local: &Local| allocate_queue(local, id, spec, (path, timeout));
        let Some(address) = self.on_core(core, allocate).await.flatten() else {
            log::warn!(target: "bdev_nvme", "{}: no queue memory on core {core}", self.name());
            return Err(NoQueue::Refused);
        };
        let message = match self.controller.create_io_queue(address, Some(core)).await {
            Ok(message) => message,
            Err(error) => {
                let qid = address.qid();
                log::warn!(target: "bdev_nvme", "{}: queue {qid}: {error}", self.name());
                let refused = matches!(error, AdminError::Status(_));
                return Err(if refused { NoQueue::Refused } else { NoQueue::Unknown });
            }
        };
        let run = self.handle.run();
        let go_live = move |local: &Local| {
            CoreQueues::<D::Registers>::of(local).find(id).map(|queue| queue.go_live(run, message))
        };
        self.on_core(core, go_live).await.flatten().ok_or(NoQueue::Unknown)
    }

    /// The core goes without a queue: its channels, if it has any, will hear that it is gone.
    pub(super) async fn drop_queue(&self, core: CoreId) {
        let id = self.handle.id;
        let close = move |local: &Local| {
            let queues = CoreQueues::<D::Registers>::of(local);
            queues.find(id).inspect(|queue| queue.close());
            queues.remove(id);
        };
        let _ = self.on_core(core, close).await;
    }

    /// All cores in the order in which they get queues.
    fn cores_in_turn(&self) -> impl Iterator<Item = CoreId> {
        let first = &self.options.cores;
        let others = self.cores().filter(|core| !first.contains(core));
        let first = first.iter().copied().filter(|core| core.index() < self.local.cores());
        first.chain(others)
    }
}

fn allocate_queue<R: Registers>(
    local: &Local,
    id: ControllerId,
    spec: QueueSpec<R>,
    (path, timeout): (IoPath<R>, Duration),
) -> Option<QueueAddress> {
    let pool: Rc<DmaPool> = local.service()?;
    let queues = CoreQueues::<R>::of(local);
    let depth = usize::from(spec.depth());
    let pair = IoQueue::allocate(&pool, spec).ok()?;
    let queue = queues.find(id).unwrap_or_else(|| {
        let queue = CoreQueue::new(id, depth, pool);
        path.start(&queue, local, check_period(timeout));
        queues.add(Rc::clone(&queue));
        queue
    });
    Some(queue.put(pair))
}

/// Often enough to notice a late command soon after its time.
fn check_period(timeout: Duration) -> Duration {
    (timeout / 8).clamp(Duration::from_millis(1), Duration::from_secs(1))
}
