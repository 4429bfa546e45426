use alloc::boxed::Box;
use alloc::vec::Vec;

use basalt_ring::Full;
use basalt_ring::spsc::{self, Consumer, Producer};

use super::flows::Sighting;
use crate::port::{ChecksumState, Frame, Listening, PartialChecksum};

/// Bytes of a frame that one buffer carries; larger frames take several.
pub const CHUNK_LEN: usize = 2048;
/// Buffers per direction. A full-size frame of large receive takes 33.
const CHUNKS: usize = 256;

/// A buffer that frames cross cores in.
pub type Buffer = Box<[u8; CHUNK_LEN]>;

/// A frame, or a piece of one, between two cores.
pub struct Chunk {
    pub buffer: Buffer,
    pub len: u16,
    /// Whether the frame ends here.
    pub last: bool,
    /// For a frame to be received.
    pub checksum: ChecksumState,
    /// For a frame to be sent.
    pub partial: Option<PartialChecksum>,
}

/// What the card's core gives another.
pub enum FromSwitch<F> {
    /// A frame, or a piece of one, that was copied.
    Chunk(Chunk),
    /// A frame as the card has received it, which has to go back.
    Lent(F),
}

/// What a core tells the card's core.
pub enum ToSwitch {
    /// Send this.
    Chunk(Chunk),
    /// This came by a queue of that core's own, and is for the switch to give to whose it is.
    Received(Chunk),
    /// That core has queues of its own.
    HasQueues,
    /// A flow of that core's, some of which comes and goes by its own queues.
    Seen(Sighting),
    /// New connections to the port can, or can no longer, come here.
    Announce(u16, Listening),
}

/// The sending half of one direction: a ring of full buffers, one of empty ones on their way back.
pub struct Sender<T> {
    full: Producer<T>,
    empty: Consumer<Buffer>,
    /// Buffers at hand.
    spare: Vec<Buffer>,
}

/// The receiving half.
pub struct Receiver<T> {
    full: Consumer<T>,
    empty: Producer<Buffer>,
    /// Buffers that were received and counted, less those that went back.
    lent: usize,
}

/// One direction between two cores, with its buffers.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    // Twice as many entries as buffers: a ring never fills up with buffers alone.
    let (full, full_end) = spsc::channel(2 * CHUNKS);
    let (empty_end, empty) = spsc::channel(2 * CHUNKS);
    let spare = (0..CHUNKS).map(|_| Box::new([0; CHUNK_LEN])).collect();
    (Sender { full, empty, spare }, Receiver { full: full_end, empty: empty_end, lent: 0 })
}

impl<T> Sender<T> {
    /// Whether so many frames of `len` bytes have room.
    pub fn has_room(&mut self, len: usize, frames: usize) -> bool {
        let needed = len.div_ceil(CHUNK_LEN).max(1) * frames;
        if self.spare.len() < needed {
            while let Some(buffer) = self.empty.pop() {
                self.spare.push(buffer);
            }
        }
        self.spare.len() >= needed && self.full.room() >= needed
    }

    /// Whether the ring has room for something that needs no buffer.
    pub fn takes_message(&mut self) -> bool {
        self.full.room() > 0
    }

    /// Sends something that needs no buffer; `false` if the ring is full.
    pub fn send(&mut self, message: T) -> bool {
        self.full.push(message).is_ok()
    }

    /// A buffer to fill.
    pub fn buffer(&mut self) -> Option<Buffer> {
        self.spare.pop()
    }

    /// Sends a frame piece by piece, each made into a message by `wrap`. All of it or nothing.
    pub fn send_frame(
        &mut self,
        frame: &impl Frame,
        partial: Option<PartialChecksum>,
        wrap: impl Fn(Chunk) -> T,
    ) -> bool {
        let (whole, checksum) = (frame.len(), frame.checksum());
        if !self.has_room(whole, 1) {
            return false;
        }
        let mut at = 0;
        while at < whole {
            let Some(mut buffer) = self.spare.pop() else { return false };
            let len = fill(&mut buffer[..], frame, at);
            at = if len == 0 { whole } else { at + len };
            let (len, last) = (len as u16, at == whole);
            let _ = self.full.push(wrap(Chunk { buffer, len, last, checksum, partial }));
        }
        true
    }
}

/// Copies the bytes of a frame from `at` on; gives how many.
fn fill(out: &mut [u8], frame: &impl Frame, at: usize) -> usize {
    let mut filled = 0;
    while filled < out.len()
        && let part @ [_, ..] = frame.from(at + filled)
    {
        let len = part.len().min(out.len() - filled);
        out[filled..filled + len].copy_from_slice(&part[..len]);
        filled += len;
    }
    filled
}

