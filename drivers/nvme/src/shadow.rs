//! Doorbells in memory (base specification 2.0 §5.8, annex B.5), which emulated controllers offer:
//! a register need only be written if the controller is not looking anyway.

use alloc::sync::Arc;
use core::sync::atomic::{Ordering, fence};

use basalt_env::{Device, DmaPool, OutOfDmaMemory, SharedWords};
use basalt_nvme_spec::identify::Oacs;
use basalt_nvme_spec::registers::{DOORBELLS, cq_head_doorbell, sq_tail_doorbell};
use basalt_nvme_spec::{Command, PAGE_SIZE, QueueId};

use crate::discover::failed;
use crate::{AdminError, Controller, InitError};

/// The pages that a controller was told of, for all of its I/O queues.
#[derive(Clone, Debug)]
pub(crate) struct ShadowPages {
    doorbells: Arc<SharedWords>,
    /// By the same places, from where on the controller wants to be told.
    events: Arc<SharedWords>,
}

/// A queue pair's doorbells in memory.
#[derive(Clone, Debug)]
pub(crate) struct Shadow {
    pages: ShadowPages,
    tail: usize,
    head: usize,
}

impl ShadowPages {
    fn allocate(pool: &DmaPool) -> Result<Self, OutOfDmaMemory> {
        let page = || Ok(Arc::new(SharedWords::new(pool.alloc_shared(PAGE_SIZE)?)));
        Ok(Self { doorbells: page()?, events: page()? })
    }

    /// Those of a queue pair; `None` if they lie beyond the page.
    pub(crate) fn of_queue(&self, qid: QueueId, stride: usize) -> Option<Shadow> {
        let index = |offset: usize| (offset - DOORBELLS) / size_of::<u32>();
        let tail = index(sq_tail_doorbell(qid, stride));
        let head = index(cq_head_doorbell(qid, stride));
        let fits = head < self.doorbells.len();
        fits.then(|| Shadow { pages: self.clone(), tail, head })
    }
}

impl Shadow {
    /// The submission queue's tail goes from `old` to `new`; whether the register has to be
    /// written.
    #[inline]
    pub(crate) fn set_tail(&self, old: u16, new: u16) -> bool {
        self.pages.doorbells.store(self.tail, new.into());
        // The controller sees the tail before it is seen from where on it wants to be told; it does
        // the same the other way round.
        fence(Ordering::SeqCst);
        let event = self.pages.events.load(self.tail) as u16;
        // As of a ring without end, so that it may be written once too often where this one ends.
        new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
    }

    /// The completion queue's head is `new`. The register is to be written in any case: there are
    /// controllers (QEMU 7.2) that do not say from where on they want to be told of it.
    #[inline]
    pub(crate) fn set_head(&self, new: u16) {
        self.pages.doorbells.store(self.head, new.into());
    }
}

impl<D: Device> Controller<D> {
    pub(crate) fn shadow_of(&self, qid: QueueId) -> Option<Shadow> {
        self.shadow.borrow().as_ref()?.of_queue(qid, self.cap.doorbell_stride())
    }

    /// Has the controller look for doorbells in memory, if it offers that.
    pub(crate) async fn share_doorbells(&self) -> Result<(), InitError> {
        self.shadow.take();
        let offered = self.identify.borrow().oacs().contains(Oacs::DOORBELL_BUFFER);
        if !offered || !self.options.shadow_doorbells || self.has_memory_buffer() {
            return Ok(());
        }
        let pages = ShadowPages::allocate(&self.pool)?;
        let [doorbells, events] = [&pages.doorbells, &pages.events].map(|page| page.phys());
        let command = Command::doorbell_buffer(doorbells.as_u64(), events.as_u64());
        match self.command(command, None).await {
            Ok(_) => {
                log::info!("nvme {}: its doorbells are in memory", self.address);
                *self.shadow.borrow_mut() = Some(pages);
            }
            // It can do without.
            Err(AdminError::Status(status)) => {
                log::warn!("nvme {}: doorbells in memory: {status}", self.address);
            }
            Err(error) => {
                // It may write to the pages until it is stopped.
                *self.shadow.borrow_mut() = Some(pages);
                return Err(failed(command)(error));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use basalt_hosted::Machine;

    use super::*;

    #[test]
    fn the_register_is_written_when_the_tail_passes_where_the_controller_wants_to_be_told() {
        let pool = Machine::new().pool(1 << 20);
        let pages = ShadowPages::allocate(&pool).unwrap();
        let shadow = pages.of_queue(1, 4).unwrap();
        let must_ring = |event, old, new| {
            pages.events.store(shadow.tail, event);
            shadow.set_tail(old, new)
        };
        assert!(must_ring(0, 0, 1), "it has seen all until then");
        assert!(must_ring(5, 3, 9) && must_ring(8, 3, 9));
        assert!(!must_ring(9, 3, 9) && !must_ring(2, 3, 9), "it is looking anyway");
        assert!(must_ring(30, 30, 2), "round the end of the ring");
        assert_eq!(pages.doorbells.load(2), 2);
        assert!(pages.of_queue(511, 4).is_some() && pages.of_queue(512, 4).is_none());
        assert!(pages.of_queue(16, 128).is_none());
    }
}
