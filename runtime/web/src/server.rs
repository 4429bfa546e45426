use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use basalt_env::{CoreId, DmaRun, Instant, Work};
use basalt_net::{ListenerId, NetStack, SocketError, SocketId};
use basalt_reactor::Local;
use basalt_rpc::{Access, Found, Question, WebGate, ask};

use crate::collector::{Collector, Rendering};
use crate::response::{Content, Response};
use crate::{After, Method, Request, RequestReader, Resource, Status};

/// The TCP port.
pub const PORT: u16 = 9090;

/// Most connections of one core.
pub const CONNECTIONS_MAX: usize = 64;

/// Most bytes that the clients of a core may leave unread together.
const UNREAD_BYTES_MAX: usize = 16 << 20;

/// A client may take so long to finish a request that it has begun,
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// to begin another,
const IDLE_TIME_MAX: Duration = Duration::from_secs(120);
/// and to take any of its answer.
const STALL_MAX: Duration = Duration::from_secs(30);

/// Serves the HTTP connections of one core.
#[derive(Debug)]
pub struct Server {
    /// Unless the gate chooses another.
    port: u16,
    gate: Rc<WebGate>,
    /// What the gate said when it was last asked, and which version that was.
    access: Rc<Access>,
    version: u32,
    listener: Option<(u16, ListenerId)>,
    clients: Vec<Client>,
    /// The time of day when the clock started, in seconds since 1970, if it is known.
    started_at: Option<u64>,
}

impl Server {
    /// Serves those whom `gate` lets in, on `port` (usually [`PORT`]) of this core's stack or on
    /// the one that the gate chooses. It listens as soon as the gate lets in anybody. `started_at`
    /// is the time of day when the clock started, in seconds since 1970.
    pub fn new(gate: Rc<WebGate>, port: u16, started_at: Option<u64>) -> Self {
        let (access, clients) = (Rc::new(Access::Closed), Vec::new());
        Self { port, gate, access, version: 0, listener: None, clients, started_at }
    }

    /// Accepts, reads, has answers made and sends them; call once per reactor round.
    pub fn poll(&mut self, local: &Local, stack: &mut dyn NetStack) -> Work {
        if self.gate.0.version() != self.version {
            self.heed_gate(stack);
        }
        let mut work = self.accept(local, stack);
        // Most rounds end here, and there are many.
        if self.clients.is_empty() {
            return work;
        }
        let unix_s = self.started_at.map(|start| start + local.now().as_us() / 1_000_000);
        self.clients.retain_mut(|client| match client.step(local, stack, unix_s) {
            Step::Alive(done) => {
                work += done;
                true
            }
            Step::Gone => false,
        });
        self.spare_memory(stack);
        work
    }

    /// How many clients are connected.
    pub fn connections(&self) -> usize {
        self.clients.len()
    }

    /// Drops the client that leaves most unread, if all together leave too much.
    fn spare_memory(&mut self, stack: &mut dyn NetStack) {
        if self.clients.iter().map(Client::unread).sum::<usize>() <= UNREAD_BYTES_MAX {
            return;
        }
        let largest = (0..self.clients.len()).max_by_key(|at| self.clients[*at].unread());
        let Some(at) = largest else { return };
        let client = self.clients.swap_remove(at);
        log::warn!(target: "web", "dropped a client that leaves {} bytes unread", client.unread());
        stack.abort(client.socket);
    }

    /// Does as the gate says now: listens or does not, and parts from those it would not let in.
    fn heed_gate(&mut self, stack: &mut dyn NetStack) {
        let gate = &self.gate.0;
        (self.version, self.access) = (gate.version(), gate.access());
        let port = gate.port().unwrap_or(self.port);
        let wanted = (*self.access != Access::Closed).then_some(port);
        if self.listener.map(|(port, _)| port) != wanted {
            if let Some((_, listener)) = self.listener.take() {
                stack.unlisten(listener);
            }
            self.listener = wanted.and_then(|port| listen(stack, port));
        }
        for client in &mut self.clients {
            let socket = client.socket;
            client.is_welcome = self.access.admits(stack.local(socket), stack.peer(socket));
        }
    }

