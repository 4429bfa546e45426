use alloc::vec;
use alloc::vec::Vec;

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use crate::checksum;
use crate::port::{ChecksumState, Frame, FramePort, Insert};
use crate::wire::{ETHERNET_LEN, Ip};

/// Frames with a wrong checksum that are passed over before the rest of the core gets its turn.
const PASSED_OVER_MAX: u32 = 64;

/// A [`FramePort`] as smoltcp sees a device: it is shown one frame at a time, which the stack has
/// staged.
pub struct Phy<P: FramePort> {
    pub port: P,
    staged: Option<P::Frame>,
    /// The staged frame in one piece, if it is not.
    whole: Vec<u8>,
    /// Frames with a wrong checksum or a malformed header.
    pub dropped: u64,
    /// Frames there was no room to send.
    pub tx_dropped: u64,
    /// Where those of a segment are collected.
    pub inserts: Vec<Insert>,
}

impl<P: FramePort> Phy<P> {
    /// Over that port.
    pub fn new(port: P) -> Self {
        Self {
            port,
            staged: None,
            whole: Vec::new(),
            dropped: 0,
            tx_dropped: 0,
            inserts: Vec::new(),
        }
    }

    /// Whether a frame is staged.
    pub fn is_staged(&self) -> bool {
        self.staged.is_some()
    }

    /// Stages a frame for smoltcp.
    pub fn stage(&mut self, frame: P::Frame) {
        if frame.head().len() < frame.len() {
            put_together(&frame, &mut self.whole);
        }
        self.staged = Some(frame);
    }

    /// Done with the staged frame.
    pub fn unstage(&mut self) {
        if let Some(frame) = self.staged.take() {
            self.port.recycle(frame);
        }
        self.whole = Vec::new();
    }

    /// The next frame with right checksums.
    pub fn next_good(&mut self) -> Option<P::Frame> {
        for _ in 0..PASSED_OVER_MAX {
            let frame = self.port.receive()?;
            if frame.checksum() == ChecksumState::Good || checksum::verify_frame(&frame) {
                return Some(frame);
            }
            self.drop(frame);
        }
        None
    }

    /// Throws a frame away, and counts it.
    pub fn drop(&mut self, frame: P::Frame) {
        self.dropped += 1;
        self.port.recycle(frame);
    }
}

#[cold]
fn put_together(frame: &impl Frame, whole: &mut Vec<u8>) {
    while let part @ [_, ..] = frame.from(whole.len()) {
        whole.extend_from_slice(part);
    }
}

impl<P: FramePort> phy::Device for Phy<P> {
    type RxToken<'a>
        = RxToken<'a>
    where
        P: 'a;
    type TxToken<'a>
        = TxToken<'a, P>
    where
        P: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let Self { port, staged, whole, tx_dropped, .. } = self;
        let head = staged.as_ref()?.head();
        let frame = if whole.is_empty() { head } else { whole };
        Some((RxToken { frame }, TxToken { port, tx_dropped }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Self::TxToken<'_>> {
        let Self { port, tx_dropped, .. } = self;
        port.can_transmit(1).then_some(TxToken { port, tx_dropped })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.port.mtu() + ETHERNET_LEN;
        // Verified in `next_good` and completed in `send`, or left to the card.
        capabilities.checksum.tcp = Checksum::None;
        capabilities.checksum.udp = Checksum::None;
        capabilities
    }
}

pub struct RxToken<'a> {
    frame: &'a [u8],
}

impl phy::RxToken for RxToken<'_> {
    fn consume<R, C: FnOnce(&[u8]) -> R>(self, read: C) -> R {
        read(self.frame)
    }
}

pub struct TxToken<'a, P> {
    port: &'a mut P,
    tx_dropped: &'a mut u64,
}

impl<P: FramePort> TxToken<'_, P> {
    /// Sends a frame of `len` bytes that `write` writes, once. Apart from smoltcp's many ways here,
    /// which would each have a copy of their own.
    fn send(self, len: usize, write: &mut dyn FnMut(&mut [u8])) {
        let offload = self.port.completes_checksums();
        let mut written = false;
        let _ = self.port.transmit_with(len, &mut Vec::new(), &mut |frame| {
            write(frame);
            written = true;
            let ip = Ip::parse(frame)?;
            if offload {
                return checksum::prepare(frame, &ip);
            }
            checksum::complete(frame, &ip);
            None
        });
        if !written {
            // The port promised room and had none; smoltcp needs its frame written all the same.
            *self.tx_dropped += 1;
            write(&mut vec![0; len]);
        }
    }
}

impl<P: FramePort> phy::TxToken for TxToken<'_, P> {
    fn consume<R, C: FnOnce(&mut [u8]) -> R>(self, len: usize, write: C) -> R {
        let (mut write, mut written) = (Some(write), None);
        self.send(len, &mut |frame| written = write.take().map(|write| write(frame)));
        match written {
            Some(written) => written,
            None => unreachable!("a frame is written in any case, so there is a result"),
        }
    }
}
