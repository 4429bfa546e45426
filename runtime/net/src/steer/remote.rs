use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use basalt_env::{Instant, Work};
use basalt_reactor::{Doze, Rest};

use super::flows::{Flows, Side, Sighting};
use super::loans::Borrower;
use super::rings::{
    Assembled, Assembler, CHUNK_LEN, Chunk, FromSwitch, LaneFrame, Receiver, Sender, ToSwitch,
    Written,
};
use crate::port::{
    ChecksumState, Fill, Frame, FramePort, Insert, IpVersion, Listening, TxFull, frame_len,
};
use crate::wire::{ETHERNET_LEN, Segment};

/// Flows that a lane with queues of its own knows at once; twice the connections of a stack.
const FLOWS_MAX: usize = 2048;
/// Frames of others that are passed on before the rest of the core gets its turn.
const BUDGET: u32 = 64;

/// A core's end of the rings to the card's core, whose frames are of type `F`. Made by
/// [`crate::Switch::new`], sent there once.
pub struct RemoteEnd<F> {
    mac: [u8; 6],
    mtu: usize,
    /// Largest packets over IPv4 and IPv6 that the card cuts.
    large: [usize; 2],
    completes_checksums: bool,
    inbound: Receiver<FromSwitch<F>>,
    borrowed: Borrower<F>,
    outbound: Sender<ToSwitch>,
    assembler: Assembler,
    /// Where frames of several buffers are written.
    scratch: Vec<u8>,
    /// Announcements that found the ring full.
    unannounced: Vec<(u16, Listening)>,
    /// Whether anything was sent since the card's core was last woken.
    sent: bool,
}

/// The port of a core that does not have the card, but may have a pair of its queues.
pub struct RemotePort<P: FramePort> {
    end: RemoteEnd<P::Frame>,
    own: Option<OwnQueues<P>>,
}

/// A pair of queues of a core's own.
struct OwnQueues<P> {
    card: P,
    /// Those that are this lane's.
    flows: Flows,
    /// Whether the next frame is one of theirs, if there is any: they and the rings take turns.
    is_next: bool,
    strays: Strays,
}

/// What came by a queue whose core did not know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Strays {
    /// Frames that were given to the switch.
    pub passed_on: u64,
    /// Frames that found no room on the way there.
    pub dropped: u64,
}

impl<F: Frame> RemoteEnd<F> {
    pub(super) fn new(
        card: &impl FramePort<Frame = F>,
        (inbound, borrowed): (Receiver<FromSwitch<F>>, Borrower<F>),
        outbound: Sender<ToSwitch>,
        assembler: Assembler,
    ) -> Self {
        let mtu = card.mtu();
        let large = [IpVersion::V4, IpVersion::V6].map(|version| card.large_send_max(version));
        let frame_max = mtu.max(large[0]).max(large[1]) + ETHERNET_LEN;
        Self {
            mac: card.mac(),
            mtu,
            large,
            completes_checksums: card.completes_checksums(),
            inbound,
            borrowed,
            outbound,
            assembler,
            scratch: vec![0; frame_max],
            unannounced: Vec::new(),
            sent: false,
        }
    }

    fn announce_late(&mut self) {
        while let Some(&(port, listening)) = self.unannounced.first() {
            if !self.outbound.send(ToSwitch::Announce(port, listening)) {
                break;
            }
            self.unannounced.remove(0);
            self.sent = true;
        }
    }

    fn receive(&mut self) -> Option<LaneFrame<F>> {
        loop {
            // Ends: each turn takes a piece, and there are only so many buffers.
            let chunk = match self.inbound.receive()? {
                FromSwitch::Chunk(chunk) => chunk,
                FromSwitch::Lent(frame) => {
                    self.borrowed.borrow();
                    return Some(LaneFrame::Lent(frame));
                }
            };
            self.inbound.borrow();
            let (frame, buffer) = self.assembler.add(chunk);
            if let Some(buffer) = buffer {
                self.inbound.give_back(buffer);
            }
            if let Some(frame) = frame {
                return Some(LaneFrame::Crossed(frame, 0));
            }
        }
    }

    fn can_transmit(&mut self, frames: usize) -> bool {
        self.outbound.has_room(self.scratch.len(), frames)
    }

    fn transmit(&mut self, len: usize, fill: Fill<'_>) -> Result<(), TxFull> {
        if len > self.scratch.len() || !self.outbound.has_room(len, 1) {
            return Err(TxFull);
        }
        if len <= CHUNK_LEN {
            return self.send_one(len, fill);
        }
        self.sent = true;
        let frame = &mut self.scratch[..len];
        let partial = fill(frame);
        if self.outbound.send_frame(&Written(frame), partial, ToSwitch::Chunk) {
            Ok(())
        } else {
            Err(TxFull)
        }
    }

