//! What a host administers: formats, namespaces, firmware, self-tests and sanitizing.

mod background;
mod firmware;
mod namespaces;

use std::collections::VecDeque;

use basalt_nvme_spec::identify::{Oacs, Oncs};
use basalt_nvme_spec::log_page::{CommandEffects, SelfTestResult};
use basalt_nvme_spec::manage::{FormatAttributes, SanitizeCapabilities};
use basalt_nvme_spec::{AdminOpcode, Command, IdentifyController, NvmOpcode, Status};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::queues::Answer;
use super::state::{Namespace, State};
use background::{Sanitizing, Testing};
use firmware::Firmware;

/// What a controller lets its host administer.
#[derive(Clone, Debug)]
pub struct ManageConfig {
    /// Of the optional admin commands those that are for that.
    pub oacs: Oacs,
    /// What it says of formats.
    pub fna: FormatAttributes,
    /// Bytes that namespaces may have together, at least what they have at first.
    pub capacity: u64,
    /// Largest namespace identifier.
    pub nsid_max: u32,
    /// Firmware slots, 1 to 7, of which the first can only be read if that is so.
    pub firmware_slots: u8,
    /// See [`Self::firmware_slots`].
    pub first_is_fixed: bool,
    /// Whether images can be activated without a reset.
    pub activates_now: bool,
    /// Granularity of firmware images, in pages; 0 if it tells of none.
    pub fwug: u8,
    /// How it sanitizes.
    pub sanicap: SanitizeCapabilities,
    /// How many steps of the model a sanitize operation and a self-test take.
    pub steps: u32,
}

impl Default for ManageConfig {
    /// Nothing at all.
    fn default() -> Self {
        Self {
            oacs: Oacs::empty(),
            fna: FormatAttributes::empty(),
            capacity: 0,
            nsid_max: 0,
            firmware_slots: 1,
            first_is_fixed: false,
            activates_now: false,
            fwug: 0,
            sanicap: SanitizeCapabilities::empty(),
            steps: 100,
        }
    }
}

impl ManageConfig {
    /// All there is, for namespaces of 64 MiB together and three slots, the first fixed.
    pub fn full() -> Self {
        Self {
            oacs: Oacs::FORMAT | Oacs::FIRMWARE | Oacs::NAMESPACE_MANAGEMENT | Oacs::SELF_TEST,
            fna: FormatAttributes::CRYPTOGRAPHIC,
            capacity: 64 << 20,
            nsid_max: 16,
            firmware_slots: 3,
            first_is_fixed: true,
            activates_now: true,
            fwug: 1,
            sanicap: SanitizeCapabilities::BLOCK_ERASE
                | SanitizeCapabilities::CRYPTO_ERASE
                | SanitizeCapabilities::OVERWRITE,
            ..Self::default()
        }
    }
}

/// What of that has been done.
pub(super) struct Managed {
    /// The namespaces that exist and are not attached.
    pub(super) detached: Vec<Namespace>,
    pub(super) firmware: Firmware,
    testing: Option<Testing>,
    results: VecDeque<SelfTestResult>,
    sanitizing: Sanitizing,
}

impl Managed {
    pub(super) fn new() -> Self {
        Self {
            detached: Vec::new(),
            firmware: Firmware::new(),
            testing: None,
            results: VecDeque::new(),
            sanitizing: Sanitizing::default(),
        }
    }
}

/// Bytes per block of the formats a namespace can have.
pub(super) const BLOCK_SIZES: [u32; 2] = [512, 4096];

impl State {
    fn offers(&self, oacs: Oacs) -> Result<(), Status> {
        let offered = self.config.manage.oacs.contains(oacs);
        if offered { Ok(()) } else { Err(Status::INVALID_OPCODE.with_dnr()) }
    }

