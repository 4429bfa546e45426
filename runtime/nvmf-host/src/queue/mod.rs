//! One queue of a remote controller: a TCP connection, its commands and its PDUs.

mod injected;
mod receive;
mod send;
mod slot;

use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use basalt_env::{Instant, Work};
use basalt_net::{NetStack, SocketError, SocketId};
use basalt_nvme_spec::{Command, Completion, Hold, Status};
use basalt_reactor::Local;
use basalt_ring::{Slots, Tag};
use zerocopy::IntoBytes;

use crate::pending::Pending;
use basalt_nvmf_pdu::wire::{self, CommonHeader, kind};
use basalt_nvmf_pdu::{DataRest, Digests, Fault, Limits, Receiver, ToHost, term_request};
pub use send::ADMIN_IN_CAPSULE;
use send::Sender;
pub use slot::{Answer, Data, Load};
use slot::{Outgoing, Slot};

/// Receive calls per round, so that one busy controller does not starve the others.
const RECEIVE_BUDGET: u32 = 16;

/// Why a connection to a controller is of no use any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkError {
    /// The network says so.
    Socket(SocketError),
    /// The controller has violated the protocol; it was told.
    Fault(Fault),
    /// The controller has ended it, for that reason (NVMe/TCP §3.6.2.5, FES).
    Terminated(u16),
    /// The controller does not answer a command in time.
    Timeout,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(error) => error.fmt(f),
            Self::Fault(fault) => write!(f, "the controller violates NVMe/TCP: {fault}"),
            Self::Terminated(status) => {
                write!(f, "the controller ended the connection, status {status:#x}")
            }
            Self::Timeout => f.write_str("the controller does not answer in time"),
        }
    }
}

/// A command that has been answered.
pub struct Ended {
    /// What waited for it.
    pub load: Load,
    /// The answer.
    pub completion: Completion,
    /// Bytes that came with it.
    pub received: u32,
    /// Bytes it asked for.
    pub expected: u32,
}

impl Ended {
    fn new(slot: Slot, completion: Completion) -> Self {
        let Slot { load, data, received, told, .. } = slot;
        let is_other = !told.is_success() && completion.status().is_success();
        let completion = if is_other { Completion::new(0, told) } else { completion };
        Self { load, completion, received, expected: data.in_len() }
    }
}

/// What a queue is to be like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueOptions {
    /// Digests to ask for.
    pub digests: Digests,
    /// Commands at a time.
    pub commands: u16,
    /// Bytes that one command moves at most.
    pub transfer_max: u32,
    /// Data bytes that a command capsule may carry.
    pub in_capsule: u32,
}

/// A queue's life, from its socket's:
///
/// ```text
/// asked for -connected, ICReq-> greeting -ICResp-> greeted -> failed: the owner takes all commands
///                                                     ^ |     back and drops it
///                                    commands, data --+-+ answers
/// ```
///
/// Commands may be submitted at any time; they are sent once it is greeted.
pub struct HostQueue {
    socket: SocketId,
    receiver: Receiver<ToHost>,
    inner: Inner,
}

/// All but the receiver, which hands it what it finds.
struct Inner {
    slots: Slots<Slot>,
    sender: Sender,
    ended: Vec<Ended>,
    /// The command whose data is being received, and what follows.
    receiving: Option<(Tag, DataRest)>,
    /// Those that are held back from the controller.
    held: Vec<(Tag, Hold)>,
    wanted: Digests,
    terminated: Option<u16>,
}

impl HostQueue {
    /// A queue over a connection that has been asked for. `None` if there can be no such queue.
    pub fn new(socket: SocketId, options: QueueOptions, local: &Local) -> Option<Self> {
        let commands = usize::from(options.commands);
        let mut sender = Sender::new(commands, ic_req(options.digests).as_bytes(), local);
        sender.in_capsule = options.in_capsule;
        let limits = Limits { in_capsule: 0, data: options.transfer_max };
        Some(Self {
            socket,
            receiver: Receiver::new(limits),
            inner: Inner {
                slots: Slots::with_capacity(commands).ok()?,
                sender,
                ended: Vec::with_capacity(commands),
                receiving: None,
                held: Vec::new(),
                wanted: options.digests,
                terminated: None,
            },
        })
    }

    /// Commands under way.
    pub fn outstanding(&self) -> usize {
        self.inner.slots.len()
    }

    /// Whether there is no room for another command.
    pub fn is_full(&self) -> bool {
        self.inner.slots.is_full()
    }

    /// Takes a command at the time `now`.
    ///
    /// # Errors
    /// There is no room: gives back the load.
    pub fn submit(
        &mut self,
        command: Command,
        data: Data,
        load: Load,
        now: Instant,
    ) -> Result<(), Load> {
        let slot = Slot {
            command,
            data,
            load,
            outgoing: Outgoing::Capsule,
            received: 0,
            told: Status::SUCCESS,
            early: None,
            since: now,
        };
        let tag = self.inner.slots.insert(slot).map_err(|full| full.0.load)?;
        self.inner.sender.enqueue(tag);
        Ok(())
    }

