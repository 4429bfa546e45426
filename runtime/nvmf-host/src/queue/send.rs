use alloc::collections::VecDeque;
use alloc::vec::Vec;

use basalt_net::{NetStack, SocketError, SocketId};
use basalt_nvme_spec::{Command, SglDescriptor, fabrics};
use basalt_ring::{Slots, Tag};
use zerocopy::IntoBytes;

use super::slot::{Outgoing, Slot};
use basalt_nvmf_pdu::wire::{self, CommonHeader, flags, kind};
use basalt_nvmf_pdu::{Crc, Digests, ReadyToTransfer, common_header, data_offset, put_header};

/// Header bytes collected before they are handed to the network.
const STAGE_LEN: usize = 2048;
/// Most bytes one command adds to the stage: a header with its digest and largest padding.
const STAGE_MARGIN: usize = 256;
/// Data bytes that a capsule of a Fabrics or admin command may always carry (§3.3.2.2.1).
pub const ADMIN_IN_CAPSULE: u32 = 8192;

/// The sending half of a queue.
///
/// Headers are collected in a small stage; data goes to the network straight from its buffers. A
/// command is in line at most once, so the line never grows past the number of commands.
pub(crate) struct Sender {
    stage: Vec<u8>,
    stage_sent: usize,
    line: VecDeque<Tag>,
    data: Option<DataOut>,
    pub(crate) digests: Digests,
    /// Alignment of data to the controller, bytes.
    pub(crate) data_align: usize,
    /// Data bytes of one H2CData PDU at most.
    pub(crate) h2c_data_max: u32,
    /// Data bytes of a command capsule at most, on an I/O queue.
    pub(crate) in_capsule: u32,
}

/// Data of one command on its way out.
struct DataOut {
    tag: Tag,
    at: u32,
    end: u32,
    crc: Option<Crc>,
    /// What the controller wants after that.
    rest: Option<ReadyToTransfer>,
}

impl Sender {
    pub(crate) fn new(commands: usize, first: &[u8]) -> Self {
        let mut stage = Vec::with_capacity(STAGE_LEN + STAGE_MARGIN);
        stage.extend_from_slice(first);
        Self {
            stage,
            stage_sent: 0,
            line: VecDeque::with_capacity(commands),
            data: None,
            digests: Digests::default(),
            data_align: 4,
            h2c_data_max: 4096,
            in_capsule: 0,
        }
    }

    /// Puts a command with something to send in line.
    pub(crate) fn enqueue(&mut self, tag: Tag) {
        self.line.push_back(tag);
    }

    /// Whether data of that command is on its way out.
    pub(crate) fn is_sending(&self, tag: Tag) -> bool {
        self.data.as_ref().is_some_and(|out| out.tag == tag)
    }

    /// Gives up what is in line: `bytes` are the last. Amid the data of a PDU they would be taken
    /// for more of it, so there are none then.
    pub(crate) fn finish_with(&mut self, bytes: &[u8]) {
        self.line.clear();
        if self.data.take().is_none() {
            self.stage.extend_from_slice(bytes);
        }
    }

    /// Hands over as much as the network takes; `sent` is told of commands whose data is out.
    /// Gives the number of bytes.
    pub(crate) fn flush(
        &mut self,
        stack: &mut dyn NetStack,
        socket: SocketId,
        slots: &mut Slots<Slot>,
        sent: &mut dyn FnMut(&mut Slots<Slot>, Tag),
    ) -> Result<usize, SocketError> {
        let mut total = 0;
        loop {
            self.fill_stage(slots);
            total += self.send_stage(stack, socket)?;
            if !self.stage.is_empty() || self.data.is_none() {
                return Ok(total);
            }
            total += self.send_data(stack, socket, slots, sent)?;
            if self.data.is_some() {
                return Ok(total);
            }
        }
    }

    /// Encodes headers until data must follow one, the line is empty or the stage is full.
    fn fill_stage(&mut self, slots: &mut Slots<Slot>) {
        while self.data.is_none() && self.stage.len() < STAGE_LEN {
            let Some(tag) = self.line.pop_front() else { return };
            // It may have been answered meanwhile.
            let Ok(slot) = slots.get_mut(tag) else { continue };
            match core::mem::take(&mut slot.outgoing) {
                Outgoing::Nothing => {}
                Outgoing::Capsule => self.encode_capsule(tag, slot),
                Outgoing::Data(wanted) => self.encode_data(tag, wanted),
            }
        }
    }

