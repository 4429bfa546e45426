use alloc::vec::Vec;

use basalt_nvme_spec::{AdminOpcode, FabricsType, Status};

use super::controller::Controller;
use super::property::{self, Aftermath};
use super::{Target, features, identify, log_pages, notifications};
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
            return done(self.property(controller, request));
        }
        if !controller.is_ready() {
            return done(Status::SEQUENCE_ERROR.with_dnr().into());
        }
        if let Some(status) = refusal {
            return done(status.into());
        }
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
            AdminOpcode::SET_FEATURES => done(self.set_features(controller, command)),
            AdminOpcode::ASYNC_EVENT_REQUEST => self.request_event(controller, request),
            AdminOpcode::KEEP_ALIVE => done(Outcome::OK),
            AdminOpcode::ABORT if !controller.is_discovery() => self.abort(controller, request),
            _ => done(Status::INVALID_OPCODE.with_dnr().into()),
        }
    }

    /// Property Get and Set, the fabrics commands of a connected admin queue.
    fn property(&self, controller: &mut Controller, request: &AdminRequest) -> Outcome {
        let command = &request.command;
        match command.fabrics_type() {
            FabricsType::PROPERTY_GET => {
                property::get(controller, command, &self.config.get()).into()
            }
            FabricsType::PROPERTY_SET => match property::set(controller, &command.as_property()) {
                Err(status) => status.into(),
                Ok(Aftermath::Nothing) => Outcome::OK,
                Ok(Aftermath::EndQueues) => {
                    // The host may connect queues of the same identifiers again at once.
                    let queues = core::mem::take(&mut controller.queues);
                    self.end_connections(queues.iter().map(|queue| queue.connection));
                    self.drop_requests(controller);
                    Outcome::OK
                }
            },
            _ => Status::INVALID_OPCODE.with_dnr().into(),
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
