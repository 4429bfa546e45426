use alloc::vec::Vec;
use core::fmt;

use basalt_env::{Device, DmaBuf, Parcel, PciAddress, Registers, Work};
use basalt_virtio::{Direction, Doorbell, Insert, Notice, Queue, QueueError, Transport, Used};

use crate::control::Control;
use crate::frame::{Body, Part};
use crate::layout::{Features, config, header};
use crate::pair::SEVERAL_FRAMES;
use crate::{ChecksumState, Cut, Frame, IpVersion, PartialChecksum};

/// There is no room for a frame now; there will be once the device has sent some.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxFull;

/// What a device has moved since bring-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NetStats {
    /// Frames handed to the user.
    pub rx_frames: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames thrown away because the device described them wrongly or no merge buffer was left.
    pub rx_dropped: u64,
    /// Frames given to the device.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
}

/// A network card, or a further pair of its queues on another core.
///
/// Life cycle: [`Self::bring_up`] -> polled -> dropped, which stops the device first and frees its
/// buffers after. A further pair comes of [`PairMemory::join`](crate::PairMemory::join) and is
/// dropped after the card. A device that breaks the rules of its queues is left alone from then on:
/// [`Self::failure`] says why, nothing is received any more and there is no room to send.
pub struct VirtioNet<D: Device> {
    /// First, to be dropped before the queues: the device must be stopped before its memory goes.
    /// None of a further pair.
    pub(crate) owner: Option<Owner<D>>,
    pub(crate) address: PciAddress,
    pub(crate) rx: Queue,
    pub(crate) tx: Queue,
    pub(crate) rx_doorbell: Doorbell<D::Registers>,
    pub(crate) tx_doorbell: Doorbell<D::Registers>,
    pub(crate) features: Features,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u16,
    pub(crate) tx_free: Vec<DmaBuf>,
    /// Buffers of large segments; none where the device cuts none.
    pub(crate) tx_large: Vec<DmaBuf>,
    /// Largest IP packet that goes in one of those, bytes; the MTU where there are none.
    pub(crate) large_max: usize,
    /// Where buffers of frames are kept together.
    pub(crate) parts_free: Vec<Vec<Part>>,
    /// Bytes of the largest frame.
    pub(crate) frame_max: usize,
    pub(crate) partial: Option<Partial>,
    pub(crate) stats: NetStats,
    /// Whether a failure has been logged.
    pub(crate) reported: bool,
    /// Whether a received frame can end its core's rest.
    pub(crate) wakes: bool,
}

/// What the core that brought the card up has of it.
pub(crate) struct Owner<D: Device> {
    /// First, to be dropped before the queue.
    pub(crate) transport: Transport<D>,
    /// For as long as the device knows of it.
    pub(crate) _control: Option<Control<D>>,
}

/// Most buffers of a frame: as few as hold the largest, and as many again for a device that fills
/// them badly.
pub(crate) const PARTS_MAX: usize = 34;

/// Most places of a frame where others' bytes go: 64 KiB in data units of 4 KiB, of which the first
/// and the last are cut.
const INSERTS_MAX: usize = 17;

/// A frame of which some buffers are still to come.
pub(crate) struct Partial {
    /// What is there; `None` if the frame is to be thrown away.
    parts: Option<Vec<Part>>,
    len: usize,
    buffers_left: u16,
    checksum: ChecksumState,
}

impl<D: Device> VirtioNet<D> {
    /// The card's MAC address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Largest IP packet it sends, bytes.
    pub fn mtu(&self) -> usize {
        usize::from(self.mtu)
    }

    /// Whether it has a link; yes where it cannot tell.
    pub fn link_up(&self) -> bool {
        let Some(owner) = &self.owner else { return true };
        if !self.features.contains(Features::STATUS) {
            return true;
        }
        let status = owner
            .transport
            .read_config(config::STATUS + 2, |registers| registers.read16(config::STATUS));
        status.is_ok_and(|status| status & 1 != 0)
    }

    /// Whether it completes the checksums of frames sent with a [`PartialChecksum`].
    pub fn completes_checksums(&self) -> bool {
        self.features.contains(Features::CSUM)
    }

    /// Largest IP packet with a TCP segment that it takes, to cut it as a [`Cut`] says; the MTU
    /// where it cuts none.
    pub fn large_send_max(&self, version: IpVersion) -> usize {
        let feature = match version {
            IpVersion::V4 => Features::HOST_TSO4,
            IpVersion::V6 => Features::HOST_TSO6,
        };
        if self.features.contains(feature) { self.large_max } else { self.mtu() }
    }

    /// How the device broke its queues, if it did.
    pub fn failure(&self) -> Option<QueueError> {
        self.rx.broken().or(self.tx.broken())
    }

    /// What it has moved.
    pub fn stats(&self) -> NetStats {
        self.stats
    }

