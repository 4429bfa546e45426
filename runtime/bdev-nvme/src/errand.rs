//! What a channel has core 0 do for it: it alone sees to the controller as a whole.

use alloc::rc::Rc;

use basalt_bdev::{Io, IoError, IoStatus, SgList};
use basalt_env::{CoreId, DmaPool, Parcel};
use basalt_nvme::AdminError;
use basalt_nvme_spec::{Command, Status};
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

/// Has the controller carry out the admin command of `io`, which ends with it. There is room for
/// it in the inbox.
pub(crate) fn admin(local: &Local, id: ControllerId, inbox: &Rc<Inbox>, mut io: Io) {
    inbox.expect();
    let (waits, inbox) = (local.clone(), Rc::clone(inbox));
    local.spawn("bdev_nvme_admin", async move {
        io.status = send_admin(&waits, id, &mut io.data).await;
        inbox.put(io);
    });
}

async fn send_admin(local: &Local, id: ControllerId, data: &mut SgList) -> IoStatus {
    let SgList::Nvme(passthru) = data else { return Err(IoError::Aborted) };
    let command: Command = zerocopy::transmute!(passthru.command.map(u32::to_le));
    let parcel = passthru.data.take().map(Parcel::new);
    let order = move |local: Local| async move {
        let pool = local.service::<DmaPool>().ok_or(AdminError::NoMemory)?;
        let data = parcel.map(|parcel| parcel.open(&pool));
        let answer = NvmeControllers::of(&local).admin_by_id(id, command, data).await?;
        Ok((answer.dw0, answer.data.map(Parcel::new)))
    };
    let answer = local.run_on(CoreId::BOOT, order).await.unwrap_or(Err(AdminError::Reset));
    let (result, parcel) = answer.map_err(|error| io_error(&error))?;
    passthru.result = result;
    if let Some(pool) = local.service::<DmaPool>() {
        passthru.data = parcel.map(|parcel| parcel.open(&pool));
    }
    Ok(())
}

/// How a failed admin command looks to who sent it. What the driver refuses, a controller would
/// refuse in these words.
fn io_error(error: &AdminError) -> IoError {
    let status = match error {
        AdminError::Status(status) => *status,
        AdminError::NotAllowed => Status::INVALID_OPCODE.with_dnr(),
        AdminError::BadBuffer => Status::INVALID_FIELD.with_dnr(),
        AdminError::Timeout => return IoError::Timeout,
        AdminError::NoMemory | AdminError::QueueFull => return IoError::NoResources,
        AdminError::Removed => return IoError::Removed,
        _ => return IoError::Aborted,
    };
    IoError::Nvme { sct: status.sct(), sc: status.sc(), dnr: status.dnr() }
}
