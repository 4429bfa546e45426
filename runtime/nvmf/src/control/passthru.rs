//! Admin commands that the drive behind a subsystem answers itself.
//!
//! Only where a subsystem has room for one namespace, and that is one of an NVMe drive, so that
//! what a host sees of the controller does not depend on what is added later. As in SPDK, some of
//! what the drive says is replaced by what is true of the target.

mod drive;
mod patch;

use alloc::vec::Vec;

use basalt_bdev::Op;
use basalt_nvme_spec::{AdminOpcode, Cns, Command, FeatureId, LogPageId, NSID_ALL, Status};

use self::drive::Passing;
use self::patch::Patch;
use super::controller::Controller;
use super::subsystem::Subsystem;
use super::{State, Target, events, identify, log_pages};
use crate::connection::{AdminReply, AdminRequest};
use crate::group::Access;

/// Which admin commands go to the drive: a set of SPDK's `admin_cmd_passthru`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AdminPassthru(u16);

impl AdminPassthru {
    /// None.
    pub const NONE: Self = Self(0);
    /// Identify Controller, of which serial and model number, firmware revision and OUI are taken,
    /// and what belongs to the commands below.
    pub const IDENTIFY_CTRLR: Self = Self(1 << 0);
    /// Identify with the UUID list.
    pub const IDENTIFY_UUID_LIST: Self = Self(1 << 1);
    /// Get Log Page, but for pages that the target keeps.
    pub const GET_LOG_PAGE: Self = Self(1 << 2);
    /// Get and Set Features, but for features that the target has.
    pub const GET_SET_FEATURES: Self = Self(1 << 3);
    /// Sanitize.
    pub const SANITIZE: Self = Self(1 << 4);
    /// Security Send and Receive.
    pub const SECURITY_SEND_RECV: Self = Self(1 << 5);
    /// Firmware Image Download and Commit.
    pub const FW_UPDATE: Self = Self(1 << 6);
    /// Opcodes from C0h on, of a drive that says how much data they move (AVSCC).
    pub const VENDOR_SPECIFIC: Self = Self(1 << 7);

