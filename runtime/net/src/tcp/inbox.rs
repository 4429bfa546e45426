use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::header::{BLOCKS_MAX, Blocks};
use super::seq::{Seq, Span};
use crate::port::Frame;

/// Bytes that are copied together share memory of so many.
const COPY_LEN: usize = 4096;
/// Segments that may wait for others that are late.
const EARLY_MAX: usize = 128;

/// What becomes of a frame whose payload is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// It stays until the payload is read: nothing is copied.
    Frame,
    /// The port cannot do without it: the payload is copied.
    Copy,
}

/// A frame and where its payload is.
pub struct Arrived<F> {
    /// The frame.
    pub frame: F,
    /// First byte of the payload.
    pub start: usize,
    /// Behind the last.
    pub end: usize,
    /// What may become of it.
    pub keep: Keep,
}

impl<F: Frame> Arrived<F> {
    /// Bytes of payload.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Without its first bytes, and no more than so many of the rest.
    fn narrow(&mut self, skip: usize, len: usize) {
        self.start = (self.start + skip).min(self.end);
        self.end = self.end.min(self.start + len);
    }

    /// Adds a copy of the payload to `bytes`.
    fn copy_to(&self, bytes: &mut Vec<u8>) {
        let mut at = self.start;
        while at < self.end
            && let part @ [_, ..] = self.frame.from(at)
        {
            let part = &part[..part.len().min(self.end - at)];
            bytes.extend_from_slice(part);
            at += part.len();
        }
    }
}

/// Bytes in order.
struct Piece<F> {
    body: Body<F>,
    from: usize,
    to: usize,
}

enum Body<F> {
    Frame(F),
    Bytes(Vec<u8>),
}

impl<F: Frame> Piece<F> {
    /// Its first bytes.
    fn front(&self) -> &[u8] {
        let bytes = match &self.body {
            Body::Frame(frame) => frame.from(self.from),
            Body::Bytes(bytes) => bytes.get(self.from..).unwrap_or_default(),
        };
        &bytes[..bytes.len().min(self.to - self.from)]
    }
}

/// What has arrived of a stream and was not read: bytes in order, in the frames that they came in
/// where these can be spared, and copies of what came too early.
pub struct Inbox<F> {
    pieces: VecDeque<Piece<F>>,
    len: usize,
    /// Ordered by where they begin.
    early: Vec<(Seq, Vec<u8>)>,
    early_len: usize,
    /// Where the latest of those begins.
    latest: Seq,
}

impl<F: Frame> Inbox<F> {
    pub fn new() -> Self {
        let (pieces, early) = (VecDeque::new(), Vec::new());
        Self { pieces, len: 0, early, early_len: 0, latest: Seq(0) }
    }

    /// Bytes in order.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether something came too early.
    pub fn has_early(&self) -> bool {
        !self.early.is_empty()
    }

    /// Adds so many bytes of a payload behind what is in order, the first so many left out; gives
    /// how many it took, and the frame unless that stays.
    pub fn push(&mut self, mut arrived: Arrived<F>, skip: usize, len: usize) -> (usize, Option<F>) {
        arrived.narrow(skip, len);
        let len = arrived.len();
        if len == 0 {
            return (0, Some(arrived.frame));
        }
        let Arrived { start: from, end: to, keep, .. } = arrived;
        if keep == Keep::Frame && self.pieces.try_reserve(1).is_ok() {
            self.pieces.push_back(Piece { body: Body::Frame(arrived.frame), from, to });
            self.len += len;
            return (len, None);
        }
        let copied = self.push_copy(&arrived);
        (copied, Some(arrived.frame))
    }

    /// Copies bytes behind what is in order: all, or none if there is no memory.
    fn push_copy(&mut self, arrived: &Arrived<F>) -> usize {
        let len = arrived.len();
        if let Some(Piece { body: Body::Bytes(last), to, .. }) = self.pieces.back_mut()
            && last.capacity() - last.len() >= len
        {
            arrived.copy_to(last);
            *to += len;
            self.len += len;
            return len;
        }
        let mut copy = Vec::new();
        if copy.try_reserve_exact(len.max(COPY_LEN)).is_err() {
            return 0;
        }
        arrived.copy_to(&mut copy);
        self.push_bytes(copy, 0)
    }