    fn send_one(&mut self, len: usize, fill: Fill<'_>) -> Result<(), TxFull> {
        let mut buffer = self.outbound.buffer().ok_or(TxFull)?;
        let partial = fill(&mut buffer[..len]);
        let checksum = ChecksumState::Unverified;
        let chunk = Chunk { buffer, len: len as u16, last: true, checksum, partial };
        self.sent = true;
        if self.outbound.send(ToSwitch::Chunk(chunk)) { Ok(()) } else { Err(TxFull) }
    }

    /// Tells the switch of a flow; whether there was room.
    fn tell(&mut self, seen: Sighting) -> bool {
        let told = self.outbound.send(ToSwitch::Seen(seen));
        self.sent |= told;
        told
    }

    /// Gives a frame to the switch; whether there was room.
    fn pass_on(&mut self, frame: &impl Frame) -> bool {
        let passed = self.outbound.send_frame(frame, None, ToSwitch::Received);
        self.sent |= passed;
        passed
    }
}

impl<P: FramePort> OwnQueues<P> {
    /// The next frame that is this core's; gives others to the switch.
    fn receive(&mut self, end: &mut RemoteEnd<P::Frame>) -> Option<P::Frame> {
        for _ in 0..BUDGET {
            let frame = self.card.receive()?;
            if self.knows(&frame, end) {
                return Some(frame);
            }
            let passed = end.pass_on(&frame);
            let Strays { passed_on, dropped } = &mut self.strays;
            *(if passed { passed_on } else { dropped }) += 1;
            self.card.recycle(frame);
        }
        None
    }

    /// Whether a frame is of a flow of this lane. A request for a connection never is: the switch
    /// may give it to another.
    fn knows(&mut self, frame: &P::Frame, end: &mut RemoteEnd<P::Frame>) -> bool {
        let Some(segment) = Segment::of_frame(frame) else { return false };
        !segment.opens() && self.flows.follow(&segment, Side::Peer, &mut |seen| end.tell(seen))
    }

    /// Learns of a flow from a frame that the switch has found to be this lane's.
    fn learn(&mut self, frame: &impl Frame) {
        let Some(segment) = Segment::of_frame(frame) else { return };
        if self.flows.lane_of(&segment, Side::Peer).is_none() {
            let _ = self.flows.insert(&segment, Side::Peer, 0);
        }
    }

    fn transmit(
        &mut self,
        end: &mut RemoteEnd<P::Frame>,
        len: usize,
        inserts: &mut Vec<Insert>,
        fill: Fill<'_>,
    ) -> Result<(), TxFull> {
        let Self { card, flows, .. } = self;
        let whole = frame_len(len, inserts);
        card.transmit_with(len, inserts, &mut |frame| {
            let partial = fill(frame);
            if let Some(segment) = Segment::parse_head(frame, whole) {
                follow(flows, &segment, end);
            }
            partial
        })
    }
}

/// Follows a segment that is sent. A flow that it begins is this lane's once the switch knows.
fn follow<F: Frame>(flows: &mut Flows, segment: &Segment, end: &mut RemoteEnd<F>) {
    let known = flows.follow(segment, Side::Ours, &mut |seen| end.tell(seen));
    if !known && segment.opens() && end.tell(Sighting::of(segment, Side::Ours)) {
        let _ = flows.insert(segment, Side::Ours, 0);
    }
}

impl<P: FramePort> RemotePort<P> {
    /// A port at that end of the rings, with queues of its own or without. `seed` hides where flows
    /// hash to.
    pub fn new(mut end: RemoteEnd<P::Frame>, queues: Option<P>, seed: u64) -> Self {
        if queues.is_some() {
            // The first that the ring carries: there is room.
            end.sent |= end.outbound.send(ToSwitch::HasQueues);
        }
        let own = queues.map(|card| OwnQueues {
            card,
            flows: Flows::of_lane(FLOWS_MAX, seed),
            is_next: false,
            strays: Strays::default(),
        });
        Self { end, own }
    }

    /// Whether anything was sent since the last time: the card's core is to be woken for it.
    pub fn take_sent(&mut self) -> bool {
        core::mem::take(&mut self.end.sent)
    }

