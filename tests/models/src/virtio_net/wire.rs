use super::VirtioNetModel;

/// What a wire does to frames, each in frames per thousand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WirePlan {
    /// Lost.
    pub lost: u32,
    /// Delivered twice.
    pub doubled: u32,
    /// Held back until the next one has passed.
    pub overtaken: u32,
    /// Delivered with a bit flipped, if they carry IPv4: ARP has no checksum that could tell.
    pub damaged: u32,
}

/// A cable between two cards; what it does to frames follows from its seed.
pub struct Wire {
    plan: WirePlan,
    random: u64,
    held: [Option<Vec<u8>>; 2],
    longest: [usize; 2],
}

impl Wire {
    /// A cable that follows `plan`, in an order given by `seed`.
    pub fn new(plan: WirePlan, seed: u64) -> Self {
        Self {
            plan,
            random: seed.wrapping_mul(2).wrapping_add(1),
            held: [None, None],
            longest: [0; 2],
        }
    }

    /// Carries what either card has sent to the other; gives the number of frames.
    pub fn carry(&mut self, a: &VirtioNetModel, b: &VirtioNetModel) -> usize {
        self.carry_one_way(0, a, b) + self.carry_one_way(1, b, a)
    }

    /// The longest frame in each direction so far, bytes; from the first card first.
    pub fn longest(&self) -> [usize; 2] {
        self.longest
    }

    fn carry_one_way(&mut self, way: usize, from: &VirtioNetModel, to: &VirtioNetModel) -> usize {
        let mut count = 0;
        let mut arrived = Vec::new();
        while let Some(frame) = from.take_sent() {
            count += 1;
            self.longest[way] = self.longest[way].max(frame.len());
            self.pass(way, frame, &mut arrived);
        }
        to.inject_all(arrived);
        if count == 0
            && let Some(late) = self.held[way].take()
        {
            to.inject(late);
            return 1;
        }
        count
    }

    fn pass(&mut self, way: usize, mut frame: Vec<u8>, arrived: &mut Vec<Vec<u8>>) {
        let plan = self.plan;
        if self.happens(plan.lost) {
            return;
        }
        let is_ipv4 = frame.get(12..14) == Some(&[8, 0]);
        if is_ipv4 && self.happens(plan.damaged) {
            let at = 14 + self.next() as usize % (frame.len() - 14).max(1);
            if let Some(byte) = frame.get_mut(at) {
                *byte ^= 1 << (self.next() % 8);
            }
        }
        if self.happens(plan.doubled) {
            arrived.push(frame.clone());
        }
        if self.held[way].is_none() && self.happens(plan.overtaken) {
            self.held[way] = Some(frame);
            return;
        }
        arrived.push(frame);
        arrived.extend(self.held[way].take());
    }

    fn happens(&mut self, per_thousand: u32) -> bool {
        self.next() % 1000 < u64::from(per_thousand)
    }

    /// xorshift64*, whose upper bits are good enough for choosing frames.
    fn next(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}
