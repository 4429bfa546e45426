use basalt_env::{Device, DmaBuf};
use basalt_nvme_spec::log_page::SmartHealth;
use basalt_nvme_spec::{Command, LogPageId, NSID_ALL};
use zerocopy::FromBytes;

use crate::{AdminError, Controller};

impl<D: Device> Controller<D> {
    /// Reads a log page of `bytes` (a multiple of 4, at most 8,192) from byte `offset`.
    pub async fn log_page(
        &self,
        page: LogPageId,
        nsid: u32,
        offset: u64,
        bytes: u32,
    ) -> Result<DmaBuf, AdminError> {
        let len = bytes.max(4).next_multiple_of(4);
        let buf = self.pool.alloc(len as usize).map_err(|_| AdminError::NoMemory)?;
        let command = Command::get_log_page(page, nsid, offset, len);
        self.admin(command, Some(buf)).await?.data.ok_or(AdminError::BadData)
    }

    /// Reads the SMART / health log page of the whole controller.
    pub async fn smart(&self) -> Result<SmartHealth, AdminError> {
        let len = size_of::<SmartHealth>() as u32;
        let page = self.log_page(LogPageId::SMART_HEALTH, NSID_ALL, 0, len).await?;
        SmartHealth::read_from_bytes(page.as_slice()).map_err(|_| AdminError::BadData)
    }
}
