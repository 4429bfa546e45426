use std::collections::BTreeSet;
use std::ops::Range;

/// What each block may hold. A block is filled with one number; 0 is what nobody has written.
pub struct Reference {
    block_len: usize,
    may_hold: Vec<BTreeSet<u64>>,
    busy: Vec<bool>,
    /// Whether a block that may hold several may be read as one now and as another later.
    pub wavers: bool,
}

impl Reference {
    pub fn new(blocks: u64, block_len: usize) -> Self {
        let blocks = blocks as usize;
        Self {
            block_len,
            may_hold: vec![BTreeSet::from([0]); blocks],
            busy: vec![false; blocks],
            wavers: false,
        }
    }

    pub fn blocks(&self) -> u64 {
        self.busy.len() as u64
    }

    pub fn block_len(&self) -> usize {
        self.block_len
    }

    /// Takes blocks for a command, unless another is about them.
    pub fn take(&mut self, blocks: &Range<u64>) -> bool {
        let range = blocks.start as usize..blocks.end as usize;
        if self.busy[range.clone()].contains(&true) {
            return false;
        }
        self.busy[range].fill(true);
        true
    }

    pub fn give_back(&mut self, blocks: &Range<u64>) {
        self.busy[blocks.start as usize..blocks.end as usize].fill(false);
    }

    pub fn bytes(&self, value: u64, blocks: u64) -> Vec<u8> {
        value.to_le_bytes().repeat(blocks as usize * self.block_len / 8)
    }

    /// Blocks were written, for sure.
    pub fn hold(&mut self, blocks: Range<u64>, value: u64) {
        for block in blocks {
            self.may_hold[block as usize] = BTreeSet::from([value]);
        }
    }

    /// Blocks may have been written.
    pub fn may_hold(&mut self, blocks: Range<u64>, value: u64) {
        for block in blocks {
            self.may_hold[block as usize].insert(value);
        }
    }

    /// What a block holds, if that is sure.
    pub fn value(&self, block: u64) -> Option<u64> {
        let may_hold = &self.may_hold[block as usize];
        may_hold.first().copied().filter(|_| may_hold.len() == 1)
    }

    /// Blocks were read: what they hold is known now.
    pub fn check(&mut self, blocks: Range<u64>, data: &[u8]) {
        assert_eq!(data.len(), (blocks.end - blocks.start) as usize * self.block_len);
        for (block, bytes) in blocks.zip(data.chunks_exact(self.block_len)) {
            let value = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            assert_eq!(bytes, value.to_le_bytes().repeat(self.block_len / 8), "block {block}");
            let may_hold = &mut self.may_hold[block as usize];
            assert!(may_hold.contains(&value), "block {block} holds {value}, not {may_hold:?}");
            if !self.wavers {
                *may_hold = BTreeSet::from([value]);
            }
        }
    }
}
