use alloc::vec::Vec;

use serde_json::Value;

use crate::message::reply;
use crate::{Framer, RpcError};

/// Most bytes of replies a peer may leave unread, as in SPDK, and all peers of a core together.
pub const PENDING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// One client's byte stream, without the socket.
///
/// Life cycle: open --(bytes that are no message: the error is queued)--> closing --(all sent)-->
/// finished. A peer that lets more than [`PENDING_BYTES_MAX`] pile up goes straight to finished.
#[derive(Debug, Default)]
pub struct Connection {
    framer: Framer,
    output: Vec<u8>,
    sent: usize,
    closing: bool,
}

impl Connection {
    /// Takes received bytes up to the end of the first message; gives how many were taken and the
    /// message. Once the stream makes no sense, everything is swallowed.
    pub fn receive(&mut self, bytes: &[u8]) -> (usize, Option<Value>) {
        if self.closing {
            return (bytes.len(), None);
        }
        match self.framer.feed(bytes) {
            Ok(taken) => taken,
            Err(error) => {
                log::warn!(target: "rpc", "closing a connection: {error}");
                let message = alloc::format!("Parse error: {error}");
                let error = RpcError::new(RpcError::PARSE, message);
                self.send(&reply(Value::Null, Err(error)));
                self.closing = true;
                (bytes.len(), None)
            }
        }
    }

    /// Queues a reply and ends its line.
    pub fn send(&mut self, reply: &[u8]) {
        if self.output().len() + reply.len() > PENDING_BYTES_MAX {
            log::warn!(target: "rpc", "closing a connection that leaves its replies unread");
            self.output = Vec::new();
            self.sent = 0;
            self.closing = true;
            return;
        }
        self.output.extend_from_slice(reply);
        self.output.push(b'\n');
    }

    /// No more requests are wanted: what is queued goes out, then the connection is finished.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// The bytes to send next.
    pub fn output(&self) -> &[u8] {
        self.output.get(self.sent..).unwrap_or_default()
    }

    /// Marks the first `bytes` of [`Self::output`] as sent.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.output().is_empty() {
            self.output = Vec::new();
            self.sent = 0;
        }
    }

    /// Whether the socket should be closed now.
    pub fn is_finished(&self) -> bool {
        self.closing && self.output().is_empty()
    }
}
