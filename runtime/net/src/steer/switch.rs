use alloc::vec;
use alloc::vec::Vec;

use basalt_env::{Instant, Work};

use super::flows::{Flows, Side};
use super::remote::RemotePort;
use super::rings::{self, Assembled, Assembler, Chunk, Receiver, Sender, ToSwitch};
use crate::port::{Frame, FramePort, Listening, PartialChecksum, TxFull};
use crate::wire::{self, Segment};

/// Flows remembered at once.
const FLOWS_MAX: usize = 8192;
/// Frames sent for each other core per round, and received for others before our own gets one.
const BUDGET: u32 = 64;
/// The largest frame that crosses cores: an IPv6 packet of 64 KiB, which does not count its header.
const FRAME_MAX: usize = 65_535 + 40 + wire::ETHERNET_LEN;
/// Most lanes; the card's core included.
const LANES_MAX: usize = 256;

/// What a switch has counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SwitchStats {
    /// Frames given to other cores.
    pub to_lanes: u64,
    /// Frames sent for other cores.
    pub from_lanes: u64,
    /// Frames that found the way to their core, or a flow that found the table, full.
    pub dropped: u64,
}

/// The card's core's end of another core's rings.
struct Lane {
    sender: Sender<Chunk>,
    receiver: Receiver<ToSwitch>,
    assembler: Assembler,
}

/// Distributes a card's frames over cores, and sends theirs.
pub struct Switch<P: FramePort> {
    card: P,
    lanes: Vec<Lane>,
    flows: Flows,
    /// Who listens on which port: pairs of port and lane.
    listening: Vec<(u16, u8)>,
    /// Where the search for a lane starts, so that ties go round.
    turn: u8,
    stats: SwitchStats,
    /// Lanes that were given frames since their cores were last woken, in order.
    given: Vec<bool>,
    /// Whether any was.
    any_given: bool,
}

/// Whose a received frame is.
enum Owner {
    Lane(u8),
    /// Every lane's.
    All,
    Nobody,
}

