use alloc::sync::Arc;
use alloc::vec::Vec;

use basalt_bdev::SgList;
use basalt_nvme_spec::Command;

use super::ConnectionId;
use super::queue::{Phase, Queue, Role};
use super::slot::SlotState;
use crate::behavior::HostBehavior;
use crate::command::{Outcome, Transfer};
use crate::group::{Core, SubsystemView, Tag, Visitor};

/// A command on its way to the control plane.
pub(crate) struct AdminRequest {
    /// The connection it came by.
    pub(crate) connection: ConnectionId,
    /// Its place there.
    pub(crate) tag: Tag,
    /// The address and port the host reached us by.
    pub(crate) reached_at: Option<basalt_net::Endpoint>,
    /// Whose command it is.
    pub(crate) from: Source,
    pub(crate) command: Command,
    /// Data from the host.
    pub(crate) data: Vec<u8>,
    /// Bytes the host takes at most.
    pub(crate) len_max: u32,
}

/// Whose command goes to the control plane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// Of a connection that is to be a queue: a Connect.
    Stranger,
    /// Of the admin queue of a controller.
    Admin {
        /// Which.
        cntlid: u16,
    },
    /// Of an I/O queue of a controller: a reservation command.
    Io {
        /// Which.
        cntlid: u16,
    },
}

/// What the control plane says to a command.
pub(crate) enum AdminReply {
    /// It ended, perhaps with data for the host.
    Done(Outcome, Vec<u8>),
    /// It is held; the answer comes when there is an event.
    Held,
    /// A Connect succeeded.
    Connected(Connected),
}

/// What a successful Connect made.
pub(crate) struct Connected {
    pub(crate) cntlid: u16,
    /// 0 for the admin queue.
    pub(crate) qid: u16,
    /// Entries of the queue.
    pub(crate) size: u16,
    pub(crate) flow_control: bool,
    /// What the controller's host takes.
    pub(crate) behavior: Arc<HostBehavior>,
    /// The namespaces and who uses them, for an I/O queue.
    pub(crate) view: Option<(Arc<SubsystemView>, Visitor)>,
}

impl Queue {
    /// Sends a command to the control plane.
    pub(super) fn start_admin(&mut self, index: u16, core: &mut Core) {
        let tag = self.tag(index);
        let from = match self.phase {
            Phase::Ready(Role::Admin { cntlid }) => Source::Admin { cntlid },
            Phase::Ready(Role::Io { cntlid, .. }) => Source::Io { cntlid },
            _ => Source::Stranger,
        };
        let Some(slot) = self.slots.get_mut(index) else { return };
        let mut data = Vec::new();
        let mut len_max = 0;
        match slot.transfer {
            Transfer::ToHost { len } => len_max = len,
            _ => data = slot.data.as_slice().iter().flat_map(|b| b.as_slice()).copied().collect(),
        }
        if from == Source::Stranger {
            self.phase = Phase::Connecting;
        }
        let (command, connection) = (slot.command, self.id);
        let reached_at = self.reached_at;
        self.outstanding += 1;
        core.ask_control(AdminRequest {
            connection,
            tag,
            reached_at,
            from,
            command,
            data,
            len_max,
        });
    }

    /// The control plane has answered. With `ended` nobody wants to know any more.
    pub(super) fn admin_done(&mut self, core: &mut Core, tag: Tag, reply: AdminReply, ended: bool) {
        let Some(slot) = self.slots.current(tag.slot, tag.generation) else {
            core.counters.stale += 1;
            return;
        };
        // A held command has been counted when it became held.
        if slot.state == SlotState::Running {
            self.outstanding = self.outstanding.saturating_sub(1);
        }
        self.answered += 1;
        if ended {
            drop(self.slots.free(tag.slot));
            return;
        }
        match reply {
            // The event may have overtaken this answer.
            AdminReply::Held if slot.state == SlotState::Running => slot.state = SlotState::Held,
            AdminReply::Held => {}
            AdminReply::Connected(connected) => self.connected(tag.slot, connected, core),
            AdminReply::Done(outcome, data) => {
                if self.phase == Phase::Connecting {
                    self.phase = Phase::Greeted;
                }
                self.finish_admin(tag.slot, outcome, &data);
            }
        }
    }

    fn finish_admin(&mut self, index: u16, outcome: Outcome, data: &[u8]) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let mut sent = 0;
        if let (Transfer::ToHost { .. }, SgList::One(buf)) = (slot.transfer, &mut slot.data) {
            sent = data.len().min(buf.len());
            buf.as_mut_slice()[..sent].copy_from_slice(&data[..sent]);
            buf.set_len(sent);
        }
        // A reply that does not fit the host's buffer is cut, as by a shorter transfer.
        slot.transfer = match slot.transfer {
            Transfer::ToHost { .. } if sent > 0 => Transfer::ToHost { len: sent as u32 },
            Transfer::ToHost { .. } => Transfer::None,
            other => other,
        };
        self.finish(index, outcome);
    }

    fn connected(&mut self, index: u16, connected: Connected, core: &mut Core) {
        let Connected { cntlid, qid, size, flow_control, behavior, view } = connected;
        self.behavior = Some(behavior);
        self.set_size(size);
        self.sender.head.flow_control = flow_control;
        let role = match view {
            None => Role::Admin { cntlid },
            Some((view, visitor)) => {
                self.health = Some(Arc::clone(&view.health));
                let view = core.learn(&view);
                Role::Io { cntlid, qid, view: core.views.enter(view, visitor) }
            }
        };
        match role {
            Role::Admin { .. } => core.counters.admin_queues += 1,
            Role::Io { .. } => core.counters.io_queues += 1,
        }
        self.phase = Phase::Ready(role);
        self.finish(index, Outcome::value(u64::from(cntlid)));
    }
}