    /// The next received frame.
    pub fn receive(&mut self) -> Option<Frame> {
        // A bound for a device that sends nothing but rubbish.
        for _ in 0..self.rx.size() {
            let Ok(Some(used)) = self.rx.pop() else { return None };
            let frame = match self.partial.take() {
                Some(partial) => self.continue_frame(partial, used),
                None => self.begin_frame(used),
            };
            let Some(frame) = frame else { continue };
            self.stats.rx_frames += 1;
            self.stats.rx_bytes += frame.len() as u64;
            return Some(frame);
        }
        None
    }

    /// Whether there are buffers enough for what comes while that frame is not given back.
    pub fn can_spare(&self, frame: &Frame) -> bool {
        match frame.body {
            Body::Several(..) if self.parts_free.len() * 2 < SEVERAL_FRAMES => false,
            _ => self.rx.outstanding() * 2 > usize::from(self.rx.size()),
        }
    }

    /// Takes back a frame from [`Self::receive`]; its buffers go to the device at the next commit.
    pub fn recycle(&mut self, frame: Frame) {
        match frame.body {
            Body::Single(buf, _) => self.give_rx(buf.open_anywhere()),
            Body::Several(parts, _) => self.give_parts(parts),
        }
    }

    /// Most [`Insert`]s of a frame: as many as a large segment of data units of 4 KiB has, if four
    /// such frames fit the queue.
    pub fn inserts_max(&self) -> usize {
        (usize::from(self.tx.size()) / 4).saturating_sub(1).div_euclid(2).min(INSERTS_MAX)
    }

    /// Whether so many frames of the largest size, without inserts, can be sent now.
    pub fn can_transmit(&mut self, frames: usize) -> bool {
        if self.tx_spare().len() < frames || self.tx.room() < frames {
            let _ = self.poll();
        }
        self.tx.room() >= frames && self.tx_spare().len() >= frames
    }

    /// The buffers that hold a frame of the largest size.
    fn tx_spare(&self) -> &[DmaBuf] {
        if self.large_max > self.mtu() { &self.tx_large } else { &self.tx_free }
    }

    /// A buffer for `total` bytes, a small one if that will do.
    fn take_tx(&mut self, total: usize) -> Option<DmaBuf> {
        let small = self.tx_free.pop_if(|buf| total <= buf.capacity());
        small.or_else(|| self.tx_large.pop_if(|buf| total <= buf.capacity()))
    }

    fn give_tx(&mut self, buf: DmaBuf) {
        let large = self.large_max > self.mtu() && buf.capacity() > self.large_max;
        if large { self.tx_large.push(buf) } else { self.tx_free.push(buf) }
    }

    /// Sends a frame of `len` bytes (without header) that `fill` writes, with `inserts` in between,
    /// behind its first byte, which it takes all of if there is room: at most
    /// [`Self::inserts_max`], none of them empty. In all it may have as many bytes as an Ethernet
    /// header and the MTU, or [`Self::large_send_max`]. `fill` also says what the device is to do
    /// about its checksum. The device learns of it at the next commit. A longer frame finds no room
    /// either.
    pub fn transmit_with(
        &mut self,
        len: usize,
        inserts: &mut Vec<Insert>,
        fill: impl FnOnce(&mut [u8]) -> Option<PartialChecksum>,
    ) -> Result<(), TxFull> {
        let mut buf = self.tx_for(header::LEN + len, inserts.len()).ok_or(TxFull)?;
        let (head, body) = buf.as_mut_slice().split_at_mut(header::LEN);
        head.fill(0);
        if let Some(partial) = fill(body) {
            describe(head, partial);
        }
        let mut bytes = len;
        for insert in inserts.iter_mut() {
            insert.at += header::LEN;
            bytes += insert.bytes.len();
        }
        self.stats.tx_frames += 1;
        self.stats.tx_bytes += bytes as u64;
        self.tx.push_with(buf, inserts).map_err(|buf| {
            self.give_tx(buf);
            TxFull
        })
    }

    /// The same without inserts.
    pub fn transmit(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Option<PartialChecksum>,
    ) -> Result<(), TxFull> {
        self.transmit_with(len, &mut Vec::new(), fill)
    }

    /// A buffer of `total` bytes, if there are descriptors for it and so many inserts.
    fn tx_for(&mut self, total: usize, inserts: usize) -> Option<DmaBuf> {
        let descriptors = Queue::chain_max(inserts);
        if self.tx.room() < descriptors {
            let _ = self.poll();
        }
        if self.tx.room() < descriptors {
            return None;
        }
        let mut buf = self.take_tx(total).or_else(|| {
            let _ = self.poll();
            self.take_tx(total)
        })?;
        buf.set_len(total);
        Some(buf)
    }

