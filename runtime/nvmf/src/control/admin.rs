use alloc::vec::Vec;

use basalt_nvme_spec::{AdminOpcode, Csts, FabricsType, Status};

use super::controller::Controller;
use super::property::{self, Aftermath};
use super::subsystem::SubsystemReset;
use super::{State, Target, features, identify, log_pages, notifications};
use crate::command::Outcome;
use crate::connection::{AdminReply, AdminRequest};

/// Result of a command with data for the host.
type WithData = Result<Vec<u8>, Status>;

impl Target {
    /// Runs a command of an admin queue.
    pub(super) fn admin(&self, cntlid: u16, request: &AdminRequest) -> AdminReply {
        let state = &mut *self.state.borrow_mut();
        let Some(at) = state.controllers.iter().position(|c| c.cntlid == cntlid) else {
            return AdminReply::Done(Status::SEQUENCE_ERROR.with_dnr().into(), Vec::new());
        };
        let command = &request.command;
        let refusal = state.ana_refusal(at, command);
        let controller = &mut state.controllers[at];
        controller.last_seen = self.local.now();
        let opcode = AdminOpcode(command.opcode);
        if opcode == AdminOpcode::FABRICS {
            return done(self.property(state, at, request));
        }
        if !controller.is_ready() {
            return done(Status::SEQUENCE_ERROR.with_dnr().into());
        }
        if let Some(status) = refusal {
            return done(status.into());
        }
        if let Some(reply) = self.pass(state, at, request) {
            return reply;
        }
        let controller = &mut state.controllers[at];
        match opcode {
            AdminOpcode::IDENTIFY => {
                data(identify::identify(state, at, request, &self.config.get()), request)
            }
            AdminOpcode::GET_LOG_PAGE => data(
                log_pages::get(state, at, request, &self.config.get(), self.local.now()),
                request,
            ),
            AdminOpcode::GET_FEATURES if notifications::are_about(command) => {
                done(notifications::get(state, at, command))
            }
            AdminOpcode::SET_FEATURES if notifications::are_about(command) => {
                done(notifications::set(state, at, command))
            }
            AdminOpcode::GET_FEATURES => {
                let (outcome, bytes) = features::get(controller, request, &self.config.get());
                AdminReply::Done(outcome, bytes)
            }
            AdminOpcode::SET_FEATURES => done(self.set_features(controller, request)),
            AdminOpcode::ASYNC_EVENT_REQUEST => self.request_event(controller, request),
            AdminOpcode::KEEP_ALIVE => done(Outcome::OK),
            AdminOpcode::ABORT if !controller.is_discovery() => self.abort(controller, request),
            _ => done(Status::INVALID_OPCODE.with_dnr().into()),
        }
    }

    /// Property Get and Set, the fabrics commands of a connected admin queue.
    fn property(&self, state: &mut State, at: usize, request: &AdminRequest) -> Outcome {
        let subsystem = state.controllers[at].subsystem;
        let found = subsystem.and_then(|id| state.subsystem(id));
        let nssr = found.map_or(SubsystemReset::Unsupported, |found| found.options.nssr);
        let (controller, command) = (&mut state.controllers[at], &request.command);
        match command.fabrics_type() {
            FabricsType::PROPERTY_GET => {
                property::get(controller, command, &self.config.get(), nssr).into()
            }
            FabricsType::PROPERTY_SET => {
                match property::set(controller, &command.as_property(), nssr) {
                    Err(status) => return status.into(),
                    Ok(Aftermath::Nothing) => {}
                    Ok(Aftermath::EndQueues) => self.end_queues(controller),
                    Ok(Aftermath::ResetSubsystem) => self.reset_subsystem(state, subsystem),
                }
                Outcome::OK
            }
            _ => Status::INVALID_OPCODE.with_dnr().into(),
        }
    }

    /// Ends the I/O queues of a controller. The host may connect queues of the same identifiers
    /// again at once.
    fn end_queues(&self, controller: &mut Controller) {
        let queues = core::mem::take(&mut controller.queues);
        self.end_connections(queues.iter().map(|queue| queue.connection));
        self.drop_requests(controller);
    }

    /// NVM Subsystem Reset (§3.7.1): every controller of the subsystem is reset, and its host can
    /// tell by CSTS. Admin queues stay, as with any reset over fabrics, and so do reservations
    /// (§8.19.1). What bdevs are at work on ends by itself; others may share them.
    fn reset_subsystem(&self, state: &mut State, id: Option<u32>) {
        let State { subsystems, controllers, .. } = state;
        if let Some(subsystem) = subsystems.iter_mut().find(|found| Some(found.id) == id) {
            log::warn!(target: "nvmf", "{} is reset by a host", subsystem.nqn);
            subsystem.was_reset = true;
        }
        for controller in controllers.iter_mut().filter(|found| found.subsystem == id) {
            controller.reset();
            controller.csts = Csts::SUBSYSTEM_RESET;
            self.end_queues(controller);
        }
    }
}

const fn done(outcome: Outcome) -> AdminReply {
    AdminReply::Done(outcome, Vec::new())
}

/// The host gets exactly as many bytes as it asked for: zeroes follow what there is.
fn data(result: WithData, request: &AdminRequest) -> AdminReply {
    match result {
        Err(status) => done(status.into()),
        Ok(mut bytes) => {
            bytes.resize(request.len_max as usize, 0);
            AdminReply::Done(Outcome::OK, bytes)
        }
    }
}
