//! A controller that is disabled: stopped until somebody enables it or wants it gone.

use basalt_bdev::IoError;
use basalt_env::Device;
use basalt_nvme::AdminError;

use super::Manager;
use crate::ManageError;
use crate::controllers::{ControlError, ControllerState, Request};

impl<D: Device + 'static> Manager<D>
where
    D::Registers: Send,
{
    pub(super) fn is_disabled(&self) -> bool {
        self.handle.info.borrow().state == ControllerState::Disabled
    }

    /// Gives the request back if the controller can see to it. A disabled one is only enabled, or
    /// detached; all else is answered here.
    pub(super) fn unless_disabled(&self, request: Request) -> Option<Request> {
        if !self.is_disabled() {
            return Some(request);
        }
        match request {
            Request::Enable(_) | Request::Detach(_) => return Some(request),
            Request::Reset(answer) | Request::Disable(answer) => {
                answer.send(Err(ControlError::Disabled));
            }
            Request::Admin(_, _, answer) => answer.send(Err(AdminError::Reset)),
            Request::Manage(_, answer) => {
                answer.send(Err(ManageError::Control(ControlError::Disabled)));
            }
            // Of the run that has ended.
            Request::Fault(..) | Request::Abort(..) => {}
        }
        None
    }

    /// Stops the controller; what it has in flight waits, or is handed back as aborted.
    pub(super) async fn disable(&self) -> Result<(), ControlError> {
        if self.has_failed() {
            return Err(ControlError::Gone);
        }
        self.handle.info.borrow_mut().resets += 1;
        self.handle.set_state(ControllerState::Disabled);
        self.quiesce(IoError::Aborted).await;
        self.handle.info.borrow_mut().queues.clear();
        log::info!(target: "bdev_nvme", "{}: disabled", self.name());
        Ok(())
    }

    pub(super) async fn enable(&self) -> Result<(), ControlError> {
        if !self.is_disabled() {
            let gone = self.has_failed();
            return Err(if gone { ControlError::Gone } else { ControlError::Enabled });
        }
        self.reset(IoError::Aborted).await
    }
}
