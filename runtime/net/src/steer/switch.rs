use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use basalt_env::{Instant, Work};

use super::flows::{Flows, Side, Sighting};
use super::loans::{self, LEND_MIN, Lender};
use super::remote::RemoteEnd;
use super::rings::{self, Assembled, Assembler, FromSwitch, LaneFrame, Receiver, Sender, ToSwitch};
use crate::port::{Fill, Frame, FramePort, Insert, Listening, TxFull, frame_len};
use crate::wire::{self, Segment};

/// Flows remembered at once.
const FLOWS_MAX: usize = 8192;
/// Frames sent for each other core per round, and received for others before our own gets one.
const BUDGET: u32 = 64;
/// Frames of other cores' queues that wait for it to be known whose they are.
const WAITING_MAX: usize = 64;
/// The largest frame that crosses cores: an IPv6 packet of 64 KiB, which does not count its header.
const FRAME_MAX: usize = 65_535 + 40 + wire::ETHERNET_LEN;
/// Most lanes; the card's core included.
const LANES_MAX: usize = 256;

/// What a switch has counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SwitchStats {
    /// Frames given to other cores.
    pub to_lanes: u64,
    /// Of those, the ones that were not copied.
    pub lent: u64,
    /// Frames sent for other cores.
    pub from_lanes: u64,
    /// Frames that came by other cores' queues and were not known there.
    pub strays: u64,
    /// Frames that found the way to their core, or a flow that found the table, full.
    pub dropped: u64,
    /// Frames of other cores that found no room at the card.
    pub tx_dropped: u64,
}

/// The card's core's end of another core's rings.
struct Lane<F> {
    sender: Sender<FromSwitch<F>>,
    lender: Lender<F>,
    receiver: Receiver<ToSwitch>,
    assembler: Assembler,
}

/// Distributes a card's frames over cores, and sends theirs.
pub struct Switch<P: FramePort> {
    card: P,
    lanes: Vec<Lane<P::Frame>>,
    flows: Flows,
    /// Who listens on which port: pairs of port and lane.
    listening: Vec<(u16, u8)>,
    /// Where the search for a lane starts: by lot, as a host whose connections come in pairs (an
    /// admin and an I/O queue) would have all of one kind on one lane if ties took turns.
    lot: u32,
    /// Whether other cores have queues of their own.
    several_queues: bool,
    /// What came by those, and the lane.
    waiting: VecDeque<(Assembled, u8)>,
    /// Whether the next frame is one of those, if there is any: they and the card's take turns.
    waiting_next: bool,
    stats: SwitchStats,
    /// Lanes that were given frames since their cores were last woken, in order.
    given: Vec<bool>,
    /// Whether any was.
    any_given: bool,
}

/// Whose a received frame is.
enum Owner {
    Lane(u8),
    /// Of a flow that is not known, and does not begin with it.
    Unknown,
    /// Every lane's.
    All,
    Nobody,
}

impl<P: FramePort> Switch<P> {
    /// A switch for `card`, with ports for `remotes` other cores. `seed` hides where flows hash to.
    pub fn new(card: P, remotes: usize, seed: u64) -> (Self, Vec<RemoteEnd<P::Frame>>) {
        let remotes = remotes.min(LANES_MAX - 1);
        let mut lanes = Vec::new();
        let mut ports = Vec::new();
        for _ in 0..remotes {
            let (sender, inbound) = rings::channel();
            let (outbound, receiver) = rings::channel();
            let (lender, borrower) = loans::loans();
            let assembler = Assembler::new(FRAME_MAX);
            lanes.push(Lane { sender, lender, receiver, assembler });
            let assembler = Assembler::new(FRAME_MAX);
            ports.push(RemoteEnd::new(&card, (inbound, borrower), outbound, assembler));
        }
        let flows = Flows::new(FLOWS_MAX, remotes + 1, seed);
        let (stats, given) = (SwitchStats::default(), vec![false; remotes]);
        (
            Self {
                card,
                lanes,
                flows,
                listening: Vec::new(),
                lot: (seed >> 32) as u32 | 1,
                several_queues: false,
                waiting: VecDeque::with_capacity(WAITING_MAX),
                waiting_next: false,
                stats,
                given,
                any_given: false,
            },
            ports,
        )
    }