    /// Each with SPDK's name.
    pub const NAMES: [(&'static str, Self); 8] = [
        ("identify_ctrlr", Self::IDENTIFY_CTRLR),
        ("identify_uuid_list", Self::IDENTIFY_UUID_LIST),
        ("get_log_page", Self::GET_LOG_PAGE),
        ("get_set_features", Self::GET_SET_FEATURES),
        ("sanitize", Self::SANITIZE),
        ("security_send_recv", Self::SECURITY_SEND_RECV),
        ("fw_update", Self::FW_UPDATE),
        ("vendor_specific", Self::VENDOR_SPECIFIC),
    ];

    /// These and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether those of `other` are among them.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// CNS 17h: the UUID list.
const UUID_LIST: Cns = Cns(0x17);

/// Which of `AdminPassthru` a command has to be among to go to the drive.
fn kind(command: &Command) -> Option<AdminPassthru> {
    let low = command.cdw10.get() as u8;
    match AdminOpcode(command.opcode) {
        AdminOpcode::IDENTIFY if Cns(low) == Cns::CONTROLLER => Some(AdminPassthru::IDENTIFY_CTRLR),
        AdminOpcode::IDENTIFY if Cns(low) == UUID_LIST => Some(AdminPassthru::IDENTIFY_UUID_LIST),
        AdminOpcode::GET_LOG_PAGE if !is_own_page(LogPageId(low)) => {
            Some(AdminPassthru::GET_LOG_PAGE)
        }
        AdminOpcode::GET_FEATURES | AdminOpcode::SET_FEATURES
            if !patch::OWN_FEATURES.contains(&FeatureId(low)) =>
        {
            Some(AdminPassthru::GET_SET_FEATURES)
        }
        AdminOpcode::SANITIZE => Some(AdminPassthru::SANITIZE),
        AdminOpcode::SECURITY_SEND | AdminOpcode::SECURITY_RECEIVE => {
            Some(AdminPassthru::SECURITY_SEND_RECV)
        }
        AdminOpcode::FIRMWARE_DOWNLOAD | AdminOpcode::FIRMWARE_COMMIT => {
            Some(AdminPassthru::FW_UPDATE)
        }
        opcode if opcode.is_vendor_specific() => Some(AdminPassthru::VENDOR_SPECIFIC),
        _ => None,
    }
}

/// Pages about namespaces and hosts of the target, of which the drive knows nothing.
const fn is_own_page(page: LogPageId) -> bool {
    matches!(
        page,
        LogPageId::CHANGED_NAMESPACES
            | LogPageId::ASYMMETRIC_NAMESPACE_ACCESS
            | LogPageId::RESERVATION_NOTIFICATION
    )
}

/// What a command does to the namespace, as far as reservations are concerned (§8.19.1).
const fn access(opcode: AdminOpcode) -> Access {
    match opcode {
        AdminOpcode::SECURITY_RECEIVE => Access::Read,
        AdminOpcode::SECURITY_SEND | AdminOpcode::SANITIZE => Access::Write,
        _ => Access::Other,
    }
}

/// The only namespace there can be.
const NSID: u32 = 1;

impl Target {
    /// Chooses which admin commands go to the drive, of hosts that connect from now on and of
    /// those that are there.
    pub fn set_admin_passthru(&self, passthru: AdminPassthru) {
        self.passthru.set(passthru);
    }

    /// Has the drive answer a command of the controller at index `at`, if it is to.
    pub(super) fn pass(
        &self,
        state: &mut State,
        at: usize,
        request: &AdminRequest,
    ) -> Option<AdminReply> {
        let passthru = self.passthru.get();
        let wanted = kind(&request.command).filter(|kind| passthru.has(*kind))?;
        let controller = &state.controllers[at];
        let subsystem = controller.subsystem.and_then(|id| state.subsystem(id))?;
        let drive_nsid = drive_nsid(subsystem, controller)?;
        let prepared = self.prepare(state, at, request, wanted, drive_nsid);
        Some(match prepared {
            Err(status) => AdminReply::Done(status.into(), Vec::new()),
            Ok(passing) => {
                let command = &request.command;
                if wanted == AdminPassthru::GET_LOG_PAGE && !log_pages::retains_event(command) {
                    let page = LogPageId(command.cdw10.get() as u8);
                    events::clear(&mut state.controllers[at], page);
                }
                self.send_to_drive(passing, request);
                AdminReply::Held
            }
        })
    }

    fn prepare(
        &self,
        state: &State,
        at: usize,
        request: &AdminRequest,
        wanted: AdminPassthru,
        drive_nsid: u32,
    ) -> Result<Passing, Status> {
        let controller = &state.controllers[at];
        let subsystem = controller.subsystem.and_then(|id| state.subsystem(id));
        let subsystem = subsystem.ok_or(Status::INVALID_NAMESPACE.with_dnr())?;
        let namespace = subsystem.namespace_for(controller, NSID);
        let namespace = namespace.ok_or(Status::INVALID_NAMESPACE.with_dnr())?;
        let access = access(AdminOpcode(request.command.opcode));
        let is_named = request.command.nsid.get() == NSID;
        let is_vendors = wanted == AdminPassthru::VENDOR_SPECIFIC;
        if access != Access::Other || is_vendors && is_named {
            subsystem.state_for(controller, namespace).refusal().map_or(Ok(()), Err)?;
        }
        let guard = namespace.reservations.guard();
        if let Some(excluded) = guard.and_then(|guard| guard.excluded_for(&controller.hostid)) {
            excluded.check(access)?;
        }
        let (config, now) = (self.config.get(), self.local.now());
        let page = LogPageId(request.command.cdw10.get() as u8);
        let patch = match wanted {
            AdminPassthru::IDENTIFY_CTRLR => {
                let own = identify::identify(state, at, request, &config)?;
                Patch::Identify { own, passthru: self.passthru.get() }
            }
            AdminPassthru::GET_LOG_PAGE if patch::is_mixed(page) => {
                let own = log_pages::whole(state, at, page, &request.command, &config, now)?;
                let offset = request.command.log_offset();
                if !offset.is_multiple_of(4) || offset > own.len() as u64 {
                    return Err(Status::INVALID_FIELD.with_dnr());
                }
                Patch::Page { page, own, passthru: self.passthru.get() }
            }
            _ => Patch::None,
        };
        let mut command = request.command;
        command.nsid = match command.nsid.get() {
            NSID => drive_nsid.into(),
            0 | NSID_ALL => command.nsid,
            _ => return Err(Status::INVALID_NAMESPACE.with_dnr()),
        };
        Passing::new(namespace.bdev.clone(), command, patch, request)
    }
}

/// The identifier that the only namespace has on its drive, if it is of one. A host that does not
/// see the namespace sees nothing of the drive.
fn drive_nsid(subsystem: &Subsystem, controller: &Controller) -> Option<u32> {
    let namespace = subsystem.namespace_for(controller, NSID)?;
    let is_only = subsystem.options.namespaces_max == NSID;
    let nsid = namespace.bdev.bdev().nvme_nsid()?;
    (is_only && namespace.bdev.allows(Op::NvmeAdmin)).then_some(nsid)
}
