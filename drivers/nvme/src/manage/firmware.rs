use basalt_env::Device;
use basalt_nvme_spec::identify::Oacs;
use basalt_nvme_spec::manage::{Activation, FirmwareAction, FirmwareUpdates};
use basalt_nvme_spec::{Command, Status};

use crate::{AdminError, Controller};

/// Most bytes of an image that one command carries.
const PIECE_MAX: u64 = 128 << 10;

/// Firmware (base specification 2.0 §5.12, §5.13, §8.11).
impl<D: Device> Controller<D> {
    /// Hands the controller a part of a firmware image that starts at byte `offset` of it. It goes
    /// in pieces as the controller wants them; the last may be shorter.
    ///
    /// # Errors
    /// [`AdminError::Unsupported`] if the controller takes none; [`AdminError::BadArgument`] if
    /// `image` is empty or no multiple of 4 bytes, or `offset` is no multiple of what the
    /// controller wants pieces to be; see [`AdminError`].
    pub async fn download_firmware(&self, offset: u32, image: &[u8]) -> Result<(), AdminError> {
        self.offers(Oacs::FIRMWARE)?;
        let granularity = self.identify.borrow().firmware_granularity();
        let end = u64::from(offset) + image.len() as u64;
        let sane = !image.is_empty() && image.len().is_multiple_of(4) && end <= 1 << 32;
        if !sane || !offset.is_multiple_of(granularity) {
            return Err(AdminError::BadArgument);
        }
        let most = PIECE_MAX.min(self.transfer_max()) as u32;
        let piece = (most - most % granularity).max(granularity);
        for (index, part) in (0..).zip(image.chunks(piece as usize)) {
            let at = offset + index * piece;
            let mut data = self.pool.alloc(part.len()).map_err(|_| AdminError::NoMemory)?;
            data.as_mut_slice().copy_from_slice(part);
            let command = Command::firmware_download(at, part.len() as u32);
            self.command(command, Some(data)).await?;
        }
        Ok(())
    }

    /// Keeps the image that was downloaded, or has one that was kept run, as `action` says. `slot`
    /// is 1 to as many as there are, or 0 for one of the controller's choice.
    ///
    /// # Errors
    /// [`AdminError::Unsupported`] if the controller does not do that; [`AdminError::BadArgument`]
    /// if there is no such slot, it cannot be written, or has to be named and is not; see
    /// [`AdminError`].
    pub async fn commit_firmware(
        &self,
        slot: u8,
        action: FirmwareAction,
    ) -> Result<Activation, AdminError> {
        self.offers(Oacs::FIRMWARE)?;
        let FirmwareUpdates { slots, first_is_fixed, activates_now } =
            self.identify.borrow().firmware_updates();
        let stores =
            matches!(action, FirmwareAction::Store | FirmwareAction::StoreAndActivateAtReset);
        let unnamed = slot == 0 && action == FirmwareAction::ActivateAtReset;
        if slot > slots || slot == 1 && first_is_fixed && stores || unnamed {
            return Err(AdminError::BadArgument);
        }
        if action == FirmwareAction::ActivateNow && !activates_now {
            return Err(AdminError::Unsupported);
        }
        let ended = self.command(Command::firmware_commit(slot, action), None).await;
        match (ended, action) {
            (Ok(_), FirmwareAction::Store) => Ok(Activation::NotAsked),
            (Ok(_), FirmwareAction::ActivateNow) => Ok(Activation::Done),
            (Ok(_), _) => Ok(Activation::ControllerReset),
            (Err(AdminError::Status(status)), _) => {
                asked_for(status).ok_or(AdminError::Status(status))
            }
            (Err(error), _) => Err(error),
        }
    }
}

/// What statuses ask for that are no failures (§5.12.1).
fn asked_for(status: Status) -> Option<Activation> {
    let answers = [
        (Status::FIRMWARE_NEEDS_CONTROLLER_RESET, Activation::ControllerReset),
        (Status::FIRMWARE_NEEDS_SUBSYSTEM_RESET, Activation::SubsystemReset),
        (Status::FIRMWARE_NEEDS_CONVENTIONAL_RESET, Activation::ConventionalReset),
        (Status::FIRMWARE_NEEDS_MAXIMUM_TIME, Activation::ResetForLackOfTime),
    ];
    answers.iter().find(|(answer, _)| status.is(*answer)).map(|(_, activation)| *activation)
}
