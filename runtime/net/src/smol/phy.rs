use alloc::vec;

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use crate::checksum;
use crate::port::{ChecksumState, Frame, FramePort};
use crate::wire::ETHERNET_LEN;

/// Frames with a wrong checksum that are passed over before the rest of the core gets its turn.
const BAD_FRAMES_MAX: u32 = 64;

/// A [`FramePort`] as smoltcp sees a device.
///
/// The stack stages one frame at a time, so that it can look at it before smoltcp does; the frame
/// stays here while smoltcp reads it, and with it the right to answer.
pub struct Phy<P: FramePort> {
    pub port: P,
    staged: Option<P::Frame>,
    /// Frames with a wrong checksum, and frames there was no room to send.
    pub dropped: u64,
}

impl<P: FramePort> Phy<P> {
    pub fn new(port: P) -> Self {
        Self { port, staged: None, dropped: 0 }
    }

    /// Stages the next good frame, if there is one and an answer to it could be sent.
    pub fn stage(&mut self) -> Option<&P::Frame> {
        if self.staged.is_none() && self.port.can_transmit() {
            self.staged = self.next_good();
        }
        self.staged.as_ref()
    }

    /// Done with the staged frame.
    pub fn unstage(&mut self) {
        if let Some(frame) = self.staged.take() {
            self.port.recycle(frame);
        }
    }

    fn next_good(&mut self) -> Option<P::Frame> {
        for _ in 0..BAD_FRAMES_MAX {
            let frame = self.port.receive()?;
            if frame.checksum() == ChecksumState::Good || checksum::verify(frame.as_slice()) {
                return Some(frame);
            }
            self.dropped += 1;
            self.port.recycle(frame);
        }
        None
    }
}

impl<P: FramePort> phy::Device for Phy<P> {
    type RxToken<'a>
        = RxToken<'a, P::Frame>
    where
        P: 'a;
    type TxToken<'a>
        = TxToken<'a, P>
    where
        P: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let Self { port, staged, dropped } = self;
        Some((RxToken { frame: staged.as_ref()? }, TxToken { port, dropped }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Self::TxToken<'_>> {
        let Self { port, dropped, .. } = self;
        port.can_transmit().then_some(TxToken { port, dropped })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.port.mtu() + ETHERNET_LEN;
        // Verified in `next_good` and completed in `consume`, or left to the card.
        capabilities.checksum.tcp = Checksum::None;
        capabilities.checksum.udp = Checksum::None;
        capabilities
    }
}

pub struct RxToken<'a, F> {
    frame: &'a F,
}

impl<F: Frame> phy::RxToken for RxToken<'_, F> {
    fn consume<R, C: FnOnce(&[u8]) -> R>(self, read: C) -> R {
        read(self.frame.as_slice())
    }
}

pub struct TxToken<'a, P> {
    port: &'a mut P,
    dropped: &'a mut u64,
}

impl<P: FramePort> phy::TxToken for TxToken<'_, P> {
    fn consume<R, C: FnOnce(&mut [u8]) -> R>(self, len: usize, write: C) -> R {
        let offload = self.port.completes_checksums();
        let mut write = Some(write);
        let mut written = None;
        let _ = self.port.transmit(len, |frame| {
            written = write.take().map(|write| write(frame));
            if offload {
                return checksum::prepare(frame);
            }
            checksum::complete(frame);
            None
        });
        match (written, write) {
            (Some(written), _) => written,
            // The port promised room and had none; smoltcp needs its frame written all the same.
            (None, Some(write)) => {
                *self.dropped += 1;
                write(&mut vec![0; len])
            }
            (None, None) => unreachable!("the frame was written, so there is a result"),
        }
    }
}
