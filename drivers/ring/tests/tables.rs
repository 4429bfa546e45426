//! Slots and cursors against plain models.
#![cfg(not(loom))]

use std::collections::HashMap;

use basalt_ring::{CapacityError, Cursor, Full, Slots, StaleTag, Tag};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(u32),
    Remove(usize),
    Stale(usize),
    Invent(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u32>().prop_map(Step::Insert),
        3 => any::<usize>().prop_map(Step::Remove),
        1 => any::<usize>().prop_map(Step::Stale),
        1 => any::<u16>().prop_map(Step::Invent),
    ]
}

proptest! {
    #[test]
    fn slots_behave_as_a_map_of_the_tags_given_out(
        capacity in 1usize..40,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut slots: Slots<u32> = Slots::with_capacity(capacity).unwrap();
        let (mut live, mut dead) = (HashMap::new(), Vec::<u16>::new());
        for step in steps {
            match step {
                Step::Insert(value) if live.len() < capacity => {
                    let tag = slots.insert(value).unwrap();
                    prop_assert!(slots.index(tag) < capacity);
                    prop_assert!(live.insert(tag.as_u16(), value).is_none());
                    dead.retain(|old| *old != tag.as_u16());
                }
                Step::Insert(value) => {
                    prop_assert_eq!(slots.insert(value), Err(Full(value)));
                }
                Step::Remove(choice) if !live.is_empty() => {
                    let mut tags: Vec<_> = live.keys().copied().collect();
                    tags.sort_unstable();
                    let tag = tags[choice % tags.len()];
                    prop_assert_eq!(slots.remove(Tag::from_u16(tag)).ok(), live.remove(&tag));
                    dead.push(tag);
                }
                Step::Stale(choice) if !dead.is_empty() => {
                    let tag = Tag::from_u16(dead[choice % dead.len()]);
                    prop_assert_eq!(slots.remove(tag), Err(StaleTag));
                }
                Step::Invent(raw) => {
                    let expected = live.get(&raw).ok_or(StaleTag);
                    prop_assert_eq!(slots.get(Tag::from_u16(raw)), expected);
                }
                Step::Remove(_) | Step::Stale(_) => {}
            }
            prop_assert_eq!((slots.len(), slots.is_full()), (live.len(), live.len() == capacity));
        }
        let found: HashMap<_, _> = slots.iter().map(|(tag, v)| (tag.as_u16(), *v)).collect();
        prop_assert_eq!(&found, &live);
        prop_assert_eq!(slots.drain().count(), live.len());
        prop_assert!(slots.is_empty());
    }

    #[test]
    fn a_cursor_follows_the_free_running_count(
        len in 1u32..70,
        steps in prop::collection::vec(0u32..200, 0..50),
    ) {
        let (mut by_many, mut by_one, mut count) = (Cursor::new(len), Cursor::new(len), 0u64);
        for step in steps {
            by_many.advance_by(step);
            (0..step).for_each(|_| by_one.advance());
            count += u64::from(step);
            prop_assert_eq!(by_many, by_one);
            prop_assert_eq!(by_one.index() as u64, count % u64::from(len));
            prop_assert_eq!(by_one.phase(), count / u64::from(len) % 2 == 0);
            prop_assert_eq!(by_one.next_index() as u64, (count + 1) % u64::from(len));
        }
    }
}

#[test]
fn a_tag_is_never_all_ones_and_a_slot_outlives_its_generations() {
    for capacity in [1, 2, 64, 1024, 4096] {
        let mut slots: Slots<(), 16> = Slots::with_capacity(capacity).unwrap();
        for _ in 0..70_000 {
            let tag = slots.insert(()).unwrap();
            assert_ne!(tag.as_u16(), u16::MAX);
            assert_eq!(slots.remove(tag), Ok(()));
            assert_eq!(slots.remove(tag), Err(StaleTag));
        }
    }
}

#[test]
fn a_thousand_slots_leave_a_command_identifier_six_bits_of_generation() {
    let mut slots: Slots<u8, 16> = Slots::with_capacity(1024).unwrap();
    let mut tags = std::collections::HashSet::new();
    for _ in 0..63 * 1024 {
        let tag = slots.insert(0).unwrap();
        assert!(tags.insert(tag.as_u16()), "a tag came round too early");
        slots.remove(tag).unwrap();
    }
}

#[test]
fn a_capacity_of_zero_or_one_that_leaves_no_generation_is_refused() {
    assert_eq!(Slots::<(), 16>::with_capacity(0).err(), Some(CapacityError));
    assert_eq!(Slots::<(), 16>::with_capacity(4097).err(), Some(CapacityError));
    assert!(Slots::<(), 16>::with_capacity(4096).is_ok());
    assert!(Slots::<(), 32>::with_capacity(4097).is_ok());
    assert_eq!(Slots::<(), 32>::with_capacity(usize::MAX).err(), Some(CapacityError));
}

#[test]
fn a_wide_tag_names_what_a_narrow_one_cannot() {
    let mut slots: Slots<usize, 32> = Slots::with_capacity(10_000).unwrap();
    let tags: Vec<_> = (0..10_000).map(|i| slots.insert(i).unwrap()).collect();
    for (i, tag) in tags.into_iter().enumerate() {
        *slots.get_mut(tag).unwrap() += 1;
        assert_eq!(slots.get(Tag::from_u32(tag.as_u32())), Ok(&(i + 1)));
    }
    slots.iter_mut().for_each(|(_, value)| *value = 0);
    assert!(slots.drain().take(3).all(|value| value == 0));
    assert_eq!(slots.len(), 9_997);
}

#[test]
fn the_distance_to_an_index_wraps_and_refuses_one_outside_the_ring() {
    let mut cursor = Cursor::new(8);
    cursor.advance_by(6);
    assert_eq!(cursor.distance_to(6), Some(0));
    assert_eq!(cursor.distance_to(1), Some(3));
    assert_eq!(cursor.distance_to(5), Some(7));
    assert_eq!(cursor.distance_to(8), None);
    assert_eq!(Cursor::new(0).ring_len(), 1);
}
