//! Sending an admin command, and waiting for its end.

use core::time::Duration;

use basalt_env::{Device, DmaBuf};
use basalt_nvme_spec::{AdminOpcode, Command};
use basalt_ring::Tag;

use crate::admin::check_buffer;
use crate::registers::{Health, health};
use crate::yield_now::yield_now;
use crate::{AdminError, Controller, Outcome};

/// How often the registers are looked at while a command is waited for: that stalls the core, and
/// some commands take an hour.
const HEALTH_PERIOD: Duration = Duration::from_millis(1);

impl<D: Device> Controller<D> {
    /// Sends an admin command and waits for its end. Opcodes whose data length the driver cannot
    /// tell are refused, as are those that manage queues. It can tell that of a vendor's own if
    /// the controller says that they have the common format (AVSCC).
    ///
    /// After [`AdminError::Timeout`] the buffer stays with the command until the controller is
    /// stopped.
    pub async fn admin(
        &self,
        mut command: Command,
        data: Option<DmaBuf>,
    ) -> Result<Outcome, AdminError> {
        check_buffer(&command, data.as_ref())?;
        let is_vendors = AdminOpcode(command.opcode).is_vendor_specific();
        if is_vendors && !self.identify.borrow().has_common_vendor_format() {
            return Err(AdminError::NotAllowed);
        }
        command.mptr = Default::default();
        command.set_prps(0, 0);
        self.command(command, data).await
    }

    pub(crate) async fn command(
        &self,
        command: Command,
        data: Option<DmaBuf>,
    ) -> Result<Outcome, AdminError> {
        let limit = self.limit_of(AdminOpcode(command.opcode));
        let start = (self.clock)();
        let mut looked = start;
        let epoch = self.epoch.get();
        let tag = self.admin.borrow_mut().submit(command, data)?;
        let waiting = Waiting { controller: self, tag, epoch };
        loop {
            if self.epoch.get() != epoch {
                return Err(AdminError::Reset);
            }
            let answer = {
                let mut admin = self.admin.borrow_mut();
                admin.poll();
                admin.take(waiting.tag)
            };
            if let Some(result) = answer {
                return result;
            }
            let now = (self.clock)();
            if now.since(looked) >= HEALTH_PERIOD {
                looked = now;
                self.check_health()?;
            }
            if now.since(start) > limit {
                return Err(AdminError::Timeout);
            }
            yield_now().await;
        }
    }

    fn check_health(&self) -> Result<(), AdminError> {
        match health(&self.registers) {
            Health::Removed => Err(AdminError::Removed),
            Health::Fatal => Err(AdminError::Fatal),
            Health::Fine { .. } => Ok(()),
        }
    }
}

/// An admin command somebody waits for. Dropped early, it leaves its slot to clean up after itself.
struct Waiting<'a, D: Device> {
    controller: &'a Controller<D>,
    tag: Tag,
    epoch: u64,
}

impl<D: Device> Drop for Waiting<'_, D> {
    fn drop(&mut self) {
        if self.epoch == self.controller.epoch.get() {
            self.controller.admin.borrow_mut().orphan(self.tag);
        }
    }
}
