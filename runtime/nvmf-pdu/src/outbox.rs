use alloc::vec::Vec;

use basalt_env::DmaRun;

use crate::{Digests, put_header};

/// Header bytes that are out at the network at a time, about: those of [`PIECES_MAX`] PDUs.
const STAGE_LEN: usize = 2048;
/// Most bytes one more PDU adds to the stage: a header with its largest padding, a digest and a
/// response.
const STAGE_MARGIN: usize = 256;
/// PDUs with data that are handed to the network at a time.
const PIECES_MAX: usize = 32;
/// Runs of bytes that is, one for a header and one for each buffer of data, if they are few.
const PARTS_MAX: usize = 2 * PIECES_MAX;

/// PDUs on their way to the network.
///
/// Headers are collected in a small stage; data stays where it is, known by a key, and goes to the
/// network from there. Both go in one call.
///
/// ```text
///   PDUs -encoded-> stage: headers, digests, PDUs without data
///                   pieces: which of its bytes, or whose data, in order -> Parts -> network
/// ```
#[derive(Debug)]
pub struct Outbox<K> {
    stage: Vec<u8>,
    pieces: Vec<Piece<K>>,
    /// Pieces that are out; the others are forgotten with them once all are.
    pieces_sent: usize,
    /// Bytes of the next piece that are out.
    sent: usize,
}

/// Bytes of the stage and, behind them, the data of a PDU if it has any.
#[derive(Clone, Copy, Debug)]
struct Piece<K> {
    /// Where they begin.
    at: usize,
    /// How many.
    staged: usize,
    /// Whose data follows.
    key: Option<K>,
    /// Bytes of data.
    data: usize,
}

/// Runs of bytes to be sent in one call, in order.
#[derive(Debug)]
pub struct Parts<'a> {
    parts: [DmaRun<'a>; PARTS_MAX],
    count: usize,
    bytes: usize,
}

impl<'a> Parts<'a> {
    /// Adds a run, if there is room for one more.
    #[inline]
    pub fn put(&mut self, run: DmaRun<'a>) {
        let Some(part) = self.parts.get_mut(self.count) else { return };
        *part = run;
        (self.count, self.bytes) = (self.count + 1, self.bytes + run.len());
    }

    /// All runs.
    pub fn as_slice(&self) -> &[DmaRun<'a>] {
        &self.parts[..self.count]
    }

    /// Bytes of all of them.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Default for Parts<'_> {
    fn default() -> Self {
        Self { parts: [DmaRun::Lent(&[]); PARTS_MAX], count: 0, bytes: 0 }
    }
}

impl<K> Default for Outbox<K> {
    fn default() -> Self {
        Self {
            stage: Vec::with_capacity(STAGE_LEN + STAGE_MARGIN),
            pieces: Vec::with_capacity(PIECES_MAX + 1),
            pieces_sent: 0,
            sent: 0,
        }
    }
}

impl<K: Copy> Outbox<K> {
    /// Whether everything has been handed to the network.
    pub const fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether one more PDU should be encoded before these are sent.
    #[inline]
    pub const fn has_room(&self) -> bool {
        self.stage.len() < STAGE_LEN && self.pieces.len() <= PIECES_MAX
    }

    /// Forgets what has not been handed over yet.
    pub fn clear(&mut self) {
        self.stage.clear();
        self.pieces.clear();
        (self.pieces_sent, self.sent) = (0, 0);
    }

    /// Whether data is on its way out of whose key `is_it` says so.
    pub fn is_sending(&self, mut is_it: impl FnMut(K) -> bool) -> bool {
        let mut pieces = self.pieces[self.pieces_sent..].iter();
        pieces.any(|piece| piece.key.is_some_and(&mut is_it))
    }

    /// Sends `bytes` next.
    #[inline]
    pub fn stage(&mut self, bytes: &[u8]) {
        self.stage.extend_from_slice(bytes);
        self.put_staged(bytes.len());
    }

    /// Sends a header with its digest, then zeroes to a length of `pdo` bytes.
    pub fn put_header(&mut self, header: &[u8], pdo: usize, digests: Digests) {
        let start = self.stage.len();
        put_header(&mut self.stage, header, digests);
        if self.stage.len() < start + pdo {
            self.stage.resize(start + pdo, 0);
        }
        self.put_staged(self.stage.len() - start);
    }

    /// Sends `len` bytes of data behind the header that was put last.
    #[inline]
    pub fn put_data(&mut self, key: K, len: usize) {
        if let Some(piece) = self.pieces.last_mut() {
            (piece.key, piece.data) = (Some(key), len);
        }
    }

    /// The last `len` bytes of the stage are to go out next.
    #[inline]
    fn put_staged(&mut self, len: usize) {
        if let Some(piece) = self.pieces.last_mut()
            && piece.key.is_none()
        {
            piece.staged += len;
            return;
        }
        self.pieces.push(Piece { at: self.stage.len() - len, staged: len, key: None, data: 0 });
    }

    /// Puts what is to be sent next into `parts`. `data` puts the data of a key, from so many bytes
    /// on, or says `None` if there is none any more; then so does this.
    #[inline]
    pub fn gather<'a>(
        &'a self,
        parts: &mut Parts<'a>,
        mut data: impl FnMut(K, usize, &mut Parts<'a>) -> Option<()>,
    ) -> Option<()> {
        let mut skip = self.sent;
        for piece in &self.pieces[self.pieces_sent..] {
            if skip < piece.staged {
                let staged = &self.stage[piece.at + skip..piece.at + piece.staged];
                parts.put(DmaRun::Lent(staged));
            }
            if let Some(key) = piece.key {
                data(key, skip.saturating_sub(piece.staged), parts)?;
            }
            skip = 0;
        }
        Some(())
    }

    /// So many bytes are out. The key of data that is, the first of it; to be called again with no
    /// more bytes until there is none.
    #[inline]
    pub fn advance(&mut self, sent: usize) -> Option<K> {
        self.sent += sent;
        while let Some(piece) = self.pieces.get(self.pieces_sent) {
            let len = piece.staged + piece.data;
            if self.sent < len {
                return None;
            }
            self.sent -= len;
            self.pieces_sent += 1;
            if piece.key.is_some() {
                return piece.key;
            }
        }
        self.pieces.clear();
        self.pieces_sent = 0;
        self.stage.clear();
        None
    }
}