    /// Carries out a command of this kind; `None` if it is another one.
    pub(super) fn manage(&mut self, command: &Command) -> Option<Answer> {
        let opcode = AdminOpcode(command.opcode);
        let run = match opcode {
            AdminOpcode::FORMAT_NVM => Self::format,
            AdminOpcode::NAMESPACE_MANAGEMENT => Self::manage_namespace,
            AdminOpcode::NAMESPACE_ATTACHMENT => Self::attach_or_detach,
            AdminOpcode::FIRMWARE_DOWNLOAD => Self::download,
            AdminOpcode::FIRMWARE_COMMIT => Self::commit,
            AdminOpcode::DEVICE_SELF_TEST => Self::self_test,
            AdminOpcode::SANITIZE => Self::sanitize,
            _ => return None,
        };
        let idle = self.check_sanitized();
        let busy = idle.is_err() && opcode != AdminOpcode::SANITIZE;
        Some(Some(if busy { idle.map(|()| 0) } else { run(self, command) }))
    }

    /// A unit of time has passed.
    pub(super) fn manage_step(&mut self) {
        self.step_test();
        self.step_sanitizing();
    }

    /// The controller is reset.
    pub(super) fn manage_reset(&mut self) {
        self.managed.firmware.reset();
        self.reset_test();
    }

    /// Adds what the controller says of all this.
    pub(super) fn describe_management(&self, page: &mut IdentifyController) {
        let config = &self.config.manage;
        page.oacs = U16::new(page.oacs.get() | config.oacs.bits());
        page.fna = config.fna.bits();
        page.lpa |= 1 << 1;
        page.frmw = u8::from(config.first_is_fixed)
            | config.firmware_slots << 1
            | u8::from(config.activates_now) << 4;
        page.fwug = config.fwug;
        page.sanicap = U32::new(config.sanicap.bits());
        page.edstt = U16::new(1);
        page.fr = self.managed.firmware.revision();
        page.mnan = U32::new(config.nsid_max);
        page.nn = U32::new(page.nn.get().max(config.nsid_max));
        page.tnvmcap = u128::from(config.capacity.max(self.used())).into();
        page.unvmcap = u128::from(config.capacity.saturating_sub(self.used())).into();
    }

    /// Bytes of all namespaces.
    fn used(&self) -> u64 {
        let all = self.namespaces.iter().chain(&self.managed.detached);
        all.map(|namespace| namespace.data.len() as u64).sum()
    }

    /// The commands the controller does.
    pub(super) fn effects_page(&self) -> Vec<u8> {
        let mut page = CommandEffects::default();
        let basic = [
            AdminOpcode::IDENTIFY,
            AdminOpcode::GET_LOG_PAGE,
            AdminOpcode::SET_FEATURES,
            AdminOpcode::GET_FEATURES,
            AdminOpcode::ABORT,
        ];
        let format = CommandEffects::LOGICAL_BLOCKS_CHANGE | CommandEffects::NAMESPACES_CHANGE;
        let optional = [
            (Oacs::FORMAT, AdminOpcode::FORMAT_NVM, format),
            (
                Oacs::NAMESPACE_MANAGEMENT,
                AdminOpcode::NAMESPACE_MANAGEMENT,
                CommandEffects::INVENTORY_CHANGE,
            ),
            (Oacs::FIRMWARE, AdminOpcode::FIRMWARE_COMMIT, CommandEffects::CONTROLLER_CHANGE),
            (Oacs::SELF_TEST, AdminOpcode::DEVICE_SELF_TEST, 0),
        ];
        let offered = optional.iter().filter(|(oacs, ..)| self.offers(*oacs).is_ok());
        let known = offered.map(|&(_, opcode, effects)| (opcode, effects));
        for (opcode, effects) in basic.into_iter().map(|opcode| (opcode, 0)).chain(known) {
            let entry = &mut page.admin[usize::from(opcode.0)];
            *entry = U32::new(CommandEffects::SUPPORTED | effects);
        }
        let writes = CommandEffects::SUPPORTED | CommandEffects::LOGICAL_BLOCKS_CHANGE;
        page.io[usize::from(NvmOpcode::READ.0)] = U32::new(CommandEffects::SUPPORTED);
        page.io[usize::from(NvmOpcode::WRITE.0)] = U32::new(writes);
        if self.config.oncs.contains(Oncs::WRITE_ZEROES) {
            page.io[usize::from(NvmOpcode::WRITE_ZEROES.0)] = U32::new(writes);
        }
        page.as_bytes().to_vec()
    }

    fn power_on_hours(&self) -> U64 {
        U64::new(self.smart.power_on_hours.get() as u64)
    }
}
