//! What a channel has core 0 do for it: it alone sees to the controller as a whole.

use alloc::rc::Rc;

use basalt_bdev::{Io, IoError, IoStatus, NvmePassthru, SgList};
use basalt_env::{CoreId, DmaPool, Parcel};
use basalt_nvme::{AdminError, Outcome};
use basalt_nvme_spec::{Command, Status};
use basalt_reactor::Local;

use crate::NvmeControllers;
use crate::controllers::{ControllerId, ControllerOrder};
use crate::inbox::Inbox;

/// Has the controller reset, for `io`, which ends when that is done. There is room for it in the
/// inbox.
pub(crate) fn reset(local: &Local, id: ControllerId, inbox: &Rc<Inbox>, mut io: Io) {
    inbox.expect();
    let (waits, inbox) = (local.clone(), Rc::clone(inbox));
    local.spawn("bdev_nvme_reset", async move {
        let order = move |local: Local| async move {
            NvmeControllers::of(&local).order_by_id(id, ControllerOrder::Reset).await.is_ok()
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
    let NvmePassthru { command, data, .. } = core::mem::take(&mut **passthru);
    let parcel = data.map(Parcel::new);
    let order = move |local: Local| async move {
        let pool = local.service::<DmaPool>();
        let data = parcel.zip(pool).map(|(parcel, pool)| parcel.open(&pool));
        let sent = NvmePassthru { command, data, result: 0 };
        let (sent, status) = NvmeControllers::of(&local).passthru(id, sent).await;
        (sent.result, sent.data.map(Parcel::new), status)
    };
    let answer = local.run_on(CoreId::BOOT, order).await;
    let (result, parcel, status) = answer.unwrap_or((0, None, Err(IoError::Aborted)));
    let pool = local.service::<DmaPool>();
    let data = parcel.zip(pool).map(|(parcel, pool)| parcel.open(&pool));
    **passthru = NvmePassthru { command, data, result };
    status
}

impl NvmeControllers {
    /// Has the controller of that name carry out an admin command, of those whose data length is
    /// known and that manage nothing the driver does. What the driver refuses ends as a controller
    /// would refuse it.
    pub async fn admin_passthru(
        &self,
        name: &str,
        passthru: NvmePassthru,
    ) -> (NvmePassthru, IoStatus) {
        match self.id_of(name) {
            Some(id) => self.passthru(id, passthru).await,
            None => (passthru, Err(IoError::Removed)),
        }
    }

    async fn passthru(&self, id: ControllerId, passthru: NvmePassthru) -> (NvmePassthru, IoStatus) {
        let NvmePassthru { command, data, .. } = passthru;
        let entry: Command = zerocopy::transmute!(command.map(u32::to_le));
        match self.admin_by_id(id, entry, data).await {
            Ok(Outcome { dw0, data }) => (NvmePassthru { command, data, result: dw0 }, Ok(())),
            Err(error) => {
                let nothing = NvmePassthru { command, ..NvmePassthru::default() };
                (nothing, Err(io_error(&error)))
            }
        }
    }
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
