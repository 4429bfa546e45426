//! Reservation commands, from the queue they came by to every core that has to know.
//!
//! ```text
//!   I/O queue -> boot core: registrations change -> every core: who may do what
//!                                                -> every core, if so asked: commands end
//!                                                -> hosts are told -> the command ends
//! ```

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_env::CoreId;
use basalt_nvme_spec::reservation::ReservationKeys;
use basalt_nvme_spec::{Command, NvmOpcode, Status};
use basalt_reactor::{CallError, Local};
use zerocopy::FromBytes;

use super::Target;
use super::reservations::Change;
use super::subsystem::Subsystem;
use crate::command::Outcome;
use crate::connection::{AdminReply, AdminRequest, ConnectionId, Preempted};
use crate::group::{HostId, PollGroup, SubsystemView, Tag};

/// How often a core looks whether commands that were to be aborted have ended.
const LOOK_PERIOD: Duration = Duration::from_micros(100);

/// A change of registrations on its way to the cores.
struct Settling {
    view: Arc<SubsystemView>,
    nsid: u32,
    change: Change,
    /// The command that has changed them.
    connection: ConnectionId,
    tag: Tag,
}

impl Target {
    /// A reservation command of an I/O queue (§8.19). The answer to one that changes something
    /// comes when all cores know.
    pub(super) fn reserve(&self, cntlid: u16, request: &AdminRequest) -> AdminReply {
        let done = |status: Status| AdminReply::Done(status.into(), Vec::new());
        self.try_reserve(cntlid, request).unwrap_or_else(done)
    }

    fn try_reserve(&self, cntlid: u16, request: &AdminRequest) -> Result<AdminReply, Status> {
        const NONE: HostId = [0; 16];
        let state = &mut *self.state.borrow_mut();
        let controller = state.controllers.iter().find(|controller| controller.cntlid == cntlid);
        let controller = controller.filter(|controller| controller.is_in_use());
        let controller = controller.ok_or(Status::ABORTED_SQ_DELETION)?;
        let host = controller.hostid;
        if host == NONE {
            return Err(Status::HOST_ID_NOT_INITIALIZED.with_dnr());
        }
        let command = &request.command;
        let nsid = command.nsid.get();
        let invalid = Status::INVALID_NAMESPACE.with_dnr();
        let ours = |subsystem: &&mut Subsystem| Some(subsystem.id) == controller.subsystem;
        let subsystem = state.subsystems.iter_mut().find(ours).ok_or(invalid)?;
        // What the core knew when it let the command in may be out of date.
        let namespace = subsystem.namespace_for(controller, nsid).ok_or(invalid)?;
        if let Some(refusal) = subsystem.state_for(controller, namespace).refusal() {
            return Err(refusal);
        }
        let reservations = &mut subsystem.namespaces.get_mut(&nsid).ok_or(invalid)?.reservations;
        if NvmOpcode(command.opcode) == NvmOpcode::RESERVATION_REPORT {
            let report = reservations.report();
            return reported(command, report, request.len_max);
        }
        let change = reservations.run(host, command, keys(&request.data)?)?;
        subsystem.version += 1;
        let (connection, tag) = (request.connection, request.tag);
        let view = subsystem.view();
        let settling = Settling { view, nsid, change, connection, tag };
        self.settle(state.members.clone(), settling);
        Ok(AdminReply::Held)
    }

    /// Has all cores learn of a change before the command ends that has made it.
    fn settle(&self, members: Vec<CoreId>, settling: Settling) {
        let local = self.local.clone();
        self.local.spawn("nvmf_reserve", async move {
            let Settling { view, nsid, change, connection, tag } = settling;
            for core in &members {
                let view = Arc::clone(&view);
                on_group(&local, *core, move |group| group.refresh(&view)).await;
            }
            if !change.aborted.is_empty() {
                end_commands(&local, &members, view.subsystem, nsid, change.aborted.into()).await;
            }
            if let Some(target) = local.service::<Self>() {
                target.notify(view.subsystem, nsid, &change.notices);
                target.answer(connection, tag, AdminReply::Done(Outcome::OK, Vec::new()));
            }
        });
    }
}

/// The answer to a Reservation Report: as much as the host has asked for, zeroes after the end.
fn reported(command: &Command, mut report: Vec<u8>, len_max: u32) -> Result<AdminReply, Status> {
    if !command.is_extended_report() {
        return Err(Status::HOST_ID_INCONSISTENT.with_dnr());
    }
    report.resize(len_max as usize, 0);
    Ok(AdminReply::Done(Outcome::OK, report))
}

/// The keys a command came with: one or two.
fn keys(data: &[u8]) -> Result<ReservationKeys, Status> {
    const LEN: usize = size_of::<ReservationKeys>();
    let mut bytes = [0; LEN];
    let len = data.len().min(LEN);
    bytes[..len].copy_from_slice(&data[..len]);
    ReservationKeys::read_from_bytes(&bytes).map_err(|_| Status::INTERNAL_ERROR)
}

/// Runs `f` on the poll group of `core`, however long its mailbox stays full. Who has gone does
/// nothing that could matter.
async fn on_group<R: Default + Send + 'static>(
    local: &Local,
    core: CoreId,
    f: impl Fn(&PollGroup) -> R + Clone + Send + 'static,
) -> R {
    loop {
        let f = f.clone();
        let run = move |local: &Local| local.service::<PollGroup>().map(|group| f(&group));
        match local.call(core, run).await {
            Err(CallError::Busy) => log::warn!(target: "nvmf", "core {core} does not answer"),
            answer => return answer.ok().flatten().unwrap_or_default(),
        }
    }
}

/// Aborts the commands of `hosts` that are under way on a namespace, and waits until the last of
/// them has ended, aborted or not.
async fn end_commands(
    local: &Local,
    members: &[CoreId],
    subsystem: u32,
    nsid: u32,
    hosts: Arc<[HostId]>,
) {
    let mut marks = Vec::new();
    for core in members {
        let hosts = Arc::clone(&hosts);
        let abort =
            move |group: &PollGroup| group.abort_all(&Preempted { subsystem, nsid, hosts: &hosts });
        marks.push((*core, on_group(local, *core, abort).await));
    }
    for (core, mark) in marks {
        loop {
            let hosts = Arc::clone(&hosts);
            let look = move |group: &PollGroup| {
                group.is_busy(&Preempted { subsystem, nsid, hosts: &hosts }, mark)
            };
            if !on_group(local, core, look).await {
                break;
            }
            local.sleep(LOOK_PERIOD).await;
        }
    }
}