    /// Takes back the buffers of frames that were sent; reports a failure, once.
    pub fn poll(&mut self) -> Work {
        if let Some(error) = self.failure()
            && !core::mem::replace(&mut self.reported, true)
        {
            log::error!(target: "virtio-net", "{}: {error}", self.address);
        }
        let mut work = Work::IDLE;
        while let Ok(Some(used)) = self.tx.pop() {
            self.give_tx(used.buf);
            work += Work(1);
        }
        work
    }

    /// Asks the device to end its core's rest with the next frame that comes; whether it will. Look
    /// for frames once more afterwards.
    pub fn arm(&mut self) -> bool {
        if !self.wakes || self.failure().is_some() {
            return false;
        }
        self.rx.set_notice(Notice::Sent);
        // What was sent is taken back by polling.
        self.tx.outstanding() == 0
    }

    /// Its core polls again.
    pub fn disarm(&mut self) {
        self.rx.set_notice(Notice::Held);
    }

    /// Shows the device new frames and recycled buffers. Once per round, after everything else.
    pub fn commit(&mut self) {
        if self.tx.commit() {
            self.tx_doorbell.ring();
        }
        if self.rx.commit() {
            self.rx_doorbell.ring();
        }
    }

    fn begin_frame(&mut self, used: Used) -> Option<Frame> {
        let Used { buf, written } = used;
        let Some(head) = buf.as_slice()[..written].first_chunk::<{ header::LEN }>() else {
            self.stats.rx_dropped += 1;
            self.give_rx(buf);
            return None;
        };
        let checksum = self.checksum_state(head[header::FLAGS]);
        let buffers =
            u16::from_le_bytes([head[header::NUM_BUFFERS], head[header::NUM_BUFFERS + 1]]);
        let len = written - header::LEN;
        // Without merging the field says nothing; zero is a lie that means one.
        if !self.features.contains(Features::MRG_RXBUF) || buffers <= 1 {
            return Some(Frame { body: Body::Single(Parcel::new(buf), len), checksum });
        }
        let parts = self.parts_free.pop();
        let partial = Partial { parts, len: 0, buffers_left: buffers, checksum };
        self.append(partial, buf, header::LEN, written)
    }

    fn continue_frame(&mut self, partial: Partial, used: Used) -> Option<Frame> {
        self.append(partial, used.buf, 0, used.written)
    }

    /// Adds bytes `from..to` of a buffer to a frame, and gives the frame if that was the last.
    fn append(
        &mut self,
        mut partial: Partial,
        buf: DmaBuf,
        from: usize,
        to: usize,
    ) -> Option<Frame> {
        partial.len += to - from;
        match &mut partial.parts {
            Some(parts) if partial.len <= self.frame_max && parts.len() < PARTS_MAX => {
                parts.push(Part { buf: Parcel::new(buf), from, to });
            }
            _ => {
                self.give_rx(buf);
                partial.parts.take().into_iter().for_each(|parts| self.give_parts(parts));
            }
        }
        partial.buffers_left -= 1;
        if partial.buffers_left > 0 {
            self.partial = Some(partial);
            return None;
        }
        let Some(parts) = partial.parts else {
            self.stats.rx_dropped += 1;
            return None;
        };
        Some(Frame { body: Body::Several(parts, partial.len), checksum: partial.checksum })
    }

    /// Takes back the buffers of a frame, and what kept them together.
    #[inline(never)]
    fn give_parts(&mut self, mut parts: Vec<Part>) {
        parts.drain(..).for_each(|part| self.give_rx(part.buf.open_anywhere()));
        self.parts_free.push(parts);
    }

    fn checksum_state(&self, flags: u8) -> ChecksumState {
        let vouched = flags & (header::NEEDS_CSUM | header::DATA_VALID) != 0;
        if vouched && self.features.contains(Features::GUEST_CSUM) {
            ChecksumState::Good
        } else {
            ChecksumState::Unverified
        }
    }

    #[inline(never)]
    fn give_rx(&mut self, buf: DmaBuf) {
        // A dead queue refuses it; then the buffer's life ends here.
        let _ = self.rx.push(buf, Direction::FromDevice);
    }
}

/// Writes into a frame's header what is left to do.
fn describe(head: &mut [u8], partial: PartialChecksum) {
    let mut put = |at: usize, value: u16| head[at..at + 2].copy_from_slice(&value.to_le_bytes());
    let PartialChecksum { start, offset, cut } = partial;
    put(header::CSUM_START, start);
    put(header::CSUM_OFFSET, offset);
    if let Some(Cut { version, headers_len, segment_len }) = cut {
        put(header::HEADERS_LEN, headers_len);
        put(header::GSO_SIZE, segment_len);
        head[header::GSO_TYPE] = match version {
            IpVersion::V4 => header::GSO_TCPV4,
            IpVersion::V6 => header::GSO_TCPV6,
        };
    }
    head[header::FLAGS] = header::NEEDS_CSUM;
}

impl<D: Device> fmt::Debug for VirtioNet<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VirtioNet({}, {:?})", self.address, self.features)
    }
}
