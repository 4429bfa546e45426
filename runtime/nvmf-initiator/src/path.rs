//! One way to a remote subsystem, and the task that keeps it open.

use alloc::collections::VecDeque;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;

use basalt_env::{CoreId, Instant};
use basalt_nvme_spec::identify::IDENTIFY_LEN;
use basalt_nvme_spec::{AsyncEvent, Command, LogPageId, NSID_ALL};
use basalt_reactor::Local;
use basalt_reactor::sync::{Notify, oneshot};

use super::discover::{self, Namespace};
use super::error::PathError;
use super::options::{Loss, TransportId};
use super::remote::Remote;
use super::remotes::ControllerData;
use super::session::{Plan, Session};
use basalt_nvmf_host::CoreHost;
use basalt_nvmf_host::{Data, LinkError};
use basalt_nvmf_host::{PathId, Run};

/// Where a path stands.
///
/// ```text
///   Connecting -(1) connected-> Live -(2) lost, or to be reset-> Connecting -> ...
///        | (3) not in time: waits, tries again                      |
///        | (4) to be tried no more -> Failed -(5) to be reset-> Connecting
///        | (6) given up, or detached-> removed, with the bdevs that no other path leads to
///        +-(7) to be disabled, also from Live and Failed -> Disabled -(8) enabled-> Connecting
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathState {
    /// It is being connected, or waits for the next try.
    Connecting,
    /// In use.
    Live,
    /// It could not be connected again, and nobody has asked for another try.
    Failed,
    /// Somebody has disabled it. Ios that have no other path wait until it is enabled.
    Disabled,
}

impl fmt::Display for PathState {
    /// By SPDK's names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "reconnect_is_delayed",
            Self::Live => "enabled",
            Self::Failed => "failed",
            Self::Disabled => "disabled",
        })
    }
}

/// Where it goes how an order has ended.
type Answer = oneshot::Sender<Result<(), PathError>>;

/// What the task is to see to.
pub(super) enum Request {
    /// A connection is lost.
    Lost(Run, LinkError),
    /// It does not lead where it was said to.
    Doubt,
    /// The controller tells of something.
    Event(Run, AsyncEvent),
    /// A command is to be sent; nobody waits for its answer.
    Command(Run, Command),
    /// It is to be connected anew, unless it is disabled.
    Reset(Answer),
    /// It is to be let go, and not connected again before it is enabled.
    Disable(Answer),
    /// It is to be disabled no longer.
    Enable(Answer),
    /// It is to end.
    Detach(oneshot::Sender<()>),
}

/// Why a connected path is one no longer.
enum Over {
    Lost(PathError),
    Reset(Answer),
    Disabled(Answer),
    Detached(oneshot::Sender<()>),
}

/// One way to a subsystem.
pub(super) struct Path {
    pub(super) id: PathId,
    pub(super) transport: TransportId,
    local: Local,
    remote: Weak<Remote>,
    pub(super) state: Cell<PathState>,
    pub(super) cntlid: Cell<u16>,
    pub(super) controller: Cell<Option<ControllerData>>,
    run: Cell<Run>,
    /// Since when it is not connected.
    down_since: Cell<Instant>,
    requests: RefCell<VecDeque<Request>>,
    asked: Notify,
}

impl Path {
    pub(super) fn new(
        local: &Local,
        id: PathId,
        transport: TransportId,
        remote: &Rc<Remote>,
    ) -> Rc<Self> {
        Rc::new(Self {
            id,
            transport,
            local: local.clone(),
            remote: Rc::downgrade(remote),
            state: Cell::new(PathState::Connecting),
            cntlid: Cell::new(0),
            controller: Cell::new(None),
            run: Cell::new(0),
            down_since: Cell::new(local.now()),
            requests: RefCell::default(),
            asked: Notify::new(),
        })
    }

