//! A wire in memory: for tests of protocols that need two stacks and no card.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;

use basalt_env::{Instant, Work};

use crate::port::{ChecksumState, Fill, Frame, FramePort, Insert, TxFull};

/// Frames on the wire in each direction.
const DEPTH: usize = 256;
const MTU: usize = 1500;

/// What a wire in memory can be unplugged by: then all that is sent is lost.
#[derive(Clone, Debug, Default)]
pub struct Cable {
    unplugged: Rc<Cell<bool>>,
}

impl Cable {
    /// Nothing arrives any more.
    pub fn unplug(&self) {
        self.unplugged.set(true);
    }

    /// What is sent from now on arrives again.
    pub fn plug_in(&self) {
        self.unplugged.set(false);
    }
}

type Lane = Rc<RefCell<VecDeque<Vec<u8>>>>;

/// One end of a wire in memory. Nothing is lost on it, so its checksums are never computed.
pub struct MemoryPort {
    mac: [u8; 6],
    inbound: Lane,
    outbound: Lane,
    cable: Cable,
    /// Memory of frames that were received, to send in.
    spare: Vec<Vec<u8>>,
}

impl MemoryPort {
    /// Both ends of a new wire.
    pub fn pair() -> (Self, Self) {
        let (one, other) = (Lane::default(), Lane::default());
        let cable = Cable::default();
        let end = |number, inbound: &Lane, outbound: &Lane| Self {
            mac: [0x02, 0, 0, 0, 0, number],
            inbound: Rc::clone(inbound),
            outbound: Rc::clone(outbound),
            cable: cable.clone(),
            spare: Vec::new(),
        };
        (end(1, &one, &other), end(2, &other, &one))
    }

    /// What the wire hangs on.
    pub fn cable(&self) -> Cable {
        self.cable.clone()
    }
}

/// A frame that came over a wire in memory.
#[derive(Debug)]
pub struct MemoryFrame(Vec<u8>);

impl Frame for MemoryFrame {
    fn head(&self) -> &[u8] {
        &self.0
    }

    fn checksum(&self) -> ChecksumState {
        ChecksumState::Good
    }
}

impl FramePort for MemoryPort {
    type Frame = MemoryFrame;

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn mtu(&self) -> usize {
        MTU
    }

    fn completes_checksums(&self) -> bool {
        true
    }

    fn poll(&mut self, _now: Instant) -> Work {
        Work::IDLE
    }

    fn receive(&mut self) -> Option<MemoryFrame> {
        self.inbound.borrow_mut().pop_front().map(MemoryFrame)
    }

    fn recycle(&mut self, frame: MemoryFrame) {
        if self.spare.len() < DEPTH {
            self.spare.push(frame.0);
        }
    }

    fn can_spare(&self, _frame: &Self::Frame) -> bool {
        true
    }

    fn can_transmit(&mut self, frames: usize) -> bool {
        self.outbound.borrow().len() + frames <= DEPTH
    }

    fn transmit_with(
        &mut self,
        len: usize,
        _: &mut Vec<Insert>,
        fill: Fill<'_>,
    ) -> Result<(), TxFull> {
        if !self.can_transmit(1) {
            return Err(TxFull);
        }
        let mut bytes = self.spare.pop().unwrap_or_else(|| vec![0; len]);
        bytes.resize(len, 0);
        fill(&mut bytes);
        if !self.cable.unplugged.get() {
            self.outbound.borrow_mut().push_back(bytes);
        }
        Ok(())
    }

    fn commit(&mut self) {}
}

impl fmt::Debug for MemoryPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPort").field("mac", &self.mac).finish_non_exhaustive()
    }
}
