//! A network card that is a queue of frames in each direction.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use basalt_env::{Instant, Work};
use basalt_net::{ChecksumState, Fill, Frame, FramePort, Insert, TxFull};

/// Frames that wait to be taken from a card at most.
const DEPTH: usize = 64;
/// Largest IP packet.
pub const MTU: usize = 1500;

/// Frames from one end to the other.
pub type Lane = Rc<RefCell<VecDeque<Vec<u8>>>>;

/// The card: what came to it, and what it sent.
pub struct Card {
    pub mac: [u8; 6],
    pub inbound: Lane,
    pub outbound: Lane,
}

/// A frame whose TCP or UDP checksum is taken for good.
pub struct Whole(Vec<u8>);

impl Frame for Whole {
    fn head(&self) -> &[u8] {
        &self.0
    }

    fn checksum(&self) -> ChecksumState {
        ChecksumState::Good
    }
}

impl FramePort for Card {
    type Frame = Whole;

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn mtu(&self) -> usize {
        MTU
    }

    fn completes_checksums(&self) -> bool {
        false
    }

    fn poll(&mut self, _: Instant) -> Work {
        Work::IDLE
    }

    fn receive(&mut self) -> Option<Whole> {
        self.inbound.borrow_mut().pop_front().map(Whole)
    }

    fn recycle(&mut self, _: Whole) {}

    fn can_spare(&self, frame: &Whole) -> bool {
        frame.0.len().is_multiple_of(2) // Both ways of keeping a payload.
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
        let mut frame = vec![0; len];
        fill(&mut frame);
        self.outbound.borrow_mut().push_back(frame);
        Ok(())
    }

    fn commit(&mut self) {}
}
