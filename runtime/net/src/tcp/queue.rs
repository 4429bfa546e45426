use alloc::collections::VecDeque;
use core::cell::Cell;

use basalt_env::DmaSlice;

use super::ring::Ring;
use super::seq::Seq;

/// Most pieces of a queue.
const PIECES_MAX: usize = 256;

/// Bytes that are sent and not acknowledged, and behind them those to be sent.
///
/// Some are copied into a ring, others stay in the buffers that they came in, which are kept until
/// they are acknowledged:
///
/// ```text
///  stream   | copied | shared             | copied | shared   | …
///  pieces     at: 0    at: 24, a slice      at: 4120
///  ring     | 24 bytes                    | 24 bytes          | …
/// ```
#[derive(Debug)]
pub struct Queue {
    ring: Ring,
    pieces: VecDeque<Piece>,
    capacity: usize,
    /// Where the first byte is, and how many there are.
    start: Seq,
    len: usize,
    /// Where the first byte of the ring is among all that were copied.
    ring_start: Seq,
    /// Memory of the buffers that are kept, bytes.
    held: usize,
    /// The piece that was looked for last: what is sent next begins there or soon behind.
    hint: Cell<usize>,
}

#[derive(Debug)]
struct Piece {
    /// Where it begins. It ends where the next one does.
    at: Seq,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    /// In the ring, from there on among all that were copied.
    Copied(Seq),
    Shared(DmaSlice),
}

impl Queue {
    /// Room for `capacity` bytes.
    pub const fn new(capacity: usize) -> Self {
        Self {
            ring: Ring::new(capacity),
            pieces: VecDeque::new(),
            capacity,
            start: Seq(0),
            len: 0,
            ring_start: Seq(0),
            held: 0,
            hint: Cell::new(0),
        }
    }

    /// Bytes in it.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Memory of the buffers that it keeps, bytes.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Copies as many of `bytes` as there is room for; gives that number.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.capacity - self.len);
        let follows = matches!(self.pieces.back(), Some(Piece { bytes: Bytes::Copied(_), .. }));
        if count == 0 || !follows && !self.has_room_for_piece() {
            return 0;
        }
        let at = self.ring_start + self.ring.len();
        let count = self.ring.push(&bytes[..count]);
        if !follows && count > 0 {
            self.pieces.push_back(Piece { at: self.end(), bytes: Bytes::Copied(at) });
        }
        self.len += count;
        count
    }

    /// Keeps as many bytes of `slice`, from `from` on, as there is room for; gives that number.
    pub fn push_shared(&mut self, slice: &DmaSlice, from: usize) -> usize {
        let count = slice.len().saturating_sub(from).min(self.capacity - self.len);
        if count == 0 {
            return 0;
        }
        let follows = match self.pieces.back_mut() {
            Some(Piece { bytes: Bytes::Shared(last), .. }) => last.extend(slice, from, count),
            _ => false,
        };
        if !follows {
            if !self.has_room_for_piece() {
                return 0;
            }
            let bytes = Bytes::Shared(slice.part(from, count));
            self.pieces.push_back(Piece { at: self.end(), bytes });
            self.held += slice.capacity();
        }
        self.len += count;
        count
    }

    /// Throws away the first `count` bytes.
    pub fn drop_front(&mut self, count: usize) {
        let count = count.min(self.len);
        self.start = self.start + count;
        self.len -= count;
        while let Some(Piece { at, bytes }) = self.pieces.front() {
            let end = self.end_of(0);
            let is_over = !self.start.is_before(end);
            match bytes {
                Bytes::Copied(ring_at) => {
                    let gone = *ring_at + end.earlier(self.start).since(*at);
                    self.ring.drop_front(gone.since(self.ring_start));
                    self.ring_start = gone;
                }
                Bytes::Shared(slice) if is_over => self.held -= slice.capacity(),
                Bytes::Shared(_) => {}
            }
            if !is_over {
                return;
            }
            self.pieces.pop_front();
            *self.hint.get_mut() = self.hint.get().saturating_sub(1);
        }
    }

    /// `len` bytes from `offset` on, piece by piece.
    pub fn parts(&self, offset: usize, len: usize) -> Parts<'_> {
        let offset = offset.min(self.len);
        let (at, left) = (self.start + offset, len.min(self.len - offset));
        Parts { queue: Some(self), index: self.find(at), at, left, wrapped: &[] }
    }

    /// Copies what is shared, so that its buffers are kept no longer. `false`, and nothing happens,
    /// if there is no memory for that.
    #[cold]
    pub fn copy_shared(&mut self) -> bool {
        if self.held == 0 {
            return true;
        }
        let mut copied = Self::new(self.capacity);
        for part in self.parts(0, self.len) {
            if copied.push(part.as_slice()) < part.as_slice().len() {
                return false;
            }
        }
        *self = copied;
        true
    }

    /// Gives all memory back.
    #[cold]
    pub fn clear(&mut self) {
        *self = Self::new(self.capacity);
    }

    fn has_room_for_piece(&mut self) -> bool {
        let count = self.pieces.len();
        count < PIECES_MAX && (count < self.pieces.capacity() || self.pieces.try_reserve(1).is_ok())
    }

    fn end(&self) -> Seq {
        self.start + self.len
    }

    /// Where the piece of that index ends.
    #[inline]
    fn end_of(&self, index: usize) -> Seq {
        self.pieces.get(index + 1).map_or(self.end(), |next| next.at)
    }

    /// The index of the piece that has the byte at `at`.
    #[inline(never)]
    fn find(&self, at: Seq) -> usize {
        let begins_by = |index| self.pieces.get(index).is_some_and(|piece| !at.is_before(piece.at));
        let hint = self.hint.get();
        let mut index = if begins_by(hint) { hint } else { 0 };
        while begins_by(index + 1) {
            index += 1;
        }
        self.hint.set(index);
        index
    }
}

/// Bytes of a queue, piece by piece.
#[derive(Clone, Default, Debug)]
pub struct Parts<'a> {
    queue: Option<&'a Queue>,
    index: usize,
    at: Seq,
    left: usize,
    /// The rest of a piece that goes on at the beginning of the ring.
    wrapped: &'a [u8],
}

impl Parts<'_> {
    /// How many bytes they have, before the first is taken.
    pub fn len(&self) -> usize {
        self.left
    }
}

/// Bytes of a piece.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// In the ring.
    Copied(&'a [u8]),
    /// Where they came from: so many, from a byte on.
    Shared(&'a DmaSlice, usize, usize),
}

impl<'a> Part<'a> {
    /// The bytes.
    pub fn as_slice(&self) -> &'a [u8] {
        match *self {
            Self::Copied(bytes) => bytes,
            Self::Shared(slice, from, len) => {
                slice.as_slice().get(from..from + len).unwrap_or_default()
            }
        }
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    #[inline(never)]
    fn next(&mut self) -> Option<Part<'a>> {
        if !self.wrapped.is_empty() {
            return Some(Part::Copied(core::mem::take(&mut self.wrapped)));
        }
        let queue = self.queue.filter(|_| self.left > 0)?;
        let piece = queue.pieces.get(self.index)?;
        let (skip, len) =
            (self.at.since(piece.at), queue.end_of(self.index).since(self.at).min(self.left));
        self.index += 1;
        self.at = self.at + len;
        self.left -= len;
        match &piece.bytes {
            Bytes::Shared(slice) => Some(Part::Shared(slice, skip, len)),
            Bytes::Copied(at) => {
                let [first, second] = queue.ring.parts((*at + skip).since(queue.ring_start), len);
                self.wrapped = second;
                Some(Part::Copied(first))
            }
        }
    }
}
