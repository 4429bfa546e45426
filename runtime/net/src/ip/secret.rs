#![expect(deprecated, reason = "std's hasher is not in core; this is the same function")]

use core::hash::{Hash, Hasher, SipHasher};

use super::path::Flow;

/// What nobody else knows: a key (RFC 6528 §3 leaves the function to us; this is SipHash).
pub struct Secret(SipHasher);

impl Secret {
    /// Of entropy.
    pub fn new(seed: u64) -> Self {
        Self(SipHasher::new_with_keys(seed, seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15))
    }

    /// A number for a flow.
    pub fn of(&self, flow: &Flow) -> u32 {
        let mut hasher = self.0.clone();
        (flow.peer, flow.local).hash(&mut hasher);
        hasher.finish() as u32
    }
}
