//! What a guest executes, as QEMU logs it: each block of code when it is translated, with its
//! instructions' addresses, and each time it is run (`-d in_asm,exec,nochain`).

use std::collections::HashMap;
use std::io::BufRead;
use std::path::Path;

use super::layers::{Counts, Layer};

/// A line that ends a log.
pub(super) const END: &str = "\nEND-OF-LOG\n";

/// How often each block ran, and of which instructions it consists.
#[derive(Debug, Default)]
pub(super) struct Trace {
    blocks: HashMap<u64, Block>,
}

#[derive(Debug, Default)]
struct Block {
    instructions: Vec<u64>,
    /// Instructions of it that were executed.
    runs: u64,
}

impl Trace {
    /// Counts anew, what a log tells up to its end, or to [`END`]. What an earlier one has told of
    /// blocks is still known, as QEMU does not tell it again.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn count(mut self, mut log: impl BufRead) -> std::io::Result<Self> {
        self.blocks.values_mut().for_each(|block| block.runs = 0);
        let mut line = Vec::new();
        let mut translated = None;
        while log.read_until(b'\n', &mut line)? > 0 && line != END.as_bytes()[1..] {
            self.take(&String::from_utf8_lossy(&line), &mut translated);
            line.clear();
        }
        Ok(self)
    }

    /// Takes a line; `translated` is the block that is being told of.
    fn take(&mut self, line: &str, translated: &mut Option<u64>) {
        if line.starts_with("IN:") {
            *translated = Some(0);
        } else if line.starts_with("Trace ") {
            if let Some(block) = executed(line).and_then(|at| self.blocks.get_mut(&at)) {
                block.runs += 1;
            }
        } else if let (Some(first), Some(address)) = (translated.as_mut(), instruction(line)) {
            if *first == 0 {
                *first = address;
                self.blocks.entry(address).or_default().instructions.clear();
            }
            let block = self.blocks.entry(*first).or_default();
            block.instructions.push(address);
        }
    }

    /// Instructions of each layer, by the program that has the lines of source.
    ///
    /// # Errors
    /// The program has none.
    pub(super) fn by_layer(&self, program: &Path) -> anyhow::Result<Counts> {
        let lines = addr2line::Loader::new(program).map_err(|error| anyhow::anyhow!("{error}"))?;
        let mut layers = HashMap::new();
        let mut counts = Counts::new();
        for block in self.blocks.values().filter(|block| block.runs > 0) {
            for &address in &block.instructions {
                let layer = layers.entry(address).or_insert_with(|| layer_of(&lines, address));
                *counts.entry(*layer).or_default() += block.runs;
            }
        }
        Ok(counts)
    }
}

/// The innermost function that was put in place there and belongs to a layer.
fn layer_of(lines: &addr2line::Loader, address: u64) -> Layer {
    let Ok(mut frames) = lines.find_frames(address) else { return Layer::Others };
    while let Ok(Some(frame)) = frames.next() {
        let file = frame.location.and_then(|location| location.file);
        if let Some(layer) = file.and_then(Layer::of_file) {
            return layer;
        }
    }
    Layer::Others
}

/// `Trace 0: 0x7f… [00000000/0000000000321a70/0040c2b0/ff000200] name`: where the block begins.
fn executed(line: &str) -> Option<u64> {
    let (_, state) = line.split_once('[')?;
    u64::from_str_radix(state.split('/').nth(1)?, 16).ok()
}

/// `0x00321a70:  55  pushq %rbp`: where the instruction is.
fn instruction(line: &str) -> Option<u64> {
    let (address, _) = line.strip_prefix("0x")?.split_once(':')?;
    u64::from_str_radix(address, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_of_a_block_counts_as_it_was_translated_last() {
        let log = "\
----------------
IN: first
0x00001000:  55                       pushq    %rbp
0x00001001:  c3                       retq     

Trace 0: 0x7f5c68000100 [00000000/0000000000001000/0040c2b0/ff000200] first
Trace 0: 0x7f5c68000100 [00000000/0000000000001000/0040c2b0/ff000200] first
Trace 0: 0x7f5c68000200 [00000000/0000000000002000/0040c2b0/ff000200] unknown
----------------
IN: second
0x00003000:  90                       nop      
Trace 1: 0x7f5c68000300 [00000000/0000000000003000/0040c2b0/ff000200] second
----------------
IN: first
0x00001000:  55                       pushq    %rbp

END-OF-LOG
Trace 1: 0x7f5c68000300 [00000000/0000000000003000/0040c2b0/ff000200] second
";
        let trace = Trace::default().count(log.as_bytes()).unwrap();
        let block = |at| (trace.blocks[&at].instructions.clone(), trace.blocks[&at].runs);
        assert_eq!(trace.blocks.len(), 2);
        assert_eq!(block(0x1000), (vec![0x1000], 2));
        assert_eq!(block(0x3000), (vec![0x3000], 1));
        let run = "Trace 0: 0x7f [00000000/0000000000003000/0040c2b0/ff000200] second\n";
        let again = trace.count([run, run].concat().as_bytes()).unwrap();
        assert_eq!([0x1000, 0x3000].map(|at| again.blocks[&at].runs), [0, 2]);
    }
}
