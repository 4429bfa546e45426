use alloc::collections::VecDeque;
use alloc::vec::Vec;

use basalt_bdev::SgList;
use basalt_net::{NetStack, SocketError, SocketId};
use zerocopy::IntoBytes;

use super::slot::{Outgoing, Slot, Slots};
use crate::command::{Outcome, Transfer};
use crate::config::C2hSuccess;
use crate::pdu::wire::{self, flags, kind};
use crate::pdu::{Crc, Digests, common_header, data_offset, put_header};

/// Header bytes collected before they are handed to the network.
const STAGE_LEN: usize = 2048;
/// Most bytes one slot adds to the stage: a header with its largest padding, a digest and a
/// response.
const STAGE_MARGIN: usize = 256;

/// The sending half of a connection.
///
/// Headers are collected in a small stage; data goes to the network straight from the command's
/// buffers. A slot is in line at most once, so the line never grows past the number of slots.
pub(super) struct Sender {
    stage: Vec<u8>,
    stage_sent: usize,
    line: VecDeque<u16>,
    data: Option<DataOut>,
    /// Sent once everything else is out.
    last_words: Vec<u8>,
    pub(super) digests: Digests,
    /// Alignment of data the host asked for, bytes.
    pub(super) data_align: usize,
    pub(super) head: QueueHead,
}

/// Data of one command on its way out.
struct DataOut {
    slot: u16,
    sent: usize,
    crc: Option<Crc>,
    respond: bool,
}

/// The submission queue head as the host is told of it.
pub(super) struct QueueHead {
    /// Entries of the queue.
    pub(super) size: u16,
    /// Whether the host wants to be told.
    pub(super) flow_control: bool,
    pub(super) policy: C2hSuccess,
    head: u16,
    /// Commands completed since the host was told.
    untold: u16,
}

impl QueueHead {
    pub(super) const fn new(policy: C2hSuccess) -> Self {
        Self { size: u16::MAX, flow_control: true, policy, head: 0, untold: 0 }
    }

    /// One more command has been completed.
    fn advance(&mut self) {
        self.head = if self.head + 1 >= self.size { 0 } else { self.head + 1 };
        self.untold = self.untold.saturating_add(1);
    }

    /// The value for a response capsule. Without flow control it is reserved, but in the response
    /// to Connect all ones say that the host's wish to do without is granted.
    fn tell(&mut self) -> u16 {
        self.untold = 0;
        if self.flow_control { self.head } else { u16::MAX }
    }

    /// Whether a response may be left out; see [`C2hSuccess`].
    fn may_skip(&self) -> bool {
        match self.policy {
            _ if !self.flow_control => true,
            C2hSuccess::WithoutFlowControl => false,
            C2hSuccess::Always => self.untold + 1 < self.size / 2,
        }
    }
}

impl Sender {
    pub(super) fn new(policy: C2hSuccess) -> Self {
        Self {
            stage: Vec::with_capacity(STAGE_LEN + STAGE_MARGIN),
            stage_sent: 0,
            line: VecDeque::new(),
            data: None,
            last_words: Vec::new(),
            digests: Digests::default(),
            data_align: 4,
            head: QueueHead::new(policy),
        }
    }

    /// Makes room for `slots` slots in line.
    pub(super) fn reserve(&mut self, slots: usize) {
        self.line.reserve(slots.saturating_sub(self.line.len()));
    }

    /// Whether everything has been handed to the network.
    pub(super) fn is_idle(&self) -> bool {
        let Self { stage, line, data, last_words, .. } = self;
        stage.is_empty() && line.is_empty() && data.is_none() && last_words.is_empty()
    }

    /// Puts a slot with something to send in line.
    pub(super) fn enqueue(&mut self, slot: u16) {
        self.line.push_back(slot);
    }

    /// Sends `bytes` before anything still in line.
    pub(super) fn stage(&mut self, bytes: &[u8]) {
        self.stage.extend_from_slice(bytes);
    }

    /// Gives up what is in line; a PDU that is partly sent is completed, then come `bytes`.
    pub(super) fn finish_with(&mut self, bytes: &[u8]) {
        self.line.clear();
        self.last_words.extend_from_slice(bytes);
    }

    /// The slot whose data is on its way out.
    pub(super) fn sending(&self) -> Option<u16> {
        self.data.as_ref().map(|out| out.slot)
    }

    /// Forgets what has not been handed over yet.
    pub(super) fn clear(&mut self) {
        self.stage.clear();
        self.stage_sent = 0;
        self.line.clear();
        self.last_words.clear();
        self.data = None;
    }

    /// Hands over as much as the network takes; `freed` is told of slots that are finished.
    /// Gives the number of bytes taken.
    pub(super) fn flush(
        &mut self,
        stack: &mut dyn NetStack,
        socket: SocketId,
        slots: &mut Slots,
        freed: &mut dyn FnMut(&mut Slots, u16),
    ) -> Result<usize, SocketError> {
        let mut total = 0;
        loop {
            self.fill_stage(slots, freed);
            total += self.send_stage(stack, socket)?;
            if !self.stage.is_empty() || self.data.is_none() {
                return Ok(total);
            }
            total += self.send_data(stack, socket, slots, freed)?;
            if self.data.is_some() {
                return Ok(total);
            }
        }
    }

