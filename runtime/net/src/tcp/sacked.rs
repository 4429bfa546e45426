use super::seq::{Seq, Span};

/// Most blocks that are remembered; further ones are sent again, if they have to be.
const MAX: usize = 32;

/// What the peer has of what comes behind a loss (RFC 2018 §5): blocks in order, apart.
#[derive(Clone, Copy, Debug)]
pub struct Sacked {
    blocks: [Span; MAX],
    count: usize,
}

impl Sacked {
    /// Nothing.
    pub const fn new() -> Self {
        Self { blocks: [Span { start: Seq(0), end: Seq(0) }; MAX], count: 0 }
    }

    fn blocks(&self) -> &[Span] {
        &self.blocks[..self.count]
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.count = 0;
    }

    /// Forgets what lies before `una`: it is acknowledged.
    pub fn forget_before(&mut self, una: Seq) {
        let gone = self.blocks().iter().take_while(|block| !una.is_before(block.end)).count();
        self.blocks.copy_within(gone..self.count, 0);
        self.count -= gone;
    }

    /// Adds a block; whether anything of it is new.
    pub fn add(&mut self, new: Span) -> bool {
        let blocks = self.blocks();
        // Those that touch it become one with it.
        let from = blocks.partition_point(|block| block.end.is_before(new.start));
        let to = from + blocks[from..].partition_point(|block| !new.end.is_before(block.start));
        let touched = &blocks[from..to];
        let merged = touched.iter().fold(new, |all, block| Span {
            start: all.start.earlier(block.start),
            end: all.end.later(block.end),
        });
        if touched == [merged] {
            return false;
        }
        if from == to && self.count == MAX {
            return false;
        }
        self.blocks.copy_within(to..self.count, from + 1);
        self.blocks[from] = merged;
        self.count = self.count + 1 - (to - from);
        true
    }

    /// The first hole from `from` on before what the peer has, if there is one.
    pub fn hole(&self, from: Seq) -> Option<Span> {
        let mut start = from;
        for block in self.blocks() {
            if start.is_before(block.start) {
                return Some(Span { start, end: block.start });
            }
            start = start.later(block.end);
        }
        None
    }
}
