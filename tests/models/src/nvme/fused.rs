//! Fused Compare and Write (base specification 2.0 §3.4.1.2, NVM command set 1.0 §2.1.3).

use basalt_nvme_spec::{Command, NvmOpcode, QueueId, Status};

use super::state::State;

impl State {
    /// Sees to a command that is half of a fused operation, or that should have been the other
    /// half; whether there is no more to be done with it.
    pub(super) fn fuse(&mut self, qid: QueueId, command: &Command) -> bool {
        let fuse = command.flags & Command::FLAG_FUSE_MASK;
        let first = self.fused.remove(&qid);
        match (fuse, first) {
            (0, None) => return false,
            (0, Some(first)) => {
                self.is_missing(qid, &first);
                return false;
            }
            (Command::FUSE_FIRST, first) => {
                first.iter().for_each(|first| self.is_missing(qid, first));
                self.fused.insert(qid, *command);
            }
            (Command::FUSE_SECOND, Some(first)) => self.compare_and_write(qid, &first, command),
            _ => self.is_missing(qid, command),
        }
        true
    }

    fn is_missing(&mut self, qid: QueueId, command: &Command) {
        self.violate(format!("queue {qid}: half of a fused operation"));
        self.complete(qid, command, Err(Status::MISSING_FUSED), None);
    }

    fn compare_and_write(&mut self, qid: QueueId, first: &Command, second: &Command) {
        let opcodes = [first, second].map(|command| NvmOpcode(command.opcode));
        let range = |command: &Command| (command.nsid.get(), command.lba(), command.blocks());
        let most = u32::from(self.config.fused_max);
        let fits = opcodes == [NvmOpcode::COMPARE, NvmOpcode::WRITE]
            && range(first) == range(second)
            && second.blocks() <= most;
        if !fits {
            self.violate(format!("queue {qid}: {opcodes:?} of {} blocks fused", first.blocks()));
            [first, second].iter().for_each(|command| {
                self.complete(qid, command, Err(Status::INVALID_FIELD.with_dnr()), None);
            });
            return;
        }
        if self.execute_alone(qid, first) {
            self.execute_alone(qid, second);
        } else if self.runs() {
            self.complete(qid, second, Err(Status::FAILED_FUSED), None);
        }
    }
}