    fn accept(&mut self, local: &Local, stack: &mut dyn NetStack) -> Work {
        let Some(socket) = self.listener.and_then(|(_, listener)| stack.accept(listener)) else {
            return Work::IDLE;
        };
        let peer = stack.peer(socket);
        if !self.access.admits(stack.local(socket), peer) {
            // The log is not to be filled by whoever likes to.
            log::debug!(target: "web", "refused a connection from {peer:?}: it is not allowed");
            stack.abort(socket);
        } else if self.has_room(stack) {
            self.clients.push(Client::new(socket, local.now()));
        } else {
            log::debug!(target: "web", "refused a connection: {CONNECTIONS_MAX} are busy");
            stack.abort(socket);
        }
        Work(1)
    }

    /// Whether there is room for another client; one that has asked for nothing since longest makes
    /// way.
    fn has_room(&mut self, stack: &mut dyn NetStack) -> bool {
        if self.clients.len() < CONNECTIONS_MAX {
            return true;
        }
        let quiet = (0..self.clients.len()).filter(|at| self.clients[*at].is_quiet());
        let Some(at) = quiet.min_by_key(|at| self.clients[*at].progress) else { return false };
        stack.close(self.clients.swap_remove(at).socket);
        true
    }
}

fn listen(stack: &mut dyn NetStack, port: u16) -> Option<(u16, ListenerId)> {
    match stack.listen(port) {
        Ok(listener) => Some((port, listener)),
        Err(error) => {
            log::error!(target: "web", "cannot listen on port {port}: {error:?}");
            None
        }
    }
}

/// What became of a client in one round.
enum Step {
    Alive(Work),
    Gone,
}

/// The answer to the request in progress, filled in by its task.
#[derive(Debug)]
enum Answer {
    /// No request is in progress.
    Idle,
    /// A task is at it.
    Waiting,
    /// Done.
    Ready(Request, Content),
}

/// One connection.
///
/// Life cycle of a request: received -> [`Answer::Waiting`] -> [`Answer::Ready`] -> sent. The next
/// one is read only then, so a client can never make work pile up.
#[derive(Debug)]
struct Client {
    socket: SocketId,
    reader: RequestReader,
    answer: Rc<RefCell<Answer>>,
    response: Option<Response>,
    /// When it last did what was waited for.
    progress: Instant,
    /// Whether it may go on after the request in progress.
    is_welcome: bool,
    /// Whether no request comes after that one.
    is_last: bool,
}

impl Client {
    fn new(socket: SocketId, now: Instant) -> Self {
        Self {
            socket,
            reader: RequestReader::default(),
            answer: Rc::new(RefCell::new(Answer::Idle)),
            response: None,
            progress: now,
            is_welcome: true,
            is_last: false,
        }
    }

    fn step(&mut self, local: &Local, stack: &mut dyn NetStack, unix_s: Option<u64>) -> Step {
        let mut work = self.collect(local, unix_s);
        match self.read(local, stack, unix_s).and_then(|read| Ok(read + self.write(local, stack)?))
        {
            Ok(done) => work += done,
            Err(_) => {
                stack.abort(self.socket);
                return Step::Gone;
            }
        }
        let is_over = self.is_last || !self.is_welcome;
        if is_over && self.response.is_none() && self.is_idle() {
            stack.close(self.socket);
            return Step::Gone;
        }
        Step::Alive(work)
    }

    fn unread(&self) -> usize {
        self.response.as_ref().map_or(0, Response::unsent_len)
    }

    fn is_idle(&self) -> bool {
        matches!(*self.answer.borrow(), Answer::Idle)
    }

    /// Whether it has got all that it asked for, and asks for nothing.
    fn is_quiet(&self) -> bool {
        self.is_idle() && self.response.is_none() && self.reader.is_empty()
    }

    /// Takes the answer that has been made.
    fn collect(&mut self, local: &Local, unix_s: Option<u64>) -> Work {
        let answer = self.answer.replace(Answer::Idle);
        let Answer::Ready(request, content) = answer else {
            self.answer.replace(answer);
            return Work::IDLE;
        };
        self.respond(request, content, unix_s);
        self.progress = local.now();
        Work(1)
    }

    fn respond(&mut self, request: Request, content: Content, unix_s: Option<u64>) {
        self.is_last |= request.after == After::Close;
        self.response = Some(Response::new(request.method, content, request.after, unix_s));
    }