    /// Takes note that the Ios of which `is_it` says so are not wanted. Those that were not sent
    /// yet end as aborted; of the others, gives the commands' identifiers.
    pub(crate) fn give_up(&mut self, is_it: &dyn Fn(&Pending) -> bool) -> (Vec<u16>, bool) {
        let (mut sent, mut unsent) = (Vec::new(), Vec::new());
        for (tag, slot) in self.inner.slots.iter_mut() {
            let Load::Io(pending) = &mut slot.load else { continue };
            if !is_it(&*pending) {
                continue;
            }
            pending.give_up();
            match slot.outgoing {
                Outgoing::Capsule => unsent.push(tag),
                _ => sent.push(tag.as_u16()),
            }
        }
        let any_unsent = !unsent.is_empty();
        for tag in unsent {
            let aborted = Completion::new(tag.as_u16(), Status::ABORT_REQUESTED);
            if let Ok(slot) = self.inner.slots.remove(tag) {
                self.inner.ended.push(Ended::new(slot, aborted));
            }
        }
        (sent, any_unsent)
    }

    /// Receives what there is, and hands what has ended to `done`.
    ///
    /// # Errors
    /// The connection is of no use any more; [`Self::end`] gives back what it carried.
    pub fn receive(
        &mut self,
        stack: &mut dyn NetStack,
        done: &mut dyn FnMut(Ended),
    ) -> Result<Work, LinkError> {
        let result = self.receive_some(stack);
        self.inner.ended.drain(..).for_each(done);
        result
    }

    fn receive_some(&mut self, stack: &mut dyn NetStack) -> Result<Work, LinkError> {
        let mut work = Work::IDLE;
        for _ in 0..RECEIVE_BUDGET {
            let mut fault = None;
            let Self { receiver, inner, .. } = self;
            let taken = stack.recv(self.socket, &mut |bytes| {
                if fault.is_some() {
                    return bytes.len(); // Nothing counts behind it.
                }
                receiver.push(bytes, inner).unwrap_or_else(|found| {
                    fault = Some(found);
                    bytes.len()
                })
            });
            if let Some(fault) = fault {
                self.complain(stack, fault);
                return Err(LinkError::Fault(fault));
            }
            if let Some(status) = self.inner.terminated {
                return Err(LinkError::Terminated(status));
            }
            if taken.map_err(LinkError::Socket)? == 0 {
                break;
            }
            work += Work(1);
        }
        Ok(work)
    }

    /// Sends what there is to send, as far as the network takes it, and hands what has ended with
    /// that to `done`.
    ///
    /// # Errors
    /// As those of [`Self::receive`].
    pub fn flush(
        &mut self,
        stack: &mut dyn NetStack,
        done: &mut dyn FnMut(Ended),
    ) -> Result<Work, LinkError> {
        let Inner { slots, sender, ended, .. } = &mut self.inner;
        let sent = sender.flush(stack, self.socket, slots, &mut |slots, tag, completion| {
            if let Ok(slot) = slots.remove(tag) {
                ended.push(Ended::new(slot, completion));
            }
        });
        ended.drain(..).for_each(done);
        Ok(Work(u32::from(sent.map_err(LinkError::Socket)? > 0)))
    }

    /// Whether a command has been under way for longer than `limit`.
    pub(crate) fn is_late(&self, now: Instant, limit: Duration) -> bool {
        self.inner
            .slots
            .iter()
            .any(|(_, slot)| matches!(slot.load, Load::Io(_)) && now.since(slot.since) > limit)
    }

    /// Ends the connection; gives what it carried to `lost`.
    pub fn end(&mut self, stack: &mut dyn NetStack, lost: &mut dyn FnMut(Load)) {
        stack.close(self.socket);
        self.give_up_held();
        // Some have ended, but nobody has asked since.
        self.inner.ended.drain(..).for_each(|ended| lost(ended.load));
        self.inner.slots.drain().for_each(|slot| lost(slot.load));
    }

    /// Tells the controller what it did wrong (§3.5), as far as the network takes that at once.
    fn complain(&mut self, stack: &mut dyn NetStack, fault: Fault) {
        let (bytes, len) = term_request(kind::H2C_TERM_REQ, fault, self.receiver.header());
        let Inner { slots, sender, .. } = &mut self.inner;
        sender.finish_with(&bytes[..len]);
        // The connection ends in any case.
        let _ = sender.flush(stack, self.socket, slots, &mut |_, _, _| ());
    }
}

/// The first PDU of a connection: what we want of it (§3.6.2.2).
fn ic_req(digests: Digests) -> wire::IcReq {
    let len = size_of::<wire::IcReq>();
    wire::IcReq {
        common: CommonHeader {
            kind: kind::IC_REQ,
            flags: 0,
            hlen: len as u8,
            pdo: 0,
            plen: (len as u32).into(),
        },
        pfv: 0.into(),
        hpda: 0,
        digest: u8::from(digests.header) | u8::from(digests.data) << 1,
        maxr2t: 0.into(),
        reserved: [0; 112],
    }
}
