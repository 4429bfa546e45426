use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use basalt_env::Work;
use basalt_net::{ListenerId, NetStack};
use basalt_reactor::Local;

use crate::client::{Client, Step};
use crate::{Access, Conversation, Gate};

/// Reads, writes and replies found of a round, beyond which the other clients wait for the next.
const WORK_MAX: u32 = 8;

/// What a server lets its clients do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// What it is called: its tasks, and the target of its log lines.
    pub name: &'static str,
    /// Most connections of one core.
    pub connections_max: usize,
    /// What becomes of a client that comes when there are as many.
    pub when_full: WhenFull,
    /// Most bytes that the clients of a core may leave unread together.
    pub unread_bytes_max: usize,
    /// A client that takes nothing of a waiting reply for this long is dropped.
    pub stall_max: Duration,
    /// How long it is waited for a request; for ever if there is none.
    pub patience: Option<Patience>,
    /// How loudly it is logged that a client was refused for want of room, or does not take its
    /// reply.
    pub complaints: log::Level,
}

/// Who makes way when there are as many connections as there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenFull {
    /// Nobody: who comes then is refused.
    Refuse,
    /// The client that has asked for nothing since longest, if there is one.
    QuietestMakesWay,
}

/// How long it is waited for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// For it to begin.
    pub idle: Duration,
    /// For one that has begun to end.
    pub request: Duration,
}

/// Serves the connections of one core.
pub struct Server {
    rules: Rules,
    /// Unless the gate chooses another.
    port: u16,
    gate: Rc<Gate>,
    /// Begins the conversation of a connection.
    begin: Box<dyn Fn() -> Box<dyn Conversation>>,
    /// What the gate said when it was last asked, and which version that was.
    access: Rc<Access>,
    version: u32,
    listener: Option<(u16, ListenerId)>,
    clients: Vec<Client>,
    /// Whose turn it is.
    turn: usize,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.rules.name)
            .field("connections", &self.clients.len())
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Serves those whom `gate` lets in, on `port` of this core's stack or on the one that the gate
    /// chooses. It listens as soon as the gate lets in anybody.
    pub fn new(
        rules: Rules,
        gate: Rc<Gate>,
        port: u16,
        begin: impl Fn() -> Box<dyn Conversation> + 'static,
    ) -> Self {
        let (access, begin) = (Rc::new(Access::Closed), Box::new(begin));
        let (version, listener, clients, turn) = (0, None, Vec::new(), 0);
        Self { rules, port, gate, begin, access, version, listener, clients, turn }
    }

    /// Accepts, reads, has replies found and sends them; call once per reactor round.
    pub fn poll(&mut self, local: &Local, stack: &mut dyn NetStack) -> Work {
        if self.gate.version() != self.version {
            self.heed_gate(stack);
        }
        let mut work = self.accept(local, stack);
        // Most rounds end here, and there are many.
        if self.clients.is_empty() {
            return work;
        }
        work += self.serve(local, stack);
        self.spare_memory(stack);
        work
    }

    /// Gives each client a turn, from the one on whose turn it is, as long as that is not too much
    /// for one round.
    fn serve(&mut self, local: &Local, stack: &mut dyn NetStack) -> Work {
        let (mut work, mut at) = (Work::IDLE, self.turn);
        for _ in 0..self.clients.len() {
            at = if at < self.clients.len() { at } else { 0 };
            match self.clients[at].step(&self.rules, local, stack) {
                Step::Alive(done) => {
                    work += done;
                    at += 1;
                }
                Step::Gone => {
                    self.clients.remove(at);
                    // What it was sent last has yet to go.
                    work += Work(1);
                }
            }
            if work.0 >= WORK_MAX {
                break;
            }
        }
        self.turn = at;
        work
    }

    /// How many clients are connected.
    pub fn connections(&self) -> usize {
        self.clients.len()
    }

    /// Drops the client that leaves most unread, if all together leave too much.
    fn spare_memory(&mut self, stack: &mut dyn NetStack) {
        let unread = self.clients.iter().map(Client::unread);
        if unread.sum::<usize>() <= self.rules.unread_bytes_max {
            return;
        }
        let largest = (0..self.clients.len()).max_by_key(|at| self.clients[*at].unread());
        let Some(at) = largest else { return };
        let client = self.clients.swap_remove(at);
        let (name, unread) = (self.rules.name, client.unread());
        log::warn!(target: name, "dropped a client that leaves {unread} bytes unread");
        stack.abort(client.socket);
    }

    /// Does as the gate says now: listens or does not, and parts from those it would not let in.
    fn heed_gate(&mut self, stack: &mut dyn NetStack) {
        (self.version, self.access) = (self.gate.version(), self.gate.access());
        let port = self.gate.port().unwrap_or(self.port);
        let wanted = (*self.access != Access::Closed).then_some(port);
        if self.listener.map(|(port, _)| port) != wanted {
            if let Some((_, listener)) = self.listener.take() {
                stack.unlisten(listener);
            }
            self.listener = wanted.and_then(|port| self.listen(stack, port));
        }
        for client in &mut self.clients {
            let socket = client.socket;
            client.is_welcome = self.access.admits(stack.local(socket), stack.peer(socket));
        }
    }

    fn listen(&self, stack: &mut dyn NetStack, port: u16) -> Option<(u16, ListenerId)> {
        match stack.listen(port) {
            Ok(listener) => Some((port, listener)),
            Err(error) => {
                log::error!(target: self.rules.name, "cannot listen on port {port}: {error:?}");
                None
            }
        }
    }

    fn accept(&mut self, local: &Local, stack: &mut dyn NetStack) -> Work {
        let Some(socket) = self.listener.and_then(|(_, listener)| stack.accept(listener)) else {
            return Work::IDLE;
        };
        let Rules { name, connections_max, complaints, .. } = self.rules;
        let peer = stack.peer(socket);
        if !self.access.admits(stack.local(socket), peer) {
            // The log is not to be filled by whoever likes to.
            log::debug!(target: name, "refused a connection from {peer:?}: it is not allowed");
            stack.abort(socket);
        } else if self.has_room(stack) {
            self.clients.push(Client::new(socket, (self.begin)(), local.now()));
        } else {
            log::log!(target: name, complaints, "refused a connection: {connections_max} are open");
            stack.abort(socket);
        }
        Work(1)
    }

    /// Whether there is room for another client, or one makes way.
    fn has_room(&mut self, stack: &mut dyn NetStack) -> bool {
        if self.clients.len() < self.rules.connections_max {
            return true;
        }
        if self.rules.when_full == WhenFull::Refuse {
            return false;
        }
        let quiet = (0..self.clients.len()).filter(|at| self.clients[*at].is_quiet());
        let Some(at) = quiet.min_by_key(|at| self.clients[*at].progress) else { return false };
        stack.close(self.clients.swap_remove(at).socket);
        true
    }
}