/// A frame that was just written, in one piece.
pub struct Written<'a>(pub &'a [u8]);

impl Frame for Written<'_> {
    fn head(&self) -> &[u8] {
        self.0
    }

    fn checksum(&self) -> ChecksumState {
        ChecksumState::Unverified
    }
}

impl<T> Receiver<T> {
    /// The next message.
    pub fn receive(&mut self) -> Option<T> {
        self.full.pop()
    }

    /// Counts a buffer that came with a message.
    pub fn borrow(&mut self) {
        self.lent += 1;
    }

    /// Whether most of the buffers are with the other core.
    pub fn can_spare(&self) -> bool {
        self.lent < CHUNKS / 2
    }

    /// Sends a buffer back. It is only lost if the other core is gone.
    pub fn give_back(&mut self, buffer: Buffer) {
        self.lent = self.lent.saturating_sub(1);
        if let Err(Full(buffer)) = self.empty.push(buffer) {
            drop(buffer);
        }
    }
}

/// A frame of one buffer or of several put together.
pub enum Assembled {
    /// As it came.
    One(Chunk),
    /// Copied together.
    Many(Vec<u8>, ChecksumState, Option<PartialChecksum>),
}

/// A frame that a lane receives.
pub enum LaneFrame<F> {
    /// From queues of its core's own.
    Card(F),
    /// From the card of another core, to which it goes back.
    Lent(F),
    /// Copied from another core, with the lane that it came from.
    Crossed(Assembled, u8),
}

impl<F: Frame> Frame for LaneFrame<F> {
    fn head(&self) -> &[u8] {
        match self {
            Self::Card(frame) | Self::Lent(frame) => frame.head(),
            Self::Crossed(frame, _) => frame.as_slice(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Card(frame) | Self::Lent(frame) => frame.len(),
            Self::Crossed(frame, _) => frame.as_slice().len(),
        }
    }

    fn from(&self, at: usize) -> &[u8] {
        match self {
            Self::Card(frame) | Self::Lent(frame) => frame.from(at),
            Self::Crossed(frame, _) => frame.as_slice().get(at..).unwrap_or_default(),
        }
    }

    fn checksum(&self) -> ChecksumState {
        match self {
            Self::Card(frame) | Self::Lent(frame) => frame.checksum(),
            Self::Crossed(frame, _) => frame.checksum(),
        }
    }
}

/// Puts the pieces of frames together, in memory it has from the start.
pub struct Assembler {
    partial: Vec<u8>,
    /// Whether the frame under way has outgrown the memory and is thrown away.
    overlong: bool,
    max: usize,
}

impl Assembler {
    /// For frames of up to `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { partial: Vec::with_capacity(max), overlong: false, max }
    }

    /// Adds a piece; gives the frame it completes, and the piece's buffer if it is done with.
    pub fn add(&mut self, chunk: Chunk) -> (Option<Assembled>, Option<Buffer>) {
        if chunk.last && self.partial.is_empty() && !self.overlong {
            return (Some(Assembled::One(chunk)), None);
        }
        let Chunk { buffer, len, last, checksum, partial } = chunk;
        let piece = &buffer[..usize::from(len).min(CHUNK_LEN)];
        if self.partial.len() + piece.len() > self.max {
            self.overlong = true;
        } else {
            self.partial.extend_from_slice(piece);
        }
        if !last {
            return (None, Some(buffer));
        }
        if core::mem::take(&mut self.overlong) {
            self.partial.clear();
            return (None, Some(buffer));
        }
        let bytes = core::mem::take(&mut self.partial);
        (Some(Assembled::Many(bytes, checksum, partial)), Some(buffer))
    }

    /// Whether its memory is away with a frame, so that another of several pieces has to wait.
    pub fn is_lent(&self) -> bool {
        self.partial.capacity() == 0
    }

    /// Takes back the memory of a frame.
    pub fn recycle(&mut self, mut bytes: Vec<u8>) {
        if bytes.capacity() > self.partial.capacity() && self.partial.is_empty() {
            bytes.clear();
            self.partial = bytes;
        }
    }
}

impl Assembled {
    /// The frame's bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::One(chunk) => &chunk.buffer[..usize::from(chunk.len).min(CHUNK_LEN)],
            Self::Many(bytes, ..) => bytes,
        }
    }

    /// What is known about its checksum.
    pub fn checksum(&self) -> ChecksumState {
        match self {
            Self::One(chunk) => chunk.checksum,
            Self::Many(_, checksum, _) => *checksum,
        }
    }

    /// What is left to do about its checksum.
    pub fn partial(&self) -> Option<PartialChecksum> {
        match self {
            Self::One(chunk) => chunk.partial,
            Self::Many(_, _, partial) => *partial,
        }
    }
}
