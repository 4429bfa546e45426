use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

/// Something that happened on a core.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TraceEntry {
    /// When, in nanoseconds of the environment's clock.
    pub at_ns: u64,
    /// What kind of event: the meaning is the writer's.
    pub kind: u64,
    /// Its first argument.
    pub a: u64,
    /// Its second argument.
    pub b: u64,
}

/// A slot: a sequence number that tells whether the words belong together, and the words.
///
/// The number is 2n + 1 while entry n is being written, and 2n + 2 once it is there.
#[derive(Debug, Default)]
struct Slot {
    seq: AtomicU64,
    words: [AtomicU64; 4],
}

/// The last events of one core, the newest in place of the oldest.
///
/// One core writes; any core reads at any time, also in a panic, as nothing is locked: an entry
/// that is overwritten while it is read is left out. Ordering: a sequence lock per slot (the words
/// are atomics, so a torn entry is noticed, not undefined).
#[derive(Debug)]
pub struct Trace {
    slots: Box<[Slot]>,
    /// How many entries were ever written.
    written: AtomicU64,
}

impl Trace {
    /// A trace of the last `len` events, rounded up to a power of two. Each takes 40 bytes.
    pub fn new(len: usize) -> Self {
        let len = len.clamp(1, 1 << 24).next_power_of_two();
        let slots = (0..len).map(|_| Slot::default()).collect();
        Self { slots, written: AtomicU64::new(0) }
    }

    /// Notes an event. Only the core that owns the trace may call this.
    #[inline]
    pub fn record(&self, entry: TraceEntry) {
        let number = self.written.load(Ordering::Relaxed);
        let slot = self.slot(number);
        slot.seq.store(2 * number + 1, Ordering::Relaxed);
        let values = [entry.at_ns, entry.kind, entry.a, entry.b];
        for (word, value) in slot.words.iter().zip(values) {
            // Release: a reader that sees the word also sees that the slot is being written.
            word.store(value, Ordering::Release);
        }
        slot.seq.store(2 * number + 2, Ordering::Release);
        self.written.store(number + 1, Ordering::Release);
    }

    /// How many events were ever noted.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// The events still there, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = TraceEntry> {
        let end = self.written();
        let start = end.saturating_sub(self.slots.len() as u64);
        (start..end).filter_map(|number| self.read(number))
    }

    /// Entry `number`, unless it has been overwritten.
    fn read(&self, number: u64) -> Option<TraceEntry> {
        let slot = self.slot(number);
        let whole = 2 * number + 2;
        if slot.seq.load(Ordering::Acquire) != whole {
            return None;
        }
        // Acquire: if any word is of a later entry, the second look at `seq` sees that too.
        let [at_ns, kind, a, b] = slot.words.each_ref().map(|word| word.load(Ordering::Acquire));
        let unchanged = slot.seq.load(Ordering::Relaxed) == whole;
        unchanged.then_some(TraceEntry { at_ns, kind, a, b })
    }

    fn slot(&self, number: u64) -> &Slot {
        &self.slots[number as usize & (self.slots.len() - 1)]
    }
}
