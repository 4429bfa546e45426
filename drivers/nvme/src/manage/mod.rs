//! What a host administers: formats, namespaces, firmware, self-tests, sanitizing (base
//! specification 2.0 §5.8, §5.12–5.14, §5.22–5.24).
//!
//! Each asks only for what the controller offers, and has the limit of time that it needs. What
//! may have changed namespaces is followed by a [`Controller::rescan`] of its sender's, who has
//! made sure before that nobody uses them.

mod firmware;
mod format;
mod namespaces;
mod sanitize;
mod self_test;

use core::time::Duration;

use basalt_env::{Device, DmaBuf};
use basalt_nvme_spec::identify::Oacs;
use basalt_nvme_spec::log_page::{CommandEffects, FirmwareSlots, SanitizeStatus, SelfTestLog};
use basalt_nvme_spec::{AdminOpcode, LogPageId, NSID_ALL};
use zerocopy::FromBytes;

use crate::{AdminError, Controller};

/// How long those admin commands may take that take longer than others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LongLimits {
    /// A Format NVM: drives that overwrite what they erase take as long as they are large.
    pub format: Duration,
    /// A Namespace Management or Attachment.
    pub namespace: Duration,
    /// A piece of a firmware image, or its commit; the controller may ask for more (MTFA).
    pub firmware: Duration,
}

impl Default for LongLimits {
    /// An hour, two minutes, and two minutes.
    fn default() -> Self {
        Self {
            format: Duration::from_secs(60 * 60),
            namespace: Duration::from_secs(120),
            firmware: Duration::from_secs(120),
        }
    }
}

impl<D: Device> Controller<D> {
    fn offers(&self, oacs: Oacs) -> Result<(), AdminError> {
        let offered = self.identify.borrow().oacs().contains(oacs);
        if offered { Ok(()) } else { Err(AdminError::Unsupported) }
    }

    /// A buffer of `bytes` zeroes.
    fn zeroes(&self, bytes: usize) -> Result<DmaBuf, AdminError> {
        let mut buf = self.pool.alloc(bytes).map_err(|_| AdminError::NoMemory)?;
        buf.as_mut_slice().fill(0);
        Ok(buf)
    }

    /// How long a command may take.
    pub(crate) fn limit_of(&self, opcode: AdminOpcode) -> Duration {
        let LongLimits { format, namespace, firmware } = self.options.long;
        match opcode {
            AdminOpcode::FORMAT_NVM => format,
            AdminOpcode::NAMESPACE_MANAGEMENT | AdminOpcode::NAMESPACE_ATTACHMENT => namespace,
            AdminOpcode::FIRMWARE_DOWNLOAD => firmware,
            AdminOpcode::FIRMWARE_COMMIT => {
                // Longest time for activation, in 100 ms.
                let mtfa = self.identify.borrow().mtfa.get();
                firmware + 100 * Duration::from_millis(mtfa.into())
            }
            _ => self.options.admin_timeout,
        }
    }

    async fn log<T: FromBytes>(&self, page: LogPageId, nsid: u32) -> Result<T, AdminError> {
        let bytes = self.log_page(page, nsid, 0, size_of::<T>() as u32).await?;
        let (log, _) = T::read_from_prefix(bytes.as_slice()).map_err(|_| AdminError::BadData)?;
        Ok(log)
    }

    /// Reads the firmware slot log page.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn firmware_slots(&self) -> Result<FirmwareSlots, AdminError> {
        self.log(LogPageId::FIRMWARE_SLOT, NSID_ALL).await
    }

    /// Reads which commands the controller does, and what they affect.
    ///
    /// # Errors
    /// [`AdminError::Unsupported`] if it does not tell; see [`AdminError`].
    pub async fn command_effects(&self) -> Result<CommandEffects, AdminError> {
        // Log page attributes, bit 1 (§5.17.2.1).
        if self.identify.borrow().lpa & 1 << 1 == 0 {
            return Err(AdminError::Unsupported);
        }
        self.log(LogPageId::COMMANDS_SUPPORTED, NSID_ALL).await
    }

    /// Reads what self-test is under way, and how the last ones ended.
    ///
    /// # Errors
    /// [`AdminError::Unsupported`] if there are none; see [`AdminError`].
    pub async fn self_test_log(&self) -> Result<SelfTestLog, AdminError> {
        self.offers(Oacs::SELF_TEST)?;
        self.log(LogPageId::DEVICE_SELF_TEST, NSID_ALL).await
    }

    /// Reads how the sanitize operation stands that is under way, or was last.
    ///
    /// # Errors
    /// [`AdminError::Unsupported`] if there is none; see [`AdminError`].
    pub async fn sanitize_status(&self) -> Result<SanitizeStatus, AdminError> {
        if self.identify.borrow().sanicap.get() == 0 {
            return Err(AdminError::Unsupported);
        }
        self.log(LogPageId::SANITIZE_STATUS, NSID_ALL).await
    }
}
