//! A controller that is disabled: stopped until somebody enables it or wants it gone; and one that
//! has errors injected.

use basalt_bdev::IoError;
use basalt_env::Device;
use basalt_nvme::AdminError;
use basalt_nvme_spec::{ErrorChange, QueueKind};

use super::Manager;
use crate::ManageError;
use crate::controllers::{ControlError, ControllerOrder, ControllerState, Request};
use crate::queue::QueueOrder;

impl<D: Device + 'static> Manager<D>
where
    D::Registers: Send,
{
    pub(super) fn is_disabled(&self) -> bool {
        self.handle.info.borrow().state == ControllerState::Disabled
    }

    /// Gives the request back if the controller can see to it. A disabled one is only enabled, or
    /// detached, or has errors injected; all else is answered here.
    pub(super) fn unless_disabled(&self, request: Request) -> Option<Request> {
        if !self.is_disabled() {
            return Some(request);
        }
        match request {
            Request::Order(ControllerOrder::Reset | ControllerOrder::Disable, answer) => {
                answer.send(Err(ControlError::Disabled));
            }
            Request::Order(..) => return Some(request),
            Request::Admin(_, _, answer) => answer.send(Err(AdminError::Reset)),
            Request::Manage(_, answer) => {
                answer.send(Err(ManageError::Control(ControlError::Disabled)));
            }
            // Of the run that has ended.
            Request::Fault(..) | Request::Abort(..) => {}
        }
        None
    }

    pub(super) async fn obey(&self, order: ControllerOrder) -> Result<(), ControlError> {
        match order {
            ControllerOrder::Reset => self.reset_if_alive().await,
            ControllerOrder::Disable => self.disable().await,
            ControllerOrder::Enable => self.enable().await,
            ControllerOrder::Inject(queues, change) => self.inject(queues, change).await,
            // That is seen to where it ends.
            ControllerOrder::Detach => Ok(()),
        }
    }

    /// Stops the controller; what it has in flight waits, or is handed back as aborted.
    async fn disable(&self) -> Result<(), ControlError> {
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

    /// Changes which errors the commands of some of its queues get.
    async fn inject(&self, queues: QueueKind, change: ErrorChange) -> Result<(), ControlError> {
        if self.has_failed() {
            return Err(ControlError::Gone);
        }
        match queues {
            QueueKind::Admin => self.controller.inject(change),
            QueueKind::Io => self.on_each_core(QueueOrder::Inject(change)).await,
        }
        Ok(())
    }

    async fn enable(&self) -> Result<(), ControlError> {
        if !self.is_disabled() {
            let gone = self.has_failed();
            return Err(if gone { ControlError::Gone } else { ControlError::Enabled });
        }
        self.reset(IoError::Aborted).await
    }
}
