use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use basalt_env::{Instant, Work};

use super::Switch;
use super::rings::LaneFrame;
use crate::port::{Fill, FramePort, Insert, IpVersion, Listening, TxFull};

/// The port of the core that has the card.
///
/// The switch is shared with the poller that serves the other cores; both only hold it while they
/// run, and neither runs within the other.
pub struct LocalPort<P: FramePort> {
    switch: Rc<RefCell<Switch<P>>>,
}

impl<P: FramePort> LocalPort<P> {
    /// Lane 0 of `switch`.
    pub fn new(switch: Rc<RefCell<Switch<P>>>) -> Self {
        Self { switch }
    }
}

impl<P: FramePort> FramePort for LocalPort<P> {
    type Frame = LaneFrame<P::Frame>;

    fn mac(&self) -> [u8; 6] {
        self.switch.borrow().card().mac()
    }

    fn mtu(&self) -> usize {
        self.switch.borrow().card().mtu()
    }

    fn large_send_max(&self, version: IpVersion) -> usize {
        self.switch.borrow().card().large_send_max(version)
    }

    fn completes_checksums(&self) -> bool {
        self.switch.borrow().card().completes_checksums()
    }

    /// The switch has its own poller.
    fn poll(&mut self, _now: Instant) -> Work {
        Work::IDLE
    }

    fn receive(&mut self) -> Option<Self::Frame> {
        self.switch.borrow_mut().receive()
    }

    fn recycle(&mut self, frame: Self::Frame) {
        self.switch.borrow_mut().recycle(frame);
    }

    /// A frame of another core's queue goes back to it at once.
    fn can_spare(&self, frame: &Self::Frame) -> bool {
        match frame {
            LaneFrame::Card(frame) | LaneFrame::Lent(frame) => {
                self.switch.borrow().card().can_spare(frame)
            }
            LaneFrame::Crossed(..) => false,
        }
    }

    fn inserts_max(&self) -> usize {
        self.switch.borrow().card().inserts_max()
    }

    fn can_transmit(&mut self, frames: usize) -> bool {
        self.switch.borrow_mut().card_mut().can_transmit(frames)
    }

    fn transmit_with(
        &mut self,
        len: usize,
        inserts: &mut Vec<Insert>,
        fill: Fill<'_>,
    ) -> Result<(), TxFull> {
        self.switch.borrow_mut().transmit(len, inserts, fill)
    }

    fn commit(&mut self) {
        self.switch.borrow_mut().card_mut().commit();
    }

    fn announce(&mut self, port: u16, listening: Listening) {
        self.switch.borrow_mut().announce(0, port, listening);
    }
}
