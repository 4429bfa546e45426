use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem::offset_of;
use core::ops::RangeInclusive;

use basalt_nvme_spec::fabrics::{
    CNTLID_DYNAMIC, Connect, ConnectData, DISCOVERY_NQN, InvalidParameter, NQN_LEN_MAX,
};
use basalt_nvme_spec::registers::Csts;
use basalt_nvme_spec::{Cc, Status};
use zerocopy::FromBytes;

use super::ana::AnaChanges;
use super::controller::{Controller, IoQueue};
use super::discovery::{self, Told};
use super::error_log::ErrorLog;
use super::features::Features;
use super::notifications::Notifications;
use super::subsystem::CNTLID_MAX;
use super::{DuplicateHosts, State, Target};
use crate::behavior::{Delays, HostBehavior};
use crate::command::{self, Outcome};
use crate::connection::{AdminReply, AdminRequest, Connected};
use crate::group::{SubsystemView, Visitor};

/// Smallest queue, entries (§3.3.1.3: fabrics).
const SIZE_MIN: u16 = 2;

impl Target {
    /// Connect (§6.3): makes a controller with its admin queue, or one more I/O queue.
    pub(super) fn connect(&self, request: &AdminRequest) -> AdminReply {
        match self.try_connect(request) {
            Ok(connected) => AdminReply::Connected(connected),
            Err(outcome) => {
                log::warn!(target: "nvmf", "Connect refused: {}", outcome.status);
                AdminReply::Done(outcome, Vec::new())
            }
        }
    }

    fn try_connect(&self, request: &AdminRequest) -> Result<Connected, Outcome> {
        if !command::is_connect(&request.command) {
            return Err(Status::SEQUENCE_ERROR.with_dnr().into());
        }
        let connect = request.command.as_connect();
        let data = ConnectData::ref_from_bytes(&request.data)
            .map_err(|_| Outcome::from(Status::SGL_LENGTH_INVALID.with_dnr()))?;
        if connect.recfmt.get() != 0 {
            return Err(Status::CONNECT_INCOMPATIBLE_FORMAT.with_dnr().into());
        }
        let sqsize = connect.sqsize.get();
        let config = self.config.get();
        let size_max = match connect.qid.get() {
            0 => config.admin_queue_size_max,
            _ => config.queue_size_max,
        };
        if sqsize < SIZE_MIN - 1 || sqsize >= size_max {
            return Err(in_command(offset_of!(Connect, sqsize)));
        }
        let names = Names::parse(data)?;
        let cntlid = match connect.qid.get() {
            0 => self.connect_admin(request, &connect, data, names)?,
            qid => self.connect_io(request, qid, data, &names)?,
        };
        let is_io = connect.qid.get() != 0;
        let behavior = self.state.borrow_mut().controller_mut(cntlid).map(|c| c.behavior.clone());
        Ok(Connected {
            cntlid,
            qid: connect.qid.get(),
            size: sqsize + 1,
            flow_control: connect.cattr & Connect::CATTR_NO_FLOW_CONTROL == 0,
            behavior: behavior.ok_or(Status::INTERNAL_ERROR)?,
            view: if is_io { self.state.borrow().view(cntlid) } else { None },
        })
    }

    fn connect_admin(
        &self,
        request: &AdminRequest,
        connect: &Connect,
        data: &ConnectData,
        names: Names,
    ) -> Result<u16, Outcome> {
        let state = &mut *self.state.borrow_mut();
        let found = state.find(&names, request)?;
        let (subsystem, listener) = found.unzip();
        if data.cntlid.get() != CNTLID_DYNAMIC {
            return Err(in_data(offset_of!(ConnectData, cntlid)));
        }
        if state.is_duplicate(&names.host, subsystem, listener) {
            return Err(Status::CONNECT_CONTROLLER_BUSY.into());
        }
        let range = state.cntlids(subsystem);
        let cntlid = state.free_cntlid(range).ok_or(Status::CONNECT_CONTROLLER_BUSY)?;
        let now = self.local.now();
        let told = match subsystem {
            Some(_) => Told::default(),
            None => Told {
                genctr: state.genctr,
                entries: discovery::entries(
                    state,
                    &names.host,
                    request.reached_at,
                    &self.config.get(),
                ),
            },
        };
        let found = subsystem.and_then(|id| state.subsystem(id));
        let reports_ana = found.is_some_and(|subsystem| subsystem.options.ana_reporting);
        let was_reset = found.is_some_and(|subsystem| subsystem.was_reset);
        log::info!(
            target: "nvmf",
            "{} connected to {} as controller {cntlid}, queue 0, core {}",
            names.host, names.subsystem, request.connection.core
        );
        let delays = if state.crdt[0] > 0 { Delays::Announced } else { Delays::None };
        state.controllers.push(Controller {
            cntlid,
            subsystem,
            listener,
            hostnqn: names.host,
            hostid: data.hostid,
            admin: request.connection,
            queues: Vec::new(),
            reached_at: request.reached_at,
            cc: Cc::DISABLED,
            csts: if was_reset { Csts::SUBSYSTEM_RESET } else { Csts::empty() },
            features: Features::new(self.config.get().kato(connect.kato.get())),
            last_seen: now,
            requests: Vec::new(),
            pending: Vec::new(),
            masked: Vec::new(),
            changed_namespaces: BTreeSet::new(),
            reports_ana,
            ana_changes: AnaChanges::default(),
            errors: ErrorLog::default(),
            told,
            behavior: Arc::new(HostBehavior::new(delays)),
            notifications: Notifications::default(),
        });
        Ok(cntlid)
    }

