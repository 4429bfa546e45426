use alloc::collections::VecDeque;
use alloc::vec::Vec;

use basalt_metrics::{Operation, Tpoint, TraceGroup};
use basalt_net::{NetStack, SocketError, SocketId};
use basalt_reactor::Local;
use zerocopy::IntoBytes;

use super::slot::{Outgoing, Slot, Slots};
use super::traced::trace_pdu;
use crate::command::Outcome;
use crate::config::C2hSuccess;
use crate::pdu::wire::{self, flags, kind};
use crate::pdu::{Crc, Digests, Outbox, Parts, common_header, data_offset};

/// The sending half of a connection.
///
/// A slot is in line at most once, so the line never grows past the number of slots. Encoded, its
/// data goes to the network straight from the command's buffers, which the network may keep if they
/// are shared.
///
/// ```text
///   line: slots -encoded-> outbox -> network
/// ```
pub(super) struct Sender {
    outbox: Outbox<u16>,
    line: VecDeque<u16>,
    /// Sent once everything else is out.
    last_words: Vec<u8>,
    /// Memory of buffers that the network keeps, bytes, as far as is known.
    kept: usize,
    digests: Digests,
    /// Where data begins in a PDU, bytes.
    data_offset: usize,
    pub(super) head: QueueHead,
    /// What the connection is called in traces.
    slot: u16,
    local: Local,
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
    pub(super) fn new(policy: C2hSuccess, slot: u16, local: &Local) -> Self {
        Self {
            outbox: Outbox::default(),
            line: VecDeque::new(),
            last_words: Vec::new(),
            kept: 0,
            digests: Digests::default(),
            data_offset: size_of::<wire::Data>(),
            head: QueueHead::new(policy),
            slot,
            local: local.clone(),
        }
    }

    /// From now on as has been agreed: with `digests`, and data at multiples of `align` bytes.
    pub(super) fn agree(&mut self, digests: Digests, align: usize) {
        self.digests = digests;
        self.data_offset = data_offset(size_of::<wire::Data>(), digests, align);
    }

    /// Makes room for `slots` slots in line.
    pub(super) fn reserve(&mut self, slots: usize) {
        self.line.reserve(slots.saturating_sub(self.line.len()));
    }

    /// Whether everything has been handed to the network.
    pub(super) fn is_idle(&self) -> bool {
        self.outbox.is_empty() && self.line.is_empty() && self.last_words.is_empty()
    }

    /// Puts a slot with something to send in line.
    pub(super) fn enqueue(&mut self, slot: u16) {
        self.line.push_back(slot);
    }

    /// Sends `bytes` before anything still in line.
    #[inline]
    pub(super) fn stage(&mut self, bytes: &[u8]) {
        self.outbox.stage(bytes);
    }

    /// Gives up what is in line; what has been encoded is sent, then come `bytes`.
    pub(super) fn finish_with(&mut self, bytes: &[u8]) {
        self.line.clear();
        self.last_words.extend_from_slice(bytes);
    }

    /// Whether the data of that slot is on its way out.
    pub(super) fn is_sending(&self, index: u16) -> bool {
        self.outbox.is_sending(|slot| slot == index)
    }

    /// Forgets what has not been handed over yet.
    pub(super) fn clear(&mut self) {
        self.outbox.clear();
        self.line.clear();
        self.last_words.clear();
    }

    /// Memory of buffers that the network keeps, bytes: as it was when it was last asked.
    pub(super) const fn kept(&self) -> usize {
        self.kept
    }

    /// Asks the network what it still keeps, if it keeps anything.
    #[inline]
    pub(super) fn look_at_kept(&mut self, stack: &dyn NetStack, socket: SocketId) {
        if self.kept > 0 {
            self.kept = stack.held(socket);
        }
    }

    /// Hands over as much as the network takes. Gives the number of bytes taken.
    pub(super) fn flush(
        &mut self,
        stack: &mut dyn NetStack,
        socket: SocketId,
        slots: &mut Slots,
    ) -> Result<usize, SocketError> {
        let total = self.hand_over(stack, socket, slots)?;
        if total > 0 {
            self.kept = stack.held(socket);
        }
        Ok(total)
    }

    fn hand_over(
        &mut self,
        stack: &mut dyn NetStack,
        socket: SocketId,
        slots: &mut Slots,
    ) -> Result<usize, SocketError> {
        let mut total = 0;
        loop {
            self.encode(slots);
            if self.outbox.is_empty() {
                return Ok(total);
            }
            let (sent, whole) = self.send(stack, socket, slots)?;
            total += sent;
            let mut out = self.outbox.advance(sent);
            while let Some(slot) = out {
                slots.free(slot);
                out = self.outbox.advance(0);
            }
            if sent < whole {
                return Ok(total);
            }
        }
    }

