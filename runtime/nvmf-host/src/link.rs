mod injected;

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::time::Duration;

use basalt_bdev::IoError;
use basalt_env::{DmaBuf, Instant, Work};
use basalt_net::NetStack;
use basalt_nvme_spec::{Command, InjectedErrors};
use basalt_reactor::Local;
use basalt_reactor::sync::oneshot;

use crate::core_host::{CoreHost, News};
use crate::counters::Counters;
use crate::pending::{Answered, Next, Pending};
use crate::queue::{Answer, Data, Ended, HostQueue, LinkError, Load};
use crate::{PathId, Run};

/// One connection of a path on this core: a queue of the remote controller.
///
/// ```text
///   Connecting -Connect accepted-> Live -fault, or dropped by core 0-> Dead: removed
/// ```
pub struct Link {
    /// The path it belongs to.
    pub path: PathId,
    /// Which connection of the path it belongs to.
    pub run: Run,
    /// Its queue's identifier; 0 is the admin queue.
    pub qid: u16,
    local: Local,
    queue: RefCell<HostQueue>,
    state: Cell<State>,
    /// Whether it is not dead and no errors are injected: all that each round, and each Io, has to
    /// know.
    plain: Cell<bool>,
    errors: RefCell<InjectedErrors>,
    error: Cell<Option<LinkError>>,
    io_timeout: Option<Duration>,
    counters: Rc<Counters>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Connecting,
    Live,
    Dead,
}

/// Why a task's command was not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallError {
    /// The connection is gone.
    Lost,
    /// There are too many commands.
    Full,
}

impl Link {
    pub(crate) fn new(
        local: Local,
        (path, run, qid): (PathId, Run, u16),
        queue: HostQueue,
        io_timeout: Option<Duration>,
        counters: &Rc<Counters>,
    ) -> Self {
        let (queue, state) = (RefCell::new(queue), Cell::new(State::Connecting));
        let (plain, errors, error) = (Cell::new(true), RefCell::default(), Cell::new(None));
        let counters = Rc::clone(counters);
        Self { path, run, qid, local, queue, state, plain, errors, error, io_timeout, counters }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state.get() == State::Live
    }

    pub(crate) const fn carries_io(&self) -> bool {
        self.qid != 0
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state.get() == State::Dead
    }

    /// The controller has accepted the queue.
    pub fn go_live(&self) {
        if self.state.get() == State::Connecting {
            self.state.set(State::Live);
        }
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.queue.borrow().outstanding()
    }

    /// Whether an Io's command can go by [`Self::submit_io`].
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.plain.get()
    }

    /// Sends a command of an Io; gives the Io back if there is no room.
    pub(crate) fn submit_io(
        &self,
        command: Command,
        data: Data,
        pending: Pending,
    ) -> Result<(), Pending> {
        let now = self.local.now();
        self.counters.submitted_requests.count();
        let sent = self.queue.borrow_mut().submit(command, data, Load::Io(pending), now);
        sent.map_err(pending_of)
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(
        &self,
        command: Command,
        data: Data,
        buffer: Option<DmaBuf>,
    ) -> Result<Answer, CallError> {
        let (answer, answered) = oneshot::channel();
        if self.is_dead() {
            return Err(CallError::Lost);
        }
        let sent = self.submit(command, data, Load::Call(answer, buffer));
        sent.map_err(|_| CallError::Full)?;
        answered.await.map_err(|_| CallError::Lost)
    }

    /// Receives what there is.
    pub(crate) fn receive(&self, stack: &mut dyn NetStack) -> Result<Work, LinkError> {
        if !self.plain.get() {
            return self.receive_closely(stack);
        }
        self.receive_now(stack)
    }

    #[inline]
    fn receive_now(&self, stack: &mut dyn NetStack) -> Result<Work, LinkError> {
        let work = self.queue.borrow_mut().receive(stack, &mut |ended| self.ended(ended));
        if self.carries_io() && work.is_ok_and(Work::is_busy) {
            self.counters.socket_completions.count();
        }
        work
    }

    /// Sends what there is to send.
    pub(crate) fn flush(&self, stack: &mut dyn NetStack) -> Result<Work, LinkError> {
        if self.is_dead() {
            return Ok(Work::IDLE);
        }
        self.queue.borrow_mut().flush(stack, &mut |ended| self.ended(ended))
    }

    /// Whether the controller takes too long over an Io.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        let late = |limit| self.queue.borrow().is_late(now, limit);
        self.io_timeout.is_some_and(late)
    }

    /// What has ended it, if it was not asked to end.
    pub fn error(&self) -> Option<LinkError> {
        self.error.get()
    }

    /// Ends the connection because of `error`.
    pub(crate) fn fail(&self, stack: &mut dyn NetStack, error: LinkError) {
        self.error.set(Some(error));
        self.end(stack);
    }

    /// Ends the connection. Ios wait for another path; tasks hear that it is lost.
    pub(crate) fn end(&self, stack: &mut dyn NetStack) {
        if self.state.replace(State::Dead) == State::Dead {
            return;
        }
        self.plain.set(false);
        self.queue.borrow_mut().end(stack, &mut |load| {
            let Load::Io(pending) = load else { return };
            if pending.is_given_up() || !pending.may_repeat() {
                return pending.fail(IoError::Aborted);
            }
            let inbox = Rc::clone(&pending.inbox);
            inbox.park(pending);
        });
    }

    /// Marks the Ios of which `is_it` says so as not wanted. Gives the identifiers of the commands
    /// that the controller has, and whether there were others, which end by the next round.
    pub fn give_up(&self, is_it: impl Fn(&Pending) -> bool) -> (Vec<u16>, bool) {
        self.queue.borrow_mut().give_up(&is_it)
    }

    fn ended(&self, ended: Ended) {
        let Ended { load, completion, received, expected } = ended;
        let mut pending = match load {
            Load::Call(answer, data) => return answer.send(Answer { completion, data }),
            Load::Io(pending) => pending,
        };
        self.counters.nvme_completions.count();
        let answered = Answered { status: completion.status(), received, expected };
        match pending.ended(&answered) {
            Next::Ended => {
                pending.inbox.namespace.count(self.path, &pending.io, &self.local);
                pending.finish();
            }
            Next::Send => {
                let inbox = Rc::clone(&pending.inbox);
                inbox.park(pending);
            }
            Next::SendElsewhere => {
                let inbox = Rc::clone(&pending.inbox);
                inbox.namespace.avoid(self.path);
                CoreHost::tell(&self.local, News::Doubt(self.path));
                inbox.park(pending);
            }
        }
    }
}

/// The Io of a load that was one.
fn pending_of(load: Load) -> Pending {
    match load {
        Load::Io(pending) => pending,
        Load::Call(..) => unreachable!("an Io was handed in"),
    }
}
