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
    /// Bytes of a Write Uncorrectable.
    pub write_uncorrectable_bytes: u64,
    /// Blocks of one range of a Dataset Management.
    pub deallocate_blocks: u32,
}

impl CommandLimits {
    /// None that the controller has told of.
    pub(crate) const NONE: Self = Self {
        verify_bytes: u64::MAX,
        write_zeroes_bytes: u64::MAX,
        write_uncorrectable_bytes: u64::MAX,
        deallocate_blocks: u32::MAX,
    };
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
        write_uncorrectable_bytes: bytes(identify.wusl),
        deallocate_blocks: deallocate_blocks(identify),
    }
}

/// What is no more than a range may be, nor than all ranges together may be: there is but one.
fn deallocate_blocks(identify: &IdentifyNvmController) -> u32 {
    let limit = |blocks: u64| if blocks == 0 { u64::MAX } else { blocks };
    let blocks = limit(identify.dmrsl.get().into()).min(limit(identify.dmsl.get()));
    u32::try_from(blocks).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

    use super::*;

    #[test]
    fn a_deallocation_keeps_to_the_limit_of_a_range_and_to_that_of_all() {
        let with = |dmrsl, dmsl| {
            let mut identify = IdentifyNvmController::new_zeroed();
            (identify.dmrsl, identify.dmsl) = (u32::into(dmrsl), u64::into(dmsl));
            limits(&identify, 4096).deallocate_blocks
        };
        assert_eq!(with(0, 0), u32::MAX);
        assert_eq!((with(9, 0), with(0, 7)), (9, 7));
        assert_eq!((with(9, 7), with(7, 9), with(0, 1 << 40)), (7, 7, u32::MAX));
    }
}
