//! What is administered of a controller, and what becomes of its bdevs meanwhile.
//!
//! Whatever loses data is done only to namespaces that nobody has open. Their bdevs go before, so
//! that nobody opens them meanwhile, and come back after, as what they are then.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use basalt_bdev::{IoError, NvmeNamespaces, NvmeOrder, NvmeReport, NvmeSubject};
use basalt_env::{Device, DmaBuf};
use basalt_nvme::{AdminError, Controller, InitError, Namespace, Outcome};
use basalt_nvme_spec::log_page::SanitizeStatus;
use basalt_nvme_spec::manage::{FormatTarget, Sanitize, SanitizeAction};
use basalt_nvme_spec::{AdminOpcode, Command};
use basalt_reactor::sync::oneshot;

use crate::controllers::{ControlError, ControllerInfo, NvmeControllers, Request};
use crate::jobs::{Changes, Ended};
use crate::manager::Manager;

/// Why an order was not carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ManageError {
    /// The controller is not there, or not any more.
    Control(ControlError),
    /// It would lose what is on that bdev, which somebody has open.
    InUse(String),
    /// An order is under way that bars this one.
    Busy,
    /// The controller or its driver refused it, or it failed.
    Admin(AdminError),
}

impl fmt::Display for ManageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control(error) => error.fmt(f),
            Self::InUse(bdev) => write!(f, "{bdev} is in use"),
            Self::Busy => f.write_str("the controller is busy with another order"),
            Self::Admin(error) => error.fmt(f),
        }
    }
}

impl NvmeControllers {
    /// Has the controller of that name carry out an order, and shows its namespaces as they are
    /// then. To be called on core 0.
    ///
    /// A sanitize operation has only begun when this ends: the bdevs come back when it is done.
    ///
    /// # Errors
    /// See [`ManageError`].
    pub async fn manage(&self, name: &str, order: NvmeOrder) -> Result<NvmeReport, ManageError> {
        let (answer, result) = oneshot::channel();
        let handle = self.find(name);
        let handle = handle.ok_or(ManageError::Control(ControlError::NoSuchController))?;
        handle.ask(Request::Manage(order, answer));
        result.await.unwrap_or(Err(ManageError::Control(ControlError::Gone)))
    }
}

/// Whose bdevs an order takes away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// This controller's.
    Controller,
    /// Also those of other controllers of the subsystem: they are the same namespaces.
    Subsystem,
}