    /// Its own queues, if it has some, and what came by them astray.
    pub(crate) fn queues(&self) -> Option<(&P, Strays)> {
        self.own.as_ref().map(|own| (&own.card, own.strays))
    }

    fn receive_own(&mut self) -> Option<LaneFrame<P::Frame>> {
        self.own.as_mut()?.receive(&mut self.end).map(LaneFrame::Card)
    }

    fn receive_crossed(&mut self) -> Option<LaneFrame<P::Frame>> {
        let frame = self.end.receive()?;
        if let Some(own) = &mut self.own {
            own.learn(&frame);
        }
        Some(frame)
    }
}

impl<P: FramePort> FramePort for RemotePort<P> {
    type Frame = LaneFrame<P::Frame>;

    fn mac(&self) -> [u8; 6] {
        self.end.mac
    }

    fn mtu(&self) -> usize {
        self.end.mtu
    }

    fn large_send_max(&self, version: IpVersion) -> usize {
        self.end.large[version as usize]
    }

    fn completes_checksums(&self) -> bool {
        self.end.completes_checksums
    }

    fn poll(&mut self, now: Instant) -> Work {
        self.end.announce_late();
        let Some(own) = &mut self.own else { return Work::IDLE };
        own.flows.age(now);
        own.card.poll(now)
    }

    fn receive(&mut self) -> Option<Self::Frame> {
        let own_first = self.own.as_mut().is_some_and(|own| {
            own.is_next = !own.is_next;
            own.is_next
        });
        if own_first {
            return self.receive_own().or_else(|| self.receive_crossed());
        }
        self.receive_crossed().or_else(|| self.receive_own())
    }

    fn recycle(&mut self, frame: Self::Frame) {
        match (frame, &mut self.own) {
            (LaneFrame::Crossed(Assembled::One(chunk), _), _) => {
                self.end.inbound.give_back(chunk.buffer);
            }
            (LaneFrame::Crossed(Assembled::Many(bytes, ..), _), _) => {
                self.end.assembler.recycle(bytes);
            }
            (LaneFrame::Lent(frame), _) => self.end.borrowed.give_back(frame),
            (LaneFrame::Card(frame), Some(own)) => own.card.recycle(frame),
            // A frame goes back where it came from.
            (LaneFrame::Card(frame), None) => drop(frame),
        }
    }

    fn can_spare(&self, frame: &Self::Frame) -> bool {
        match (frame, &self.own) {
            (LaneFrame::Card(frame), Some(own)) => own.card.can_spare(frame),
            (LaneFrame::Lent(_), _) => self.end.borrowed.can_spare(),
            (LaneFrame::Crossed(Assembled::One(_), _), _) => self.end.inbound.can_spare(),
            // The memory that pieces are put together in is there once.
            _ => false,
        }
    }

    /// What goes by the card's core is copied to it.
    fn inserts_max(&self) -> usize {
        self.own.as_ref().map_or(0, |own| own.card.inserts_max())
    }

    fn can_transmit(&mut self, frames: usize) -> bool {
        match &mut self.own {
            Some(own) => own.card.can_transmit(frames),
            None => self.end.can_transmit(frames),
        }
    }

    fn transmit_with(
        &mut self,
        len: usize,
        inserts: &mut Vec<Insert>,
        fill: Fill<'_>,
    ) -> Result<(), TxFull> {
        match &mut self.own {
            Some(own) => own.transmit(&mut self.end, len, inserts, fill),
            None => self.end.transmit(len, fill),
        }
    }

    /// Frames are with the card's core as soon as they are in the ring.
    fn commit(&mut self) {
        if let Some(own) = &mut self.own {
            own.card.commit();
        }
    }

    /// Frames are told of by the card's core, and by queues of its own if they can; what waits for
    /// room is not.
    fn doze(&mut self, rest: Rest) -> Doze {
        let own = self.own.as_mut().map_or(Doze::Signalled, |own| own.card.doze(rest));
        if self.end.unannounced.is_empty() { own } else { Doze::Polled }
    }

    fn announce(&mut self, port: u16, listening: Listening) {
        let end = &mut self.end;
        // In order: behind one that waits, all wait.
        let sent =
            end.unannounced.is_empty() && end.outbound.send(ToSwitch::Announce(port, listening));
        end.sent |= sent;
        if !sent {
            end.unannounced.push((port, listening));
        }
    }
}

impl<F> fmt::Debug for RemoteEnd<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteEnd").field("mtu", &self.mtu).finish_non_exhaustive()
    }
}

impl<P: FramePort> fmt::Debug for RemotePort<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.end.fmt(f)
    }
}
