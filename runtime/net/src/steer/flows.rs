use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_env::Instant;

use crate::IpAddress;
use crate::wire::{Segment, TcpFlags};

/// Flows that share a hash. A new one that finds them all alive is turned away.
const WAYS: usize = 8;
/// How long a silent flow is remembered: several times as long as a stack keeps a silent peer.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// How long an ended flow is remembered, for what is still under way; and one that has yet to
/// begin, a little longer than its stack does.
const LINGER: Duration = Duration::from_secs(12);

/// How much earlier a lane forgets than the table of all lanes: what the latter has forgotten may
/// be given to another.
const LANE_IDLE_MAX: Duration = Duration::from_secs(200);
const LANE_LINGER: Duration = Duration::from_secs(10);
/// How often the table of all lanes has to hear of a flow. It is part of the difference above.
const NEWS_PERIOD: Duration = Duration::from_secs(64);

/// Which end of a flow sent a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The peer: it came from the wire.
    Peer,
    /// A stack of ours.
    Ours,
}

/// Which lane each TCP flow belongs to; a fixed number of flows.
///
/// A flow is known by both addresses and ports. It is forgotten a while after both sides finished
/// or one reset it, or when it has long been silent.
pub struct Flows {
    entries: Vec<Entry>,
    counts: Vec<u32>,
    seed: u64,
    patience: Patience,
    /// The next set to look at for flows that have run out.
    cursor: usize,
    now: Instant,
}

/// Peer's address (an IPv4 address as RFC 4291 §2.5.5.2 maps it), both ports, and our address,
/// folded: we have few. All 0 if the entry is free, as no peer's port is 0 that has a flow.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Key {
    peer: [u64; 2],
    ports: u32,
    ours: u32,
}

impl Key {
    const FREE: Self = Self { peer: [0; 2], ports: 0, ours: 0 };
}

/// A segment of a flow, as far as it matters to a table.
#[derive(Clone, Copy)]
pub struct Sighting {
    key: Key,
    flags: TcpFlags,
    side: Side,
    opens: bool,
}

/// How long flows are remembered.
#[derive(Clone, Copy)]
struct Patience {
    idle: Duration,
    linger: Duration,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    key: Key,
    forget_at: Instant,
    lane: u8,
    /// The peer has answered: it is who it says, and not a flood of forged requests.
    answered: bool,
    finished: [bool; 2],
}

impl Flows {
    /// A table for about `capacity` flows over `lanes` lanes.
    pub fn new(capacity: usize, lanes: usize, seed: u64) -> Self {
        Self::with(capacity, lanes, seed, Patience { idle: IDLE_MAX, linger: LINGER })
    }

    /// A table for about `capacity` flows of one lane, which follows that of all lanes.
    pub fn of_lane(capacity: usize, seed: u64) -> Self {
        Self::with(capacity, 1, seed, Patience { idle: LANE_IDLE_MAX, linger: LANE_LINGER })
    }

    fn with(capacity: usize, lanes: usize, seed: u64, patience: Patience) -> Self {
        let len = capacity.next_power_of_two().max(WAYS);
        Self {
            entries: vec![Entry::default(); len],
            counts: vec![0; lanes],
            seed: seed | 1,
            patience,
            cursor: 0,
            now: Instant::ZERO,
        }
    }

    /// How many flows each lane has.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Lets time pass; forgets some of the flows that have run out. Call it every round.
    pub fn age(&mut self, now: Instant) {
        self.now = now;
        let set = self.cursor;
        self.cursor = (set + WAYS) & (self.entries.len() - 1);
        for at in set..set + WAYS {
            self.forget_if_over(at);
        }
    }

    /// The lane of the flow that `segment` belongs to, if it is known; follows its end.
    pub fn lane_of(&mut self, segment: &Segment, side: Side) -> Option<u8> {
        self.see(&Sighting::of(segment, side))
    }

    /// The same for what another core has seen.
    pub fn see(&mut self, seen: &Sighting) -> Option<u8> {
        let (now, patience) = (self.now, self.patience);
        let entry = self.find(seen.key)?;
        entry.see(seen, now, patience);
        Some(entry.lane)
    }

    /// Follows the flow that `segment` belongs to; whether it is known. What the table of all lanes
    /// has to know goes to `tell`. If that fails nothing has been seen, so that the next segment
    /// has the same to tell.
    pub fn follow(
        &mut self,
        segment: &Segment,
        side: Side,
        tell: &mut dyn FnMut(Sighting) -> bool,
    ) -> bool {
        let (now, patience) = (self.now, self.patience);
        let seen = Sighting::of(segment, side);
        let Some(entry) = self.find(seen.key) else { return false };
        let mut after = *entry;
        after.see(&seen, now, patience);
        if !entry.is_news(&after, &seen) || tell(seen) {
            *entry = after;
        }
        true
    }

