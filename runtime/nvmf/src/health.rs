use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

use basalt_bdev::{Io, IoError, Op};
use basalt_env::{CoreId, Instant};

/// What the hosts of a subsystem have done to it, for its SMART / Health log page (base
/// specification 2.0 §5.16.1.3).
///
/// Each core writes its own counters alone, with plain loads and stores; who reads adds them up.
pub(crate) struct Health {
    cores: Box<[CoreHealth]>,
    unsafe_shutdowns: AtomicU64,
}

#[derive(Default)]
#[repr(align(64))]
struct CoreHealth {
    read: AtomicU64,
    written: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
    media_errors: AtomicU64,
    /// Time with an Io outstanding, up to when there was none last.
    busy_ns: AtomicU64,
    busy_since_ns: AtomicU64,
    outstanding: AtomicU64,
}

/// The counters of all cores together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Totals {
    /// Bytes read.
    pub(crate) read: u64,
    /// Bytes written.
    pub(crate) written: u64,
    /// Read commands that succeeded.
    pub(crate) reads: u64,
    /// Write commands that succeeded.
    pub(crate) writes: u64,
    /// Commands that failed for the medium's sake.
    pub(crate) media_errors: u64,
    /// Time with an Io outstanding on the busiest core: what all cores together have been busy is
    /// at least that.
    pub(crate) busy_ns: u64,
    /// Controllers that ended without a shutdown notification.
    pub(crate) unsafe_shutdowns: u64,
}

impl Health {
    /// All counters zero.
    pub(crate) fn new(cores: usize) -> Self {
        let cores = (0..cores).map(|_| CoreHealth::default()).collect();
        Self { cores, unsafe_shutdowns: AtomicU64::new(0) }
    }

    /// An Io goes to the bdev.
    pub(crate) fn started(&self, core: CoreId, now: Instant) {
        let Some(own) = self.cores.get(core.index()) else { return };
        if own.outstanding.load(Ordering::Relaxed) == 0 {
            own.busy_since_ns.store(now.as_ns(), Ordering::Relaxed);
        }
        add(&own.outstanding, 1);
    }

    /// An Io has come back.
    pub(crate) fn finished(&self, core: CoreId, io: &Io, now: Instant) {
        let Some(own) = self.cores.get(core.index()) else { return };
        let left = own.outstanding.load(Ordering::Relaxed).saturating_sub(1);
        own.outstanding.store(left, Ordering::Relaxed);
        if left == 0 {
            let since = own.busy_since_ns.load(Ordering::Relaxed);
            add(&own.busy_ns, now.as_ns().saturating_sub(since));
        }
        if is_media_error(io) {
            add(&own.media_errors, 1);
        }
    }

    /// A Read or Write command of `bytes` bytes has succeeded.
    pub(crate) fn transferred(&self, core: CoreId, op: Op, bytes: u64) {
        let Some(own) = self.cores.get(core.index()) else { return };
        let (total, commands) = match op {
            Op::Read => (&own.read, &own.reads),
            _ => (&own.written, &own.writes),
        };
        add(total, bytes);
        add(commands, 1);
    }

    /// A controller ended without a shutdown notification. Called on the boot core only.
    pub(crate) fn unsafe_shutdown(&self) {
        add(&self.unsafe_shutdowns, 1);
    }

    /// What all cores have counted.
    pub(crate) fn totals(&self, now: Instant) -> Totals {
        let mut totals = Totals {
            unsafe_shutdowns: self.unsafe_shutdowns.load(Ordering::Relaxed),
            ..Totals::default()
        };
        let load = |field: &AtomicU64| field.load(Ordering::Relaxed);
        for own in &self.cores {
            totals.read += load(&own.read);
            totals.written += load(&own.written);
            totals.reads += load(&own.reads);
            totals.writes += load(&own.writes);
            totals.media_errors += load(&own.media_errors);
            let running = match load(&own.outstanding) {
                0 => 0,
                _ => now.as_ns().saturating_sub(load(&own.busy_since_ns)),
            };
            totals.busy_ns = totals.busy_ns.max(load(&own.busy_ns) + running);
        }
        totals
    }
}

/// A single writer's add: no locked instruction.
fn add(field: &AtomicU64, amount: u64) {
    field.store(field.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// Whether the medium failed: status type 2, but for a failed comparison and a denied access,
/// which say nothing about it.
fn is_media_error(io: &Io) -> bool {
    const MEDIA: u8 = 2;
    const COMPARE_FAILURE: u8 = 0x85;
    const ACCESS_DENIED: u8 = 0x86;
    matches!(
        io.status,
        Err(IoError::Nvme { sct: MEDIA, sc, .. }) if sc != COMPARE_FAILURE && sc != ACCESS_DENIED
    )
}