    /// Encodes what slots in line have to send, as far as there is room; their responses free them.
    fn encode(&mut self, slots: &mut Slots) {
        while self.outbox.has_room() {
            let Some(index) = self.line.pop_front() else { return self.encode_last_words() };
            let Some(slot) = slots.get_mut(index) else { continue };
            match core::mem::take(&mut slot.outgoing) {
                Outgoing::Nothing => {}
                Outgoing::R2t => self.encode_r2t(index, slot),
                Outgoing::Data => self.encode_data(index, slot),
                Outgoing::Response => {
                    self.head.advance();
                    self.encode_response(slot.cid(), slot.outcome);
                    slots.free(index);
                }
            }
        }
    }

    fn encode_last_words(&mut self) {
        if !self.last_words.is_empty() {
            self.outbox.stage(&self.last_words);
            self.last_words.clear();
        }
    }

    /// Hands what is encoded to the network; gives how many bytes it took, of how many.
    fn send(
        &self,
        stack: &mut dyn NetStack,
        socket: SocketId,
        slots: &Slots,
    ) -> Result<(usize, usize), SocketError> {
        let mut parts = Parts::default();
        let gathered = self.outbox.gather(&mut parts, |slot, skip, parts| {
            slots.get(slot)?.runs(skip).for_each(|run| parts.put(run));
            Some(())
        });
        gathered.ok_or(SocketError::Reset)?;
        let sent = stack.send_vectored(socket, parts.as_slice())?;
        Ok((sent.min(parts.bytes()), parts.bytes()))
    }

    #[inline(always)]
    fn trace(&self, kind: u8, data_len: usize) {
        if self.local.traces(TraceGroup::NvmfTcp) {
            trace_pdu(&self.local, Tpoint::TcpPduSent, (kind, self.slot), data_len);
        }
    }

    fn encode_response(&mut self, cid: u16, outcome: Outcome) {
        self.trace(kind::CAPSULE_RESP, 0);
        let entry = outcome.entry(cid, self.head.tell());
        let hlen = size_of::<wire::CapsuleResp>();
        let common = common_header(kind::CAPSULE_RESP, 0, hlen, (0, 0), self.digests);
        let cqe = zerocopy::transmute!(entry);
        let response = wire::CapsuleResp { common, cqe };
        self.outbox.put_header(response.as_bytes(), 0, self.digests);
    }

    fn encode_r2t(&mut self, index: u16, slot: &Slot) {
        self.trace(kind::R2T, 0);
        let common = common_header(kind::R2T, 0, size_of::<wire::R2t>(), (0, 0), self.digests);
        let r2t = wire::R2t {
            common,
            cccid: slot.cid().into(),
            ttag: index.into(),
            r2to: 0.into(),
            r2tl: slot.expected().into(),
            reserved: [0; 4],
        };
        self.outbox.put_header(r2t.as_bytes(), 0, self.digests);
    }

    /// The data of a command with its digest, and a response if the SUCCESS flag does not replace
    /// it.
    fn encode_data(&mut self, index: u16, slot: &Slot) {
        self.head.advance();
        let respond = slot.outcome != Outcome::OK || !self.head.may_skip();
        let success = if respond { 0 } else { flags::SUCCESS };
        let len = slot.data_len();
        self.trace(kind::C2H_DATA, len);
        let hlen = size_of::<wire::Data>();
        let pdo = self.data_offset;
        let (extra, place) = (flags::LAST | success, (pdo, len));
        let common = common_header(kind::C2H_DATA, extra, hlen, place, self.digests);
        let data = wire::Data {
            common,
            cccid: slot.cid().into(),
            ttag: 0.into(),
            datao: 0.into(),
            datal: (len as u32).into(),
            reserved: [0; 4],
        };
        if pdo == hlen {
            self.outbox.stage(data.as_bytes());
        } else {
            self.outbox.put_header(data.as_bytes(), pdo, self.digests);
        }
        self.outbox.put_data(index, len);
        if self.digests.data {
            self.put_digest(slot, len);
        }
        if respond {
            self.encode_response(slot.cid(), slot.outcome);
        }
    }

    #[cold]
    fn put_digest(&mut self, slot: &Slot, len: usize) {
        let mut crc = Crc::new();
        slot.runs(0).for_each(|run| crc.update(run.as_slice()));
        self.local.operations().add(Operation::Crc32c, 1, len);
        self.outbox.stage(&crc.finish().to_le_bytes());
    }
}
