/// The ports that connections of ours come from (RFC 6335 §6, dynamic ports).
const FIRST: u16 = 49152;
/// How many there are.
const COUNT: u16 = u16::MAX - FIRST + 1;

/// One stack's share of the ports that connections come from, which it uses in turn.
///
/// Stacks that share an address must not share ports: a flow is known by its ports and its peer.
pub struct LocalPorts {
    next: u16,
    index: u16,
    step: u16,
}

impl LocalPorts {
    /// Every `count`th port, from the `index`th on, first one of them that `seed` chooses.
    pub fn new(seed: u64, index: u16, count: u16) -> Self {
        let step = count.clamp(1, COUNT);
        let index = index % step;
        let turns = COUNT / step;
        Self { next: FIRST + (seed >> 48) as u16 % turns * step + index, index, step }
    }

    /// The next one.
    pub fn next(&mut self) -> u16 {
        let port = self.next;
        let after = port.checked_add(self.step);
        self.next = after.unwrap_or(FIRST + self.index);
        port
    }
}