    fn push_bytes(&mut self, bytes: Vec<u8>, from: usize) -> usize {
        if self.pieces.try_reserve(1).is_err() {
            return 0;
        }
        let (to, len) = (bytes.len(), bytes.len() - from);
        self.pieces.push_back(Piece { body: Body::Bytes(bytes), from, to });
        self.len += len;
        len
    }

    /// Keeps a copy of so many bytes of a payload that begins at `seq`, which is too early, if with
    /// others of that kind it is no more than `room` bytes; gives the frame back.
    #[cold]
    pub fn push_early(&mut self, seq: Seq, mut arrived: Arrived<F>, len: usize, room: usize) -> F {
        arrived.narrow(0, len);
        let len = arrived.len();
        self.latest = seq;
        let at = self.early.partition_point(|(start, _)| start.is_before(seq));
        let is_known =
            self.early.get(at).is_some_and(|(start, bytes)| *start == seq && bytes.len() >= len);
        let mut copy = Vec::new();
        let fits = self.early.len() < EARLY_MAX && self.early_len + len <= room;
        if len > 0
            && !is_known
            && fits
            && copy.try_reserve_exact(len).is_ok()
            && self.early.try_reserve(1).is_ok()
        {
            arrived.copy_to(&mut copy);
            self.early.insert(at, (seq, copy));
            self.early_len += len;
        }
        arrived.frame
    }

    /// Puts what came early and follows `next` in order; gives where it ends.
    #[cold]
    pub fn catch_up(&mut self, mut next: Seq) -> Seq {
        while self.early.first().is_some_and(|(start, _)| !next.is_before(*start)) {
            let (start, bytes) = self.early.remove(0);
            self.early_len -= bytes.len();
            let known = next.since(start);
            if known < bytes.len() {
                next = next + self.push_bytes(bytes, known);
            }
        }
        next
    }

    /// What came early, as blocks that touch no other; the one with the latest first (RFC 2018 §4).
    pub fn blocks(&self) -> Blocks {
        let mut spans = [Span::of(self.latest, 0); BLOCKS_MAX];
        let mut count = 0;
        for (start, bytes) in &self.early {
            let span = Span::of(*start, bytes.len());
            if let Some(last) = spans[..count].last_mut()
                && !last.end.is_before(span.start)
            {
                last.end = last.end.later(span.end);
                continue;
            }
            if count == BLOCKS_MAX {
                break;
            }
            spans[count] = span;
            count += 1;
        }
        let has_latest =
            |span: &Span| !self.latest.is_before(span.start) && self.latest.is_before(span.end);
        let spans = &spans[..count];
        let mut blocks = Blocks::default();
        spans.iter().filter(|span| has_latest(span)).for_each(|span| blocks.push(*span));
        spans.iter().filter(|span| !has_latest(span)).for_each(|span| blocks.push(*span));
        blocks
    }

    /// The first bytes in order.
    pub fn front(&self) -> &[u8] {
        self.pieces.front().map(Piece::front).unwrap_or_default()
    }

    /// Throws away so many of [`Self::front`]; gives the frame they were in, if they were the last
    /// of it.
    pub fn consume(&mut self, count: usize) -> Option<F> {
        let piece = self.pieces.front_mut()?;
        let count = count.min(piece.to - piece.from);
        piece.from += count;
        self.len -= count;
        if piece.from < piece.to {
            return None;
        }
        match self.pieces.pop_front()?.body {
            Body::Frame(frame) => Some(frame),
            Body::Bytes(_) => None,
        }
    }

    /// Throws everything away; hands the frames to `give_back`.
    pub fn clear(&mut self, give_back: &mut dyn FnMut(F)) {
        self.early = Vec::new();
        self.early_len = 0;
        self.len = 0;
        for piece in core::mem::take(&mut self.pieces) {
            if let Body::Frame(frame) = piece.body {
                give_back(frame);
            }
        }
    }
}
