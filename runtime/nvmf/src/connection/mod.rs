//! One TCP connection: one admin or I/O queue of one controller, on one core.
//!
//! [`Connection`] joins the receiver of PDUs with the [`Queue`], which owns the command slots and
//! the sender. It does no I/O of its own: its poll group hands it the network stack and the core's
//! resources on every call.

mod abort;
mod admin;
pub(crate) mod copy;
mod fused;
mod io;
mod queue;
mod read;
mod receive;
mod send;
mod slot;
mod traced;
mod zones;

use alloc::vec::Vec;

use basalt_bdev::Io;
use basalt_env::{Instant, Work};
use basalt_metrics::Tpoint;
use basalt_net::{Endpoint, NetStack, SocketError, SocketId};

pub(crate) use abort::{Aborting, Preempted};
pub(crate) use admin::{AdminReply, AdminRequest, Connected, Source};
pub(crate) use io::failure;
pub use queue::QueueInfo;
use queue::{Phase, Queue};
use receive::Handler;

use crate::group::{Affected, Core, Tag};
use crate::pdu::wire::kind;
use crate::pdu::{Fault, Receiver, term_request};

/// Names a connection on any core; never used twice within a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId {
    /// The core it lives on.
    pub core: basalt_env::CoreId,
    /// Its slot in the core's poll group.
    pub slot: u16,
    /// Which use of the slot.
    pub generation: u32,
}

/// Both ends of a connection, as far as the network still knows them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// The address and port the host reached us by.
    pub(crate) local: Option<Endpoint>,
    /// The host's.
    pub(crate) peer: Option<Endpoint>,
}

/// How far the transport is from its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    /// In use.
    Open,
    /// Our last words are on their way; then it is closed.
    Draining {
        /// When it is reset instead.
        until: Instant,
    },
    /// The socket is gone; commands may still be at the bdev or the control plane.
    Gone,
}

/// Receive calls per round, so that one busy host does not starve the others.
const RECEIVE_BUDGET: u32 = 16;

/// A connection's life:
///
/// ```text
/// accepted -ICReq-> greeted -Connect-> connecting -accepted-> ready -> gone -> reclaimed
///    |  timeout        |  timeout, other commands fail           ^        ^
///    |                 +-------------- refused ------------------+        | last Io is back
///    +-> draining (C2HTermReq on its way) -sent or timeout----------------+
/// ```
///
/// It leaves its poll group only in the last step, when nobody holds one of its commands.
pub(crate) struct Connection {
    socket: SocketId,
    receiver: Receiver,
    queue: Queue,
    link: Link,
    deadline: Instant,
}

impl Connection {
    /// A connection just accepted, between these ends.
    pub(crate) fn new(id: ConnectionId, socket: SocketId, ends: Ends, core: &mut Core) -> Self {
        Self {
            socket,
            receiver: Receiver::new(core.config.limits()),
            queue: Queue::new(id, ends, core),
            link: Link::Open,
            deadline: core.local.now() + core.config.handshake_timeout,
        }
    }

    /// Receives, executes and sends what there is.
    pub(crate) fn poll(&mut self, core: &mut Core, stack: &mut dyn NetStack) -> Work {
        if self.link == Link::Gone {
            return Work::IDLE;
        }
        self.queue.sender.look_at_kept(stack, self.socket);
        let mut work = self.queue.serve_waiting(core);
        if self.link == Link::Open {
            work += self.receive(core, stack);
        }
        work + self.flush(core, stack)
    }

    /// Enforces deadlines; called a few times per second.
    pub(crate) fn check_deadlines(&mut self, core: &mut Core, stack: &mut dyn NetStack) {
        let now = core.local.now();
        match self.link {
            Link::Gone => {}
            Link::Draining { until } if now >= until => self.abort(core, stack),
            Link::Draining { .. } => {}
            Link::Open if self.queue.phase() == Phase::Accepted && now >= self.deadline => {
                log::info!(target: "nvmf", "{}: no ICReq in time", self.queue.name());
                self.abort(core, stack);
            }
            Link::Open if self.queue.phase() == Phase::Greeted && now >= self.deadline => {
                log::info!(target: "nvmf", "{}: no Connect in time", self.queue.name());
                self.abort(core, stack);
            }
            Link::Open => self.queue.expire_waiting(core, now),
        }
    }

    /// Ends the connection from our side, without last words.
    pub(crate) fn abort(&mut self, core: &mut Core, stack: &mut dyn NetStack) {
        if self.link != Link::Gone {
            stack.abort(self.socket);
            self.lose(core);
        }
    }

    /// Whether nothing refers to it any more.
    pub(crate) fn is_reclaimable(&self) -> bool {
        self.link == Link::Gone && self.queue.outstanding() == 0
    }

    /// It is about to be forgotten: gives up its path.
    pub(crate) fn leave(&self, core: &mut Core) {
        if let Some(path) = self.queue.path() {
            core.views.leave(path);
        }
    }

    /// Adds to `tags` its commands at the bdev that `affected` is about.
    pub(crate) fn running(&self, core: &Core, affected: &Affected, tags: &mut Vec<Tag>) {
        let visitor =
            self.queue.path().and_then(|path| core.views.visitor(path, affected.subsystem));
        if visitor.is_some_and(|visitor| affected.concerns(visitor)) {
            self.queue.running(&affected.nsids, tags);
        }
    }

