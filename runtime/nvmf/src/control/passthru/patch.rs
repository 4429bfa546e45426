//! What of a drive's answer is the target's.

use alloc::vec::Vec;

use basalt_nvme_spec::identify::{IdentifyController, Oacs};
use basalt_nvme_spec::log_page::CommandEffects;
use basalt_nvme_spec::{AdminOpcode, Command, FeatureId, LogPageId};
use zerocopy::{FromBytes, IntoBytes};

use super::AdminPassthru;

/// Features that are the target's in any case.
pub(super) const OWN_FEATURES: [FeatureId; 8] = [
    FeatureId::NUMBER_OF_QUEUES,
    FeatureId::ASYNC_EVENT_CONFIG,
    FeatureId::KEEP_ALIVE_TIMER,
    FeatureId::COMMAND_SET_PROFILE,
    FeatureId::HOST_BEHAVIOR,
    FeatureId::HOST_IDENTIFIER,
    FeatureId::RESERVATION_NOTIFICATION_MASK,
    FeatureId::RESERVATION_PERSISTENCE,
];

/// Log pages that the target keeps, or has a say in.
const OWN_PAGES: [LogPageId; 6] = [
    LogPageId::SUPPORTED_LOG_PAGES,
    LogPageId::CHANGED_NAMESPACES,
    LogPageId::COMMANDS_SUPPORTED,
    LogPageId::ASYMMETRIC_NAMESPACE_ACCESS,
    LogPageId::FEATURES_SUPPORTED,
    LogPageId::RESERVATION_NOTIFICATION,
];

/// What is done to the drive's answer before the host has it.
pub(super) enum Patch {
    /// Nothing.
    None,
    /// Identify Controller: `own` is the target's.
    Identify { own: Vec<u8>, passthru: AdminPassthru },
    /// A log page, of which the drive's and the target's are known as a whole.
    Page { page: LogPageId, own: Vec<u8>, passthru: AdminPassthru },
}

/// Whether the page tells what is supported, by the drive and by the target.
pub(super) const fn is_mixed(page: LogPageId) -> bool {
    matches!(
        page,
        LogPageId::SUPPORTED_LOG_PAGES
            | LogPageId::COMMANDS_SUPPORTED
            | LogPageId::FEATURES_SUPPORTED
    )
}

impl Patch {
    /// The command that the drive gets, and how many bytes it answers.
    pub(super) fn command(&self, command: Command, len: usize) -> (Command, usize) {
        let Self::Page { page, own, .. } = self else { return (command, len) };
        let whole = Command::get_log_page(*page, command.nsid.get(), 0, own.len() as u32);
        (Command { cdw14: command.cdw14, ..whole }, own.len())
    }

    /// What the host gets of what `command` asked for.
    pub(super) fn apply(self, drive: Vec<u8>, command: &Command) -> Vec<u8> {
        match self {
            Self::None => drive,
            Self::Identify { own, passthru } => identify(own, &drive, passthru),
            Self::Page { page, own, passthru } => {
                let mut mixed = mix(page, own, drive, passthru);
                let offset = usize::try_from(command.log_offset()).unwrap_or(usize::MAX);
                mixed.drain(..offset.min(mixed.len()));
                mixed.resize(command.log_bytes() as usize, 0);
                mixed
            }
        }
    }
}

/// The target's Identify Controller with what is the drive's in it.
fn identify(own: Vec<u8>, drive: &[u8], passthru: AdminPassthru) -> Vec<u8> {
    const UUID_LIST: u32 = 1 << 9;
    let Ok(mut mixed) = IdentifyController::read_from_bytes(&own) else { return own };
    let Ok(drive) = IdentifyController::ref_from_bytes(drive) else { return own };
    mixed.sn = drive.sn;
    mixed.mn = drive.mn;
    mixed.fr = drive.fr;
    mixed.ieee = drive.ieee;
    let mut optional = Oacs::empty();
    if passthru.has(AdminPassthru::GET_LOG_PAGE) {
        mixed.lpa = drive.lpa;
        mixed.elpe = drive.elpe;
        mixed.pels = drive.pels;
    }
    if passthru.has(AdminPassthru::SANITIZE) {
        mixed.sanicap = drive.sanicap;
    }
    if passthru.has(AdminPassthru::SECURITY_SEND_RECV) {
        optional |= Oacs::SECURITY;
    }
    if passthru.has(AdminPassthru::FW_UPDATE) {
        optional |= Oacs::FIRMWARE;
        mixed.frmw = drive.frmw;
        mixed.fwug = drive.fwug;
        mixed.mtfa = drive.mtfa;
    }
    if passthru.has(AdminPassthru::VENDOR_SPECIFIC) {
        mixed.avscc = drive.avscc;
    }
    if passthru.has(AdminPassthru::IDENTIFY_UUID_LIST) {
        mixed.ctratt = (mixed.ctratt.get() | drive.ctratt.get() & UUID_LIST).into();
    }
    mixed.oacs = (mixed.oacs.get() | (drive.oacs() & optional).bits()).into();
    mixed.as_bytes().to_vec()
}

/// Both pages have a dword for each identifier.
fn mix(page: LogPageId, mut own: Vec<u8>, mut drive: Vec<u8>, passthru: AdminPassthru) -> Vec<u8> {
    match page {
        LogPageId::COMMANDS_SUPPORTED => {
            for opcode in 0..=u8::MAX {
                if is_passed(AdminOpcode(opcode), passthru) {
                    take(&mut own, &drive, opcode);
                }
            }
            own
        }
        LogPageId::SUPPORTED_LOG_PAGES => {
            OWN_PAGES.iter().for_each(|page| take(&mut drive, &own, page.0));
            drive
        }
        _ if passthru.has(AdminPassthru::GET_SET_FEATURES) => {
            OWN_FEATURES.iter().for_each(|feature| take(&mut drive, &own, feature.0));
            drive
        }
        _ => own,
    }
}

/// Takes over the dword of `index` from another page. Admin commands come first in theirs.
fn take(into: &mut [u8], from: &[u8], index: u8) {
    const _: () = assert!(core::mem::offset_of!(CommandEffects, admin) == 0);
    let at = usize::from(index) * 4;
    if let (Some(into), Some(from)) = (into.get_mut(at..at + 4), from.get(at..at + 4)) {
        into.copy_from_slice(from);
    }
}

/// Whether a command is done by the drive alone.
fn is_passed(opcode: AdminOpcode, passthru: AdminPassthru) -> bool {
    let kind = match opcode {
        AdminOpcode::SANITIZE => AdminPassthru::SANITIZE,
        AdminOpcode::SECURITY_SEND | AdminOpcode::SECURITY_RECEIVE => {
            AdminPassthru::SECURITY_SEND_RECV
        }
        AdminOpcode::FIRMWARE_DOWNLOAD | AdminOpcode::FIRMWARE_COMMIT => AdminPassthru::FW_UPDATE,
        opcode if opcode.is_vendor_specific() => AdminPassthru::VENDOR_SPECIFIC,
        _ => return false,
    };
    passthru.has(kind)
}
