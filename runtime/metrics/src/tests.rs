extern crate std;

use alloc::vec::Vec;
use core::time::Duration;
use std::sync::Arc;
use std::thread;

use proptest::prelude::*;

use crate::{Counter, Histogram, PerCore, Tpoint, Trace, TraceEntry, TraceGroup};

fn histogram_of(values: &[u64]) -> Histogram {
    let histogram = Histogram::new();
    values.iter().for_each(|value| histogram.record(*value));
    histogram
}

/// Values of every magnitude a latency may have.
fn values() -> impl Strategy<Value = Vec<u64>> {
    let value = (0u32..36, any::<u64>()).prop_map(|(bits, noise)| noise & ((1 << bits) - 1));
    prop::collection::vec(value, 1..400)
}

proptest! {
    #[test]
    fn a_percentile_lies_at_most_a_thirty_second_above_the_exact_one(
        values in values(),
        per_100k in 0u32..=100_000,
    ) {
        let histogram = histogram_of(&values);
        let mut sorted = values;
        sorted.sort_unstable();
        let rank = (sorted.len() * per_100k as usize).div_ceil(100_000).max(1);
        let exact = sorted[rank - 1];
        let found = histogram.percentile(per_100k);
        prop_assert!(found >= exact, "{found} is below the exact {exact}");
        prop_assert!(found <= exact + exact / 32, "{found} is far above the exact {exact}");
    }

    #[test]
    fn count_mean_min_and_max_are_exact(values in values()) {
        let summary = histogram_of(&values).summary();
        let count = values.len() as u64;
        prop_assert_eq!(summary.count, count);
        prop_assert_eq!(summary.mean, values.iter().sum::<u64>() / count);
        prop_assert_eq!(Some(summary.min), values.iter().copied().min());
        prop_assert_eq!(Some(summary.max), values.iter().copied().max());
    }

    #[test]
    fn merged_histograms_equal_one_that_counted_everything(a in values(), b in values()) {
        let merged = histogram_of(&a);
        merged.merge(&Histogram::new());
        merged.merge(&histogram_of(&b));
        let all = histogram_of(&[a, b].concat());
        prop_assert_eq!(merged.summary(), all.summary());
        prop_assert!(merged.buckets().eq(all.buckets()));
    }

    #[test]
    fn every_value_falls_into_a_bucket_that_ends_at_or_after_it(value in any::<u64>()) {
        let histogram = histogram_of(&[value]);
        let (end, count) = histogram.buckets().next().expect("one value was counted");
        prop_assert!(end >= value && count == 1);
        prop_assert_eq!(histogram.percentile(50_000), value.min(end));
    }
}

#[test]
fn an_empty_histogram_has_only_zeroes() {
    let histogram = Histogram::new();
    assert_eq!(histogram.summary(), crate::Summary::default());
    histogram.record_duration(Duration::from_micros(3));
    assert_eq!(histogram.max(), 3_000);
    histogram.reset();
    assert_eq!(histogram.summary(), crate::Summary::default());
}

#[test]
fn a_histogram_fits_in_about_eight_kibibytes() {
    assert!(size_of::<Histogram>() <= 8 * 1024 + 64);
}

