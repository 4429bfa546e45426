use basalt_env::Device;
use basalt_nvme_spec::identify::size_limit;
use basalt_nvme_spec::{Cns, Command, Csi, IdentifyNvmController};
use zerocopy::FromBytes;

use crate::discover::failed;
use crate::{AdminError, Controller, InitError};

/// Most that one command names which moves no data (NVM command set 1.0 §4.1.5.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommandLimits {
    /// Bytes of a Verify.
    pub verify_bytes: u64,
    /// Bytes of a Write Zeroes.
    pub write_zeroes_bytes: u64,
    /// Blocks of one range of a Dataset Management.
    pub deallocate_blocks: u32,
}

impl CommandLimits {
    /// None that the controller has told of.
    pub(crate) const NONE: Self =
        Self { verify_bytes: u64::MAX, write_zeroes_bytes: u64::MAX, deallocate_blocks: u32::MAX };
}

impl<D: Device> Controller<D> {
    /// Most that one command names which moves no data.
    pub fn command_limits(&self) -> CommandLimits {
        self.limits.get()
    }

    /// Asks for them. A controller that does not know the question has none.
    pub(crate) async fn identify_limits(&self) -> Result<(), InitError> {
        let command = Command::identify_csi(Cns::CONTROLLER_FOR_CSI, 0, Csi::NVM);
        let limits = match self.page(command).await {
            Ok(page) => {
                let identify = IdentifyNvmController::read_from_bytes(page.as_slice())
                    .map_err(|_| failed(command)(AdminError::BadData))?;
                limits(&identify, self.cap.page_size_min())
            }
            Err(AdminError::Status(_)) => CommandLimits::NONE,
            Err(error) => return Err(failed(command)(error)),
        };
        self.limits.set(limits);
        Ok(())
    }
}

fn limits(identify: &IdentifyNvmController, page_size_min: u64) -> CommandLimits {
    let bytes = |field| size_limit(field, page_size_min).unwrap_or(u64::MAX);
    CommandLimits {
        verify_bytes: bytes(identify.vsl),
        write_zeroes_bytes: bytes(identify.wzsl),
        deallocate_blocks: match identify.dmrsl.get() {
            0 => u32::MAX,
            blocks => blocks,
        },
    }
}