    /// Encodes headers until data must follow one, the line is empty or the stage is full.
    fn fill_stage(&mut self, slots: &mut Slots, freed: &mut dyn FnMut(&mut Slots, u16)) {
        while self.data.is_none() && self.stage.len() < STAGE_LEN {
            let Some(index) = self.line.pop_front() else {
                return self.stage.append(&mut self.last_words);
            };
            let Some(slot) = slots.get_mut(index) else { continue };
            match core::mem::take(&mut slot.outgoing) {
                Outgoing::Nothing => {}
                Outgoing::R2t => self.encode_r2t(index, slot),
                Outgoing::Data => self.data = Some(self.encode_data(index, slot)),
                Outgoing::Response => {
                    self.head.advance();
                    let (cid, outcome) = (slot.cid(), slot.outcome);
                    self.encode_response(cid, outcome);
                    freed(slots, index);
                }
            }
        }
    }

    fn send_stage(
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
        slots: &mut Slots,
        freed: &mut dyn FnMut(&mut Slots, u16),
    ) -> Result<usize, SocketError> {
        let Some(out) = &mut self.data else { return Ok(0) };
        let Some(slot) = slots.get(out.slot) else {
            self.data = None;
            return Ok(0);
        };
        let before = out.sent;
        while let Some(rest) = remaining(&slot.data, out.sent) {
            let sent = stack.send(socket, rest)?.min(rest.len());
            if let Some(crc) = &mut out.crc {
                crc.update(&rest[..sent]);
            }
            out.sent += sent;
            if sent == 0 {
                return Ok(out.sent - before);
            }
        }
        let total = out.sent - before;
        self.end_data(slots, freed);
        Ok(total)
    }

    /// All data of a command is out: digest and response follow, the slot is finished.
    fn end_data(&mut self, slots: &mut Slots, freed: &mut dyn FnMut(&mut Slots, u16)) {
        let Some(out) = self.data.take() else { return };
        if let Some(crc) = out.crc {
            self.stage.extend_from_slice(&crc.finish().to_le_bytes());
        }
        if let Some(slot) = slots.get(out.slot)
            && out.respond
        {
            let (cid, outcome) = (slot.cid(), slot.outcome);
            self.encode_response(cid, outcome);
        }
        freed(slots, out.slot);
    }

    fn encode_response(&mut self, cid: u16, outcome: Outcome) {
        let entry = outcome.entry(cid, self.head.tell());
        let hlen = size_of::<wire::CapsuleResp>();
        let common = common_header(kind::CAPSULE_RESP, 0, hlen, (0, 0), self.digests);
        let cqe = zerocopy::transmute!(entry);
        let response = wire::CapsuleResp { common, cqe };
        put_header(&mut self.stage, response.as_bytes(), self.digests);
    }

    fn encode_r2t(&mut self, index: u16, slot: &Slot) {
        let common = common_header(kind::R2T, 0, size_of::<wire::R2t>(), (0, 0), self.digests);
        let r2t = wire::R2t {
            common,
            cccid: slot.cid().into(),
            ttag: index.into(),
            r2to: 0.into(),
            r2tl: slot.expected().into(),
            reserved: [0; 4],
        };
        put_header(&mut self.stage, r2t.as_bytes(), self.digests);
    }

    fn encode_data(&mut self, index: u16, slot: &Slot) -> DataOut {
        self.head.advance();
        let respond = slot.outcome != Outcome::OK || !self.head.may_skip();
        let success = if respond { 0 } else { flags::SUCCESS };
        let len = data_len(slot);
        let hlen = size_of::<wire::Data>();
        let pdo = data_offset(hlen, self.digests, self.data_align);
        let (extra, place) = (flags::LAST | success, (pdo, len as usize));
        let common = common_header(kind::C2H_DATA, extra, hlen, place, self.digests);
        let data = wire::Data {
            common,
            cccid: slot.cid().into(),
            ttag: 0.into(),
            datao: 0.into(),
            datal: len.into(),
            reserved: [0; 4],
        };
        let start = self.stage.len();
        put_header(&mut self.stage, data.as_bytes(), self.digests);
        self.stage.resize(start + pdo, 0);
        DataOut { slot: index, sent: 0, crc: self.digests.data.then(Crc::new), respond }
    }
}

/// Bytes a slot sends to the host.
fn data_len(slot: &Slot) -> u32 {
    match slot.transfer {
        Transfer::ToHost { len } => len.min(slot.data.len() as u32),
        _ => 0,
    }
}

/// The contiguous bytes of `data` from `at` on; `None` at the end.
fn remaining(data: &SgList, at: usize) -> Option<&[u8]> {
    let mut at = at;
    for buf in data.as_slice() {
        if at < buf.len() {
            return Some(&buf.as_slice()[at..]);
        }
        at -= buf.len();
    }
    None
}
