//! Errors that are injected into the commands of a queue. They go with its queue pair.
//!
//! A queue with errors is not open, so that every command is sent from here. One that the device is
//! to get has its error where its data would be; one that it is not to get is in no slot.

use alloc::boxed::Box;

use basalt_bdev::{Io, Op, RejectReason};
use basalt_env::Registers;
use basalt_nvme::{IoQueue, Namespace, Rejected};
use basalt_nvme_spec::{ErrorChange, Fate, Hold, InjectedError, NvmOpcode};
use basalt_reactor::Local;

use super::{CoreQueue, Pending, State};
use crate::inbox::Inbox;
use crate::pending::opcode_of;

impl<R: Registers> CoreQueue<R> {
    /// Changes which errors its commands get, if it works.
    pub(super) fn inject(&self, change: ErrorChange) {
        if self.state.get() == State::Live {
            self.errors.borrow_mut().change(change);
            self.look_for_errors();
        }
    }

    fn look_for_errors(&self) {
        let any = !self.errors.borrow().is_empty() || !self.held.borrow().is_empty();
        self.injecting.set(any);
        self.look_whether_open();
    }

    /// Submits to a queue that is not open, but may be because of errors.
    #[cold]
    #[inline(never)]
    pub(super) fn submit_closely(&self, io: &mut Io, inbox: &Inbox) -> Result<(), RejectReason> {
        let may =
            self.state.get() == State::Live && self.backlog.borrow().is_empty() && !inbox.is_full();
        let Ok(mut slot) = self.queue.try_borrow_mut() else {
            return Err(RejectReason::QueueFull);
        };
        match slot.as_mut().filter(|_| may) {
            Some(queue) => self.submit_other(queue, io, inbox),
            None => Err(self.refusal()),
        }
    }

    /// The error of the next command for an Io, or of either if there are two.
    pub(super) fn error_of(&self, io: &Io) -> Option<InjectedError> {
        if !self.injecting.get() {
            return None;
        }
        let errors = self.errors.borrow();
        let second = (io.op == Op::CompareAndWrite).then_some(NvmOpcode::WRITE.0);
        errors.find(opcode_of(io)).or_else(|| errors.find(second?))
    }

    /// Sends the command that was prepared, unless it is to be held back.
    pub(super) fn send(
        &self,
        pending: Pending,
        queue: &mut IoQueue<R, Pending>,
        namespace: &Namespace,
    ) -> Result<(), Rejected<Pending>> {
        let error = self.error_of(&pending.io);
        if let Some(error @ InjectedError { fate: Fate::Held(_), .. }) = error {
            self.hold_back(pending, &error);
            return Ok(());
        }
        let ticket = pending.send(queue, namespace)?;
        if let Some(error) = error {
            let sent = queue.outstanding_mut().find(|(sent, _)| *sent == ticket);
            sent.into_iter().for_each(|(_, pending)| pending.forge(error.status));
            self.count(&error);
        }
        Ok(())
    }

    /// A command has got its error.
    pub(super) fn count(&self, error: &InjectedError) {
        self.errors.borrow_mut().count(error.opcode);
    }

    /// Holds back what has got an error by which it is.
    #[cold]
    #[inline(never)]
    pub(super) fn hold_back(&self, pending: Pending, error: &InjectedError) {
        let mut pending = Box::new(pending);
        if let Fate::Held(after) = error.fate {
            pending.hold(Hold::new(error.status, after));
        }
        self.held.borrow_mut().push(pending);
        self.count(error);
    }

    /// Ends those that were held back for long enough.
    #[cold]
    #[inline(never)]
    pub(super) fn end_held(&self, local: &Local) {
        if self.injecting.get() {
            self.end_those(local.now().as_ns());
            self.look_for_errors();
        }
    }

    /// The queue pair goes, and the errors with it: what is held back ends at once.
    pub(super) fn end_injection(&self) {
        if self.injecting.replace(false) {
            self.errors.take();
            self.end_those(u64::MAX);
        }
    }

    #[inline(never)]
    fn end_those(&self, now_ns: u64) {
        let mut held = self.held.borrow_mut();
        let mut at = 0;
        while let Some(pending) = held.get_mut(at) {
            if !pending.is_held_until(now_ns) {
                at += 1;
                continue;
            }
            let mut pending = *held.remove(at);
            if pending.held_ended() {
                self.put_back(pending);
            } else {
                self.inboxes.put(pending.inbox, pending.io);
            }
        }
    }

    /// What is held back and not wanted any more ends with the round. Whether there is any.
    pub(super) fn drop_held(&self, of_tag: impl Fn(&Pending) -> bool) -> bool {
        let mut held = self.held.borrow_mut();
        let unwanted = held.iter_mut().filter(|pending| of_tag(pending));
        unwanted.map(|pending| pending.give_up()).count() > 0
    }
}
