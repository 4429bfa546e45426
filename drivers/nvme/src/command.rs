//! Sending an admin command, and waiting for its end.

use core::time::Duration;

use basalt_env::{Device, DmaBuf};
use basalt_nvme_spec::{AdminOpcode, Command, ErrorChange, Fate, Status};
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
        self.command_or_error(command, data, Patience::Endless).await
    }

    /// Changes which errors admin commands get. They stay when the controller is reset. Requests
    /// for events are left alone.
    pub fn inject(&self, change: ErrorChange) {
        self.errors.borrow_mut().change(change);
    }

    /// A command of the driver's own, which is not held back for longer than it may take.
    pub(crate) fn command(
        &self,
        command: Command,
        data: Option<DmaBuf>,
    ) -> impl Future<Output = Result<Outcome, AdminError>> {
        self.command_or_error(command, data, Patience::Limited)
    }

    /// Sends the command, unless an error is injected into it by which it is held back.
    async fn command_or_error(
        &self,
        command: Command,
        mut data: Option<DmaBuf>,
        patience: Patience,
    ) -> Result<Outcome, AdminError> {
        let (told, held) = self.next_error(command.opcode);
        let limit = self.limit_of(AdminOpcode(command.opcode));
        let start = (self.clock)();
        let mut looked = start;
        let epoch = self.epoch.get();
        let waiting = if held.is_none() {
            let tag = self.admin.borrow_mut().submit(command, data.take())?;
            Some(Waiting { controller: self, tag, epoch })
        } else {
            None
        };
        let is_endless = held.is_some() && patience == Patience::Endless;
        loop {
            let is_stopped = self.epoch.get() != epoch;
            let now = (self.clock)();
            let answer = match (&waiting, held) {
                (Some(_), _) if is_stopped => return Err(AdminError::Reset),
                (Some(waiting), _) => self.answer(waiting.tag),
                (None, Some(after)) if is_stopped || now.since(start) >= after => {
                    Some(Ok(Outcome { dw0: 0, data: data.take() }))
                }
                (None, _) => None,
            };
            if let Some(result) = answer {
                let outcome = result?;
                let is_good = told.is_success();
                return if is_good { Ok(outcome) } else { Err(AdminError::Status(told)) };
            }
            if now.since(looked) >= HEALTH_PERIOD {
                looked = now;
                self.check_health()?;
            }
            if now.since(start) > limit && !is_endless {
                return Err(AdminError::Timeout);
            }
            yield_now().await;
        }
    }

    /// What a command that the controller does well is to end with, and how long it is held back
    /// if it does not get it.
    fn next_error(&self, opcode: u8) -> (Status, Option<Duration>) {
        let mut errors = self.errors.borrow_mut();
        let Some(error) = errors.find(opcode) else { return (Status::SUCCESS, None) };
        errors.count(opcode);
        match error.fate {
            Fate::Submitted => (error.status, None),
            Fate::Held(after) => (error.status, Some(after)),
        }
    }

    fn answer(&self, tag: Tag) -> Option<Result<Outcome, AdminError>> {
        let mut admin = self.admin.borrow_mut();
        admin.poll();
        admin.take(tag)
    }

    fn check_health(&self) -> Result<(), AdminError> {
        match health(&self.registers) {
            Health::Removed => Err(AdminError::Removed),
            Health::Fatal => Err(AdminError::Fatal),
            Health::Fine { .. } => Ok(()),
        }
    }
}

/// How long a command may be held back by an error.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// As long as the controller may take over it.
    Limited,
    /// As long as the error says.
    Endless,
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