impl<P: FramePort> Switch<P> {
    /// A switch for `card`, with ports for `remotes` other cores. `seed` hides where flows hash to.
    pub fn new(card: P, remotes: usize, seed: u64) -> (Self, Vec<RemotePort>) {
        let remotes = remotes.min(LANES_MAX - 1);
        let mut lanes = Vec::new();
        let mut ports = Vec::new();
        for _ in 0..remotes {
            let (sender, inbound) = rings::channel();
            let (outbound, receiver) = rings::channel();
            let assembler = Assembler::new(FRAME_MAX);
            lanes.push(Lane { sender, receiver, assembler });
            let assembler = Assembler::new(FRAME_MAX);
            ports.push(RemotePort::new(&card, inbound, outbound, assembler));
        }
        let flows = Flows::new(FLOWS_MAX, remotes + 1, seed);
        let (stats, given) = (SwitchStats::default(), vec![false; remotes]);
        (
            Self {
                card,
                lanes,
                flows,
                listening: Vec::new(),
                turn: 0,
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
            work += self.serve(lane);
        }
        self.card.commit();
        work
    }

    /// The next frame for lane 0; hands out those of others on the way.
    pub(super) fn receive(&mut self) -> Option<P::Frame> {
        if self.lanes.is_empty() {
            return self.card.receive();
        }
        for _ in 0..BUDGET {
            let frame = self.card.receive()?;
            match self.owner(frame.as_slice()) {
                Owner::Lane(0) => return Some(frame),
                Owner::Lane(lane) => self.hand_to(lane, &frame),
                Owner::Nobody => self.stats.dropped += 1,
                Owner::All => {
                    (1..=self.lanes.len()).for_each(|lane| self.hand_to(lane as u8, &frame));
                    return Some(frame);
                }
            }
            self.card.recycle(frame);
        }
        None
    }

    /// Sends a frame of lane 0.
    pub(super) fn transmit(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Option<PartialChecksum>,
    ) -> Result<(), TxFull> {
        let Self { card, flows, lanes, .. } = self;
        card.transmit(len, |frame| {
            let partial = fill(frame);
            if !lanes.is_empty() {
                follow(flows, frame, 0);
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

    fn owner(&mut self, frame: &[u8]) -> Owner {
        if wire::answers_all(frame) {
            return Owner::All;
        }
        let Some(segment) = Segment::parse(frame) else { return Owner::Lane(0) };
        if let Some(lane) = self.flows.lane_of(&segment, Side::Peer) {
            return Owner::Lane(lane);
        }
        // Without a flow and without a listener, our own stack says so to the peer.
        if !segment.opens() {
            return Owner::Lane(0);
        }
        let Some(lane) = self.choose(segment.destination_port) else { return Owner::Lane(0) };
        if self.flows.insert(&segment, Side::Peer, lane) {
            Owner::Lane(lane)
        } else {
            Owner::Nobody
        }
    }

    /// Of the lanes that listen on `port`, the one with the fewest flows; ties take turns.
    fn choose(&mut self, port: u16) -> Option<u8> {
        let lanes = self.lanes.len() + 1;
        let turn = usize::from(self.turn);
        let listening = &self.listening;
        let counts = self.flows.counts();
        let chosen = (0..lanes)
            .map(|step| (turn + step) % lanes)
            .filter(|&lane| listening.contains(&(port, lane as u8)))
            .min_by_key(|&lane| counts[lane])?;
        self.turn = ((chosen + 1) % lanes) as u8;
        Some(chosen as u8)
    }

    fn hand_to(&mut self, lane: u8, frame: &P::Frame) {
        let Some(at) = usize::from(lane).checked_sub(1) else { return };
        let Some(lane) = self.lanes.get_mut(at) else { return };
        self.given[at] = true;
        self.any_given = true;
        let sent = lane.sender.send_frame(frame.as_slice(), frame.checksum(), None, |chunk| chunk);
        let counter = if sent { &mut self.stats.to_lanes } else { &mut self.stats.dropped };
        *counter += 1;
    }

    /// Sends for one other core until it has nothing more, or the card no room.
    fn serve(&mut self, at: usize) -> Work {
        let mut work = Work::IDLE;
        while work.0 < BUDGET && self.card.can_transmit() {
            let Some(frame) = self.next_outbound(at) else { break };
            let bytes = frame.as_slice();
            let sent = self.card.transmit(bytes.len(), |out| {
                out.copy_from_slice(bytes);
                frame.partial()
            });
            follow(&mut self.flows, bytes, at as u8 + 1);
            let counter =
                if sent.is_ok() { &mut self.stats.from_lanes } else { &mut self.stats.dropped };
            *counter += 1;
            work += Work(1);
            let lane = &mut self.lanes[at];
            match frame {
                Assembled::One(chunk) => lane.receiver.give_back(chunk.buffer),
                Assembled::Many(bytes, ..) => lane.assembler.recycle(bytes),
            }
        }
        work
    }

    /// The next frame of another core; follows its announcements on the way.
    fn next_outbound(&mut self, at: usize) -> Option<Assembled> {
        for _ in 0..BUDGET {
            let lane = &mut self.lanes[at];
            let chunk = match lane.receiver.receive()? {
                ToSwitch::Chunk(chunk) => chunk,
                ToSwitch::Announce(port, listening) => {
                    self.announce(at as u8 + 1, port, listening);
                    continue;
                }
            };
            let (frame, buffer) = lane.assembler.add(chunk);
            if let Some(buffer) = buffer {
                lane.receiver.give_back(buffer);
            }
            if frame.is_some() {
                return frame;
            }
        }
        None
    }
}

/// Follows a frame that `lane` sends: it may end its flow, or begin one of its own.
fn follow(flows: &mut Flows, frame: &[u8], lane: u8) {
    let Some(segment) = Segment::parse(frame) else { return };
    if flows.lane_of(&segment, Side::Ours).is_none() && segment.opens() {
        let _ = flows.insert(&segment, Side::Ours, lane);
    }
}
