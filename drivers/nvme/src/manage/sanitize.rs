use basalt_env::Device;
use basalt_nvme_spec::Command;
use basalt_nvme_spec::manage::{
    Deallocation, Sanitize, SanitizeAction, SanitizeCapabilities as Capabilities,
};

use crate::{AdminError, Controller};

/// Sanitizing (base specification 2.0 §5.24, §8.21).
impl<D: Device> Controller<D> {
    /// Begins to sanitize the whole subsystem, which goes on by itself, through resets and without
    /// power: all I/O fails until it is done. Whatever is on any namespace is lost. How it stands
    /// is in [`Self::sanitize_status`].
    ///
    /// # Errors
    /// [`AdminError::Unsupported`] if the controller does not do that; [`AdminError::BadArgument`]
    /// for a number of passes that is not 1 to 16; see [`AdminError`].
    pub async fn sanitize(&self, sanitize: Sanitize) -> Result<(), AdminError> {
        let offered = self.identify.borrow().sanitize_capabilities();
        let methods =
            Capabilities::CRYPTO_ERASE | Capabilities::BLOCK_ERASE | Capabilities::OVERWRITE;
        let wanted = match sanitize.action {
            SanitizeAction::ExitFailure => offered & methods,
            SanitizeAction::BlockErase => Capabilities::BLOCK_ERASE,
            SanitizeAction::Overwrite(_) => Capabilities::OVERWRITE,
            SanitizeAction::CryptoErase => Capabilities::CRYPTO_ERASE,
        };
        let keeps = sanitize.deallocation == Deallocation::No;
        if wanted.is_empty()
            || !offered.contains(wanted)
            || keeps && offered.contains(Capabilities::ALWAYS_DEALLOCATES)
        {
            return Err(AdminError::Unsupported);
        }
        if let SanitizeAction::Overwrite(passes) = sanitize.action
            && !(1..=16).contains(&passes.passes)
        {
            return Err(AdminError::BadArgument);
        }
        self.command(Command::sanitize(sanitize), None).await.map(drop)
    }
}
