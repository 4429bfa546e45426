use alloc::vec::Vec;

use basalt_env::{Device, Instant, Work};
use basalt_reactor::{Doze, Rest};
use basalt_virtio_net::VirtioNet;
pub use basalt_virtio_net::{
    ChecksumState, Cut, Insert, IpVersion, NetStats, PartialChecksum, TxFull,
};

/// A received Ethernet frame.
pub trait Frame {
    /// Its bytes from the Ethernet header on, up to the end of the first buffer that it is in; all
    /// headers are in there.
    fn head(&self) -> &[u8];

    /// Bytes of all of it, to the end of the payload or padding.
    fn len(&self) -> usize {
        self.head().len()
    }

    /// Whether it has none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its bytes from `at` on, up to the end of the buffer they are in; none behind its end.
    fn from(&self, at: usize) -> &[u8] {
        self.head().get(at..).unwrap_or_default()
    }

    /// What is known about its TCP or UDP checksum.
    fn checksum(&self) -> ChecksumState;
}

/// Whether a core listens on a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listening {
    /// From now on.
    Started,
    /// No longer.
    Stopped,
}

/// What writes a frame that is sent. Of one type, for what sends frames to be in the image once.
pub type Fill<'a> = &'a mut dyn FnMut(&mut [u8]) -> Option<PartialChecksum>;

/// Where a stack's frames come from and go to: a card, a card on another core, a wire in memory.
///
/// Nothing blocks. Frames move when the port is polled, and are lost if there is no room.
pub trait FramePort {
    /// How it holds a received frame, which other cores may read.
    type Frame: Frame + Send + 'static;

    /// The Ethernet address of this end.
    fn mac(&self) -> [u8; 6];

    /// Largest IP packet it sends, bytes.
    fn mtu(&self) -> usize;

    /// Largest IP packet with a TCP segment that it takes, to cut it as a [`Cut`] says; the MTU
    /// where it cuts none. Where it cuts, it completes checksums too.
    fn large_send_max(&self, version: IpVersion) -> usize {
        let _ = version;
        self.mtu()
    }

    /// Whether there is a link, as far as it knows.
    fn link_up(&self) -> bool {
        true
    }

    /// Whether it completes checksums; if not, what `fill` returns to [`Self::transmit`] is lost.
    fn completes_checksums(&self) -> bool;

    /// Takes back what was sent; once per round, before the others.
    fn poll(&mut self, now: Instant) -> Work;

    /// The next received frame; it goes back with [`Self::recycle`].
    fn receive(&mut self) -> Option<Self::Frame>;

    /// Takes back a received frame.
    fn recycle(&mut self, frame: Self::Frame);

    /// Whether it can do without that frame until a user has read what is in it.
    fn can_spare(&self, frame: &Self::Frame) -> bool;

    /// Most [`Insert`]s of a frame; none where all of it has to be written.
    fn inserts_max(&self) -> usize {
        0
    }

    /// Whether so many frames of the largest size, without inserts, can be sent now.
    fn can_transmit(&mut self, frames: usize) -> bool;

    /// Sends a frame of `len` bytes that `fill` writes, with `inserts` in between, behind all
    /// headers: at most [`Self::inserts_max`], none of them empty. It takes all of those if there
    /// is room. Calls `fill` once at most.
    fn transmit_with(
        &mut self,
        len: usize,
        inserts: &mut Vec<Insert>,
        fill: Fill<'_>,
    ) -> Result<(), TxFull>;

    /// Sends a frame of `len` bytes that `fill` writes.
    fn transmit(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Option<PartialChecksum>,
    ) -> Result<(), TxFull> {
        let mut fill = Some(fill);
        let mut fill = |frame: &mut [u8]| fill.take().and_then(|fill| fill(frame));
        self.transmit_with(len, &mut Vec::new(), &mut fill)
    }

    /// Makes new frames known to whoever sends them; once per round, after the others.
    fn commit(&mut self);

    /// How its core's rest, which begins or ends, may end as far as frames go.
    fn doze(&mut self, rest: Rest) -> Doze {
        let _ = rest;
        Doze::Polled
    }

    /// What it has moved, if it counts.
    fn stats(&self) -> NetStats {
        NetStats::default()
    }

    /// Says that new connections to `port` can come here, or no longer.
    fn announce(&mut self, port: u16, listening: Listening) {
        let _ = (port, listening);
    }
}

impl Frame for basalt_virtio_net::Frame {
    fn head(&self) -> &[u8] {
        self.head()
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn from(&self, at: usize) -> &[u8] {
        self.from(at)
    }

    fn checksum(&self) -> ChecksumState {
        self.checksum()
    }
}

/// Bytes of a frame of which `len` are written.
pub fn frame_len(len: usize, inserts: &[Insert]) -> usize {
    inserts.iter().fold(len, |len, insert| len + insert.bytes.len())
}

/// A network card of one's own, or a pair of its queues.
impl<D: Device> FramePort for VirtioNet<D> {
    type Frame = basalt_virtio_net::Frame;

    fn mac(&self) -> [u8; 6] {
        self.mac()
    }

    fn mtu(&self) -> usize {
        self.mtu()
    }

    fn large_send_max(&self, version: IpVersion) -> usize {
        self.large_send_max(version)
    }

    fn link_up(&self) -> bool {
        self.link_up()
    }

    fn completes_checksums(&self) -> bool {
        self.completes_checksums()
    }

    fn poll(&mut self, _now: Instant) -> Work {
        self.poll()
    }

    fn receive(&mut self) -> Option<Self::Frame> {
        self.receive()
    }

    fn recycle(&mut self, frame: Self::Frame) {
        self.recycle(frame);
    }

    fn can_spare(&self, frame: &Self::Frame) -> bool {
        self.can_spare(frame)
    }

    fn inserts_max(&self) -> usize {
        self.inserts_max()
    }

    fn can_transmit(&mut self, frames: usize) -> bool {
        self.can_transmit(frames)
    }

    fn transmit_with(
        &mut self,
        len: usize,
        inserts: &mut Vec<Insert>,
        fill: Fill<'_>,
    ) -> Result<(), TxFull> {
        self.transmit_with(len, inserts, fill)
    }

    fn commit(&mut self) {
        self.commit();
    }

    fn stats(&self) -> NetStats {
        self.stats()
    }

    fn doze(&mut self, rest: Rest) -> Doze {
        match rest {
            Rest::Begins if self.arm() => return Doze::Signalled,
            Rest::Begins => {}
            Rest::Ends => self.disarm(),
        }
        Doze::Polled
    }
}
