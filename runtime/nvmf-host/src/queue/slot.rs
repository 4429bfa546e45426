use basalt_env::{DmaBuf, Instant};
use basalt_nvme_spec::{Command, Completion, Status};
use basalt_reactor::sync::oneshot;

use crate::pending::Pending;
use basalt_nvmf_pdu::ReadyToTransfer;

/// What a command moves; offsets and lengths in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Data {
    /// Nothing.
    None,
    /// From the controller into the load's buffers, from `skip` on.
    In {
        /// Where in the buffers it begins.
        skip: usize,
        /// How much.
        len: u32,
    },
    /// To the controller out of the load's buffers, from `skip` on.
    Out {
        /// Where in the buffers it begins.
        skip: usize,
        /// How much.
        len: u32,
    },
    /// To the controller: a range descriptor.
    Range([u8; 32], u8),
}

impl Data {
    /// Bytes to the controller.
    pub(crate) const fn out_len(&self) -> u32 {
        match *self {
            Self::Out { len, .. } => len,
            Self::Range(_, len) => len as u32,
            Self::None | Self::In { .. } => 0,
        }
    }

    /// Bytes from the controller.
    pub(crate) const fn in_len(&self) -> u32 {
        match *self {
            Self::In { len, .. } => len,
            _ => 0,
        }
    }
}

/// What waits for a command.
pub enum Load {
    /// An Io, all of it or a piece.
    Io(Pending),
    /// A task, with the buffer of its command.
    Call(oneshot::Sender<Answer>, Option<DmaBuf>),
}

/// How a task's command ended. Nothing comes if the connection is lost.
pub struct Answer {
    /// What the controller says.
    pub completion: Completion,
    /// The buffer of the command.
    pub data: Option<DmaBuf>,
}

impl Load {
    fn buffers(&self) -> &[DmaBuf] {
        match self {
            Self::Io(pending) => pending.io.data.as_slice(),
            Self::Call(_, data) => data.as_slice(),
        }
    }

    pub(crate) fn buffers_mut(&mut self) -> &mut [DmaBuf] {
        match self {
            Self::Io(pending) => pending.io.data.as_mut_slice(),
            Self::Call(_, data) => data.as_mut_slice(),
        }
    }
}

/// What a command has to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Outgoing {
    /// Nothing now.
    #[default]
    Nothing,
    /// Its capsule.
    Capsule,
    /// Data that the controller wants.
    Data(ReadyToTransfer),
}

/// A command of a queue.
pub(crate) struct Slot {
    pub(crate) command: Command,
    pub(crate) data: Data,
    pub(crate) load: Load,
    pub(crate) outgoing: Outgoing,
    /// Bytes received so far.
    pub(crate) received: u32,
    /// What it ends with if the controller says that it has succeeded: an error if some of them had
    /// a wrong digest, or one was injected.
    pub(crate) told: Status,
    /// The response, if it came while data of the command was on its way out.
    pub(crate) early: Option<Completion>,
    pub(crate) since: Instant,
}

impl Slot {
    /// The contiguous bytes to be sent from `at` on, in front of `end`; none at the end.
    pub(crate) fn outgoing_bytes(&self, at: u32, end: u32) -> Option<&[u8]> {
        let left = end.checked_sub(at).filter(|left| *left > 0)? as usize;
        let bytes = match &self.data {
            Data::Range(range, _) => &range[at as usize..],
            Data::Out { skip, .. } => contiguous(self.load.buffers(), skip + at as usize)?,
            Data::None | Data::In { .. } => return None,
        };
        Some(&bytes[..bytes.len().min(left)])
    }

    /// Takes the next bytes from the controller, which has been checked to send no more than there
    /// is room for.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        let Data::In { skip, .. } = self.data else { return };
        let mut at = skip + self.received as usize;
        let mut bytes = bytes;
        for buf in self.load.buffers_mut() {
            if at >= buf.len() {
                at -= buf.len();
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(buf.len() - at));
            buf.as_mut_slice()[at..at + now.len()].copy_from_slice(now);
            self.received += now.len() as u32;
            (bytes, at) = (later, 0);
            if bytes.is_empty() {
                return;
            }
        }
    }
}

fn contiguous(buffers: &[DmaBuf], at: usize) -> Option<&[u8]> {
    let mut at = at;
    for buf in buffers {
        if at < buf.len() {
            return Some(&buf.as_slice()[at..]);
        }
        at -= buf.len();
    }
    None
}
