use alloc::collections::VecDeque;
use alloc::vec::Vec;

use basalt_bdev::SgList;
use basalt_net::{NetStack, SocketError, SocketId};
use zerocopy::IntoBytes;

use super::slot::{Outgoing, Slot, Slots};
use crate::command::Outcome;
use crate::config::C2hSuccess;
use crate::pdu::wire::{self, flags, kind};
use crate::pdu::{Crc, Digests, common_header, data_offset, put_header};

/// Header bytes that are out at the network at a time, about: those of [`PIECES_MAX`] PDUs.
const STAGE_LEN: usize = 2048;
/// Most bytes one slot adds to the stage: a header with its largest padding, a digest and a
/// response.
const STAGE_MARGIN: usize = 256;
/// Commands whose data is handed to the network at a time.
const PIECES_MAX: usize = 32;
/// Runs of bytes that is, one for a header and one for each buffer of data, if they are few.
const PARTS_MAX: usize = 2 * PIECES_MAX;

/// The sending half of a connection.
///
/// Headers are collected in a small stage; data goes to the network straight from the command's
/// buffers, and both in one call. A slot is in line at most once, so the line never grows past the
/// number of slots.
///
/// ```text
///   line: slots -encoded-> stage: headers, digests, responses
///                          pieces: which of its bytes, or which slot's data, in order -> network
/// ```
pub(super) struct Sender {
    stage: Vec<u8>,
    pieces: Vec<Piece>,
    /// Pieces that are out; the others are forgotten with them once all are.
    pieces_sent: usize,
    /// Bytes of the next piece that are out.
    sent: usize,
    line: VecDeque<u16>,
    /// Sent once everything else is out.
    last_words: Vec<u8>,
    digests: Digests,
    /// Where data begins in a PDU, bytes.
    data_offset: usize,
    pub(super) head: QueueHead,
}

