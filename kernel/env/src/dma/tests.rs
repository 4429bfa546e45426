#![expect(unsafe_code, reason = "tests make an arena of leaked memory")]

extern crate std;

use alloc::alloc::{Layout, alloc_zeroed};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::NonNull;
use std::sync::mpsc;
use std::thread;

use proptest::prelude::*;

use super::{DmaArena, DmaBuf, DmaPool, DmaRun, DmaSlice, Parcel, SharedRegion, SharedWords};
use crate::PhysAddr;

const BUS: u64 = 0x40_0000_0000;

fn pool(len: usize) -> DmaPool {
    DmaPool::new(arena(len))
}

fn poisoning(len: usize) -> DmaPool {
    DmaPool::poisoning(arena(len), 0xa5)
}

fn arena(len: usize) -> DmaArena {
    let layout = Layout::from_size_align(len, DmaArena::ALIGN).unwrap();
    // SAFETY: the layout has a non-zero size.
    let base = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
    // SAFETY: freshly allocated, zeroed, leaked and aligned to `DmaArena::ALIGN`.
    unsafe { DmaArena::new(base, len, PhysAddr::new(BUS)) }
}

#[test]
fn buffers_are_disjoint_aligned_and_come_back() {
    let pool = pool(4 << 20);
    let mut held = Vec::new();
    for len in [1, 512, 513, 4096, 5000, 131_072, 1 << 20] {
        let buf = pool.alloc(len).unwrap();
        assert_eq!(buf.len(), len);
        assert!(buf.phys().as_u64().is_multiple_of(buf.capacity() as u64));
        held.push((buf.phys().as_u64(), buf.capacity() as u64, buf));
    }
    held.sort_by_key(|(start, ..)| *start);
    assert!(held.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
    drop(held);
    assert_eq!(pool.stats().bytes_free, 4 << 20);
}

#[test]
fn exhaustion_is_an_error_and_freed_blocks_merge_again() {
    let pool = pool(4 << 20);
    let mut small = Vec::new();
    while let Ok(buf) = pool.alloc(512) {
        small.push(buf);
    }
    assert_eq!(small.len(), (4 << 20) / 512);
    assert!(pool.alloc(1).is_err());
    drop(small);
    assert!(pool.alloc(4 << 20).is_ok(), "all small blocks merged into one");
    assert!(pool.alloc((4 << 20) + 1).is_err());
}

#[test]
fn an_arena_of_odd_size_gives_all_it_has() {
    let pool = pool((4 << 20) + 4096 + 512);
    assert_eq!(pool.stats().bytes_free, (4 << 20) + 4096 + 512);
    let _large = pool.alloc(4 << 20).unwrap();
    let _page = pool.alloc(4096).unwrap();
    let _rest = pool.alloc(512).unwrap();
    assert!(pool.alloc(1).is_err());
}

#[test]
fn shared_memory_is_zeroed_and_accessed_by_value() {
    let pool = pool(4 << 20);
    drop({
        let mut dirty = pool.alloc(4096).unwrap();
        dirty.as_mut_slice().fill(0xaa);
        dirty
    });
    let mem = pool.alloc_shared(4096).unwrap();
    assert_eq!(mem.load64(0), 0);
    mem.store32(8, 0x1234_5678);
    let mut bytes = [0; 4];
    mem.copy_out(8, &mut bytes);
    assert_eq!(bytes, [0x78, 0x56, 0x34, 0x12]);
    mem.copy_in(4093, &[1, 2, 3]);
    assert_eq!(mem.load16(4094), 0x0302);
}

#[test]
#[should_panic(expected = "past shared memory")]
fn shared_memory_is_bounded() {
    let mem = pool(4 << 20).alloc_shared(64).unwrap();
    mem.copy_in(60, &[0; 8]);
}

#[test]
fn a_buffer_cannot_grow_past_its_block() {
    let mut buf = pool(4 << 20).alloc(600).unwrap();
    buf.set_len(1 << 20);
    assert_eq!(buf.len(), 1024);
}

#[test]
fn a_shared_region_starts_zeroed_and_keeps_what_is_copied_in() {
    let region = SharedRegion::zeroed(10_000).unwrap();
    let mut all = alloc::vec![1; region.len()];
    region.copy_out(0, &mut all);
    assert!(all.iter().all(|byte| *byte == 0));
    for (offset, len) in [(0, 1), (3, 7), (17, 8), (100, 4096), (9_987, 13), (10_000, 0)] {
        let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + offset) as u8 | 1).collect();
        region.copy_in(offset, &bytes);
        let mut back = alloc::vec![0; len];
        region.copy_out(offset, &mut back);
        assert_eq!(back, bytes);
    }
}

