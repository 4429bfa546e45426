//! Several pairs of queues, and which of them a frame goes to (virtio 1.2 §5.1.6.5.5).
//!
//! As Linux does for a tap device: a flow is received by the pair that it was last sent from, and
//! all that has not been sent from any by one that its addresses hash to.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::virtio::{Fault, Segment};

use super::{NetCard, feature};

/// Where frames go.
#[derive(Default)]
pub struct Steering {
    flows: HashMap<u64, usize>,
    /// For each pair in use, frames received and sent. None stands for the first alone.
    carried: Vec<[u64; 2]>,
}

impl Steering {
    pub fn pairs(&self) -> usize {
        self.carried.len().max(1)
    }

    pub fn carried(&self) -> &[[u64; 2]] {
        &self.carried
    }

    /// The pair that a frame from the wire goes to.
    pub fn pair_for(&self, frame: &[u8]) -> usize {
        let hash = hash(frame);
        *self.flows.get(&hash).unwrap_or(&(hash as usize % self.pairs()))
    }

    /// Forgets by which pair flows were sent.
    pub fn forget(&mut self) {
        self.flows.clear();
    }

    pub fn sent(&mut self, pair: usize, frame: &[u8]) {
        self.count(pair, 1);
        self.flows.insert(hash(frame), pair);
    }

    pub fn received(&mut self, pair: usize) {
        self.count(pair, 0);
    }

    fn count(&mut self, pair: usize, way: usize) {
        if let Some(carried) = self.carried.get_mut(pair) {
            carried[way] += 1;
        }
    }
}

/// Of a TCP or UDP packet its addresses and ports, in whichever direction; of anything else all.
fn hash(frame: &[u8]) -> u64 {
    let ends = match frame.get(12..14) {
        Some([0x08, 0x00]) => [26..30, 34..36, 30..34, 36..38],
        Some([0x86, 0xdd]) => [22..38, 54..56, 38..54, 56..58],
        _ => [0..frame.len(), 0..0, 0..0, 0..0],
    };
    let [from, from_port, to, to_port] = ends.map(|range| frame.get(range).unwrap_or_default());
    let mut ends = [(from, from_port), (to, to_port)];
    ends.sort_unstable();
    let mut hasher = DefaultHasher::new();
    ends.hash(&mut hasher);
    hasher.finish()
}

impl NetCard {
    /// Carries out the commands there are.
    pub(super) fn obey(&mut self) {
        if self.common.agreed & feature::CTRL_VQ == 0 {
            return;
        }
        let several = self.common.agreed & feature::MQ != 0;
        let queue = if several { self.inboxes.len() * 2 } else { 2 };
        while self.common.is_working(queue) && self.common.shown(queue).is_ok_and(|n| n > 0) {
            if self.common.fault == Some(Fault::SilentCommands) {
                return;
            }
            let Ok((id, chain)) = self.common.take_chain(queue) else { return };
            let done = self.carry_out(&chain);
            let empty = self.common.fault == Some(Fault::EmptyAnswers);
            let written = match empty {
                true => Ok(0),
                false => self.common.write_chain(&chain, &[u8::from(!done)]),
            };
            let _ = self.common.give_back(queue, id, written.unwrap_or(0));
        }
    }

    fn carry_out(&mut self, chain: &[Segment]) -> bool {
        let Ok(command) = self.common.read_chain(chain) else { return false };
        let [4, 0, low, high] = *command else { return false };
        let pairs = usize::from(u16::from_le_bytes([low, high]));
        let agreed = self.common.agreed & feature::MQ != 0;
        // The driver must have set up the queues of all of them.
        let known = (0..2 * pairs).all(|queue| self.common.is_working(queue));
        let possible = (1..=self.inboxes.len()).contains(&pairs);
        if !agreed || !known || !possible || self.common.fault == Some(Fault::RefusesCommands) {
            return false;
        }
        self.steering = Steering { carried: vec![[0; 2]; pairs], ..Steering::default() };
        true
    }
}