/// Bytes of the stage and, behind them, the data of a slot if it has one.
#[derive(Clone, Copy)]
struct Piece {
    /// Where they begin.
    at: usize,
    /// How many.
    staged: usize,
    /// The slot, which is finished with its data.
    slot: Option<u16>,
    /// Bytes of data.
    data: usize,
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
            pieces: Vec::with_capacity(PIECES_MAX + 1),
            pieces_sent: 0,
            sent: 0,
            line: VecDeque::new(),
            last_words: Vec::new(),
            digests: Digests::default(),
            data_offset: size_of::<wire::Data>(),
            head: QueueHead::new(policy),
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
        self.pieces.is_empty() && self.line.is_empty() && self.last_words.is_empty()
    }

    /// Puts a slot with something to send in line.
    pub(super) fn enqueue(&mut self, slot: u16) {
        self.line.push_back(slot);
    }

    /// Sends `bytes` before anything still in line.
    #[inline]
    pub(super) fn stage(&mut self, bytes: &[u8]) {
        self.stage.extend_from_slice(bytes);
        self.put_staged(bytes.len());
    }

    /// Gives up what is in line; what has been encoded is sent, then come `bytes`.
    pub(super) fn finish_with(&mut self, bytes: &[u8]) {
        self.line.clear();
        self.last_words.extend_from_slice(bytes);
    }

    /// Whether the data of that slot is on its way out.
    pub(super) fn is_sending(&self, index: u16) -> bool {
        let mut pieces = self.pieces[self.pieces_sent..].iter();
        pieces.any(|piece| piece.slot == Some(index))
    }

    /// Forgets what has not been handed over yet.
    pub(super) fn clear(&mut self) {
        self.stage.clear();
        self.pieces.clear();
        (self.pieces_sent, self.sent) = (0, 0);
        self.line.clear();
        self.last_words.clear();
    }

    /// Hands over as much as the network takes. Gives the number of bytes taken.
    pub(super) fn flush(
        &mut self,
        stack: &mut dyn NetStack,
        socket: SocketId,
        slots: &mut Slots,
    ) -> Result<usize, SocketError> {
        let mut total = 0;
        loop {
            self.encode(slots);
            if self.pieces.is_empty() {
                return Ok(total);
            }
            let (sent, whole) = self.send(stack, socket, slots)?;
            total += sent;
            self.advance(sent, slots);
            if sent < whole {
                return Ok(total);
            }
        }
    }

    /// Encodes what slots in line have to send, as far as there is room; their responses free them.
    fn encode(&mut self, slots: &mut Slots) {
        while self.stage.len() < STAGE_LEN && self.pieces.len() <= PIECES_MAX {
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
        let len = self.last_words.len();
        if len > 0 {
            self.stage.append(&mut self.last_words);
            self.put_staged(len);
        }
    }

    /// Hands pieces to the network; gives how many bytes it took, of how many.
    fn send(
        &self,
        stack: &mut dyn NetStack,
        socket: SocketId,
        slots: &Slots,
    ) -> Result<(usize, usize), SocketError> {
        let mut parts = [&[][..]; PARTS_MAX];
        let (mut count, mut whole, mut skip) = (0, 0, self.sent);
        let mut put = |bytes| {
            let Some(part) = parts.get_mut(count) else { return };
            *part = bytes;
            (count, whole) = (count + 1, whole + bytes.len());
        };
        for piece in &self.pieces[self.pieces_sent..] {
            if skip < piece.staged {
                put(&self.stage[piece.at + skip..piece.at + piece.staged]);
            }
            if let Some(slot) = piece.slot {
                let slot = slots.get(slot).ok_or(SocketError::Reset)?;
                rest_of(&slot.data, skip.saturating_sub(piece.staged)).for_each(&mut put);
            }
            skip = 0;
        }
        let sent = stack.send_vectored(socket, &parts[..count])?;
        Ok((sent.min(whole), whole))
    }

    /// So many bytes are out: frees slots whose data that was the last of.
    fn advance(&mut self, sent: usize, slots: &mut Slots) {
        self.sent += sent;
        while let Some(piece) = self.pieces.get(self.pieces_sent) {
            let len = piece.staged + piece.data;
            if self.sent < len {
                return;
            }
            self.sent -= len;
            self.pieces_sent += 1;
            if let Some(slot) = piece.slot {
                slots.free(slot);
            }
        }
        self.pieces.clear();
        self.pieces_sent = 0;
        self.stage.clear();
    }

    /// The last `len` bytes of the stage are to go out next.
    #[inline]
    fn put_staged(&mut self, len: usize) {
        if let Some(piece) = self.pieces.last_mut()
            && piece.slot.is_none()
        {
            piece.staged += len;
            return;
        }
        self.pieces.push(Piece { at: self.stage.len() - len, staged: len, slot: None, data: 0 });
    }

    /// The data of a slot goes out next, behind its header.
    #[inline]
    fn put_data(&mut self, slot: u16, len: usize) {
        if let Some(piece) = self.pieces.last_mut() {
            (piece.slot, piece.data) = (Some(slot), len);
        }
    }

    fn encode_response(&mut self, cid: u16, outcome: Outcome) {
        let entry = outcome.entry(cid, self.head.tell());
        let hlen = size_of::<wire::CapsuleResp>();
        let common = common_header(kind::CAPSULE_RESP, 0, hlen, (0, 0), self.digests);
        let cqe = zerocopy::transmute!(entry);
        self.put_header(wire::CapsuleResp { common, cqe }.as_bytes(), 0);
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
        self.put_header(r2t.as_bytes(), 0);
    }

    /// The data of a command with its digest, and a response if the SUCCESS flag does not replace
    /// it.
    fn encode_data(&mut self, index: u16, slot: &Slot) {
        self.head.advance();
        let respond = slot.outcome != Outcome::OK || !self.head.may_skip();
        let success = if respond { 0 } else { flags::SUCCESS };
        let len = slot.data.len();
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
            self.stage(data.as_bytes());
        } else {
            self.put_header(data.as_bytes(), pdo);
        }
        self.put_data(index, len);
        if self.digests.data {
            self.put_digest(&slot.data);
        }
        if respond {
            self.encode_response(slot.cid(), slot.outcome);
        }
    }

    #[cold]
    fn put_digest(&mut self, data: &SgList) {
        let mut crc = Crc::new();
        rest_of(data, 0).for_each(|bytes| crc.update(bytes));
        self.stage(&crc.finish().to_le_bytes());
    }

    /// Stages a header with its digest, then zeroes to a length of `pdo` bytes.
    fn put_header(&mut self, header: &[u8], pdo: usize) {
        let start = self.stage.len();
        put_header(&mut self.stage, header, self.digests);
        if self.stage.len() < start + pdo {
            self.stage.resize(start + pdo, 0);
        }
        self.put_staged(self.stage.len() - start);
    }
}

/// The bytes of `data` from `skip` on, buffer by buffer.
fn rest_of(data: &SgList, skip: usize) -> impl Iterator<Item = &[u8]> {
    let mut skip = skip;
    data.as_slice().iter().filter_map(move |buf| {
        let bytes = buf.as_slice();
        let rest = bytes.get(skip..).unwrap_or_default();
        skip = skip.saturating_sub(bytes.len());
        (!rest.is_empty()).then_some(rest)
    })
}
