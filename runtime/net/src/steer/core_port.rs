use alloc::vec::Vec;

use basalt_env::{Instant, Work};
use basalt_reactor::{Doze, Rest};

use super::rings::LaneFrame;
use super::{LocalPort, RemotePort, Strays};
use crate::port::{Fill, FramePort, Insert, IpVersion, Listening, TxFull};
use crate::queues::QueueStats;

/// The port of any core, so that the stacks of all are of one type and in the image once.
#[expect(clippy::large_enum_variant, reason = "one on each core, where it stays")]
pub enum CorePort<P: FramePort> {
    /// Of the core that has the card.
    Local(LocalPort<P>),
    /// Of another.
    Remote(RemotePort<P>),
}

impl<P: FramePort> CorePort<P> {
    /// Whether anything was sent since the last time that the card's core is to be woken for.
    pub fn take_sent(&mut self) -> bool {
        match self {
            Self::Local(_) => false,
            Self::Remote(port) => port.take_sent(),
        }
    }

    /// What queues of a core without the card have moved, if it has some.
    pub(crate) fn queue_stats(&self) -> Option<QueueStats> {
        let Self::Remote(port) = self else { return None };
        let (queues, Strays { passed_on, dropped }) = port.queues()?;
        let mut stats = QueueStats::of(queues, passed_on);
        stats.card.rx_dropped += dropped;
        Some(stats)
    }
}

impl<P: FramePort> FramePort for CorePort<P> {
    type Frame = LaneFrame<P::Frame>;

    fn mac(&self) -> [u8; 6] {
        match self {
            Self::Local(port) => port.mac(),
            Self::Remote(port) => port.mac(),
        }
    }

    fn mtu(&self) -> usize {
        match self {
            Self::Local(port) => port.mtu(),
            Self::Remote(port) => port.mtu(),
        }
    }

    fn large_send_max(&self, version: IpVersion) -> usize {
        match self {
            Self::Local(port) => port.large_send_max(version),
            Self::Remote(port) => port.large_send_max(version),
        }
    }

    fn completes_checksums(&self) -> bool {
        match self {
            Self::Local(port) => port.completes_checksums(),
            Self::Remote(port) => port.completes_checksums(),
        }
    }

    fn poll(&mut self, now: Instant) -> Work {
        match self {
            Self::Local(port) => port.poll(now),
            Self::Remote(port) => port.poll(now),
        }
    }

    fn receive(&mut self) -> Option<Self::Frame> {
        match self {
            Self::Local(port) => port.receive(),
            Self::Remote(port) => port.receive(),
        }
    }

    fn recycle(&mut self, frame: Self::Frame) {
        match self {
            Self::Local(port) => port.recycle(frame),
            Self::Remote(port) => port.recycle(frame),
        }
    }

    fn can_spare(&self, frame: &Self::Frame) -> bool {
        match self {
            Self::Local(port) => port.can_spare(frame),
            Self::Remote(port) => port.can_spare(frame),
        }
    }

    fn inserts_max(&self) -> usize {
        match self {
            Self::Local(port) => port.inserts_max(),
            Self::Remote(port) => port.inserts_max(),
        }
    }

    fn can_transmit(&mut self, frames: usize) -> bool {
        match self {
            Self::Local(port) => port.can_transmit(frames),
            Self::Remote(port) => port.can_transmit(frames),
        }
    }

    fn transmit_with(
        &mut self,
        len: usize,
        inserts: &mut Vec<Insert>,
        fill: Fill<'_>,
    ) -> Result<(), TxFull> {
        match self {
            Self::Local(port) => port.transmit_with(len, inserts, fill),
            Self::Remote(port) => port.transmit_with(len, inserts, fill),
        }
    }

    fn commit(&mut self) {
        match self {
            Self::Local(port) => port.commit(),
            Self::Remote(port) => port.commit(),
        }
    }

    fn doze(&mut self, rest: Rest) -> Doze {
        match self {
            Self::Local(port) => port.doze(rest),
            Self::Remote(port) => port.doze(rest),
        }
    }

    fn announce(&mut self, port: u16, listening: Listening) {
        match self {
            Self::Local(inner) => inner.announce(port, listening),
            Self::Remote(inner) => inner.announce(port, listening),
        }
    }
}