    /// Sends what is staged only: all there is before the first PDU is answered, and at the end.
    pub(crate) fn send_stage(
        &mut self,
        stack: &mut dyn NetStack,
        socket: SocketId,
    ) -> Result<usize, SocketError> {
        if self.stage.is_empty() {
            return Ok(0);
        }
        let sent = stack.send(socket, &self.stage[self.stage_sent..])?;
        self.stage_sent = (self.stage_sent + sent).min(self.stage.len());
        if self.stage_sent == self.stage.len() {
            self.stage.clear();
            self.stage_sent = 0;
        }
        Ok(sent)
    }

    fn send_data(
        &mut self,
        stack: &mut dyn NetStack,
        socket: SocketId,
        slots: &mut Slots<Slot>,
        done: &mut dyn FnMut(&mut Slots<Slot>, Tag),
    ) -> Result<usize, SocketError> {
        let Some(out) = &mut self.data else { return Ok(0) };
        let before = out.at;
        let slot = slots.get(out.tag);
        while let Some(bytes) = slot.ok().and_then(|slot| slot.outgoing_bytes(out.at, out.end)) {
            let sent = stack.send(socket, bytes)?.min(bytes.len());
            if let Some(crc) = &mut out.crc {
                crc.update(&bytes[..sent]);
            }
            out.at += sent as u32;
            if sent == 0 {
                return Ok((out.at - before) as usize);
            }
        }
        let total = (out.at - before) as usize;
        self.end_data(slots, done);
        Ok(total)
    }

    /// All data of one PDU is out: its digest follows, and what is left of the transfer.
    fn end_data(&mut self, slots: &mut Slots<Slot>, done: &mut dyn FnMut(&mut Slots<Slot>, Tag)) {
        let Some(out) = self.data.take() else { return };
        if let Some(crc) = out.crc {
            self.stage.extend_from_slice(&crc.finish().to_le_bytes());
        }
        let unanswered = slots.get_mut(out.tag).ok().filter(|slot| slot.early.is_none());
        if let (Some(slot), Some(rest)) = (unanswered, out.rest) {
            slot.outgoing = Outgoing::Data(rest);
            return self.line.push_front(out.tag);
        }
        done(slots, out.tag);
    }

    fn encode_capsule(&mut self, tag: Tag, slot: &Slot) {
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
        let pdo = if in_capsule { data_offset(hlen, self.digests, self.data_align) } else { 0 };
        let place = (pdo, if in_capsule { len as usize } else { 0 });
        let common = common_header(kind::CAPSULE_CMD, 0, hlen, place, self.digests);
        let capsule = wire::CapsuleCmd { common, sqe: zerocopy::transmute!(command) };
        let start = self.stage.len();
        put_header(&mut self.stage, capsule.as_bytes(), self.digests);
        if in_capsule {
            self.stage.resize(start + pdo, 0);
            self.begin_data(tag, 0, len, None);
        }
    }

    fn in_capsule_of(&self, command: &Command) -> u32 {
        if command.opcode == fabrics::OPCODE { ADMIN_IN_CAPSULE } else { self.in_capsule }
    }

    fn encode_data(&mut self, tag: Tag, wanted: ReadyToTransfer) {
        let ReadyToTransfer { cid, ttag, offset, len } = wanted;
        let now = len.min(self.h2c_data_max);
        let rest = (now < len).then_some(ReadyToTransfer {
            offset: offset + now,
            len: len - now,
            ..wanted
        });
        let hlen = size_of::<wire::Data>();
        let pdo = data_offset(hlen, self.digests, self.data_align);
        let last = if rest.is_none() { flags::LAST } else { 0 };
        let common: CommonHeader =
            common_header(kind::H2C_DATA, last, hlen, (pdo, now as usize), self.digests);
        let data = wire::Data {
            common,
            cccid: cid.into(),
            ttag: ttag.into(),
            datao: offset.into(),
            datal: now.into(),
            reserved: [0; 4],
        };
        let start = self.stage.len();
        put_header(&mut self.stage, data.as_bytes(), self.digests);
        self.stage.resize(start + pdo, 0);
        self.begin_data(tag, offset, offset + now, rest);
    }

    fn begin_data(&mut self, tag: Tag, at: u32, end: u32, rest: Option<ReadyToTransfer>) {
        let crc = self.digests.data.then(Crc::new);
        self.data = Some(DataOut { tag, at, end, crc, rest });
    }
}