    /// What it has counted.
    pub fn stats(&self) -> SwitchStats {
        self.stats
    }

    /// How many flows each lane has, lane 0 first.
    pub fn flow_counts(&self) -> &[u32] {
        self.flows.counts()
    }

    /// The card.
    pub fn card(&self) -> &P {
        &self.card
    }

    /// The card, to use it directly.
    pub(crate) fn card_mut(&mut self) -> &mut P {
        &mut self.card
    }

    /// Hands each port that was given frames since the last time (0 for the first of
    /// [`Self::new`]) to `wake`: its core may rest.
    pub(crate) fn wake_receivers(&mut self, mut wake: impl FnMut(usize)) {
        if !core::mem::take(&mut self.any_given) {
            return;
        }
        for (port, given) in self.given.iter_mut().enumerate() {
            if core::mem::take(given) {
                wake(port);
            }
        }
    }

    /// Sends what other cores have to send; once per round. Ends with a commit.
    pub fn poll(&mut self, now: Instant) -> Work {
        self.flows.age(now);
        let mut work = self.card.poll(now);
        for lane in 0..self.lanes.len() {
            self.take_back(lane);
            work += self.serve(lane);
        }
        self.card.commit();
        work
    }

    /// Gives frames that another core has read back to the card.
    fn take_back(&mut self, at: usize) {
        let Self { lanes, card, .. } = self;
        while let Some(frame) = lanes[at].lender.take_back() {
            card.recycle(frame);
        }
    }

    /// The next frame for lane 0; hands out those of others on the way.
    pub(super) fn receive(&mut self) -> Option<LaneFrame<P::Frame>> {
        if self.lanes.is_empty() {
            return self.card.receive().map(LaneFrame::Card);
        }
        for _ in 0..BUDGET {
            let frame = self.next_frame()?;
            match self.settled_owner(&frame) {
                Owner::Lane(0) | Owner::Unknown => return Some(frame),
                Owner::Lane(lane) => {
                    self.hand_over(lane, frame);
                    continue;
                }
                Owner::Nobody => self.stats.dropped += 1,
                Owner::All => {
                    (1..=self.lanes.len()).for_each(|lane| self.hand_to(lane as u8, &frame));
                    return Some(frame);
                }
            }
            self.recycle(frame);
        }
        None
    }

    /// The next frame of anybody, from the card or from another core's queue.
    fn next_frame(&mut self) -> Option<LaneFrame<P::Frame>> {
        let waiting_next = self.waiting_next;
        self.waiting_next = !waiting_next;
        let from_card = (!waiting_next || self.waiting.is_empty()).then(|| self.card.receive());
        if let Some(frame) = from_card.flatten() {
            return Some(LaneFrame::Card(frame));
        }
        let waited = self.waiting.pop_front();
        waited.map(|(frame, lane)| LaneFrame::Crossed(frame, lane))
    }

    /// Takes back a frame.
    pub(super) fn recycle(&mut self, frame: LaneFrame<P::Frame>) {
        match frame {
            LaneFrame::Card(frame) | LaneFrame::Lent(frame) => self.card.recycle(frame),
            LaneFrame::Crossed(frame, lane) => self.give_back(frame, lane),
        }
    }

    fn give_back(&mut self, frame: Assembled, lane: u8) {
        let Some(lane) = self.lanes.get_mut(usize::from(lane) - 1) else { return };
        match frame {
            Assembled::One(chunk) => lane.receiver.give_back(chunk.buffer),
            Assembled::Many(bytes, ..) => lane.assembler.recycle(bytes),
        }
    }

