//! Errors that are injected into the commands of a connection, with which they go.

use basalt_env::Work;
use basalt_net::NetStack;
use basalt_nvme_spec::{Command, ErrorChange};

use super::{Link, pending_of};
use crate::pending::Pending;
use crate::queue::{Data, LinkError, Load};

impl Link {
    /// Changes which errors its commands get.
    pub(crate) fn inject(&self, change: ErrorChange) {
        self.errors.borrow_mut().change(change);
        self.look();
    }

    fn look(&self) {
        let injects = !self.errors.borrow().is_empty() || self.queue.borrow().is_holding();
        self.plain.set(!self.is_dead() && !injects);
    }

    /// As [`Self::submit_io`], if it is not plain.
    #[cold]
    #[inline(never)]
    pub(crate) fn submit_io_closely(
        &self,
        command: Command,
        data: Data,
        pending: Pending,
    ) -> Result<(), Pending> {
        self.counters.submitted_requests.count();
        self.submit(command, data, Load::Io(pending)).map_err(pending_of)
    }

    /// Sends a command, unless it is to be held back; gives its load back if there is no room.
    #[inline(never)]
    pub(super) fn submit(&self, command: Command, data: Data, load: Load) -> Result<(), Load> {
        let mut queue = self.queue.borrow_mut();
        queue.submit(command, data, load, self.local.now())?;
        let mut errors = self.errors.borrow_mut();
        if let Some(error) = errors.find(command.opcode) {
            queue.forge_newest(&error);
            errors.count(command.opcode);
        }
        Ok(())
    }

    /// As [`Self::receive`], of one that is dead, or has errors injected. Commands that were held
    /// back for long enough end.
    #[cold]
    #[inline(never)]
    pub(super) fn receive_closely(&self, stack: &mut dyn NetStack) -> Result<Work, LinkError> {
        if self.is_dead() {
            return Ok(Work::IDLE);
        }
        self.queue.borrow_mut().end_held(self.local.now().as_ns());
        self.look();
        // The network does not tell when another one is due.
        let holds = Work(u32::from(self.queue.borrow().is_holding()));
        self.receive_now(stack).map(|work| work + holds)
    }
}