#[test]
fn zeroing_touches_exactly_the_range() {
    let region = SharedRegion::zeroed(4096).unwrap();
    region.copy_in(0, &[0xee; 4096]);
    region.zero(5, 1001);
    let mut all = [0; 4096];
    region.copy_out(0, &mut all);
    for (i, byte) in all.iter().enumerate() {
        assert_eq!(*byte == 0, (5..1006).contains(&i), "byte {i} is {byte:#x}");
    }
}

#[test]
fn a_region_larger_than_memory_is_an_error() {
    assert!(SharedRegion::zeroed(usize::MAX).is_err());
    assert!(SharedRegion::zeroed(isize::MAX as usize - 8192).is_err());
}

#[test]
#[should_panic = "past a shared region"]
fn a_copy_past_the_end_of_a_region_panics() {
    SharedRegion::zeroed(512).unwrap().copy_in(510, &[0; 3]);
}

#[test]
fn a_buffer_that_another_core_drops_returns_to_its_pool() {
    let home = pool(4 << 20);
    let parcel = Parcel::new(home.alloc(1 << 20).unwrap());
    assert_eq!(home.stats().bytes_free, 3 << 20);
    let bus = thread::spawn(move || {
        let mut buf = parcel.open(&pool(4 << 20));
        buf.as_mut_slice().fill(7);
        buf.phys()
    });
    let bus = bus.join().unwrap();
    assert!((BUS..BUS + (4 << 20)).contains(&bus.as_u64()));
    assert_eq!(home.stats().bytes_free, 4 << 20);
    assert!(home.alloc(4 << 20).is_ok(), "and merges with its neighbours");
}

#[test]
fn words_of_all_cores_return_to_their_pool_from_wherever_the_last_is_dropped() {
    let home = pool(4 << 20);
    let dirty = home.alloc_shared(4096).unwrap();
    dirty.store32(4092, 9);
    drop(dirty);
    let words = Arc::new(SharedWords::new(home.alloc_shared(4096).unwrap()));
    assert!((words.len(), words.load(1023)) == (1024, 0));
    let there = Arc::clone(&words);
    thread::spawn(move || there.store(1023, 5)).join().unwrap();
    assert_eq!(words.load(1023), 5);
    thread::spawn(move || drop(words)).join().unwrap();
    assert!(home.alloc(4 << 20).is_ok(), "and merges with its neighbours");
}

#[test]
fn a_buffer_keeps_its_bytes_on_its_way_there_and_back() {
    let home = pool(4 << 20);
    let mut buf = home.alloc(4096).unwrap();
    buf.set_len(100);
    buf.as_mut_slice().fill(1);
    let parcel = Parcel::new(buf);
    let there = thread::spawn(move || {
        let mut buf = parcel.open(&pool(4 << 20));
        assert!(buf.len() == 100 && buf.as_slice().iter().all(|byte| *byte == 1));
        buf.as_mut_slice()[99] = 2;
        Parcel::new(buf)
    });
    let buf = there.join().unwrap().open(&home);
    assert_eq!((buf.as_slice()[98], buf.as_slice()[99]), (1, 2));
    drop(buf);
    assert_eq!(home.stats().bytes_free, 4 << 20);
}

