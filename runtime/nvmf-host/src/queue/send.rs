use alloc::collections::VecDeque;
use alloc::vec::Vec;

use basalt_env::DmaRun;
use basalt_metrics::Operation;
use basalt_net::{NetStack, SocketError, SocketId};
use basalt_nvme_spec::{Command, Completion, SglDescriptor, fabrics};
use basalt_reactor::Local;
use basalt_ring::{Slots, Tag};
use zerocopy::IntoBytes;

use super::slot::{Outgoing, Slot};
use basalt_nvmf_pdu::wire::{self, CommonHeader, flags, kind};
use basalt_nvmf_pdu::{Crc, Digests, Outbox, Parts, ReadyToTransfer, common_header, data_offset};

/// Data bytes that a capsule of a Fabrics or admin command may always carry (§3.3.2.2.1).
pub const ADMIN_IN_CAPSULE: u32 = 8192;

/// The sending half of a queue.
///
/// A command is in line at most once, so the line never grows past the number of commands. Encoded,
/// its data goes to the network straight from its buffers.
///
/// ```text
///   line: commands -encoded, once greeted-> outbox -> network
/// ```
pub(crate) struct Sender {
    outbox: Outbox<DataOut>,
    line: VecDeque<Tag>,
    /// Sent once everything else is out.
    last_words: Vec<u8>,
    /// What the controller has agreed to, once it has answered: before, commands wait.
    terms: Option<Terms>,
    /// Data bytes of a command capsule at most, on an I/O queue.
    pub(crate) in_capsule: u32,
    pub(crate) local: Local,
}

/// How PDUs of a connection are to be.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) digests: Digests,
    /// Alignment of data to the controller, bytes.
    pub(crate) data_align: usize,
    /// Data bytes of one H2CData PDU at most.
    pub(crate) h2c_data_max: u32,
}

/// Data of a command on its way out.
#[derive(Clone, Copy)]
struct DataOut {
    tag: Tag,
    at: u32,
    end: u32,
}

impl Sender {
    /// Whose first PDU is `first`.
    pub(crate) fn new(commands: usize, first: &[u8], local: &Local) -> Self {
        let mut outbox = Outbox::default();
        outbox.stage(first);
        let line = VecDeque::with_capacity(commands);
        Self {
            outbox,
            line,
            last_words: Vec::new(),
            terms: None,
            in_capsule: 0,
            local: local.clone(),
        }
    }

    /// The controller has answered the first PDU.
    pub(crate) fn agree(&mut self, terms: Terms) {
        self.terms = Some(terms);
    }

    /// Puts a command with something to send in line.
    pub(crate) fn enqueue(&mut self, tag: Tag) {
        self.line.push_back(tag);
    }

    /// What was put in line last, if it still is.
    pub(crate) fn last_in_line(&self) -> Option<Tag> {
        self.line.back().copied()
    }

    /// Takes that out of line.
    pub(crate) fn retract(&mut self) {
        self.line.pop_back();
    }

    /// Whether data of that command is on its way out.
    pub(crate) fn is_sending(&self, tag: Tag) -> bool {
        self.outbox.is_sending(|out| out.tag == tag)
    }

    /// Gives up what is in line; what has been encoded is sent, then come `bytes`.
    pub(crate) fn finish_with(&mut self, bytes: &[u8]) {
        self.line.clear();
        self.last_words.extend_from_slice(bytes);
    }

    /// Hands over as much as the network takes; `sent` is told of commands that were answered
    /// before all of their data was out, and now is. Gives the number of bytes.
    pub(crate) fn flush(
        &mut self,
        stack: &mut dyn NetStack,
        socket: SocketId,
        slots: &mut Slots<Slot>,
        sent: &mut dyn FnMut(&mut Slots<Slot>, Tag, Completion),
    ) -> Result<usize, SocketError> {
        let mut total = 0;
        loop {
            self.encode(slots);
            if self.outbox.is_empty() {
                return Ok(total);
            }
            let (taken, whole) = self.send(stack, socket, slots)?;
            total += taken;
            let mut out = self.outbox.advance(taken);
            while let Some(DataOut { tag, .. }) = out {
                let answer = slots.get(tag).ok().and_then(|slot| slot.early);
                if let Some(answer) = answer.filter(|_| !self.is_sending(tag)) {
                    sent(slots, tag, answer);
                }
                out = self.outbox.advance(0);
            }
            if taken < whole {
                return Ok(total);
            }
        }
    }