impl<D: Device + 'static> Manager<D>
where
    D::Registers: Send,
{
    /// Carries out a command that somebody else wrote.
    pub(crate) async fn admin(
        &self,
        command: Command,
        data: Option<DmaBuf>,
        answer: oneshot::Sender<Result<Outcome, AdminError>>,
    ) -> Ended {
        if self.has_failed() {
            return Ended::Admin(Err(AdminError::Removed), answer, Changes::Nothing);
        }
        let outcome = self.controller.admin(command, data).await;
        // Its namespaces may be others now, whether or not the controller reports that.
        let changing = [
            AdminOpcode::NAMESPACE_MANAGEMENT,
            AdminOpcode::NAMESPACE_ATTACHMENT,
            AdminOpcode::FORMAT_NVM,
        ];
        let changes = outcome.is_ok() && changing.contains(&AdminOpcode(command.opcode));
        Ended::Admin(outcome, answer, if changes { Changes::Namespaces } else { Changes::Nothing })
    }

    /// What an order may change, once what it loses is held back.
    pub(crate) fn prepare(&self, order: &NvmeOrder) -> Result<Changes, ManageError> {
        if self.has_failed() {
            return Err(ManageError::Control(ControlError::Gone));
        }
        let exits = |sanitize: &Sanitize| sanitize.action == SanitizeAction::ExitFailure;
        let (target, reach) = match order {
            NvmeOrder::Format { target, .. } => (*target, Reach::Subsystem),
            NvmeOrder::DeleteNamespace(nsid) => (FormatTarget::Namespace(*nsid), Reach::Subsystem),
            NvmeOrder::DetachNamespace(nsid) => (FormatTarget::Namespace(*nsid), Reach::Controller),
            NvmeOrder::Sanitize(sanitize) if !exits(sanitize) => {
                (FormatTarget::All, Reach::Subsystem)
            }
            NvmeOrder::AttachNamespace(_) => return Ok(Changes::Namespaces),
            NvmeOrder::CommitFirmware { .. } => return Ok(Changes::Controller),
            _ => return Ok(Changes::Nothing),
        };
        self.hold(target, reach)?;
        let sanitizes = matches!(order, NvmeOrder::Sanitize(_));
        Ok(if sanitizes { Changes::Sanitizes } else { Changes::Held })
    }

    /// Takes away the bdevs of what an order loses, if nobody has one of them open.
    fn hold(&self, target: FormatTarget, reach: Reach) -> Result<(), ManageError> {
        if self.held.get().is_some() {
            return Err(ManageError::Busy);
        }
        let is_lost = |namespace: &Namespace| is_of(target, namespace.nsid());
        let mut names = self.bdevs_of(is_lost);
        if reach == Reach::Subsystem {
            names.extend(self.twins(target));
        }
        if let Some(open) = names.into_iter().find(|name| self.registry.is_open(name)) {
            return Err(ManageError::InUse(open));
        }
        self.held.set(Some(target));
        self.remove_bdevs(is_lost);
        Ok(())
    }

    fn bdevs_of(&self, wanted: impl Fn(&Namespace) -> bool) -> Vec<String> {
        let shown = self.shown.borrow();
        shown.iter().filter(|(shown, _)| wanted(shown)).map(|(_, name)| name.clone()).collect()
    }

    /// The bdevs of other controllers of the subsystem for the same namespaces.
    fn twins(&self, target: FormatTarget) -> Vec<String> {
        let subnqn = self.handle.info.borrow().subnqn.clone();
        let others = NvmeControllers::of(&self.local).list().into_iter();
        let others = others.filter(|other| {
            other.name != self.name() && !subnqn.is_empty() && other.subnqn == subnqn
        });
        let of = |ControllerInfo { name, bdevs, .. }: ControllerInfo| match target {
            FormatTarget::All => bdevs,
            FormatTarget::Namespace(nsid) => Vec::from([alloc::format!("{name}n{nsid}")]),
        };
        others.flat_map(of).collect()
    }

    /// Whether a namespace is not to be shown now.
    pub(crate) fn is_held(&self, namespace: &Namespace) -> bool {
        self.held.get().is_some_and(|target| is_of(target, namespace.nsid()))
    }

    /// Carries out an order that was prepared.
    pub(crate) async fn carry_out(
        &self,
        order: NvmeOrder,
        changes: Changes,
        answer: oneshot::Sender<Result<NvmeReport, ManageError>>,
    ) -> Ended {
        Ended::Order(carry_out(&self.controller, order).await, answer, changes)
    }

    /// Sees to what a command has changed, and tells of its end.
    pub(crate) async fn settle(&self, ended: Ended) {
        let (changes, error) = match &ended {
            Ended::Admin(outcome, _, changes) => (*changes, outcome.as_ref().err().copied()),
            Ended::Order(outcome, _, changes) => (*changes, outcome.as_ref().err().copied()),
        };
        self.settle_changes(changes, error).await;
        match ended {
            Ended::Admin(outcome, answer, _) => answer.send(outcome),
            Ended::Order(outcome, answer, _) => answer.send(outcome.map_err(ManageError::Admin)),
        }
    }

    async fn settle_changes(&self, changes: Changes, error: Option<AdminError>) {
        match (changes, error) {
            (Changes::Sanitizes, None) => return self.sanitizing.set(true),
            (Changes::Held | Changes::Sanitizes, Some(AdminError::Timeout)) => {
                // What it still does to the medium must be over before anybody uses that again. The
                // result is in the state, and in the log.
                let _ = self.reset(IoError::Timeout).await;
            }
            _ => {}
        }
        if matches!(changes, Changes::Held | Changes::Sanitizes) {
            self.held.set(None);
        }
        if self.has_failed() || changes == Changes::Nothing {
            return;
        }
        if changes == Changes::Controller {
            return self.describe_again().await;
        }
        self.rescan().await;
    }

    /// Has a sanitize operation that is under way already, as it goes on without power, keep the
    /// bdevs away until it is over.
    pub(crate) async fn find_sanitizing(&self) {
        let status = self.controller.sanitize_status().await;
        if status.is_ok_and(|status| status.state() == SanitizeStatus::IN_PROGRESS) {
            log::warn!(target: "bdev_nvme", "{}: it is being sanitized", self.name());
            self.held.set(Some(FormatTarget::All));
            self.sanitizing.set(true);
        }
    }

    /// Whether the sanitize operation that was begun is over; then what it left is shown.
    pub(crate) async fn look_at_sanitizing(&self) {
        if !self.sanitizing.get() {
            return;
        }
        match self.controller.sanitize_status().await.map(|status| status.state()) {
            Ok(SanitizeStatus::IN_PROGRESS) => return,
            Ok(SanitizeStatus::FAILED) => {
                log::error!(target: "bdev_nvme", "{}: sanitizing failed", self.name());
            }
            Ok(_) => log::info!(target: "bdev_nvme", "{}: sanitized", self.name()),
            Err(error) => {
                // It is asked again, unless it has to be reset first.
                return log::error!(target: "bdev_nvme", "{}: sanitizing: {error}", self.name());
            }
        }
        self.sanitizing.set(false);
        self.held.set(None);
        self.rescan().await;
    }

    /// Takes note of what the controller says of itself now.
    async fn describe_again(&self) {
        if let Err(error) = self.controller.refresh().await {
            log::error!(target: "bdev_nvme", "{}: {error}", self.name());
        }
        self.note_firmware();
    }

    /// Takes note of the firmware that runs.
    pub(crate) fn note_firmware(&self) {
        let identify = self.controller.identify();
        self.handle.info.borrow_mut().firmware = crate::bdev::text(&identify.fr).into();
    }
}