#[test]
fn no_block_is_lost_or_handed_out_twice_while_other_cores_give_back() {
    let home = pool(4 << 20);
    let (senders, cores): (Vec<_>, Vec<_>) = (0..3)
        .map(|_| {
            let (sender, parcels) = mpsc::channel::<(Parcel, u8)>();
            let core = thread::spawn(move || {
                let own = pool(4 << 20);
                for (parcel, marked) in parcels {
                    let buf = parcel.open(&own);
                    assert!(buf.as_slice().iter().all(|byte| *byte == marked));
                }
            });
            (sender, core)
        })
        .unzip();
    let mut sent = 0_u32;
    let mut random = 1_u32;
    while sent < 20_000 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let Ok(mut buf) = home.alloc(512 << ((random >> 16) % 5)) else {
            thread::yield_now();
            continue;
        };
        buf.as_mut_slice().fill(sent as u8);
        let to = &senders[(random >> 24) as usize % senders.len()];
        to.send((Parcel::new(buf), sent as u8)).unwrap();
        sent += 1;
    }
    drop(senders);
    cores.into_iter().for_each(|core| core.join().unwrap());
    assert_eq!(home.stats().bytes_free, 4 << 20);
}

#[test]
fn a_buffer_that_was_cut_can_be_put_together_again() {
    let pool = pool(4 << 20);
    let mut buf = pool.alloc(4000).unwrap();
    buf.as_mut_slice().iter_mut().zip(0..).for_each(|(byte, at): (_, u32)| *byte = (at >> 9) as u8);
    for at in [0, 100, 512 * 8, 4000] {
        assert!(buf.split_off(at).is_none(), "no cut at {at}");
    }
    let bus = buf.phys().as_u64();
    let mut third = buf.split_off(1536).unwrap();
    let mut second = buf.split_off(512).unwrap();
    assert_eq!([buf.len(), second.len(), third.len()], [512, 1024, 2464]);
    assert_eq!([buf.capacity(), second.capacity(), third.capacity()], [512, 1024, 2560]);
    let starts = [&buf, &second, &third].map(|part| part.phys().as_u64() - bus);
    assert_eq!(starts, [0, 512, 1536]);
    assert_eq!((second.as_slice()[0], second.as_slice()[1023], third.as_slice()[0]), (1, 2, 3));
    third.set_len(1 << 20);
    assert_eq!(third.len(), 2560, "it ends where the block does");
    third.set_len(2464);
    second.as_mut_slice()[0] = 9;
    third = buf.join(third).unwrap_err();
    second.set_len(1023);
    third = second.join(third).unwrap_err();
    second.set_len(1024);
    second.join(third).unwrap();
    buf.join(second).unwrap();
    assert_eq!((buf.len(), buf.capacity(), buf.as_slice()[512]), (4000, 4096, 9));
    drop(buf);
    assert_eq!(pool.stats().bytes_free, 4 << 20);
    assert!(pool.alloc(4 << 20).is_ok());
}

#[test]
fn parts_of_a_buffer_return_each_on_its_own_from_any_core() {
    let (home, other) = (pool(4 << 20), pool(4 << 20));
    let mut first = home.alloc(64 << 10).unwrap();
    let rest = first.split_off(24 << 10).unwrap();
    let mut parcel = Parcel::new(first).open(&other);
    let further = parcel.split_off(512).unwrap();
    drop(further);
    assert_eq!(home.stats().bytes_free, (4 << 20) - (40 << 10) - 512);
    let home_again = Parcel::new(parcel).open(&home);
    drop((rest, home_again));
    assert_eq!(home.stats().bytes_free, 4 << 20);
    assert!(home.alloc(4 << 20).is_ok(), "all have merged");
}