    pub(super) fn ask(&self, request: Request) {
        self.requests.borrow_mut().push_back(request);
        self.asked.notify_one();
    }

    /// Whether Ios may wait for it.
    pub(super) fn has_hope(&self, remote: &Remote) -> bool {
        let fast = remote.options.reconnect.fast_io_fail;
        let down = self.local.now().since(self.down_since.get());
        match self.state.get() {
            PathState::Live | PathState::Disabled => true,
            PathState::Failed => false,
            PathState::Connecting => fast.is_none_or(|limit| down < limit),
        }
    }

    /// Connects; gives what there is on the other side.
    pub(super) async fn connect(
        &self,
        remote: &Remote,
    ) -> Result<(Session, Vec<Namespace>), PathError> {
        self.run.set(self.run.get() + 1);
        let opened = self.open(remote).await;
        match &opened {
            Ok((session, _)) => {
                self.cntlid.set(session.cntlid);
                self.controller.set(Some(session.controller_data()));
                self.state.set(PathState::Live);
            }
            Err(_) => self.drop_links().await,
        }
        opened
    }

    async fn open(&self, remote: &Remote) -> Result<(Session, Vec<Namespace>), PathError> {
        let session = Session::open(&self.local, &self.plan(remote)).await?;
        let namespaces = discover::namespaces(&session).await?;
        Ok((session, namespaces))
    }

    fn plan(&self, remote: &Remote) -> Plan {
        let options = &remote.options;
        Plan {
            path: self.id,
            run: self.run.get(),
            peer: self.transport.peer,
            subnqn: options.subnqn.clone(),
            host: options.host.clone(),
            digests: options.digests,
            entries: options.queue_entries,
            io_queues: options.io_queues,
            keep_alive: options.keep_alive,
            connect_timeout: options.connect_timeout,
            io_timeout: options.io_timeout,
        }
    }

    /// Keeps the path open, from its first session on, until it is detached or given up.
    pub(super) async fn run(self: Rc<Self>, first: Session) {
        let mut session = first;
        loop {
            let over = self.serve(&session).await;
            let Some(remote) = self.remote.upgrade() else { return };
            self.state.set(PathState::Connecting);
            self.down_since.set(self.local.now());
            let mut disabled = None;
            let next = match over {
                Over::Detached(answer) => {
                    session.shut_down().await;
                    self.drop_links().await;
                    remote.remove_path(self.id).await;
                    return answer.send(());
                }
                Over::Reset(answer) => {
                    session.shut_down().await;
                    Rested::Again(Some(answer))
                }
                Over::Disabled(answer) => {
                    session.shut_down().await;
                    disabled = Some(answer);
                    Rested::Again(None)
                }
                Over::Lost(error) => {
                    let (name, peer) = (&remote.options.name, self.transport.peer);
                    log::warn!(target: "bdev_nvme", "{name}: path {peer}: {error}");
                    Rested::Again(None)
                }
            };
            drop(session);
            self.drop_links().await;
            remote.publish_all().await;
            let next = match disabled {
                Some(answer) => self.stay_disabled(&remote, answer).await,
                None => next,
            };
            match self.come_back(&remote, next).await {
                Some(next) => session = next,
                None => return,
            }
        }
    }

    /// Connects again, however long that takes; `None` if the path is no more.
    async fn come_back(&self, remote: &Rc<Remote>, first: Rested) -> Option<Session> {
        let (name, peer) = (&remote.options.name, self.transport.peer);
        let mut next = first;
        loop {
            let waiting = match next {
                Rested::Again(answer) => answer,
                Rested::GivenUp => {
                    log::error!(target: "bdev_nvme", "{name}: path {peer} is given up");
                    remote.remove_path(self.id).await;
                    return None;
                }
                Rested::Detached(answer) => {
                    remote.remove_path(self.id).await;
                    answer.send(());
                    return None;
                }
            };
            self.state.set(PathState::Connecting);
            match self.connect(remote).await {
                Ok((session, namespaces)) => {
                    log::info!(target: "bdev_nvme", "{name}: path {peer} is back");
                    remote.found(self.id, &session, namespaces).await;
                    waiting.into_iter().for_each(|answer| answer.send(Ok(())));
                    return Some(session);
                }
                Err(error) => {
                    log::debug!(target: "bdev_nvme", "{name}: {error}");
                    waiting.into_iter().for_each(|answer| answer.send(Err(error)));
                }
            }
            next = self.rest(remote).await;
        }
    }

