//! What a core traces, and where it writes it down.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::time::Duration;

use basalt_env::{CoreId, Instant};
use basalt_metrics::{OPS, Tpoint, Trace, TraceEntry, TraceField, TraceGroup, TraceValue};
use spin::{Mutex, Once};

use crate::activity::Activity;
use crate::{Cores, Local};

/// Entries that have the time of one reading of the clock.
const SHARED_BY: u8 = 4;
const NS_PER_S: u64 = 1_000_000_000;

/// Which tracepoints of which groups write entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TraceMasks([u64; TraceGroup::ALL.len()]);

impl TraceMasks {
    /// The tracepoints of `group` that are on.
    pub const fn get(&self, group: TraceGroup) -> u64 {
        self.0[group.index()]
    }

    /// Switches those of `mask` on, as far as there are such.
    pub fn set(&mut self, group: TraceGroup, mask: u64) {
        self.0[group.index()] |= mask & group.tpoints();
    }

    /// Switches those of `mask` off.
    pub const fn clear(&mut self, group: TraceGroup, mask: u64) {
        self.0[group.index()] &= !mask;
    }

    /// The groups of which any is on.
    pub fn groups(&self) -> u32 {
        let on = TraceGroup::ALL.into_iter().filter(|group| self.get(*group) != 0);
        on.fold(0, |mask, group| mask | group.bit())
    }
}

/// A moment by both clocks, the one that entries have and the environment's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceStart {
    ticks: u64,
    at: Instant,
    hz: u64,
}

impl TraceStart {
    /// The environment's time at `ticks`.
    fn time(&self, ticks: u64) -> Instant {
        let since = self.duration_ns(ticks.saturating_sub(self.ticks));
        Instant::from_ns(self.at.as_ns().saturating_add(since))
    }

    /// Nanoseconds of so many ticks.
    fn duration_ns(&self, ticks: u64) -> u64 {
        let ns = u128::from(ticks) * u128::from(NS_PER_S) / u128::from(self.hz.max(1));
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

/// Why a core does not trace what it was to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TraceError {
    /// There is no memory for its entries.
    NoMemory,
    /// It is too busy to be told, or there is no such core.
    Busy,
}

/// The last entries of one core, readable from any.
#[derive(Debug)]
pub struct TraceRing {
    trace: Trace,
    start: TraceStart,
}

impl TraceRing {
    fn new(start: TraceStart, len: usize) -> Result<Arc<Self>, TraceError> {
        let trace = Trace::try_new(len).ok_or(TraceError::NoMemory)?;
        Ok(Arc::new(Self { trace, start }))
    }

    /// The number of the oldest entry still there.
    pub fn oldest(&self) -> u64 {
        self.trace.oldest()
    }

    /// How many entries were ever written.
    pub fn written(&self) -> u64 {
        self.trace.written()
    }

    /// Forgets all entries.
    pub fn clear(&self) {
        self.trace.clear();
    }

    /// Entry `number`, unless it has been overwritten or is still to come.
    pub fn read(&self, number: u64) -> Option<Traced> {
        let entry = self.trace.read(number)?;
        Some(Traced { tpoint: Tpoint::of(entry)?, at: self.start.time(entry.at), entry })
    }

    /// A value of an entry: ticks as nanoseconds, all else as it is.
    pub fn value(&self, traced: &Traced, field: &TraceField) -> u64 {
        let value = traced.entry.values()[field.place];
        match field.value {
            TraceValue::Ticks => self.start.duration_ns(value),
            _ => value,
        }
    }
}

/// An entry of a [`TraceRing`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Traced {
    /// What wrote it.
    pub tpoint: Tpoint,
    /// When. Of what has a duration, its end.
    pub at: Instant,
    entry: TraceEntry,
}

impl Traced {
    /// Whether what it is about has failed.
    pub const fn has_failed(&self) -> bool {
        self.entry.has_failed()
    }
}

type Reading = Box<dyn Fn() -> u64 + Send + Sync>;

/// The clock that entries have, the same on all cores: one that is quick to read.
#[derive(Default)]
pub(crate) struct TraceClock {
    /// The counter, and how often it counts in a second.
    readings: Once<(Reading, Reading)>,
}

/// Where a core's trace is, for other cores.
#[derive(Default)]
pub(crate) struct Shown(Mutex<Option<Arc<TraceRing>>>);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