#[test]
fn a_shared_buffer_is_read_by_all_and_returns_with_the_last_of_them() {
    let pool = poisoning(4 << 20);
    let mut buf = pool.alloc(5000).unwrap();
    buf.as_mut_slice().iter_mut().zip(0..).for_each(|(byte, at): (_, u32)| *byte = at as u8);
    let bus = buf.phys().as_u64();
    let whole = pool.share(buf).unwrap();
    assert_eq!((whole.len(), whole.capacity(), whole.phys().as_u64()), (5000, 8192, bus));
    let (middle, again) = (whole.part(1000, 2000), whole.clone());
    assert_eq!((middle.len(), middle.phys().as_u64()), (2000, bus + 1000));
    let end = middle.part(1990, 100);
    assert_eq!(end.as_slice(), &again.as_slice()[2990..3000], "no more than there is");
    assert!(middle.part(5000, 1).is_empty());
    drop((whole, middle, again));
    assert_eq!(pool.stats().bytes_free, (4 << 20) - 8192);
    assert!(end.as_slice().iter().zip(2990..).all(|(byte, at): (_, u32)| *byte == at as u8));
    drop(end);
    assert_eq!(pool.stats().bytes_free, 4 << 20);
    assert!(pool.alloc(4 << 20).is_ok());
}

#[test]
fn a_slice_is_extended_by_what_comes_next_and_by_nothing_else() {
    let pool = pool(4 << 20);
    let whole = pool.share(pool.alloc(4096).unwrap()).unwrap();
    let other = pool.share(pool.alloc(4096).unwrap()).unwrap();
    let mut part = whole.part(0, 1000);
    for (of, from) in [(&whole, 999), (&whole, 1001), (&other, 0), (&other, 1000)] {
        assert!(!part.extend(of, from, 10), "from {from}");
    }
    assert!(part.extend(&whole, 1000, 500) && part.extend(&whole.part(1000, 2000), 500, 9000));
    assert_eq!((part.len(), part.phys()), (3000, whole.phys()));
    assert!(!part.extend(&whole.part(0, 10), 5000, 10));
    assert_eq!(part.len(), 3000);
}

#[test]
fn a_buffer_of_another_core_is_not_shared_and_a_part_of_one_is() {
    let (home, other) = (pool(4 << 20), pool(4 << 20));
    let there = Parcel::new(home.alloc(512).unwrap()).open(&other);
    let back = Parcel::new(other.share(there).unwrap_err()).open(&home);
    let foreign = other.share(home.alloc(512).unwrap()).unwrap_err();
    let mut first = home.alloc(4096).unwrap();
    let rest = home.share(first.split_off(1024).unwrap()).unwrap();
    assert_eq!((rest.len(), rest.capacity()), (3072, 3072));
    drop((back, foreign, first));
    assert_eq!(home.stats().bytes_free, (4 << 20) - 3072);
    drop(rest);
    assert!(home.alloc(4 << 20).is_ok(), "all have merged");
}

#[test]
fn a_run_has_the_same_bytes_lent_or_shared() {
    let pool = pool(4 << 20);
    let mut buf = pool.alloc(600).unwrap();
    buf.as_mut_slice().fill(3);
    let slice = pool.share(buf).unwrap();
    for from in [0, 1, 599, 600, 601] {
        let run = DmaRun::Shared(&slice, from);
        let lent = DmaRun::Lent(slice.as_slice().get(from..).unwrap_or_default());
        assert_eq!(run.as_slice(), lent.as_slice());
        assert_eq!((run.len(), run.is_empty()), (run.as_slice().len(), lent.is_empty()));
    }
}

/// Something that happens to a pool.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A buffer of that many bytes is asked for.
    Take(usize),
    /// The buffer at that place, of those that are out, is dropped at home.
    Drop(usize),
    /// The same on another core, as far as the pool can tell.
    DropAfar(usize),
    /// It goes to another core and comes back.
    Visit(usize),
    /// It is cut after so many units, if it is that long.
    Cut(usize, usize),
    /// It is put before the next one in memory, if that belongs there.
    Join(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop_oneof![1_usize..2048, 1_usize..300_000, Just(4 << 20)].prop_map(Step::Take),
        1 => any::<usize>().prop_map(Step::Drop),
        1 => any::<usize>().prop_map(Step::DropAfar),
        1 => any::<usize>().prop_map(Step::Visit),
        2 => (any::<usize>(), 1_usize..64).prop_map(|(at, units)| Step::Cut(at, units)),
        2 => any::<usize>().prop_map(Step::Join),
    ]
}