    /// Whether the command of `tag` is still at the bdev.
    pub(crate) fn is_running(&self, tag: Tag) -> bool {
        self.queue.is_running(tag)
    }

    /// Whether the control plane is deciding about its Connect.
    pub(crate) fn is_connecting(&self) -> bool {
        self.queue.phase() == Phase::Connecting
    }

    /// Commands at bdevs or the control plane.
    pub(crate) fn outstanding(&self) -> u32 {
        self.queue.outstanding()
    }

    /// Ios that came back.
    pub(crate) fn ios(&self) -> u64 {
        self.queue.ios
    }

    /// What it is, for the console and for RPC.
    pub(crate) fn info(&self) -> QueueInfo {
        self.queue.info()
    }

    /// A bdev finished an Io of this connection.
    pub(crate) fn io_done(&mut self, core: &mut Core, tag: Tag, io: &mut Io) {
        self.queue.io_done(core, tag, io, self.link != Link::Open);
    }

    /// Aborts a command, if it can be.
    pub(crate) fn abort_command(&mut self, core: &mut Core, cid: u16) -> Aborting {
        if self.link != Link::Open {
            return Aborting::No;
        }
        self.queue.abort_command(cid, core)
    }

    /// Aborts commands of preempted hosts, even of those that have left.
    pub(crate) fn abort_all(&mut self, target: &Preempted<'_>, core: &mut Core) {
        self.queue.abort_all(target, core);
    }

    /// Whether one of them, not younger than `mark`, is under way.
    pub(crate) fn is_busy(&self, target: &Preempted<'_>, mark: u32, core: &Core) -> bool {
        self.queue.is_busy(target, mark, core)
    }

    /// The channel may have room again: submits the Io it refused. `false` if it still has none.
    pub(crate) fn resubmit(&mut self, core: &mut Core, tag: Tag) -> bool {
        self.queue.resubmit(core, tag)
    }

    /// The control plane answered a command.
    pub(crate) fn admin_done(&mut self, core: &mut Core, tag: Tag, reply: AdminReply) {
        self.queue.admin_done(core, tag, reply, self.link != Link::Open);
        // The wait for Connect begins anew with every answer.
        self.deadline = core.local.now() + core.config.handshake_timeout;
    }

    fn receive(&mut self, core: &mut Core, stack: &mut dyn NetStack) -> Work {
        let mut work = Work::IDLE;
        if self.receiver.is_waiting()
            && let Err(fault) = self.receiver.push(&[], &mut Handler::new(&mut self.queue, core))
        {
            self.terminate(core, fault);
            return Work(1);
        }
        for _ in 0..RECEIVE_BUDGET {
            if self.receiver.is_waiting() || self.link != Link::Open {
                break;
            }
            let mut fault = None;
            let Self { receiver, queue, .. } = self;
            let result = stack.recv(self.socket, &mut |bytes| {
                if fault.is_some() {
                    return bytes.len(); // Nothing counts behind it.
                }
                receiver.push(bytes, &mut Handler::new(queue, core)).unwrap_or_else(|found| {
                    fault = Some(found);
                    bytes.len()
                })
            });
            match result {
                Ok(0) => break,
                Ok(bytes) => {
                    self.queue.trace_bytes(Tpoint::SockReceived, bytes);
                    work += Work(1);
                }
                Err(error) => {
                    self.hung_up(core, stack, error);
                    return work + Work(1);
                }
            }
            if let Some(fault) = fault {
                self.terminate(core, fault);
            }
            if self.queue.host_left() {
                self.close(core, stack);
            }
        }
        work
    }

    fn flush(&mut self, core: &mut Core, stack: &mut dyn NetStack) -> Work {
        if self.link == Link::Gone {
            return Work::IDLE;
        }
        match self.queue.flush(stack, self.socket) {
            Err(error) => {
                self.hung_up(core, stack, error);
                Work(1)
            }
            Ok(sent) => {
                if sent > 0 {
                    self.queue.trace_bytes(Tpoint::SockSent, sent);
                }
                if matches!(self.link, Link::Draining { .. }) && self.queue.is_flushed() {
                    self.close(core, stack);
                }
                Work(u32::from(sent > 0))
            }
        }
    }

    /// Answers a violation of the protocol with a C2HTermReq; then the connection ends (§3.5).
    fn terminate(&mut self, core: &mut Core, fault: Fault) {
        log::warn!(target: "nvmf", "{}: {fault}; terminating", self.queue.name());
        core.counters.faults += 1;
        core.counters.fault_kinds[fault.kind.index()] += 1;
        let (bytes, len) = term_request(kind::C2H_TERM_REQ, fault, self.receiver.header());
        self.queue.last_words(&bytes[..len]);
        self.link = Link::Draining { until: core.local.now() + core.config.drain_timeout };
    }

    fn hung_up(&mut self, core: &mut Core, stack: &mut dyn NetStack, error: SocketError) {
        log::debug!(target: "nvmf", "{}: {error}", self.queue.name());
        self.close(core, stack);
    }

    fn close(&mut self, core: &mut Core, stack: &mut dyn NetStack) {
        if self.link != Link::Gone {
            stack.close(self.socket);
            self.lose(core);
        }
    }

    fn lose(&mut self, core: &mut Core) {
        self.link = Link::Gone;
        self.queue.abandon(core);
    }
}
