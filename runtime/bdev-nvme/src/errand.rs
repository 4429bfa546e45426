//! What a channel has core 0 do for it: it alone sees to the controller as a whole.

use alloc::rc::Rc;

use basalt_bdev::{Io, IoError};
use basalt_env::CoreId;
use basalt_reactor::Local;

use crate::NvmeControllers;
use crate::controllers::ControllerId;
use crate::inbox::Inbox;

/// Has the controller reset, for `io`, which ends when that is done. There is room for it in the
/// inbox.
pub(crate) fn reset(local: &Local, id: ControllerId, inbox: &Rc<Inbox>, mut io: Io) {
    inbox.expect();
    let (waits, inbox) = (local.clone(), Rc::clone(inbox));
    local.spawn("bdev_nvme_reset", async move {
        let order = move |local: Local| async move {
            NvmeControllers::of(&local).reset_by_id(id).await.is_ok()
        };
        let is_back = waits.run_on(CoreId::BOOT, order).await.unwrap_or(false);
        io.status = if is_back { Ok(()) } else { Err(IoError::Removed) };
        inbox.put(io);
    });
}