/// [`TraceMasks`] that change.
#[derive(Default)]
struct OwnMasks([Cell<u64>; TraceGroup::ALL.len()]);

/// A core's own side.
#[derive(Default)]
pub(crate) struct Tracer {
    /// Groups of which anything is on: all that is looked at where nothing is.
    groups: Cell<u32>,
    masks: OwnMasks,
    ring: RefCell<Option<Arc<TraceRing>>>,
    /// What the clock was at its last reading, and how many more entries have that time.
    read_at: Cell<u64>,
    sharing: Cell<u8>,
}

impl Local {
    /// Whether anything of `group` is traced on this core.
    #[inline(always)]
    pub fn traces(&self, group: TraceGroup) -> bool {
        self.inner.tracer.groups.get() & group.bit() != 0
    }

    /// Writes an entry, if `tpoint` is on. To be called where [`Self::traces`] says so.
    ///
    /// Up to four entries of a round that follow each other share a reading of the clock, as it
    /// costs more than all the rest: they have the time of the first.
    #[inline(always)]
    pub fn trace(&self, tpoint: Tpoint, small: (u16, u32), values: [u64; 3]) {
        let place = (tpoint.group().index(), tpoint.bit());
        self.write_entry(place, tpoint.entry(0, small, values));
    }

    /// The same for what has failed.
    #[inline(always)]
    pub fn trace_failed(&self, tpoint: Tpoint, small: (u16, u32), values: [u64; 3]) {
        let place = (tpoint.group().index(), tpoint.bit());
        self.write_entry(place, tpoint.entry(0, small, values).failed());
    }

    #[cold]
    #[inline(never)]
    fn write_entry(&self, (group, bit): (usize, u64), entry: TraceEntry) {
        let tracer = &self.inner.tracer;
        if tracer.masks.0[group].get() & bit == 0 {
            return;
        }
        let Some(ring) = &*tracer.ring.borrow() else { return };
        let at = if entry.at == 0 { self.shared_ticks() } else { entry.at };
        ring.trace.record(TraceEntry { at, ..entry });
    }

    /// The clock as an entry shortly before has read it, or as it is.
    #[inline(always)]
    fn shared_ticks(&self) -> u64 {
        let Tracer { read_at, sharing, .. } = &self.inner.tracer;
        if let Some(left) = sharing.get().checked_sub(1) {
            sharing.set(left);
            return read_at.get();
        }
        read_at.set(self.trace_ticks());
        sharing.set(SHARED_BY - 1);
        read_at.get()
    }

    /// A round begins: what is written in it has times of its own. Gives what [`Self::trace_begin`]
    /// does.
    #[inline]
    pub(crate) fn trace_round(&self) -> u64 {
        self.inner.tracer.sharing.set(0);
        self.trace_begin()
    }

    /// The clock that entries have; 0 unless what the reactor runs is traced.
    #[inline]
    pub(crate) fn trace_begin(&self) -> u64 {
        if self.traces(TraceGroup::Thread) { self.trace_ticks() } else { 0 }
    }

    /// Writes what has run since `began`, if that was traced.
    #[inline]
    pub(crate) fn trace_end(&self, tpoint: Tpoint, began: u64, activity: Activity, work: u32) {
        if began != 0 {
            self.write_span(tpoint, began, activity, work);
        }
    }

    #[cold]
    fn write_span(&self, tpoint: Tpoint, began: u64, activity: Activity, work: u32) {
        let small = (0, activity.to_bits() as u32);
        let now = self.trace_ticks();
        let values = [work.into(), 0, now.saturating_sub(began)];
        self.inner.tracer.sharing.set(0);
        self.write_entry((tpoint.group().index(), tpoint.bit()), tpoint.entry(now, small, values));
    }

    /// The counter, or the time of this round where there is none.
    fn trace_ticks(&self) -> u64 {
        match self.mesh().trace_clock().readings.get() {
            Some((ticks, _)) => ticks(),
            None => self.now().as_ns(),
        }
    }

    /// Now, for [`Self::set_trace_masks`] on every core.
    pub fn trace_start(&self) -> TraceStart {
        let readings = self.mesh().trace_clock().readings.get();
        let hz = readings.map_or(NS_PER_S, |(_, hz)| hz());
        TraceStart { ticks: self.trace_ticks(), at: self.now(), hz }
    }