    fn connect_io(
        &self,
        request: &AdminRequest,
        qid: u16,
        data: &ConnectData,
        names: &Names,
    ) -> Result<u16, Outcome> {
        let state = &mut *self.state.borrow_mut();
        let subsystem = state.find(names, request)?.map(|(subsystem, _)| subsystem);
        let cntlid = data.cntlid.get();
        let Some(controller) = state.controller_mut(cntlid) else {
            return Err(in_data(offset_of!(ConnectData, cntlid)));
        };
        // All queues of a controller come by the same port and address (§3.3.1.2).
        let is_elsewhere = controller.reached_at != request.reached_at;
        if controller.subsystem != subsystem || is_elsewhere {
            return Err(in_data(offset_of!(ConnectData, subnqn)));
        }
        if controller.hostnqn != names.host {
            return Err(in_data(offset_of!(ConnectData, hostnqn)));
        }
        if controller.hostid != data.hostid {
            return Err(in_data(offset_of!(ConnectData, hostid)));
        }
        let taken = controller.queues.iter().any(|queue| queue.qid == qid);
        let granted = controller.features.queues_granted(&self.config.get());
        if controller.is_discovery() || qid > granted {
            return Err(in_command(offset_of!(Connect, qid)));
        }
        if taken || !controller.is_in_use() {
            return Err(Status::SEQUENCE_ERROR.with_dnr().into());
        }
        controller.queues.push(IoQueue { qid, connection: request.connection });
        log::info!(
            target: "nvmf",
            "{} connected controller {cntlid}, queue {qid}, core {}",
            names.host, request.connection.core
        );
        Ok(cntlid)
    }
}

impl State {
    /// The subsystem a host names and the listener it came by, if it may reach it this way; `None`
    /// is discovery.
    fn find(&self, names: &Names, request: &AdminRequest) -> Result<Option<(u32, u32)>, Outcome> {
        if names.subsystem == DISCOVERY_NQN {
            return Ok(None);
        }
        let Some(subsystem) = self.named(&names.subsystem) else {
            return Err(in_data(offset_of!(ConnectData, subnqn)));
        };
        let listener = request.reached_at.as_ref().and_then(|at| subsystem.listener_at(at));
        let Some(listener) = listener else {
            return Err(in_data(offset_of!(ConnectData, subnqn)));
        };
        if !subsystem.admits(&names.host) {
            return Err(Status::CONNECT_INVALID_HOST.with_dnr().into());
        }
        Ok(Some((subsystem.id, listener.id)))
    }

    /// Whether the host has a controller of the subsystem by that listener and may not have
    /// another.
    fn is_duplicate(&self, host: &str, subsystem: Option<u32>, listener: Option<u32>) -> bool {
        let same = |c: &Controller| {
            (c.subsystem, c.listener) == (subsystem, listener) && c.hostnqn == host
        };
        let is_limited = self.duplicates == DuplicateHosts::RestrictPerListener;
        is_limited && subsystem.is_some() && self.controllers.iter().any(same)
    }

    /// What an I/O queue of a controller works with.
    fn view(&self, cntlid: u16) -> Option<(Arc<SubsystemView>, Visitor)> {
        let controller = self.controllers.iter().find(|c| c.cntlid == cntlid)?;
        let view = self.subsystem(controller.subsystem?)?.view();
        let (host, hostid) = (controller.hostnqn.clone(), controller.hostid);
        let (listener, sets) = (controller.listener?, controller.command_sets());
        Some((view, Visitor { listener, host, hostid, sets }))
    }

    /// The controller identifiers a subsystem, or the discovery service, gives out.
    fn cntlids(&self, subsystem: Option<u32>) -> RangeInclusive<u16> {
        let options = subsystem.and_then(|id| self.subsystem(id)).map(|found| &found.options);
        options.map_or(1..=CNTLID_MAX, |options| options.cntlid_min..=options.cntlid_max)
    }

    /// The next controller identifier, so that one is used again as late as possible.
    fn free_cntlid(&mut self, range: RangeInclusive<u16>) -> Option<u16> {
        for _ in range.clone() {
            let next = self.cntlid_last.saturating_add(1);
            self.cntlid_last = if range.contains(&next) { next } else { *range.start() };
            let candidate = self.cntlid_last;
            if self.controllers.iter().all(|controller| controller.cntlid != candidate) {
                return Some(candidate);
            }
        }
        None
    }
}

/// The names in a Connect.
struct Names {
    subsystem: String,
    host: String,
}

impl Names {
    fn parse(data: &ConnectData) -> Result<Self, Outcome> {
        let subsystem =
            nqn(&data.subnqn).ok_or_else(|| in_data(offset_of!(ConnectData, subnqn)))?;
        let host = nqn(&data.hostnqn).ok_or_else(|| in_data(offset_of!(ConnectData, hostnqn)))?;
        Ok(Self { subsystem: String::from(subsystem), host: String::from(host) })
    }
}

/// A NUL-terminated qualified name (§4.5).
fn nqn(field: &[u8; 256]) -> Option<&str> {
    let len = field.iter().position(|&byte| byte == 0)?;
    let name = core::str::from_utf8(&field[..len]).ok()?;
    (len > 0 && len <= NQN_LEN_MAX).then_some(name)
}

fn in_command(offset: usize) -> Outcome {
    invalid(InvalidParameter::Command(offset as u16))
}

fn in_data(offset: usize) -> Outcome {
    invalid(InvalidParameter::Data(offset as u16))
}

fn invalid(parameter: InvalidParameter) -> Outcome {
    let status = Status::CONNECT_INVALID_PARAMETERS.with_dnr();
    Outcome { status, result: u64::from(parameter.to_dword()) }
}