    /// Waits until it is to be used again, or to go.
    async fn stay_disabled(&self, remote: &Rc<Remote>, disabled: Answer) -> Rested {
        self.state.set(PathState::Disabled);
        log::info!(
            target: "bdev_nvme", "{}: path {} is disabled", remote.options.name, self.transport.peer
        );
        remote.publish_all().await;
        disabled.send(Ok(()));
        loop {
            match self.next().await {
                Request::Enable(answer) => {
                    self.down_since.set(self.local.now());
                    return Rested::Again(Some(answer));
                }
                Request::Detach(answer) => return Rested::Detached(answer),
                Request::Reset(answer) | Request::Disable(answer) => {
                    answer.send(Err(PathError::Disabled));
                }
                Request::Lost(..) | Request::Doubt | Request::Event(..) | Request::Command(..) => {}
            }
        }
    }

    /// What a request makes of a path that waits for another try.
    async fn stir(&self, remote: &Rc<Remote>, request: Request) -> Option<Rested> {
        match request {
            Request::Reset(answer) => return Some(Rested::Again(Some(answer))),
            Request::Detach(answer) => return Some(Rested::Detached(answer)),
            Request::Disable(answer) => return Some(self.stay_disabled(remote, answer).await),
            Request::Enable(answer) => answer.send(Err(PathError::Enabled)),
            Request::Lost(..) | Request::Doubt | Request::Event(..) | Request::Command(..) => {}
        }
        None
    }

    /// Waits until it is time for another try.
    async fn rest(&self, remote: &Rc<Remote>) -> Rested {
        let reconnect = remote.options.reconnect;
        if reconnect.delay.is_zero() {
            self.state.set(PathState::Failed);
            remote.publish_all().await;
            loop {
                let request = self.next().await;
                if let Some(rested) = self.stir(remote, request).await {
                    return rested;
                }
            }
        }
        let until = self.local.now() + reconnect.delay;
        let given_up_at = match reconnect.loss {
            Loss::After(limit) => Some(self.down_since.get() + limit),
            Loss::Never => None,
        };
        let fails_at = reconnect.fast_io_fail.map(|limit| self.down_since.get() + limit);
        let mut told = false;
        loop {
            let now = self.local.now();
            if given_up_at.is_some_and(|at| now >= at) {
                return Rested::GivenUp;
            }
            if !told && fails_at.is_some_and(|at| now >= at) {
                told = true;
                remote.publish_all().await;
            }
            if now >= until {
                return Rested::Again(None);
            }
            let ahead = [given_up_at, fails_at].into_iter().flatten().filter(|at| *at > now);
            let next = ahead.fold(until, Instant::min);
            let limit = next.since(now);
            if let Ok(request) = self.local.timeout(limit, self.next()).await
                && let Some(rested) = self.stir(remote, request).await
            {
                return rested;
            }
        }
    }

    /// Sees to a connected path until it is one no longer.
    async fn serve(&self, session: &Session) -> Over {
        self.listen_for_events(session);
        // Well within the time that the controller grants (base specification 2.0 §3.9).
        let period = session.keep_alive / 2;
        let mut due = self.local.now() + period;
        loop {
            let now = self.local.now();
            if !period.is_zero() && now >= due {
                if let Err(error) = session.keep_alive().await {
                    return Over::Lost(error);
                }
                due = self.local.now() + period;
                continue;
            }
            let request = if period.is_zero() {
                self.next().await
            } else {
                let limit = due.since(now);
                match self.local.timeout(limit, self.next()).await {
                    Ok(request) => request,
                    Err(_) => continue,
                }
            };
            if let Some(over) = self.see_to(session, request).await {
                return over;
            }
        }
    }

