use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::mem;

use basalt_env::{DmaRun, Instant, Work};
use basalt_net::{NetStack, SocketError, SocketId};
use basalt_reactor::Local;

use crate::{Answer, Conversation, Finding, Reply, Rules};

/// What became of a client in one round.
pub enum Step {
    Alive(Work),
    Gone,
}

/// The reply to the request in progress, filled in by its task.
enum Found {
    /// No request is in progress.
    Idle,
    /// A task is at it.
    Waiting,
    /// Done; `None` if no reply is wanted.
    Ready(Option<Reply>),
}

/// One connection.
///
/// Life cycle of a request: received -> [`Found::Waiting`] -> [`Found::Ready`] -> sent. The next
/// one is read only then, so a client can never make work pile up.
pub struct Client {
    pub socket: SocketId,
    conversation: Box<dyn Conversation>,
    found: Rc<RefCell<Found>>,
    reply: Option<Reply>,
    /// When it last did what was waited for.
    pub progress: Instant,
    /// Whether it may go on after the request in progress.
    pub is_welcome: bool,
    /// Whether no request comes after that one.
    is_last: bool,
}

impl Client {
    pub fn new(socket: SocketId, conversation: Box<dyn Conversation>, now: Instant) -> Self {
        Self {
            socket,
            conversation,
            found: Rc::new(RefCell::new(Found::Idle)),
            reply: None,
            progress: now,
            is_welcome: true,
            is_last: false,
        }
    }

    /// One round of it.
    pub fn step(&mut self, rules: &Rules, local: &Local, stack: &mut dyn NetStack) -> Step {
        let mut work = self.collect(local);
        let read = self.read(rules, local, stack);
        match read.and_then(|read| Ok(read + self.write(rules, local, stack)?)) {
            Ok(done) => work += done,
            Err(_) => {
                stack.abort(self.socket);
                return Step::Gone;
            }
        }
        let is_over = self.is_last || !self.is_welcome;
        if is_over && self.reply.is_none() && self.is_idle() {
            stack.close(self.socket);
            return Step::Gone;
        }
        Step::Alive(work)
    }

    /// Bytes that it has not taken yet.
    pub fn unread(&self) -> usize {
        self.reply.as_ref().map_or(0, Reply::unsent_len)
    }

    fn is_idle(&self) -> bool {
        matches!(*self.found.borrow(), Found::Idle)
    }

    /// Whether it has got all that it asked for, and asks for nothing.
    pub fn is_quiet(&self) -> bool {
        self.is_idle() && self.reply.is_none() && !self.conversation.is_amid()
    }

    /// Takes the reply that has been found.
    fn collect(&mut self, local: &Local) -> Work {
        let mut found = self.found.borrow_mut();
        if !matches!(*found, Found::Ready(_)) {
            return Work::IDLE;
        }
        let taken = mem::replace(&mut *found, Found::Idle);
        drop(found);
        if let Found::Ready(Some(reply)) = taken {
            self.respond(local, reply);
        }
        Work(1)
    }

    fn respond(&mut self, local: &Local, reply: Reply) {
        self.is_last |= reply.is_last();
        self.reply = Some(reply);
        self.progress = local.now();
    }

    /// Reads up to the end of one request, unless one is in progress or its reply unsent.
    fn read(
        &mut self,
        rules: &Rules,
        local: &Local,
        stack: &mut dyn NetStack,
    ) -> Result<Work, SocketError> {
        if self.is_last || !self.is_welcome || self.reply.is_some() || !self.is_idle() {
            return Ok(Work::IDLE);
        }
        let mut answer = None;
        let conversation = &mut self.conversation;
        let was_amid = conversation.is_amid();
        let received = stack.recv(self.socket, &mut |bytes| {
            match &answer {
                // Nothing that comes after the last word is of interest.
                Some(Answer::Now(reply)) if reply.is_last() => return bytes.len(),
                Some(_) => return 0,
                None => {}
            }
            let (taken, complete) = conversation.receive(local, bytes);
            answer = complete;
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
        if !was_amid && self.conversation.is_amid() {
            self.progress = local.now();
        }
        match answer {
            Some(Answer::Now(reply)) => self.respond(local, reply),
            Some(Answer::Later(finding)) => self.find(rules.name, local, finding),
            None if self.is_late(rules, local.now()) => self.give_up(local),
            None => {}
        }
        Ok(Work(u32::from(taken > 0)))
    }

    /// Has a task find the reply.
    fn find(&mut self, name: &'static str, local: &Local, finding: Finding) {
        *self.found.borrow_mut() = Found::Waiting;
        let found = Rc::clone(&self.found);
        local.spawn_background(name, async move {
            let reply = finding.await;
            *found.borrow_mut() = Found::Ready(reply);
        });
    }

    fn is_late(&self, rules: &Rules, now: Instant) -> bool {
        let Some(patience) = rules.patience else { return false };
        let is_amid = self.conversation.is_amid();
        let patience = if is_amid { patience.request } else { patience.idle };
        now.since(self.progress) > patience
    }

    /// Waits no longer.
    fn give_up(&mut self, local: &Local) {
        self.is_last = true;
        if self.conversation.is_amid()
            && let Some(reply) = self.conversation.give_up(local)
        {
            self.respond(local, reply);
        }
    }

    fn write(
        &mut self,
        rules: &Rules,
        local: &Local,
        stack: &mut dyn NetStack,
    ) -> Result<Work, SocketError> {
        let Some(reply) = &mut self.reply else { return Ok(Work::IDLE) };
        let sent = stack.send_vectored(self.socket, &reply.unsent().map(DmaRun::Lent))?;
        reply.sent(sent);
        if reply.unsent_len() == 0 {
            self.reply = None;
        }
        if sent > 0 {
            self.progress = local.now();
        } else if local.now().since(self.progress) > rules.stall_max {
            let (name, level) = (rules.name, rules.complaints);
            log::log!(target: name, level, "dropped a client that does not take its reply");
            return Err(SocketError::Reset);
        }
        Ok(Work(u32::from(sent > 0)))
    }
}
