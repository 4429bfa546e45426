use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use basalt_env::{Instant, Work};
use basalt_reactor::{Doze, Rest};

use super::rings::{Assembled, Assembler, CHUNK_LEN, Chunk, Receiver, Sender, ToSwitch};
use crate::port::{ChecksumState, Frame, FramePort, IpVersion, Listening, PartialChecksum, TxFull};
use crate::wire::ETHERNET_LEN;

/// The port of a core that does not have the card. Made by [`crate::Switch::new`], sent there once.
pub struct RemotePort {
    mac: [u8; 6],
    mtu: usize,
    /// Largest packets over IPv4 and IPv6 that the card cuts.
    large: [usize; 2],
    completes_checksums: bool,
    inbound: Receiver<Chunk>,
    outbound: Sender<ToSwitch>,
    assembler: Assembler,
    /// Where frames of several buffers are written.
    scratch: Vec<u8>,
    /// Announcements that found the ring full.
    unannounced: Vec<(u16, Listening)>,
    /// Whether anything was sent since the card's core was last woken.
    sent: bool,
}

/// A frame from the card's core.
pub struct RemoteFrame(Assembled);

impl Frame for RemoteFrame {
    fn as_slice(&self) -> &[u8] {
        self.0.as_slice()
    }

    fn checksum(&self) -> ChecksumState {
        self.0.checksum()
    }
}

impl RemotePort {
    pub(super) fn new(
        card: &impl FramePort,
        inbound: Receiver<Chunk>,
        outbound: Sender<ToSwitch>,
        assembler: Assembler,
    ) -> Self {
        let mtu = card.mtu();
        let large = [IpVersion::V4, IpVersion::V6].map(|version| card.large_send_max(version));
        let frame_max = large[0].max(large[1]) + ETHERNET_LEN;
        Self {
            mac: card.mac(),
            mtu,
            large,
            completes_checksums: card.completes_checksums(),
            inbound,
            outbound,
            assembler,
            scratch: vec![0; frame_max],
            unannounced: Vec::new(),
            sent: false,
        }
    }

    /// Whether anything was sent since the last time: the card's core is to be woken for it.
    pub fn take_sent(&mut self) -> bool {
        core::mem::take(&mut self.sent)
    }

    fn send_one(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Option<PartialChecksum>,
    ) -> Result<(), TxFull> {
        let mut buffer = self.outbound.buffer().ok_or(TxFull)?;
        let partial = fill(&mut buffer[..len]);
        let checksum = ChecksumState::Unverified;
        let chunk = Chunk { buffer, len: len as u16, last: true, checksum, partial };
        self.sent = true;
        if self.outbound.send(ToSwitch::Chunk(chunk)) { Ok(()) } else { Err(TxFull) }
    }
}

impl FramePort for RemotePort {
    type Frame = RemoteFrame;

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn mtu(&self) -> usize {
        self.mtu
    }

    fn large_send_max(&self, version: IpVersion) -> usize {
        self.large[version as usize]
    }

    fn completes_checksums(&self) -> bool {
        self.completes_checksums
    }

    fn poll(&mut self, _now: Instant) -> Work {
        while let Some(&(port, listening)) = self.unannounced.first() {
            if !self.outbound.send(ToSwitch::Announce(port, listening)) {
                break;
            }
            self.unannounced.remove(0);
            self.sent = true;
        }
        Work::IDLE
    }

    fn receive(&mut self) -> Option<RemoteFrame> {
        loop {
            // Ends: each turn takes a piece, and there are only so many buffers.
            let (frame, buffer) = self.assembler.add(self.inbound.receive()?);
            if let Some(buffer) = buffer {
                self.inbound.give_back(buffer);
            }
            if let Some(frame) = frame {
                return Some(RemoteFrame(frame));
            }
        }
    }

    fn recycle(&mut self, frame: RemoteFrame) {
        match frame.0 {
            Assembled::One(chunk) => self.inbound.give_back(chunk.buffer),
            Assembled::Many(bytes, ..) => self.assembler.recycle(bytes),
        }
    }

    fn can_transmit(&mut self) -> bool {
        self.outbound.has_room(self.scratch.len())
    }

    fn transmit(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Option<PartialChecksum>,
    ) -> Result<(), TxFull> {
        if len > self.scratch.len() || !self.outbound.has_room(len) {
            return Err(TxFull);
        }
        if len <= CHUNK_LEN {
            return self.send_one(len, fill);
        }
        self.sent = true;
        let frame = &mut self.scratch[..len];
        let partial = fill(frame);
        let checksum = ChecksumState::Unverified;
        if self.outbound.send_frame(frame, checksum, partial, ToSwitch::Chunk) {
            Ok(())
        } else {
            Err(TxFull)
        }
    }

    /// Frames are with the card's core as soon as they are in the ring.
    fn commit(&mut self) {}

    /// Frames are told of by the card's core; only what waits for room is not.
    fn doze(&mut self, _: Rest) -> Doze {
        if self.unannounced.is_empty() { Doze::Signalled } else { Doze::Polled }
    }

    fn announce(&mut self, port: u16, listening: Listening) {
        // In order: behind one that waits, all wait.
        let sent =
            self.unannounced.is_empty() && self.outbound.send(ToSwitch::Announce(port, listening));
        self.sent |= sent;
        if !sent {
            self.unannounced.push((port, listening));
        }
    }
}

impl fmt::Debug for RemotePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemotePort").field("mtu", &self.mtu).finish_non_exhaustive()
    }
}