    /// Remembers a new flow. `false` if there is no room for it.
    pub fn insert(&mut self, segment: &Segment, side: Side, lane: u8) -> bool {
        self.add(&Sighting::of(segment, side), lane)
    }

    /// The same for a flow that another core has seen.
    pub fn add(&mut self, seen: &Sighting, lane: u8) -> bool {
        let key = seen.key;
        let set = self.set_of(key);
        let Some(at) = (set..set + WAYS).find(|&at| {
            self.forget_if_over(at);
            self.entries[at].key == Key::FREE
        }) else {
            return false;
        };
        let Some(count) = self.counts.get_mut(usize::from(lane)) else { return false };
        *count += 1;
        let forget_at = self.now + self.patience.linger;
        self.entries[at] = Entry { key, forget_at, lane, ..Entry::default() };
        true
    }

    fn find(&mut self, key: Key) -> Option<&mut Entry> {
        let set = self.set_of(key);
        self.entries[set..set + WAYS].iter_mut().find(|entry| entry.key == key)
    }

    /// Where the set of a key starts. Seeded, so that a peer cannot aim its flows at one set.
    fn set_of(&self, key: Key) -> usize {
        let Key { peer: [high, low], ports, ours } = key;
        let mut mixed = self.seed;
        for word in [high, low, u64::from(ports) << 32 | u64::from(ours)] {
            mixed = (mixed ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ mixed >> 32).wrapping_mul(self.seed);
        }
        ((mixed >> 32) as usize * WAYS) & (self.entries.len() - 1)
    }

    fn forget_if_over(&mut self, at: usize) {
        let entry = &mut self.entries[at];
        if entry.key != Key::FREE && self.now >= entry.forget_at {
            self.counts[usize::from(entry.lane)] -= 1;
            *entry = Entry::default();
        }
    }
}

impl Sighting {
    pub fn of(segment: &Segment, side: Side) -> Self {
        let (key, opens) = (key(segment, side), segment.opens());
        Self { key, flags: segment.flags, side, opens }
    }

    /// Whether our side asks for a connection.
    pub fn asks(&self) -> bool {
        self.opens && self.side == Side::Ours
    }
}

impl Entry {
    /// Whether what made this entry `after` matters to the table of all lanes.
    fn is_news(&self, after: &Self, seen: &Sighting) -> bool {
        let period = |at: Instant| at.as_us() / NEWS_PERIOD.as_micros() as u64;
        seen.flags.intersects(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST)
            || self.answered != after.answered
            || period(self.forget_at) != period(after.forget_at)
    }

    fn see(&mut self, seen: &Sighting, now: Instant, patience: Patience) {
        let Sighting { flags, side, .. } = *seen;
        let lingering_until = now + patience.linger;
        if flags.contains(TcpFlags::SYN) {
            self.finished = [false; 2]; // The same ports again, and as long as for others to begin.
            self.forget_at = self.forget_at.max(lingering_until);
        }
        if seen.opens && side == Side::Peer {
            self.answered = false;
        }
        if flags.contains(TcpFlags::FIN) {
            self.finished[side as usize] = true;
        }
        let first_answer = side == Side::Peer && flags.contains(TcpFlags::ACK) && !self.answered;
        self.answered |= first_answer;
        let over = flags.contains(TcpFlags::RST) || self.finished == [true; 2];
        if over {
            self.forget_at = self.forget_at.min(lingering_until);
        } else if first_answer
            || self.answered && side == Side::Ours
            || self.forget_at > lingering_until
        {
            // A reset may be forged: a flow lives again if our side goes on sending.
            self.forget_at = now + patience.idle;
        }
    }
}

fn key(segment: &Segment, side: Side) -> Key {
    let Segment { ip, source_port, destination_port, .. } = segment;
    let (peer, theirs, ours, port) = match side {
        Side::Peer => (ip.source, source_port, ip.destination, destination_port),
        Side::Ours => (ip.destination, destination_port, ip.source, source_port),
    };
    let [high, low] = words(peer);
    let folded = words(ours).into_iter().fold(0, |folded, word| folded ^ word);
    Key {
        peer: [high, low],
        ports: u32::from(*theirs) << 16 | u32::from(*port),
        ours: (folded >> 32) as u32 ^ folded as u32,
    }
}

fn words(address: IpAddress) -> [u64; 2] {
    match address {
        IpAddress::V4(address) => [0, 0xffff << 32 | u64::from(address.to_bits())],
        IpAddress::V6(address) => {
            let bits = address.to_bits();
            [(bits >> 64) as u64, bits as u64]
        }
    }
}
