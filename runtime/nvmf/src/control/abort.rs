//! Abort, for commands of all queues of a controller.

use alloc::vec::Vec;
use core::time::Duration;

use basalt_nvme_spec::Status;
use basalt_reactor::Local;

use super::Target;
use super::controller::Controller;
use crate::command::Outcome;
use crate::connection::{Aborting, AdminReply, AdminRequest, ConnectionId};
use crate::group::PollGroup;

/// Bit 0 of the result: the command was not aborted.
const NOT_ABORTED: u64 = 1;

impl Target {
    /// Abort (base specification 2.0 §5.1): of held event requests at once, and of I/O commands
    /// wherever they are, which may have to be waited for. Whatever is aborted completes first, so
    /// the answer goes behind it. Other admin commands are done soon anyway.
    pub(super) fn abort(&self, controller: &mut Controller, request: &AdminRequest) -> AdminReply {
        let target = request.command.cdw10.get();
        let (sqid, cid) = (target as u16, (target >> 16) as u16);
        if sqid == 0 {
            return self.abort_event_request(controller, request, cid);
        }
        let queue = controller.queues.iter().find(|queue| queue.qid == sqid);
        let Some(connection) = queue.map(|queue| queue.connection) else {
            return not_aborted();
        };
        let (admin, tag) = (controller.admin, request.tag);
        let (local, limit) = (self.local.clone(), self.config.get().abort_timeout);
        self.local.spawn("nvmf_abort", async move {
            let abort =
                move |local: Local| async move { abort_on(&local, connection, cid, limit).await };
            let is_aborted = local.run_on(connection.core, abort).await.unwrap_or(false);
            if let Some(target) = local.service::<Target>() {
                let result = if is_aborted { 0 } else { NOT_ABORTED };
                target.answer(admin, tag, AdminReply::Done(Outcome::value(result), Vec::new()));
            }
        });
        AdminReply::Held
    }

    fn abort_event_request(
        &self,
        controller: &mut Controller,
        request: &AdminRequest,
        cid: u16,
    ) -> AdminReply {
        let held = controller.requests.iter().position(|held| held.cid == cid);
        let Some(at) = held else { return not_aborted() };
        let held = controller.requests.remove(at);
        let aborted = AdminReply::Done(Status::ABORT_REQUESTED.into(), Vec::new());
        self.answer(controller.admin, held.tag, aborted);
        self.answer(controller.admin, request.tag, AdminReply::Done(Outcome::OK, Vec::new()));
        AdminReply::Held
    }
}

fn not_aborted() -> AdminReply {
    AdminReply::Done(Outcome::value(NOT_ABORTED), Vec::new())
}

/// On the core that has the connection; whether the command was aborted in time.
async fn abort_on(local: &Local, id: ConnectionId, cid: u16, limit: Duration) -> bool {
    let Some(group) = local.service::<PollGroup>() else { return false };
    match group.abort(id, cid) {
        Aborting::Done => true,
        Aborting::No => false,
        Aborting::Asked(end) => matches!(local.timeout(limit, end).await, Ok(Ok(true))),
    }
}
