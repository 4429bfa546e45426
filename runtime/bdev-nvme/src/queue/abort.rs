//! Ios that their submitter no longer wants.

use basalt_bdev::IoError;
use basalt_env::{CoreId, Registers};
use basalt_nvme::Ticket;
use basalt_nvme_spec::QueueId;
use basalt_reactor::Local;

use super::{CoreQueue, NvmeChannel, Pending};
use crate::controllers::{NvmeControllers, Unwanted};

impl<R: Registers> NvmeChannel<R> {
    /// What was not sent yet ends at once; the controller is asked to abort what it has.
    #[cold]
    pub(super) fn abort_tag(&self, tag: u64) -> bool {
        let of_tag = |pending: &Pending| pending.inbox == self.inbox.id && pending.io.tag == tag;
        let unsent = self.queue.drop_from_backlog(of_tag) | self.queue.drop_held(of_tag);
        let mut asked = false;
        let mut slot = self.queue.queue.borrow_mut();
        let Some(queue) = slot.as_mut() else { return unsent };
        let qid = queue.address().qid();
        let is_it = |pending: &Pending| {
            of_tag(pending) || self.queue.is_half_of(pending, self.inbox.id, tag)
        };
        for (ticket, pending) in queue.outstanding_mut().filter(|(_, pending)| is_it(pending)) {
            pending.give_up();
            asked |= self.queue.ask_to_abort(&self.local, (qid, ticket), Unwanted::NotNeeded);
        }
        unsent || asked
    }
}

impl<R: Registers> CoreQueue<R> {
    fn drop_from_backlog(&self, of_tag: impl Fn(&Pending) -> bool) -> bool {
        let mut backlog = self.backlog.borrow_mut();
        let before = backlog.len();
        while let Some(at) = backlog.iter().position(&of_tag) {
            let Some(pending) = backlog.remove(at) else { break };
            pending.fail(IoError::Aborted, &self.inboxes);
        }
        backlog.len() < before
    }

    /// Whether core 0 has heard of it, which has the controller's admin queue.
    #[cold]
    pub(super) fn ask_to_abort(
        &self,
        local: &Local,
        command: (QueueId, Ticket),
        why: Unwanted,
    ) -> bool {
        let (id, run) = (self.id, self.run.get());
        let tell = move |local: &Local| NvmeControllers::of(local).abort(id, run, command, why);
        local.send(CoreId::BOOT, tell).is_ok()
    }
}
