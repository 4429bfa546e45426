use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use basalt_env::{CoreId, Instant, Work};
use basalt_net::{ListenerId, NetStack, SocketError, SocketId};
use basalt_reactor::Local;
use serde_json::Value;

use crate::message::reply;
use crate::{Access, Connection, Found, Gate, PENDING_BYTES_MAX, Question, Rpc, RpcError, ask};

/// The TCP port, the default of SPDK's client.
pub const PORT: u16 = 5260;

/// Most connections of one core, as in SPDK.
pub const CONNECTIONS_MAX: usize = 64;

/// A peer that takes none of a waiting reply for this long is dropped.
const STALL_MAX: Duration = Duration::from_secs(60);

/// Serves the JSON-RPC connections of one core.
#[derive(Debug)]
pub struct Server {
    port: u16,
    gate: Rc<Gate>,
    /// What the gate said when it was last asked, and which version that was.
    access: Rc<Access>,
    version: u32,
    listener: Option<ListenerId>,
    clients: Vec<Client>,
}

impl Server {
    /// Serves those whom `gate` lets in, on `port` (usually [`PORT`]) of this core's stack. It
    /// listens there as soon as the gate lets in anybody.
    pub fn new(gate: Rc<Gate>, port: u16) -> Self {
        let access = Rc::new(Access::Closed);
        Self { port, gate, access, version: 0, listener: None, clients: Vec::new() }
    }

    /// Accepts, reads, starts methods and sends replies; call once per reactor round.
    pub fn poll(&mut self, local: &Local, stack: &mut dyn NetStack) -> Work {
        if self.gate.version() != self.version {
            self.heed_gate(stack);
        }
        let mut work = self.accept(local, stack);
        // Most rounds end here, and there are many.
        if self.clients.is_empty() {
            return work;
        }
        self.clients.retain_mut(|client| match client.step(local, stack) {
            Step::Alive(done) => {
                work += done;
                true
            }
            Step::Gone => false,
        });
        self.spare_memory(stack);
        work
    }

    /// Drops the client that leaves most unread, if all together leave too much.
    fn spare_memory(&mut self, stack: &mut dyn NetStack) {
        let unread = |client: &Client| client.connection.output().len();
        if self.clients.iter().map(unread).sum::<usize>() <= PENDING_BYTES_MAX {
            return;
        }
        let largest = (0..self.clients.len()).max_by_key(|at| unread(&self.clients[*at]));
        let Some(at) = largest else { return };
        let client = self.clients.swap_remove(at);
        let unread = unread(&client);
        log::warn!(target: "rpc", "dropped a client that leaves {unread} bytes unread");
        stack.abort(client.socket);
    }

    /// How many clients are connected.
    pub fn connections(&self) -> usize {
        self.clients.len()
    }

    /// Does as the gate says now: listens or does not, and parts from those it would not let in.
    fn heed_gate(&mut self, stack: &mut dyn NetStack) {
        (self.version, self.access) = (self.gate.version(), self.gate.access());
        let wanted = *self.access != Access::Closed;
        match self.listener {
            None if wanted => self.listen(stack),
            Some(listener) if !wanted => {
                stack.unlisten(listener);
                self.listener = None;
            }
            _ => {}
        }
        for client in &mut self.clients {
            let socket = client.socket;
            client.is_welcome = self.access.admits(stack.local(socket), stack.peer(socket));
        }
    }

    fn listen(&mut self, stack: &mut dyn NetStack) {
        match stack.listen(self.port) {
            Ok(listener) => self.listener = Some(listener),
            Err(error) => {
                log::error!(target: "rpc", "cannot listen on port {}: {error:?}", self.port);
            }
        }
    }

    fn accept(&mut self, local: &Local, stack: &mut dyn NetStack) -> Work {
        let Some(socket) = self.listener.and_then(|listener| stack.accept(listener)) else {
            return Work::IDLE;
        };
        let peer = stack.peer(socket);
        if !self.access.admits(stack.local(socket), peer) {
            // The log is not to be filled by whoever likes to.
            log::debug!(target: "rpc", "refused a connection from {peer:?}: it is not allowed");
            stack.abort(socket);
        } else if self.clients.len() < CONNECTIONS_MAX {
            self.clients.push(Client::new(socket, local.now()));
        } else {
            log::warn!(target: "rpc", "refused a connection: {CONNECTIONS_MAX} are open");
            stack.abort(socket);
        }
        Work(1)
    }
}

/// What became of a client in one round.
enum Step {
    Alive(Work),
    Gone,
}

/// The answer to the message in progress, filled in by its task.
#[derive(Debug)]
enum Answer {
    /// No message is in progress.
    Idle,
    /// A task is at it.
    Waiting,
    /// Done; `None` for a notification.
    Ready(Option<Vec<u8>>),
}