const fn is_of(target: FormatTarget, nsid: u32) -> bool {
    match target {
        FormatTarget::All => true,
        FormatTarget::Namespace(one) => one == nsid,
    }
}

async fn carry_out<D: Device>(
    controller: &Controller<D>,
    order: NvmeOrder,
) -> Result<NvmeReport, AdminError> {
    match order {
        NvmeOrder::Format { target, blocks, settings } => {
            controller.format(target, blocks, settings).await?;
        }
        NvmeOrder::CreateNamespace { blocks, format } => {
            return controller.create_namespace(blocks, format).await.map(NvmeReport::Created);
        }
        NvmeOrder::DeleteNamespace(nsid) => controller.delete_namespace(nsid).await?,
        NvmeOrder::AttachNamespace(nsid) => controller.attach_namespace(nsid).await?,
        NvmeOrder::DetachNamespace(nsid) => controller.detach_namespace(nsid).await?,
        NvmeOrder::DownloadFirmware { offset, image } => {
            controller.download_firmware(offset, &image).await?;
        }
        NvmeOrder::CommitFirmware { slot, action } => {
            return controller.commit_firmware(slot, action).await.map(NvmeReport::Committed);
        }
        NvmeOrder::SelfTest { nsid, test } => controller.self_test(nsid, test).await?,
        NvmeOrder::Sanitize(sanitize) => controller.sanitize(sanitize).await?,
        NvmeOrder::Tell(subject) => return tell(controller, subject).await,
    }
    Ok(NvmeReport::Done)
}

fn admin_error(error: InitError) -> AdminError {
    match error {
        InitError::Command { error, .. } => error,
        _ => AdminError::BadData,
    }
}

async fn tell<D: Device>(
    controller: &Controller<D>,
    subject: NvmeSubject,
) -> Result<NvmeReport, AdminError> {
    Ok(match subject {
        NvmeSubject::Firmware => NvmeReport::Firmware(Box::new(controller.firmware_slots().await?)),
        NvmeSubject::Effects => NvmeReport::Effects(Box::new(controller.command_effects().await?)),
        NvmeSubject::SelfTests => {
            NvmeReport::SelfTests(Box::new(controller.self_test_log().await?))
        }
        NvmeSubject::Sanitizing => {
            NvmeReport::Sanitizing(Box::new(controller.sanitize_status().await?))
        }
        NvmeSubject::Namespaces => {
            let allocated = controller.allocated_namespaces().await?;
            controller.refresh().await.map_err(admin_error)?;
            let identify = controller.identify();
            NvmeReport::Namespaces(NvmeNamespaces {
                allocated,
                attached: controller.attached_namespaces().await?,
                controllers: controller.controllers().await?,
                total_bytes: identify.tnvmcap.get(),
                unallocated_bytes: identify.unvmcap.get(),
            })
        }
    })
}