    /// Encodes what commands in line have to send, as far as there is room.
    fn encode(&mut self, slots: &mut Slots<Slot>) {
        while let Some(terms) = self.terms
            && self.outbox.has_room()
            && let Some(tag) = self.line.pop_front()
        {
            // It may have been answered meanwhile.
            let Ok(slot) = slots.get_mut(tag) else { continue };
            match core::mem::take(&mut slot.outgoing) {
                Outgoing::Data(wanted) if slot.early.is_none() => {
                    self.encode_data(terms, tag, wanted, slot);
                }
                Outgoing::Capsule => self.encode_capsule(terms, tag, slot),
                Outgoing::Data(_) | Outgoing::Nothing => {}
            }
        }
        if self.line.is_empty() && !self.last_words.is_empty() {
            self.outbox.stage(&self.last_words);
            self.last_words.clear();
        }
    }

    /// Hands what is encoded to the network; gives how many bytes it took, of how many.
    fn send(
        &self,
        stack: &mut dyn NetStack,
        socket: SocketId,
        slots: &Slots<Slot>,
    ) -> Result<(usize, usize), SocketError> {
        let mut parts = Parts::default();
        let gathered = self.outbox.gather(&mut parts, |out, skip, parts| {
            let slot = slots.get(out.tag).ok()?;
            let mut at = out.at + skip as u32;
            while let Some(bytes) = slot.outgoing_bytes(at, out.end) {
                parts.put(DmaRun::Lent(bytes));
                at += bytes.len() as u32;
            }
            Some(())
        });
        gathered.ok_or(SocketError::Reset)?;
        let sent = stack.send_vectored(socket, parts.as_slice())?;
        Ok((sent.min(parts.bytes()), parts.bytes()))
    }

    fn encode_capsule(&mut self, terms: Terms, tag: Tag, slot: &Slot) {
        let len = slot.data.out_len();
        let in_capsule = len > 0 && len <= self.in_capsule_of(&slot.command);
        let mut command = slot.command;
        command.cid = tag.as_u16().into();
        if in_capsule {
            command.set_sgl1(SglDescriptor::in_capsule(0, len));
        } else {
            command.set_sgl1(SglDescriptor::transport(len.max(slot.data.in_len())));
        }
        let hlen = size_of::<wire::CapsuleCmd>();
        let pdo = if in_capsule { data_offset(hlen, terms.digests, terms.data_align) } else { 0 };
        let place = (pdo, if in_capsule { len as usize } else { 0 });
        let common = common_header(kind::CAPSULE_CMD, 0, hlen, place, terms.digests);
        let capsule = wire::CapsuleCmd { common, sqe: zerocopy::transmute!(command) };
        self.outbox.put_header(capsule.as_bytes(), pdo, terms.digests);
        if in_capsule {
            self.put_data(terms, DataOut { tag, at: 0, end: len }, slot);
        }
    }

    fn in_capsule_of(&self, command: &Command) -> u32 {
        if command.opcode == fabrics::OPCODE { ADMIN_IN_CAPSULE } else { self.in_capsule }
    }

    /// As much of what is wanted as a PDU may carry; the rest is the next in line.
    fn encode_data(&mut self, terms: Terms, tag: Tag, wanted: ReadyToTransfer, slot: &mut Slot) {
        let ReadyToTransfer { cid, ttag, offset, len } = wanted;
        let now = len.min(terms.h2c_data_max);
        let rest = ReadyToTransfer { offset: offset + now, len: len - now, ..wanted };
        let hlen = size_of::<wire::Data>();
        let pdo = data_offset(hlen, terms.digests, terms.data_align);
        let last = if rest.len == 0 { flags::LAST } else { 0 };
        let place = (pdo, now as usize);
        let common: CommonHeader = common_header(kind::H2C_DATA, last, hlen, place, terms.digests);
        let data = wire::Data {
            common,
            cccid: cid.into(),
            ttag: ttag.into(),
            datao: offset.into(),
            datal: now.into(),
            reserved: [0; 4],
        };
        self.outbox.put_header(data.as_bytes(), pdo, terms.digests);
        self.put_data(terms, DataOut { tag, at: offset, end: offset + now }, slot);
        if rest.len > 0 {
            slot.outgoing = Outgoing::Data(rest);
            self.line.push_front(tag);
        }
    }

    /// The data of a PDU behind its header, and its digest.
    fn put_data(&mut self, terms: Terms, out: DataOut, slot: &Slot) {
        let DataOut { at, end, .. } = out;
        self.outbox.put_data(out, (end - at) as usize);
        if terms.digests.data {
            let (mut crc, mut at) = (Crc::new(), at);
            while let Some(bytes) = slot.outgoing_bytes(at, end) {
                crc.update(bytes);
                at += bytes.len() as u32;
            }
            self.outbox.stage(&crc.finish().to_le_bytes());
            let len = (end - out.at) as usize;
            self.local.operations().add(Operation::Crc32c, 1, len);
        }
    }
}