    /// Sends a frame of lane 0.
    pub(super) fn transmit(
        &mut self,
        len: usize,
        inserts: &mut Vec<Insert>,
        fill: Fill<'_>,
    ) -> Result<(), TxFull> {
        let Self { card, flows, lanes, .. } = self;
        let whole = frame_len(len, inserts);
        card.transmit_with(len, inserts, &mut |frame| {
            let partial = fill(frame);
            if !lanes.is_empty() {
                follow(flows, Segment::parse_head(frame, whole), 0);
            }
            partial
        })
    }

    /// Notes who listens where.
    pub(super) fn announce(&mut self, lane: u8, port: u16, listening: Listening) {
        let entry = (port, lane);
        self.listening.retain(|known| *known != entry);
        if listening == Listening::Started {
            self.listening.push(entry);
        }
    }

    /// Whose a frame is, once all that other cores have told is known.
    fn settled_owner(&mut self, frame: &LaneFrame<P::Frame>) -> Owner {
        let arrival = match frame {
            LaneFrame::Card(_) | LaneFrame::Lent(_) => 0,
            LaneFrame::Crossed(_, lane) => *lane,
        };
        match self.owner(frame, arrival) {
            // It may answer what another core asked by its own queue since we last looked.
            Owner::Unknown if self.several_queues => {
                for lane in 0..self.lanes.len() {
                    let _ = self.serve(lane);
                }
                self.owner(frame, arrival)
            }
            owner => owner,
        }
    }

    fn owner(&mut self, frame: &impl Frame, arrival: u8) -> Owner {
        if wire::answers_all(frame.head()) {
            return Owner::All;
        }
        let Some(segment) = Segment::of_frame(frame) else { return Owner::Lane(0) };
        if let Some(lane) = self.flows.lane_of(&segment, Side::Peer) {
            return Owner::Lane(lane);
        }
        // Without a flow and without a listener, our own stack says so to the peer.
        if !segment.opens() {
            return Owner::Unknown;
        }
        let Some(lane) = self.choose(segment.destination_port, arrival) else {
            return Owner::Lane(0);
        };
        if self.flows.insert(&segment, Side::Peer, lane) {
            Owner::Lane(lane)
        } else {
            Owner::Nobody
        }
    }

    /// Of the lanes that listen on `port`, the one with the fewest flows. Ties go by lot, unless
    /// there are several queues: then they go where the flow has arrived, which it may do for ever.
    fn choose(&mut self, port: u16, arrival: u8) -> Option<u8> {
        let lanes = self.lanes.len() + 1;
        let first = if self.several_queues { arrival.into() } else { self.draw() };
        let listening = &self.listening;
        let counts = self.flows.counts();
        let chosen = (0..lanes)
            .map(|step| (first + step) % lanes)
            .filter(|&lane| listening.contains(&(port, lane as u8)))
            .min_by_key(|&lane| counts[lane])?;
        Some(chosen as u8)
    }

    /// The next lot (Marsaglia's xorshift).
    fn draw(&mut self) -> usize {
        self.lot ^= self.lot << 13;
        self.lot ^= self.lot >> 17;
        self.lot ^= self.lot << 5;
        (self.lot >> 16) as usize
    }

    /// Gives a frame to another core: as it is if the card can spare it, else a copy.
    fn hand_over(&mut self, lane: u8, frame: LaneFrame<P::Frame>) {
        let frame = match frame {
            LaneFrame::Card(frame) if frame.len() >= LEND_MIN && self.card.can_spare(&frame) => {
                match self.lend_to(lane, frame) {
                    Ok(()) => return,
                    Err(frame) => LaneFrame::Card(frame),
                }
            }
            frame => frame,
        };
        self.hand_to(lane, &frame);
        self.recycle(frame);
    }

    fn lend_to(&mut self, lane: u8, frame: P::Frame) -> Result<(), P::Frame> {
        let Some(at) = usize::from(lane).checked_sub(1) else { return Err(frame) };
        let Some(lane) = self.lanes.get_mut(at) else { return Err(frame) };
        if !lane.lender.has_room() || !lane.sender.takes_message() {
            return Err(frame);
        }
        lane.lender.lend();
        let sent = lane.sender.send(FromSwitch::Lent(frame));
        self.stats.lent += 1;
        self.has_given(at, sent);
        Ok(())
    }