    async fn see_to(&self, session: &Session, request: Request) -> Option<Over> {
        match request {
            Request::Lost(run, error) if run == self.run.get() => {
                Some(Over::Lost(PathError::Lost(error)))
            }
            Request::Lost(..) => None,
            Request::Command(run, _) if run != self.run.get() => None,
            Request::Command(_, command) => self.send(session, command).await,
            Request::Reset(answer) => Some(Over::Reset(answer)),
            Request::Disable(answer) => Some(Over::Disabled(answer)),
            Request::Enable(answer) => {
                answer.send(Err(PathError::Enabled));
                None
            }
            Request::Detach(answer) => Some(Over::Detached(answer)),
            Request::Event(run, _) if run != self.run.get() => None,
            Request::Doubt => self.look_again(session).await.err(),
            Request::Event(_, event) => self.follow(session, event).await.err(),
        }
    }

    async fn send(&self, session: &Session, command: Command) -> Option<Over> {
        match session.command(command, Data::None, None).await {
            // Whatever it says, the command in question is answered.
            Ok(_) | Err(PathError::Command(_)) => None,
            Err(error) => Some(Over::Lost(error)),
        }
    }

    /// Reads the log page that an event names, without which there would be no further such event
    /// (base specification 2.0 §5.2), and finds out what has changed.
    async fn follow(&self, session: &Session, event: AsyncEvent) -> Result<(), Over> {
        let page = LogPageId(event.log_page());
        let read = Command::get_log_page(page, NSID_ALL, 0, IDENTIFY_LEN as u32);
        match session.page(read).await {
            Ok(_) | Err(PathError::Command(_)) => self.look_again(session).await,
            Err(error) => Err(Over::Lost(error)),
        }
    }

    /// Finds out anew where the path leads.
    async fn look_again(&self, session: &Session) -> Result<(), Over> {
        let Some(remote) = self.remote.upgrade() else { return Ok(()) };
        let found = discover::namespaces(session).await.map_err(Over::Lost)?;
        remote.found(self.id, session, found).await;
        Ok(())
    }

    /// Has the controller tell of changes, until its admin queue is gone.
    fn listen_for_events(&self, session: &Session) {
        let (link, run) = (Rc::clone(&session.admin), self.run.get());
        let (remote, id) = (self.remote.clone(), self.id);
        self.local.spawn("bdev_nvme_events", async move {
            loop {
                let command = Command::async_event_request();
                let Ok(answer) = link.call(command, Data::None, None).await else { return };
                if !answer.completion.status().is_success() {
                    return;
                }
                let event = AsyncEvent(answer.completion.dw0.get());
                let Some(remote) = remote.upgrade() else { return };
                remote.ask(id, Request::Event(run, event));
            }
        });
    }

    async fn next(&self) -> Request {
        loop {
            let next = self.requests.borrow_mut().pop_front();
            if let Some(request) = next {
                return request;
            }
            self.asked.notified().await;
        }
    }

    /// Has every core drop its connections.
    pub(super) async fn drop_links(&self) {
        let id = self.id;
        for core in 0..self.local.cores() {
            let drop_path = move |local: &Local| {
                if let Some(host) = CoreHost::of(local) {
                    host.drop_path(id);
                }
            };
            // A core that does not answer has no use for them either.
            let _ = self.local.call(CoreId(core as u16), drop_path).await;
        }
    }
}

/// How waiting for another try has ended.
enum Rested {
    Again(Option<Answer>),
    GivenUp,
    Detached(oneshot::Sender<()>),
}
