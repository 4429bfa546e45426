use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::pin::Pin;

use basalt_reactor::Local;

/// What is spoken on one connection, without the socket.
pub trait Conversation {
    /// Takes received bytes up to the end of the first request; gives how many were taken and, once
    /// the request is whole, what is answered. It is called again only after that was sent.
    fn receive(&mut self, local: &Local, bytes: &[u8]) -> (usize, Option<Answer>);

    /// Whether part of a request has come.
    fn is_amid(&self) -> bool;

    /// What a client is told that does not finish its request in [time](crate::Patience), after
    /// which the connection ends; nothing by default.
    fn give_up(&mut self, local: &Local) -> Option<Reply> {
        let _ = local;
        None
    }
}

/// Finds a reply; none if none is wanted.
pub type Finding = Pin<Box<dyn Future<Output = Option<Reply>>>>;

/// What comes of a request.
pub enum Answer {
    /// The reply is known.
    Now(Reply),
    /// It takes longer than a round: a task of its own finds it.
    Later(Finding),
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(reply) => f.debug_tuple("Now").field(reply).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

/// What is sent behind the head of a reply.
#[derive(Clone, Debug, Default)]
pub enum Content {
    /// Nothing.
    #[default]
    None,
    /// What is part of the program.
    Static(&'static [u8]),
    /// What was made for this and perhaps other replies.
    Shared(Arc<[u8]>),
}

impl Content {
    /// Its bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Static(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// A reply on its way.
#[derive(Debug)]
pub struct Reply {
    head: Vec<u8>,
    content: Content,
    /// Bytes of both that were sent.
    sent: usize,
    is_last: bool,
}

impl Reply {
    /// A reply: `head` and then `content`.
    pub fn new(head: Vec<u8>, content: Content) -> Self {
        Self { head, content, sent: 0, is_last: false }
    }

    /// The same, but the connection ends with it.
    #[must_use]
    pub fn last(self) -> Self {
        Self { is_last: true, ..self }
    }

    /// Whether the connection ends with it.
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// What is still to be sent.
    pub fn unsent(&self) -> [&[u8]; 2] {
        let of_head = self.sent.min(self.head.len());
        [&self.head[of_head..], &self.content.as_slice()[self.sent - of_head..]]
    }

    /// Bytes that are still to be sent.
    pub fn unsent_len(&self) -> usize {
        self.unsent().iter().map(|part| part.len()).sum()
    }

    /// So many bytes of [`Self::unsent`] were sent.
    pub fn sent(&mut self, count: usize) {
        self.sent += count;
    }
}
