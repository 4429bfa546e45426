extern crate std;

use std::vec::Vec;

use basalt_env::{DmaPool, PhysAddr};
use basalt_hosted::{Bus, Machine};
use proptest::prelude::*;

use crate::{Direction, Queue, QueueError};

/// The device's side of a queue, by bus address.
struct Device {
    bus: Bus,
    size: u16,
    addresses: [PhysAddr; 3],
    used: u16,
}

impl Device {
    fn new(machine: &Machine, queue: &Queue) -> Self {
        let (size, addresses) = (queue.size(), queue.addresses());
        Self { bus: machine.bus(), size, addresses, used: 0 }
    }

    fn read16(&self, at: PhysAddr) -> u16 {
        let mut bytes = [0; 2];
        self.bus.read(at, &mut bytes).unwrap();
        u16::from_le_bytes(bytes)
    }

    /// Index of the `n`th available buffer, counted from the start of the ring.
    fn available(&self, n: u16) -> u16 {
        self.read16(self.addresses[1].offset(4 + 2 * u64::from(n % self.size)))
    }

    fn descriptor(&self, index: u16) -> (u64, u32, u16) {
        let mut bytes = [0; 16];
        self.bus.read(self.addresses[0].offset(16 * u64::from(index)), &mut bytes).unwrap();
        let address = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        let len = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
        (address, len, u16::from_le_bytes([bytes[12], bytes[13]]))
    }

    fn give_back(&mut self, id: u32, len: u32) {
        let at = self.addresses[2].offset(4 + 8 * u64::from(self.used % self.size));
        self.bus.write(at, &id.to_le_bytes()).unwrap();
        self.bus.write(at.offset(4), &len.to_le_bytes()).unwrap();
        self.set_used(self.used.wrapping_add(1));
    }

    fn set_used(&mut self, index: u16) {
        self.used = index;
        self.bus.write(self.addresses[2].offset(2), &index.to_le_bytes()).unwrap();
    }

    fn set_flags(&self, flags: u16) {
        self.bus.write(self.addresses[2], &flags.to_le_bytes()).unwrap();
    }
}

fn queue(size: u16) -> (DmaPool, Queue, Device) {
    let machine = Machine::new();
    let pool = machine.pool(4 << 20);
    let queue = Queue::new(&pool, size).unwrap();
    let device = Device::new(&machine, &queue);
    (pool, queue, device)
}

fn push(pool: &DmaPool, queue: &mut Queue, direction: Direction) {
    queue.push(pool.alloc(512).unwrap(), direction).unwrap();
}

#[test]
fn buffers_go_round_many_times_in_any_order() {
    let (pool, mut queue, mut device) = queue(4);
    let mut shown = 0u16;
    for round in 0..35_000u32 {
        push(&pool, &mut queue, Direction::FromDevice);
        push(&pool, &mut queue, Direction::ToDevice);
        assert!(queue.commit());
        let [first, second] = [device.available(shown), device.available(shown.wrapping_add(1))];
        shown = shown.wrapping_add(2);
        assert_eq!(device.descriptor(first).1, 512);
        assert_eq!((device.descriptor(first).2, device.descriptor(second).2), (2, 0));
        device.give_back(u32::from(second), 7);
        device.give_back(u32::from(first), round % 513);
        assert_eq!(queue.pop().unwrap().unwrap().written, 0);
        assert_eq!(queue.pop().unwrap().unwrap().written, (round % 513) as usize);
        assert!(queue.pop().unwrap().is_none());
    }
    assert_eq!(queue.outstanding(), 0);
}

#[test]
fn nothing_is_shown_before_commit_and_a_full_queue_hands_the_buffer_back() {
    let (pool, mut queue, device) = queue(2);
    push(&pool, &mut queue, Direction::ToDevice);
    assert_eq!(device.read16(device.addresses[1].offset(2)), 0);
    assert!(queue.commit());
    assert_eq!(device.read16(device.addresses[1].offset(2)), 1);
    assert!(!queue.commit(), "told once");
    push(&pool, &mut queue, Direction::ToDevice);
    let buf = queue.push(pool.alloc(100).unwrap(), Direction::ToDevice).unwrap_err();
    assert_eq!((buf.len(), queue.room()), (100, 0));
}

#[test]
fn a_notification_the_device_did_not_want_is_owed_until_it_does() {
    let (pool, mut queue, device) = queue(8);
    device.set_flags(1);
    push(&pool, &mut queue, Direction::ToDevice);
    assert!(!queue.commit());
    assert!(!queue.commit());
    device.set_flags(0);
    assert!(queue.commit());
    assert!(!queue.commit());
}

#[test]
fn each_lie_of_the_device_breaks_the_queue_with_its_own_error() {
    type Lie = fn(&mut Device);
    let lies: [(Lie, QueueError); 5] = [
        (|device| device.give_back(99, 0), QueueError::UsedId),
        (|device| device.give_back(3, 0), QueueError::UsedId),
        (|device| device.give_back(0, 513), QueueError::UsedLength),
        (|device| device.set_used(2), QueueError::UsedIndex),
        (|device| device.set_used(u16::MAX), QueueError::UsedIndex),
    ];
    for (lie, error) in lies {
        let (pool, mut queue, mut device) = queue(8);
        push(&pool, &mut queue, Direction::FromDevice);
        let _ = queue.commit();
        lie(&mut device);
        assert_eq!(queue.pop().unwrap_err(), error);
        assert_eq!((queue.pop().unwrap_err(), queue.broken()), (error, Some(error)));
        assert!(queue.push(pool.alloc(1).unwrap(), Direction::ToDevice).is_err());
        assert_eq!((queue.room(), queue.commit(), queue.outstanding()), (0, false, 1));
    }
}

#[test]
fn buffers_pushed_but_not_shown_cannot_be_used() {
    let (pool, mut queue, mut device) = queue(8);
    push(&pool, &mut queue, Direction::FromDevice);
    device.give_back(0, 1);
    assert_eq!(queue.pop().unwrap_err(), QueueError::UsedIndex);
}

#[test]
fn sizes_are_powers_of_two() {
    let (pool, ..) = queue(1);
    let sizes = [0, 1, 3, 256, 1000, 1024, 40_000];
    let made: Vec<u16> = sizes.map(|size| Queue::new(&pool, size).unwrap().size()).to_vec();
    assert_eq!(made, [1, 1, 2, 256, 512, 1024, 32_768]);
    let [descriptors, available, used] = Queue::new(&pool, 1024).unwrap().addresses();
    assert_eq!(descriptors.as_u64() % 16, 0);
    assert_eq!(available.as_u64() - descriptors.as_u64(), 16 * 1024);
    assert_eq!(used.as_u64() % 4, 0);
}

proptest! {
    #[test]
    fn no_used_ring_panics_and_no_buffer_is_lost(
        rounds in prop::collection::vec((0u16..6, any::<u16>(), 0u32..10, 0u32..600), 1..60),
    ) {
        let (pool, mut queue, mut device) = queue(8);
        let mut held = 0;
        for (pushes, index, id, len) in rounds {
            for _ in 0..pushes {
                let buf = pool.alloc(512).unwrap();
                held += usize::from(queue.push(buf, Direction::FromDevice).is_ok());
            }
            let _ = queue.commit();
            device.give_back(id, len);
            if index & 7 == 0 {
                device.set_used(index);
            }
            while let Ok(Some(used)) = queue.pop() {
                prop_assert!(used.written <= used.buf.len());
                held -= 1;
            }
            prop_assert_eq!(queue.outstanding(), held);
        }
    }
}
