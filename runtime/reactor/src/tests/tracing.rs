use alloc::string::ToString as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use basalt_metrics::{Tpoint, TraceGroup, TraceValue};

use super::*;
use crate::{TraceError, TraceMasks, Traced};

fn masks(groups: &[TraceGroup]) -> TraceMasks {
    let mut masks = TraceMasks::default();
    groups.iter().for_each(|group| masks.set(*group, u64::MAX));
    masks
}

fn trace(local: &Local, masks: TraceMasks) {
    local.set_trace_masks(local.core(), masks, local.trace_start(), 64).unwrap();
}

fn all_traced(local: &Local) -> Vec<Traced> {
    let Some(ring) = local.mesh().traced(local.core()) else { return Vec::new() };
    (ring.oldest()..ring.written()).map(|number| ring.read(number).unwrap()).collect()
}

/// A counter with three ticks to a nanosecond that each reading takes six further.
fn count_ticks(lone: &Lone) -> Arc<AtomicU64> {
    let ticks = Arc::new(AtomicU64::new(1));
    let counter = ticks.clone();
    let mesh = lone.local().mesh().clone();
    mesh.set_trace_clock(move || counter.fetch_add(6, Ordering::Relaxed), || 3_000_000_000);
    ticks
}

#[test]
fn what_is_off_leaves_no_trace_and_takes_no_memory() {
    let mut lone = Lone::new();
    let local = lone.local();
    let _busy = local.poller("busy", |_| Work(1));
    lone.rounds(3);
    assert!(local.mesh().traced(CoreId(0)).is_none());
    trace(&local, masks(&[TraceGroup::Bdev]));
    assert!(local.traces(TraceGroup::Bdev) && !local.traces(TraceGroup::Thread));
    lone.rounds(3);
    local.trace(Tpoint::SockSent, (0, 1), [2, 0, 0]);
    assert_eq!(all_traced(&local), []);
    trace(&local, TraceMasks::default());
    assert!(local.mesh().traced(CoreId(0)).is_none());
}

#[test]
fn a_round_is_traced_with_what_it_runs_inside_it() {
    let mut lone = Lone::new();
    count_ticks(&lone);
    let local = lone.local();
    let _busy = local.poller("busy", |_| Work(3));
    let _idle = local.poller("idle", |_| Work::IDLE);
    lone.rounds(1);
    trace(&local, masks(&[TraceGroup::Thread]));
    local.spawn("task", async {});
    local.send(CoreId(0), |_| {}).unwrap();
    lone.rounds(1);
    let ring = local.mesh().traced(CoreId(0)).unwrap();
    let seen = all_traced(&local);
    let points: Vec<_> = seen.iter().map(|traced| traced.tpoint).collect();
    use Tpoint::{ThreadEvents, ThreadPoller, ThreadRound, ThreadTask};
    assert_eq!(points, [ThreadEvents, ThreadPoller, ThreadTask, ThreadRound]);
    let values = |traced: &Traced, wanted: TraceValue| {
        let fields = traced.tpoint.fields().iter().filter(move |field| field.value == wanted);
        fields.map(|field| ring.value(traced, field)).collect::<Vec<_>>()
    };
    let name = |traced| local.mesh().activity(CoreId(0), values(traced, TraceValue::Activity)[0]);
    assert_eq!([&seen[1], &seen[2]].map(name), [Some("busy"), Some("task")]);
    assert_eq!(values(&seen[1], TraceValue::Number), [3]);
    let took = |traced: &Traced| values(traced, TraceValue::Ticks)[0];
    let began = |traced: &Traced| traced.at.as_ns() - took(traced);
    assert!(seen.windows(2).all(|pair| pair[0].at < pair[1].at));
    assert!(seen.iter().all(|traced| took(traced) > 0));
    for inner in &seen[..3] {
        assert!(began(inner) >= began(&seen[3]), "{inner:?}");
    }
}

