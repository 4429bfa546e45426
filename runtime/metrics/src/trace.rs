use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// Something that happened on a core.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TraceEntry {
    /// When, by the writer's clock.
    pub at: u64,
    /// What kind of event: the meaning is the writer's.
    pub kind: u64,
    /// Its first argument.
    pub a: u64,
    /// Its second argument.
    pub b: u64,
    /// Its third argument.
    pub c: u64,
}

/// A slot: a sequence number that tells whether the words belong together, and the words.
///
/// The number is 2n + 1 while entry n is being written, and 2n + 2 once it is there.
#[derive(Debug, Default)]
struct Slot {
    seq: AtomicU64,
    words: [AtomicU64; 5],
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
    /// Entries before this one are forgotten.
    forgotten: AtomicU64,
}

impl Trace {
    /// A trace of the last `len` events, rounded up to a power of two. Each takes 48 bytes.
    pub fn new(len: usize) -> Self {
        let len = len.clamp(1, 1 << 24).next_power_of_two();
        Self::of((0..len).map(|_| Slot::default()).collect())
    }

    /// The same; `None` if there is no memory for it.
    pub fn try_new(len: usize) -> Option<Self> {
        let len = len.clamp(1, 1 << 24).next_power_of_two();
        let mut slots = Vec::new();
        slots.try_reserve_exact(len).ok()?;
        slots.resize_with(len, Slot::default);
        Some(Self::of(slots.into_boxed_slice()))
    }

    const fn of(slots: Box<[Slot]>) -> Self {
        Self { slots, written: AtomicU64::new(0), forgotten: AtomicU64::new(0) }
    }

    /// Notes an event. Only the core that owns the trace may call this.
    #[inline]
    pub fn record(&self, entry: TraceEntry) {
        let number = self.written.load(Ordering::Relaxed);
        let slot = self.slot(number);
        slot.seq.store(2 * number + 1, Ordering::Relaxed);
        let values = [entry.at, entry.kind, entry.a, entry.b, entry.c];
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

    /// The number of the oldest event still there, from 0; [`Self::written`] if there is none.
    pub fn oldest(&self) -> u64 {
        let kept = self.written().saturating_sub(self.slots.len() as u64);
        kept.max(self.forgotten.load(Ordering::Relaxed))
    }

    /// Forgets all events. Any core may call this.
    pub fn clear(&self) {
        self.forgotten.store(self.written(), Ordering::Relaxed);
    }

    /// The events still there, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = TraceEntry> {
        (self.oldest()..self.written()).filter_map(|number| self.read(number))
    }

    /// Event `number`, unless it has been overwritten or is still to come.
    pub fn read(&self, number: u64) -> Option<TraceEntry> {
        let slot = self.slot(number);
        let whole = 2 * number + 2;
        if slot.seq.load(Ordering::Acquire) != whole {
            return None;
        }
        // Acquire: if any word is of a later entry, the second look at `seq` sees that too.
        let [at, kind, a, b, c] = slot.words.each_ref().map(|word| word.load(Ordering::Acquire));
        let unchanged = slot.seq.load(Ordering::Relaxed) == whole;
        unchanged.then_some(TraceEntry { at, kind, a, b, c })
    }

    fn slot(&self, number: u64) -> &Slot {
        &self.slots[number as usize & (self.slots.len() - 1)]
    }
}
