use basalt_env::Device;
use basalt_nvme_spec::Command;
use basalt_nvme_spec::identify::Oacs;
use basalt_nvme_spec::manage::SelfTest;

use crate::{AdminError, Controller};

/// Self-tests (base specification 2.0 §5.8, §8.6).
impl<D: Device> Controller<D> {
    /// Begins a self-test, or ends the one that is under way. It goes on by itself; its result is
    /// in [`Self::self_test_log`]. It tests the controller alone if `nsid` is 0, with all
    /// namespaces if it is [`NSID_ALL`](basalt_nvme_spec::NSID_ALL), or with that one.
    ///
    /// # Errors
    /// [`AdminError::Unsupported`] if the controller has none; see [`AdminError`].
    pub async fn self_test(&self, nsid: u32, test: SelfTest) -> Result<(), AdminError> {
        self.offers(Oacs::SELF_TEST)?;
        self.command(Command::self_test(nsid, test), None).await.map(drop)
    }
}