#[test]
fn counters_of_several_cores_are_added_when_read() {
    let counters: Arc<PerCore<Counter>> = Arc::new(PerCore::new(3));
    let threads: Vec<_> = (0..3)
        .map(|core| {
            let counters = counters.clone();
            thread::spawn(move || {
                (0..1_000).for_each(|_| counters.get(core).expect("core exists").add(core as u64));
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    assert_eq!(counters.sum(), 3_000);
    assert!(counters.get(3).is_none());
}

fn entry(n: u64) -> TraceEntry {
    TraceEntry { at: n, kind: n * 2, a: n * 3, b: n * 5, c: n * 7 }
}

#[test]
fn a_trace_keeps_the_newest_events_in_order() {
    let trace = Trace::new(3);
    (0..2).for_each(|n| trace.record(entry(n)));
    assert!(trace.iter().eq((0..2).map(entry)));
    (2..10).for_each(|n| trace.record(entry(n)));
    assert!(trace.iter().eq((6..10).map(entry)));
    assert_eq!(trace.written(), 10);
}

#[test]
fn a_trace_is_read_by_number_and_forgets_what_it_is_told_to() {
    let trace = Trace::try_new(4).expect("memory for four events");
    assert_eq!((trace.oldest(), trace.written(), trace.read(0)), (0, 0, None));
    (0..6).for_each(|n| trace.record(entry(n)));
    assert_eq!(trace.oldest(), 2);
    let found = [1, 2, 5, 6].map(|number| trace.read(number));
    assert_eq!(found, [None, Some(entry(2)), Some(entry(5)), None]);
    trace.clear();
    assert_eq!((trace.oldest(), trace.iter().count()), (6, 0));
    trace.record(entry(6));
    assert!(trace.iter().eq([entry(6)]));
}

#[test]
fn a_tracepoint_is_found_by_what_an_entry_says_it_is() {
    for tpoint in Tpoint::ALL {
        let entry = tpoint.entry(7, (0xabcd, 0x1234_5678), [1, 2, 3]);
        assert_eq!(Tpoint::of(entry), Some(*tpoint));
        assert!(!entry.has_failed() && entry.failed().has_failed());
        assert_eq!(Tpoint::of(entry.failed()), Some(*tpoint));
        assert_eq!(entry.values(), [0xabcd, 0x1234_5678, 1, 2, 3]);
        let twin = |other: &&Tpoint| other.name() == tpoint.name() || other.id() == tpoint.id();
        assert_eq!(Tpoint::ALL.iter().filter(twin).count(), 1, "{}", tpoint.name());
        assert_ne!(tpoint.group().tpoints() & tpoint.bit(), 0);
    }
    assert_eq!(Tpoint::of(TraceEntry { kind: 0x3ff, ..TraceEntry::default() }), None);
}

/// As in `include/spdk_internal/trace_defs.h`, with the names that `lib/bdev`, `lib/nvmf/tcp.c` and
/// `lib/nvme` register.
const OF_SPDK: [(&str, u16, u16); 6] = [
    ("BDEV_IO_START", 0x3, 0x0),
    ("BDEV_IO_DONE", 0x3, 0x1),
    ("TCP_REQ_NEW", 0x5, 0x00),
    ("TCP_REQ_COMPLETED", 0x5, 0x0c),
    ("NVME_PCIE_SUBMIT", 0xb, 0x0),
    ("NVME_PCIE_COMPLETE", 0xb, 0x1),
];

#[test]
fn tracepoints_that_spdk_has_are_numbered_as_there_and_others_as_none_there() {
    for tpoint in Tpoint::ALL {
        let (group, number) = (tpoint.id() / 64, tpoint.id() % 64);
        assert_eq!(tpoint.bit(), 1 << number);
        match OF_SPDK.iter().find(|(name, ..)| *name == tpoint.name()) {
            Some(expected) => assert_eq!((tpoint.name(), group, number), *expected),
            None => assert!(number >= 0x20, "{}", tpoint.name()),
        }
    }
    let known = |name: &str| Tpoint::ALL.iter().any(|tpoint| tpoint.name() == name);
    assert!(OF_SPDK.iter().all(|(name, ..)| known(name)));
}

#[test]
fn groups_are_found_by_name() {
    for group in TraceGroup::ALL {
        assert_eq!(TraceGroup::find(group.name()), Some(group));
    }
    assert_eq!(TraceGroup::find("all"), None);
}

#[test]
fn a_trace_read_while_it_is_written_never_shows_a_torn_event() {
    let trace = Arc::new(Trace::new(8));
    let writer = trace.clone();
    let thread = thread::spawn(move || (0..200_000).for_each(|n| writer.record(entry(n))));
    while !thread.is_finished() {
        for found in trace.iter() {
            assert_eq!(found, entry(found.at));
        }
    }
    thread.join().expect("no panic");
    assert_eq!(trace.iter().count(), 8);
}