proptest! {
    #[test]
    fn whatever_is_taken_and_dropped_anywhere_blocks_stay_apart_and_none_is_lost(
        steps in proptest::collection::vec(any_step(), 1..200),
    ) {
        const LEN: usize = 8 << 20;
        let (home, other) = (pool(LEN), pool(4 << 20));
        let mut out: Vec<DmaBuf> = Vec::new();
        for step in steps {
            match step {
                Step::Take(len) => out.extend(home.alloc(len)),
                _ if out.is_empty() => {}
                Step::Drop(at) => drop(out.swap_remove(at % out.len())),
                Step::DropAfar(at) => {
                    let parcel = Parcel::new(out.swap_remove(at % out.len()));
                    drop(parcel.open(&other));
                }
                Step::Visit(at) => {
                    let parcel = Parcel::new(out.swap_remove(at % out.len()));
                    out.push(Parcel::new(parcel.open(&other)).open(&home));
                }
                Step::Cut(at, units) => {
                    let at = at % out.len();
                    let rest = out[at].split_off(units * 512);
                    out.extend(rest);
                }
                Step::Join(at) => {
                    let mut first = out.swap_remove(at % out.len());
                    let end = first.phys().as_u64() + first.capacity() as u64;
                    let next = out.iter().position(|buf| buf.phys().as_u64() == end);
                    if let Some(next) = next.map(|next| out.swap_remove(next)) {
                        out.extend(first.join(next).err());
                    }
                    out.push(first);
                }
            }
            let mut spans: Vec<_> =
                out.iter().map(|buf| (buf.phys().as_u64(), buf.capacity() as u64)).collect();
            spans.sort_unstable();
            prop_assert!(spans.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
            let taken: u64 = spans.iter().map(|(_, len)| len).sum();
            prop_assert_eq!(home.stats().bytes_free as u64 + taken, LEN as u64);
        }
        drop(out);
        prop_assert_eq!(home.stats().bytes_free, LEN);
        prop_assert_eq!(other.stats().bytes_free, 4 << 20, "nothing stays with the other pool");
        prop_assert!(home.alloc(4 << 20).is_ok(), "all have merged");
    }
}

proptest! {
    #[test]
    fn whatever_is_shared_and_dropped_each_buffer_lives_as_long_as_its_last_slice(
        steps in proptest::collection::vec((0_u8..4, any::<usize>(), 1_usize..9000), 1..300),
    ) {
        let pool = poisoning(8 << 20);
        // Each with what its bytes are.
        let mut slices: Vec<(DmaSlice, u8)> = Vec::new();
        for (step, at, len) in steps {
            match step {
                0 => {
                    let mut buf = pool.alloc(len).unwrap();
                    let mark = (at % 0xa5) as u8;
                    buf.as_mut_slice().fill(mark);
                    slices.push((pool.share(buf).unwrap(), mark));
                }
                _ if slices.is_empty() => {}
                1 => {
                    let (of, mark) = &slices[at % slices.len()];
                    let part = of.part(len % 4096, at % 4096);
                    let mark = *mark;
                    slices.push((part, mark));
                }
                _ => drop(slices.swap_remove(at % slices.len())),
            }
            let is_right = |(slice, mark): &(DmaSlice, u8)| {
                slice.as_slice().iter().all(|byte| byte == mark)
            };
            prop_assert!(slices.iter().all(is_right));
        }
        drop(slices);
        prop_assert_eq!(pool.stats().bytes_free, 8 << 20);
    }
}