    /// What is traced on this core.
    pub fn trace_masks(&self) -> TraceMasks {
        TraceMasks(self.inner.tracer.masks.0.each_ref().map(Cell::get))
    }

    /// Has `core` trace what `masks` say, from one of its next rounds on: with the first tracepoint
    /// that is on come `len` entries (48 bytes each), which go with the last.
    pub fn set_trace_masks(
        &self,
        core: CoreId,
        masks: TraceMasks,
        start: TraceStart,
        len: usize,
    ) -> Result<(), TraceError> {
        let Some(counters) = self.mesh().counters(core) else { return Err(TraceError::Busy) };
        let ring = match (masks.groups(), counters.shown.0.lock().clone()) {
            (0, _) => None,
            (_, Some(ring)) => Some(ring),
            _ => Some(TraceRing::new(start, len)?),
        };
        let own = ring.clone();
        let set = move |local: &Self| local.inner.tracer.set(masks, own);
        if core == self.core() {
            set(self);
        } else {
            self.send(core, set).map_err(|_| TraceError::Busy)?;
        }
        *counters.shown.0.lock() = ring;
        Ok(())
    }
}

impl Tracer {
    fn set(&self, masks: TraceMasks, ring: Option<Arc<TraceRing>>) {
        self.groups.set(masks.groups());
        self.masks.0.iter().zip(masks.0).for_each(|(cell, mask)| cell.set(mask));
        self.ring.replace(ring);
    }
}

impl Cores {
    /// How the environment counts time for traces: the counter, which never goes back and is the
    /// same on all cores, and how often it counts in a second. To be set once, before anything is
    /// traced; without it, entries have the times of their rounds.
    pub fn set_trace_clock(
        &self,
        ticks: impl Fn() -> u64 + Send + Sync + 'static,
        hz: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.trace_clock().readings.call_once(|| (Box::new(ticks), Box::new(hz)));
    }

    /// What `core` has traced; `None` while it traces nothing. It waits for nobody, so that it may
    /// be called in a panic: then it may find nothing though there is something.
    pub fn traced(&self, core: CoreId) -> Option<Arc<TraceRing>> {
        self.counters(core)?.shown.0.try_lock()?.clone()
    }

    /// The name behind a [`TraceValue::Activity`] of `core`.
    pub fn activity(&self, core: CoreId, value: u64) -> Option<&'static str> {
        self.counters(core)?.running.name(Activity::from_bits(value))
    }
}

/// How an entry is printed: its time, its name, and its values by name.
#[derive(Debug)]
pub struct TracedLine<'a> {
    cores: &'a Cores,
    core: CoreId,
    ring: &'a TraceRing,
    traced: Traced,
}

impl fmt::Display for TracedLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.traced.at.as_us();
        let name = self.traced.tpoint.name();
        write!(f, "[{}.{:06}] {name}", us / 1_000_000, us % 1_000_000)?;
        for field in self.traced.tpoint.fields() {
            let value = self.ring.value(&self.traced, field);
            let word = match field.value {
                TraceValue::Op => OPS.get(value as usize).copied(),
                TraceValue::Activity => self.cores.activity(self.core, value),
                TraceValue::Number | TraceValue::Bdev | TraceValue::Ticks => None,
            };
            match word {
                Some(word) => write!(f, " {}={word}", field.name)?,
                None => write!(f, " {}={value}", field.name)?,
            }
        }
        f.write_str(if self.traced.has_failed() { " failed" } else { "" })
    }
}

impl Cores {
    /// The newest entries of `ring`, which is that of `core`, to be printed: at most `most`, none
    /// older than `age` before the last. Locks nothing and allocates nothing.
    pub fn last_traced<'a>(
        &'a self,
        core: CoreId,
        ring: &'a TraceRing,
        most: u64,
        age: Duration,
    ) -> impl Iterator<Item = TracedLine<'a>> {
        let written = ring.written();
        let last = written.checked_sub(1).and_then(|number| ring.read(number));
        let last_ns = last.map_or(0, |traced| traced.at.as_ns());
        let since_ns = last_ns.saturating_sub(age.as_nanos() as u64);
        let first = written.saturating_sub(most).max(ring.oldest());
        (first..written)
            .filter_map(|number| ring.read(number))
            .filter(move |traced| traced.at.as_ns() >= since_ns)
            .map(move |traced| TracedLine { cores: self, core, ring, traced })
    }
}
