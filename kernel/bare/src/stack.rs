//! The stacks of every core, each above an unmapped page.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::memory::{PAGE, Span};

/// Cores that can be used.
pub(crate) const CORES_MAX: usize = 256;

/// A stack of a core. The last four are for exceptions (SDM volume 3 §6.14.5): whatever state the
/// interrupted stack is in, these are good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// What the core's program runs on.
    Main,
    /// Exceptions, and the wake-up interrupt.
    Fault,
    /// Double fault: an exception while entering another.
    DoubleFault,
    /// Non-maskable interrupt.
    Nmi,
    /// Machine check.
    MachineCheck,
}

/// All kinds, from low to high addresses in a core's block.
const KINDS: [Kind; 5] =
    [Kind::Main, Kind::Fault, Kind::DoubleFault, Kind::Nmi, Kind::MachineCheck];

impl Kind {
    const fn len(self) -> u64 {
        match self {
            Self::Main => 512 << 10,
            _ => 32 << 10,
        }
    }

    /// The index in the TSS's table, for the kinds that are in it.
    pub(crate) const fn ist_index(self) -> u16 {
        match self {
            Self::Main | Self::Fault => 0,
            Self::DoubleFault => 1,
            Self::Nmi => 2,
            Self::MachineCheck => 3,
        }
    }
}

/// Bytes of all stacks of a core with their guard pages.
pub(crate) const BLOCK_LEN: u64 = {
    let mut len = 0;
    let mut i = 0;
    while i < KINDS.len() {
        len += PAGE + KINDS[i].len();
        i += 1;
    }
    len
};

/// Where each core's block begins; zero for none.
static BLOCKS: [AtomicU64; CORES_MAX] = [const { AtomicU64::new(0) }; CORES_MAX];
/// The stack that the boot core started on.
static BOOT_START: AtomicU64 = AtomicU64::new(0);
static BOOT_END: AtomicU64 = AtomicU64::new(0);

/// Gives `core` its block.
pub(crate) fn set_block(core: usize, block: Span) {
    BLOCKS[core].store(block.start, Ordering::Release);
}

/// Whether `core` has its block.
pub(crate) fn has_block(core: usize) -> bool {
    BLOCKS[core].load(Ordering::Acquire) != 0
}

/// Says where the boot stack is. The page below it is its guard.
pub(crate) fn set_boot_stack(span: Span) {
    BOOT_START.store(span.start, Ordering::Release);
    BOOT_END.store(span.end, Ordering::Release);
}

/// The stack of `core` of this kind.
pub(crate) fn span(core: usize, kind: Kind) -> Span {
    let mut start = BLOCKS[core].load(Ordering::Acquire);
    for below in KINDS.into_iter().take_while(|&below| below != kind) {
        start += PAGE + below.len();
    }
    Span::new(start + PAGE, kind.len())
}

/// The guard page below a stack.
pub(crate) fn guard_below(stack: Span) -> Span {
    Span { start: stack.start - PAGE, end: stack.start }
}

/// All guard pages of `core`.
pub(crate) fn guards(core: usize) -> impl Iterator<Item = Span> {
    KINDS.into_iter().map(move |kind| guard_below(span(core, kind)))
}

/// All stacks there are.
fn all() -> impl Iterator<Item = Span> {
    let cores = (0..CORES_MAX).filter(|&core| has_block(core));
    let stacks = cores.flat_map(|core| KINDS.into_iter().map(move |kind| span(core, kind)));
    let boot =
        Span { start: BOOT_START.load(Ordering::Acquire), end: BOOT_END.load(Ordering::Acquire) };
    stacks.chain((boot.start != 0).then_some(boot))
}

/// The stack that holds `address`.
pub(crate) fn containing(address: u64) -> Option<Span> {
    all().find(|stack| (stack.start..stack.end).contains(&address))
}

/// Whether `address` is in a guard page: the stack above it overflowed.
pub(crate) fn is_guard(address: u64) -> bool {
    all().map(guard_below).any(|guard| (guard.start..guard.end).contains(&address))
}
