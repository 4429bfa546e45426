use alloc::vec;
use alloc::vec::Vec;

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use super::cut;
use super::large::LargeSend;
use crate::IpAddress;
use crate::checksum;
use crate::port::{ChecksumState, Frame, FramePort};
use crate::wire::{ETHERNET_LEN, Ip, Segment};

/// Frames with a wrong checksum, or acknowledgements that say nothing new, that are passed over
/// before the rest of the core gets its turn.
const PASSED_OVER_MAX: u32 = 64;

/// A [`FramePort`] as smoltcp sees a device.
///
/// The stack stages one frame at a time, so that it can look at it before smoltcp does; the frame
/// stays here while smoltcp reads it, and with it the right to answer. Of acknowledgements that
/// came together, smoltcp sees the last only: a peer may send one for each segment.
pub struct Phy<P: FramePort> {
    pub port: P,
    staged: Option<Staged<P::Frame>>,
    /// The next one, if it has been looked at.
    ahead: Option<Staged<P::Frame>>,
    /// The staged frame as smoltcp is to see it, if that is not as it came.
    presented: Vec<u8>,
    large: LargeSend,
    /// A packet that is to be cut before the port gets it.
    uncut: Vec<u8>,
    /// Frames with a wrong checksum, and frames there was no room to send.
    pub dropped: u64,
    /// Acknowledgements that a later one has made needless.
    pub superseded: u64,
}

/// A frame with a right checksum, and the TCP segment in it.
struct Staged<F> {
    frame: F,
    segment: Option<Segment>,
}

impl<P: FramePort> Phy<P> {
    /// For at most `connections` connections.
    pub fn new(mut port: P, connections: usize) -> Self {
        let large = LargeSend::new(&mut port, connections);
        let uncut_max = large.packet_max() + ETHERNET_LEN;
        let uncut = if large.is_cut_here(uncut_max) { vec![0; uncut_max] } else { Vec::new() };
        Self {
            port,
            staged: None,
            ahead: None,
            presented: Vec::new(),
            large,
            uncut,
            dropped: 0,
            superseded: 0,
        }
    }

    /// Whether a SYN that begins a connection is to go through [`Self::present`].
    pub fn presents(&self) -> bool {
        self.large.is_used()
    }

    /// Has smoltcp see the staged frame, which begins a connection with that segment, such that it
    /// sends large segments.
    pub fn present(&mut self, segment: &Segment, is_alive: impl Fn(IpAddress, u16, u16) -> bool) {
        if let Some(Staged { frame, .. }) = &self.staged {
            self.large.present(frame.as_slice(), segment, is_alive, &mut self.presented);
        }
    }

    /// Stages the next good frame, if there is one and an answer to it could be sent; gives the TCP
    /// segment in it, if that is what it has.
    pub fn stage(&mut self) -> Option<Option<Segment>> {
        if self.staged.is_none() && self.can_transmit() {
            self.staged = self.next();
        }
        self.staged.as_ref().map(|staged| staged.segment)
    }

    /// Whether there is room for whatever smoltcp sends at a time.
    pub fn can_transmit(&mut self) -> bool {
        self.port.can_transmit(self.large.frames_max())
    }

    /// Done with the staged frame.
    pub fn unstage(&mut self) {
        self.presented.clear();
        if let Some(Staged { frame, .. }) = self.staged.take() {
            self.port.recycle(frame);
        }
    }

    fn next(&mut self) -> Option<Staged<P::Frame>> {
        let mut next = self.ahead.take().or_else(|| self.next_good())?;
        for _ in 0..PASSED_OVER_MAX {
            let only = next.segment.filter(Segment::only_acknowledges);
            let Some(acknowledgement) = only else { break };
            let Some(later) = self.next_good() else { break };
            let segment = later.segment.as_ref();
            if !segment.is_some_and(|segment| acknowledgement.is_superseded_by(segment)) {
                self.ahead = Some(later);
                break;
            }
            self.superseded += 1;
            self.port.recycle(next.frame);
            next = later;
        }
        Some(next)
    }

    fn next_good(&mut self) -> Option<Staged<P::Frame>> {
        for _ in 0..PASSED_OVER_MAX {
            let frame = self.port.receive()?;
            if frame.checksum() == ChecksumState::Good || checksum::verify(frame.as_slice()) {
                let segment = Segment::parse(frame.as_slice());
                return Some(Staged { frame, segment });
            }
            self.dropped += 1;
            self.port.recycle(frame);
        }
        None
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
        let Self { port, staged, presented, large, uncut, dropped, .. } = self;
        let staged = staged.as_ref()?.frame.as_slice();
        let frame = if presented.is_empty() { staged } else { presented };
        Some((RxToken { frame }, TxToken { port, large, uncut, dropped }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Self::TxToken<'_>> {
        if !self.can_transmit() {
            return None;
        }
        let Self { port, large, uncut, dropped, .. } = self;
        Some(TxToken { port, large, uncut, dropped })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.large.packet_max() + ETHERNET_LEN;
        // Verified in `next_good` and completed in `consume`, or left to the card.
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
    large: &'a LargeSend,
    uncut: &'a mut [u8],
    dropped: &'a mut u64,
}

impl<P: FramePort> TxToken<'_, P> {
    /// Sends a frame of `len` bytes that `write` writes, once. Apart from smoltcp's many ways here,
    /// which would each have a copy of their own.
    fn send(self, len: usize, write: &mut dyn FnMut(&mut [u8])) {
        if self.large.is_cut_here(len)
            && let Some(frame) = self.uncut.get_mut(..len)
        {
            write(frame);
            return self.send_cut(len);
        }
        let offload = self.port.completes_checksums();
        let mut written = false;
        let _ = self.port.transmit(len, |frame| {
            write(frame);
            written = true;
            self.large.finish(frame, offload)
        });
        if !written {
            // The port promised room and had none; smoltcp needs its frame written all the same.
            *self.dropped += 1;
            write(&mut vec![0; len]);
        }
    }

    /// Hands the port the packet in the first `len` bytes of `uncut`, segment by segment if it is
    /// large.
    fn send_cut(self, len: usize) {
        let Self { port, large, uncut, dropped } = self;
        let frame = &uncut[..len];
        let offload = port.completes_checksums();
        let Some((ip, cut)) = Ip::parse(frame).zip(large.cut(frame)) else {
            let sent = port.transmit(len, |out| {
                out.copy_from_slice(frame);
                large.finish(out, offload)
            });
            return *dropped += u64::from(sent.is_err());
        };
        for segment in cut::segments(frame, &ip, cut) {
            let sent = port.transmit(segment.frame_len(), |out| {
                segment.write(out);
                large.finish(out, offload)
            });
            if sent.is_err() {
                // The peer misses it, and those behind it come as well when it is sent again.
                return *dropped += 1;
            }
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