    fn hand_to(&mut self, lane: u8, frame: &LaneFrame<P::Frame>) {
        let Some(at) = usize::from(lane).checked_sub(1) else { return };
        let Some(lane) = self.lanes.get_mut(at) else { return };
        let sent = lane.sender.send_frame(frame, None, FromSwitch::Chunk);
        self.has_given(at, sent);
    }

    /// Counts a frame for a core, which is to be woken for it.
    fn has_given(&mut self, at: usize, sent: bool) {
        self.given[at] = true;
        self.any_given = true;
        let counter = if sent { &mut self.stats.to_lanes } else { &mut self.stats.dropped };
        *counter += 1;
    }

    /// Does what one other core has to be done until that is all, or the card has no room.
    fn serve(&mut self, at: usize) -> Work {
        let mut work = Work::IDLE;
        while work.0 < BUDGET && self.card.can_transmit(1) {
            let Some(outbound) = self.next_outbound(at) else { break };
            work += Work(1);
            match outbound {
                Outbound::Frame(frame) => self.send_for(at, frame),
                Outbound::Stray(frame) => {
                    self.stats.strays += 1;
                    self.waiting.push_back((frame, at as u8 + 1));
                }
            }
        }
        work
    }

    fn send_for(&mut self, at: usize, frame: Assembled) {
        let bytes = frame.as_slice();
        let sent = self.card.transmit(bytes.len(), |out| {
            out.copy_from_slice(bytes);
            frame.partial()
        });
        follow(&mut self.flows, Segment::parse(bytes), at as u8 + 1);
        let counter =
            if sent.is_ok() { &mut self.stats.from_lanes } else { &mut self.stats.tx_dropped };
        *counter += 1;
        self.give_back(frame, at as u8 + 1);
    }

    /// The next frame of another core; follows what it tells on the way.
    fn next_outbound(&mut self, at: usize) -> Option<Outbound> {
        for _ in 0..BUDGET {
            let lane = &mut self.lanes[at];
            if self.waiting.len() >= WAITING_MAX || lane.assembler.is_lent() {
                return None;
            }
            let (chunk, wrap): (_, fn(Assembled) -> Outbound) = match lane.receiver.receive()? {
                ToSwitch::Chunk(chunk) => (chunk, Outbound::Frame),
                ToSwitch::Received(chunk) => (chunk, Outbound::Stray),
                ToSwitch::Announce(port, listening) => {
                    self.announce(at as u8 + 1, port, listening);
                    continue;
                }
                ToSwitch::HasQueues => {
                    self.several_queues = true;
                    continue;
                }
                ToSwitch::Seen(seen) => {
                    self.note(&seen, at as u8 + 1);
                    continue;
                }
            };
            let (frame, buffer) = lane.assembler.add(chunk);
            if let Some(buffer) = buffer {
                lane.receiver.give_back(buffer);
            }
            if let Some(frame) = frame {
                return Some(wrap(frame));
            }
        }
        None
    }

    /// Another core's queues have carried that.
    fn note(&mut self, seen: &Sighting, lane: u8) {
        if self.flows.see(seen).is_none() && seen.asks() {
            let _ = self.flows.add(seen, lane);
        }
    }
}

/// What another core has for the switch.
enum Outbound {
    /// To be sent.
    Frame(Assembled),
    /// Received there, and not known.
    Stray(Assembled),
}

/// Follows a segment that `lane` sends: it may end its flow, or begin one of its own.
fn follow(flows: &mut Flows, segment: Option<Segment>, lane: u8) {
    let Some(segment) = segment else { return };
    if flows.lane_of(&segment, Side::Ours).is_none() && segment.opens() {
        let _ = flows.insert(&segment, Side::Ours, lane);
    }
}