#[test]
fn entries_have_the_environments_time() {
    let mut lone = Lone::new();
    let ticks = count_ticks(&lone);
    let local = lone.local();
    let _ = lone.round_after(50);
    trace(&local, masks(&[TraceGroup::Sock]));
    ticks.fetch_add(3_000 * 7, Ordering::Relaxed);
    local.trace(Tpoint::SockSent, (0, 1), [4096, 0, 0]);
    ticks.fetch_add(3_000, Ordering::Relaxed);
    local.trace_failed(Tpoint::SockReceived, (0, 2), [0; 3]);
    let _ = lone.round_after(1);
    (0..5).for_each(|n| local.trace(Tpoint::SockSent, (0, 1), [n, 0, 0]));
    ticks.fetch_add(3_000, Ordering::Relaxed);
    let _ = lone.round_after(1);
    local.trace(Tpoint::SockSent, (0, 1), [4096, 0, 0]);
    let seen = all_traced(&local);
    // Four share a reading, unless a round has begun between them.
    let at: Vec<_> = seen.iter().map(|traced| traced.at.as_ns() / 1_000).collect();
    assert_eq!(at, [57, 57, 58, 58, 58, 58, 58, 59]);
    let failed: Vec<_> = seen.iter().map(Traced::has_failed).collect();
    assert_eq!(failed, [false, true, false, false, false, false, false, false]);
}

#[test]
fn single_tracepoints_of_a_group_are_switched_alone() {
    let lone = Lone::new();
    let local = lone.local();
    let mut masks = TraceMasks::default();
    masks.set(TraceGroup::Sock, 0xf0 | Tpoint::SockSent.bit());
    assert_eq!(masks.get(TraceGroup::Sock), Tpoint::SockSent.bit());
    trace(&local, masks);
    local.trace(Tpoint::SockReceived, (0, 0), [0; 3]);
    local.trace(Tpoint::SockSent, (0, 0), [0; 3]);
    let seen: Vec<_> = all_traced(&local).iter().map(|traced| traced.tpoint).collect();
    assert_eq!(seen, [Tpoint::SockSent]);
    masks.clear(TraceGroup::Sock, u64::MAX);
    assert_eq!((masks.groups(), masks), (0, TraceMasks::default()));
}

#[test]
fn the_last_entries_are_printed_with_their_values() {
    let mut lone = Lone::new();
    count_ticks(&lone);
    let local = lone.local();
    let _busy = local.poller("busy", |_| Work(3));
    let _ = lone.round_after(50);
    let on = [TraceGroup::Bdev, TraceGroup::Thread, TraceGroup::Sock];
    trace(&local, masks(&on));
    local.trace_failed(Tpoint::BdevIoDone, (1, 7), [8, 2, 900]);
    (0..3).for_each(|_| lone.rounds(1));
    let (cores, ring) = (local.mesh(), local.mesh().traced(CoreId(0)).unwrap());
    let last = |most, age| -> Vec<_> {
        let age = Duration::from_nanos(age);
        cores.last_traced(CoreId(0), &ring, most, age).map(|line| line.to_string()).collect()
    };
    let all = last(100, 1_000_000);
    let done = "[0.000050] BDEV_IO_DONE op=write bdev=7 lba=8 blocks=2 latency_ns=900 failed";
    assert_eq!((all.len(), all[0].as_str()), (7, done));
    assert_eq!(all[1], "[0.000050] THREAD_POLLER name=busy work=3 took_ns=2");
    assert_eq!(last(2, 1_000_000), all[5..]);
    assert_eq!(last(100, 0), all[6..]);
}

#[test]
fn another_core_traces_from_its_next_round_on() {
    let mut reactors: Vec<Reactor> =
        mesh(2, Options::default()).into_iter().map(|seed| seed.build()).collect();
    let (boot, other) = (reactors[0].local(), reactors[1].local());
    let set = |masks| boot.set_trace_masks(CoreId(1), masks, boot.trace_start(), 64);
    set(masks(&[TraceGroup::Sock])).unwrap();
    let ring = boot.mesh().traced(CoreId(1)).unwrap();
    assert!(!other.traces(TraceGroup::Sock));
    let _ = reactors[1].poll(Instant::from_ns(1));
    other.trace(Tpoint::SockSent, (0, 1), [1, 0, 0]);
    set(masks(&[TraceGroup::Sock, TraceGroup::Bdev])).unwrap();
    let _ = reactors[1].poll(Instant::from_ns(2));
    other.trace(Tpoint::BdevIoStart, (0, 1), [1, 0, 0]);
    assert_eq!(ring.written(), 2);
    set(TraceMasks::default()).unwrap();
    let _ = reactors[1].poll(Instant::from_ns(3));
    assert!(boot.mesh().traced(CoreId(1)).is_none() && !other.traces(TraceGroup::Bdev));
    assert_eq!(Arc::strong_count(&ring), 1);
    let nowhere =
        boot.set_trace_masks(CoreId(7), masks(&[TraceGroup::Sock]), boot.trace_start(), 1);
    assert_eq!(nowhere, Err(TraceError::Busy));
}