    /// Reads up to the end of one request, unless one is in progress or unsent.
    fn read(
        &mut self,
        local: &Local,
        stack: &mut dyn NetStack,
        unix_s: Option<u64>,
    ) -> Result<Work, SocketError> {
        if self.is_last || !self.is_welcome || self.response.is_some() || !self.is_idle() {
            return Ok(Work::IDLE);
        }
        let mut request = None;
        let was_empty = self.reader.is_empty();
        let reader = &mut self.reader;
        let received = stack.recv(self.socket, &mut |bytes| {
            if request.is_some() {
                return 0;
            }
            let (taken, complete) = reader.receive(bytes);
            request = complete;
            taken
        });
        let taken = match received {
            Ok(taken) => taken,
            Err(SocketError::Closed) => {
                self.is_last = true;
                0
            }
            Err(error @ SocketError::Reset) => return Err(error),
        };
        let now = local.now();
        if was_empty && !self.reader.is_empty() {
            self.progress = now;
        }
        match request {
            Some(Ok(request)) => self.answer(local, request, unix_s),
            Some(Err(status)) => self.refuse(status, unix_s),
            None if self.is_late(now) => {
                if self.reader.is_empty() {
                    self.is_last = true;
                } else {
                    self.refuse(Status::Timeout, unix_s);
                }
            }
            None => {}
        }
        Ok(Work(u32::from(taken > 0)))
    }

    fn is_late(&self, now: Instant) -> bool {
        let patience = if self.reader.is_empty() { IDLE_TIME_MAX } else { REQUEST_TIME_MAX };
        now.since(self.progress) > patience
    }

    /// Ends the connection, as nobody knows where the next request would begin.
    fn refuse(&mut self, status: Status, unix_s: Option<u64>) {
        let request = Request { method: Method::Get, resource: Err(status), after: After::Close };
        self.respond(request, Content::Refusal(status), unix_s);
    }

    /// Answers at once what this core knows, and has the rest found out.
    fn answer(&mut self, local: &Local, request: Request, unix_s: Option<u64>) {
        self.progress = local.now();
        let known = match request.resource {
            Ok(Resource::Page) => Some(Content::Page),
            Ok(Resource::SamePage) => Some(Content::SamePage),
            Err(status) => Some(Content::Refusal(status)),
            Ok(_) => None,
        };
        if let Some(content) = known {
            return self.respond(request, content, unix_s);
        }
        *self.answer.borrow_mut() = Answer::Waiting;
        let (answer, caller) = (Rc::clone(&self.answer), local.clone());
        local.spawn("web", async move {
            let content = find(&caller, request.resource).await;
            *answer.borrow_mut() = Answer::Ready(request, content);
        });
    }

    fn write(&mut self, local: &Local, stack: &mut dyn NetStack) -> Result<Work, SocketError> {
        let Some(response) = &mut self.response else { return Ok(Work::IDLE) };
        let sent = stack.send_vectored(self.socket, &response.unsent().map(DmaRun::Lent))?;
        response.sent(sent);
        if response.unsent_len() == 0 {
            self.response = None;
        }
        if sent > 0 {
            self.progress = local.now();
        } else if local.now().since(self.progress) > STALL_MAX {
            log::debug!(target: "web", "dropped a client that does not take its answer");
            return Err(SocketError::Reset);
        }
        Ok(Work(u32::from(sent > 0)))
    }
}

/// Finds out what takes longer than a round.
async fn find(local: &Local, resource: Result<Resource, Status>) -> Content {
    let rendering = match resource {
        Ok(Resource::Log(since)) => Rendering::Log(since),
        Ok(Resource::State) => Rendering::State,
        Ok(Resource::PlainMetrics) => Rendering::PlainMetrics,
        _ => Rendering::Metrics,
    };
    let question: Question = Box::new(move |boot| match boot.service::<Collector>() {
        Some(collector) => collector.render(rendering),
        None => Box::pin(async { Box::new(()) as Found }),
    });
    let found = ask(local, CoreId::BOOT, question).await;
    match found.map(|found| found.downcast::<Arc<[u8]>>()) {
        Ok(Ok(text)) => Content::Text(rendering.media(), *text),
        Ok(Err(_)) | Err(_) => Content::Refusal(Status::Unavailable),
    }
}