/// One connection. Life cycle of a message: received -> [`Answer::Waiting`] -> [`Answer::Ready`]
/// -> sent. The next one is read only then, so a client can never make work pile up.
#[derive(Debug)]
struct Client {
    socket: SocketId,
    connection: Connection,
    answer: Rc<RefCell<Answer>>,
    progress: Instant,
    /// Whether it may go on after the message in progress.
    is_welcome: bool,
}

impl Client {
    fn new(socket: SocketId, now: Instant) -> Self {
        let answer = Rc::new(RefCell::new(Answer::Idle));
        let connection = Connection::default();
        Self { socket, connection, answer, progress: now, is_welcome: true }
    }

    fn step(&mut self, local: &Local, stack: &mut dyn NetStack) -> Step {
        let mut work = self.collect();
        match self.read(local, stack).and_then(|done| Ok(done + self.write(local, stack)?)) {
            Ok(done) => work += done,
            Err(_) => {
                stack.abort(self.socket);
                return Step::Gone;
            }
        }
        if !self.is_welcome && self.is_idle() {
            self.connection.close();
        }
        if self.connection.is_finished() && self.is_idle() {
            stack.close(self.socket);
            return Step::Gone;
        }
        Step::Alive(work)
    }

    fn is_idle(&self) -> bool {
        matches!(*self.answer.borrow(), Answer::Idle)
    }

    /// Queues the reply of a message that has been carried out.
    fn collect(&mut self) -> Work {
        let mut answer = self.answer.borrow_mut();
        let Answer::Ready(reply) = &mut *answer else { return Work::IDLE };
        if let Some(reply) = reply.take() {
            self.connection.send(&reply);
        }
        *answer = Answer::Idle;
        Work(1)
    }

    /// Reads up to the end of one message, unless one is in progress or unsent.
    fn read(&mut self, local: &Local, stack: &mut dyn NetStack) -> Result<Work, SocketError> {
        if !self.is_welcome || !self.is_idle() || !self.connection.output().is_empty() {
            return Ok(Work::IDLE);
        }
        let mut message = None;
        let connection = &mut self.connection;
        let received = stack.recv(self.socket, &mut |bytes| {
            if message.is_some() {
                return 0;
            }
            let (taken, complete) = connection.receive(bytes);
            message = complete;
            taken
        });
        let taken = match received {
            Ok(taken) => taken,
            Err(SocketError::Closed) => {
                self.connection.close();
                0
            }
            Err(error @ SocketError::Reset) => return Err(error),
        };
        if let Some(message) = message {
            self.carry_out(local, message);
        }
        Ok(Work(u32::from(taken > 0)))
    }

    /// Has the boot core carry the message out.
    fn carry_out(&mut self, local: &Local, message: Value) {
        self.progress = local.now();
        *self.answer.borrow_mut() = Answer::Waiting;
        let (answer, caller) = (Rc::clone(&self.answer), local.clone());
        local.spawn("rpc", async move {
            let reply = carry_out(&caller, message).await;
            *answer.borrow_mut() = Answer::Ready(reply);
        });
    }

    fn write(&mut self, local: &Local, stack: &mut dyn NetStack) -> Result<Work, SocketError> {
        if self.connection.output().is_empty() {
            self.progress = local.now();
            return Ok(Work::IDLE);
        }
        let sent = stack.send(self.socket, self.connection.output())?;
        if sent > 0 {
            self.connection.sent(sent);
            self.progress = local.now();
        } else if local.now().since(self.progress) > STALL_MAX {
            log::warn!(target: "rpc", "dropped a client that does not take its reply");
            return Err(SocketError::Reset);
        }
        Ok(Work(u32::from(sent > 0)))
    }
}

/// What the boot core has to say to a message, or why it has nothing.
type Answered = Result<Option<Vec<u8>>, &'static str>;

/// Carries a message out on the boot core.
async fn carry_out(local: &Local, message: Value) -> Option<Vec<u8>> {
    let question: Question = Box::new(move |boot| {
        Box::pin(async move {
            let answer: Answered = match boot.service::<Rpc>() {
                Some(rpc) => Ok(rpc.answer(message).await),
                None => Err("is not running"),
            };
            Box::new(answer) as Found
        })
    });
    let reason = match ask(local, CoreId::BOOT, question).await.map(|found| found.downcast()) {
        Ok(Ok(answer)) => match *answer {
            Ok(reply) => return reply,
            Err(reason) => reason,
        },
        Ok(Err(_)) | Err(_) => "is too busy to take the call",
    };
    let message = alloc::format!("The control plane {reason}");
    Some(reply(Value::Null, Err(RpcError::new(RpcError::INTERNAL, message))))
}
