extern crate std;

use std::vec::Vec;

use basalt_env::{DmaPool, PhysAddr};
use basalt_hosted::{Bus, Machine};
use proptest::prelude::*;

use crate::{Direction, Insert, Queue, QueueError};

/// The device's side of a queue, by bus address.
struct Device {
    bus: Bus,
    size: u16,
    addresses: [PhysAddr; 3],
    used: u16,
}

impl Device {
    fn new(machine: &Machine, queue: &Queue) -> Self {
        let (size, addresses) = (queue.size(), queue.address().parts);
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

    /// What the device reads of a chain, and its descriptors' addresses.
    fn read_chain(&self, head: u16) -> (Vec<u8>, Vec<u64>) {
        let (mut bytes, mut addresses, mut next) = (Vec::new(), Vec::new(), Some(head));
        while let Some(index) = next {
            let (address, len, flags) = self.descriptor(index);
            assert!(len > 0 && flags & 2 == 0 && addresses.len() < usize::from(self.size));
            let mut part = std::vec![0; len as usize];
            self.bus.read(PhysAddr::new(address), &mut part).unwrap();
            bytes.extend(part);
            addresses.push(address);
            let at = self.addresses[0].offset(16 * u64::from(index) + 14);
            next = (flags & 1 != 0).then(|| self.read16(at));
        }
        (bytes, addresses)
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
    let [descriptors, available, used] = Queue::new(&pool, 1024).unwrap().address().parts;
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

/// A buffer of `len` bytes that are all `mark`.
fn marked(pool: &DmaPool, len: usize, mark: u8) -> basalt_env::DmaBuf {
    let mut buf = pool.alloc(len).unwrap();
    buf.as_mut_slice().fill(mark);
    buf
}

#[test]
fn the_device_reads_inserts_where_they_lie_and_they_are_let_go_with_the_buffer() {
    let (pool, mut queue, mut device) = queue(8);
    let before = pool.stats();
    let slice = pool.share(marked(&pool, 3000, 9)).unwrap();
    let at = slice.phys().as_u64();
    let part = |from, len, at| Insert { at, bytes: slice.part(from, len) };
    let mut inserts = std::vec![part(0, 10, 2), part(100, 1, 2), part(200, 5, 4)];
    queue.push_with(marked(&pool, 4, 1), &mut inserts).unwrap();
    assert!(inserts.is_empty() && queue.commit());
    drop(slice);
    let head = device.available(0);
    let (bytes, addresses) = device.read_chain(head);
    assert_eq!(bytes, [&[1; 2][..], &[9; 11], &[1; 2], &[9; 5]].concat());
    assert_eq!(addresses[1..3], [at, at + 100]);
    assert_eq!((addresses.len(), addresses[4], queue.outstanding()), (5, at + 200, 5));
    device.give_back(head.into(), 0);
    assert_eq!(queue.pop().unwrap().unwrap().buf.len(), 4);
    assert_eq!((queue.outstanding(), queue.room()), (0, 8));
    assert_eq!(pool.stats(), before);
}

#[test]
fn what_has_no_room_with_its_inserts_comes_back_and_they_stay() {
    let (pool, mut queue, _) = queue(4);
    let slice = pool.share(marked(&pool, 1000, 9)).unwrap();
    push(&pool, &mut queue, Direction::ToDevice);
    let insert = |at| Insert { at, bytes: slice.clone() };
    let mut inserts = std::vec![insert(1), insert(2)];
    let refused = queue.push_with(marked(&pool, 100, 1), &mut inserts).unwrap_err();
    assert_eq!((refused.len(), inserts.len(), queue.outstanding()), (100, 2, 1));
    inserts.pop();
    queue.push_with(refused, &mut inserts).unwrap();
    assert_eq!((inserts.len(), queue.room()), (0, 0));
}

#[test]
fn the_midst_of_a_chain_is_no_buffer_that_the_device_may_give_back() {
    let (pool, mut queue, mut device) = queue(8);
    let slice = pool.share(marked(&pool, 1000, 9)).unwrap();
    let mut inserts = std::vec![Insert { at: 1, bytes: slice }];
    queue.push_with(marked(&pool, 100, 1), &mut inserts).unwrap();
    let _ = queue.commit();
    let head = device.available(0);
    let at = device.addresses[0].offset(16 * u64::from(head) + 14);
    device.give_back(device.read16(at).into(), 0);
    assert_eq!(queue.pop().unwrap_err(), QueueError::UsedId);
}

proptest! {
    #[test]
    fn chains_of_any_length_arrive_whole_and_nothing_is_kept_of_them(
        chains in prop::collection::vec(
            (2usize..600, prop::collection::vec((0usize..600, 1usize..700), 0..6)), 1..40,
        ),
        late in 0usize..3,
    ) {
        let (pool, mut queue, mut device) = queue(32);
        let before = pool.stats();
        let (mut shown, mut waiting) = (0u16, std::collections::VecDeque::new());
        for (mark, (len, mut places)) in (1u8..).zip(chains) {
            places.iter_mut().for_each(|(at, _)| *at = 1 + *at % (len - 1));
            places.sort_unstable();
            let (mut inserts, mut expected, mut from) = (Vec::new(), Vec::new(), 0);
            for (at, bytes) in places {
                let slice = pool.share(marked(&pool, bytes, !mark)).unwrap();
                inserts.push(Insert { at, bytes: slice });
                expected.extend(std::vec![mark; at - from]);
                expected.extend(std::vec![!mark; bytes]);
                from = at;
            }
            expected.extend(std::vec![mark; len - from]);
            while queue.push_with(marked(&pool, len, mark), &mut inserts).is_err() {
                let head: u16 = waiting.pop_front().unwrap();
                device.give_back(head.into(), 0);
                prop_assert!(queue.pop().unwrap().is_some());
            }
            let _ = queue.commit();
            let head = device.available(shown);
            shown = shown.wrapping_add(1);
            prop_assert_eq!(device.read_chain(head).0, expected);
            waiting.push_back(head);
            // In whatever order.
            if waiting.len() > late {
                let head = waiting.remove(waiting.len() / 2).unwrap();
                device.give_back(head.into(), 0);
                prop_assert!(queue.pop().unwrap().is_some());
            }
        }
        for head in waiting {
            device.give_back(head.into(), 0);
            prop_assert!(queue.pop().unwrap().is_some());
        }
        prop_assert_eq!((queue.outstanding(), pool.stats()), (0, before));
    }
}

mod requests {
    use std::vec;

    use super::*;
    use crate::{Payload, RequestFormat, Requests, ResponsePlace};

    struct Data(Vec<basalt_env::DmaBuf>, u32);

    impl Payload for Data {
        fn buffers(&self) -> &[basalt_env::DmaBuf] {
            &self.0
        }
    }

    const FORMAT: RequestFormat =
        RequestFormat { header_max: 20, response_len: 5, response: ResponsePlace::Last };

    fn requests(size: u16, format: RequestFormat) -> (DmaPool, Requests<Data>, Device) {
        let machine = Machine::new();
        let pool = machine.pool(4 << 20);
        let requests = Requests::new(&pool, size, format).unwrap();
        let crate::RingAddress { size, parts: addresses } = requests.address();
        (pool, requests, Device { bus: machine.bus(), size, addresses, used: 0 })
    }

    fn data(pool: &DmaPool, lens: &[usize], tag: u32) -> Data {
        Data(lens.iter().map(|len| pool.alloc(*len).unwrap()).collect(), tag)
    }

    impl Device {
        /// Lengths and flags of a chain, without that which says that more follows; and where its
        /// last part is.
        fn chain(&self, head: u16) -> (Vec<(u32, u16)>, u64) {
            let (mut chain, mut index) = (vec![], head);
            loop {
                let (address, len, flags) = self.descriptor(index);
                chain.push((len, flags & !1));
                if flags & 1 == 0 {
                    return (chain, address);
                }
                let at = self.addresses[0].offset(16 * u64::from(index) + 14);
                index = self.read16(at);
            }
        }
    }

    #[test]
    fn a_request_is_a_chain_of_header_data_and_response() {
        let (pool, mut requests, mut device) = requests(16, FORMAT);
        let lens = [512, 0, 100];
        assert!(requests.push(data(&pool, &lens, 1), &[7; 20], Direction::ToDevice).is_ok());
        assert!(requests.push(data(&pool, &lens, 2), &[8; 16], Direction::FromDevice).is_ok());
        assert!(requests.push(data(&pool, &[], 3), &[9; 4], Direction::ToDevice).is_ok());
        assert!(requests.commit());
        let heads = [0, 1, 2].map(|n| device.available(n));
        assert_eq!(device.chain(heads[0]).0, [(20, 0), (512, 0), (100, 0), (5, 2)]);
        let (chain, response) = device.chain(heads[1]);
        assert_eq!(chain, [(16, 0), (512, 2), (100, 2), (5, 2)]);
        assert_eq!(device.chain(heads[2]).0, [(4, 0), (5, 2)]);
        let mut header = [0; 16];
        let (address, ..) = device.descriptor(heads[1]);
        device.bus.read(PhysAddr::new(address), &mut header).unwrap();
        assert_eq!(header, [8; 16]);
        device.bus.write(PhysAddr::new(response), &[1, 2, 3, 4, 5]).unwrap();
        device.give_back(u32::from(heads[1]), 617);
        let mut answer = [0; 5];
        let finished = requests.pop(&mut answer).unwrap().unwrap();
        assert_eq!((finished.payload.1, finished.written, answer), (2, 617, [1, 2, 3, 4, 5]));
        assert!(requests.pop(&mut answer).unwrap().is_none());
        assert_eq!(requests.outstanding(), 2);
        let left: Vec<u32> = requests.abort_all().map(|data| data.1).collect();
        assert_eq!(left, [1, 3]);
    }

    #[test]
    fn a_response_may_come_before_the_data() {
        let format = RequestFormat { response: ResponsePlace::First, ..FORMAT };
        let (pool, mut requests, device) = requests(16, format);
        assert!(requests.push(data(&pool, &[512], 1), &[1], Direction::FromDevice).is_ok());
        assert!(requests.push(data(&pool, &[512], 1), &[1], Direction::ToDevice).is_ok());
        let _ = requests.commit();
        assert_eq!(device.chain(device.available(0)).0, [(1, 0), (5, 2), (512, 2)]);
        assert_eq!(device.chain(device.available(1)).0, [(1, 0), (512, 0), (5, 2)]);
    }

    #[test]
    fn each_lie_breaks_the_queue_and_a_full_one_hands_the_request_back() {
        let lies = [(99, 0, QueueError::UsedId), (1, 0, QueueError::UsedId)];
        for (id, len, error) in lies.into_iter().chain([(0, 518, QueueError::UsedLength)]) {
            let (pool, mut requests, mut device) = requests(4, FORMAT);
            let push = |requests: &mut Requests<Data>, tag| {
                requests.push(data(&pool, &[512], tag), &[1], Direction::FromDevice)
            };
            assert!(push(&mut requests, 1).is_ok());
            assert_eq!(push(&mut requests, 2).err().map(|data| data.1), Some(2));
            let _ = requests.commit();
            device.give_back(id, len);
            assert_eq!(requests.pop(&mut []).err(), Some(error));
            assert_eq!((requests.broken(), requests.commit()), (Some(error), false));
            assert!(push(&mut requests, 3).is_err());
            assert_eq!(requests.abort_all().count(), 1);
        }
    }

    proptest! {
        #[test]
        fn descriptors_go_round_in_any_order_and_none_is_lost(
            rounds in prop::collection::vec((0..5_usize, any::<prop::sample::Index>()), 1..200),
        ) {
            let (pool, mut requests, mut device) = requests(16, FORMAT);
            let (mut shown, mut held, mut free) = (0_u16, vec![], 16);
            for (tag, (buffers, which)) in rounds.into_iter().enumerate() {
                let data = data(&pool, &vec![512; buffers], tag as u32);
                let fits = buffers + 2 <= free;
                let pushed = requests.push(data, &[1], Direction::FromDevice).is_ok();
                prop_assert_eq!(pushed, fits);
                if pushed {
                    let _ = requests.commit();
                    let head = device.available(shown);
                    shown = shown.wrapping_add(1);
                    prop_assert_eq!(device.chain(head).0.len(), buffers + 2);
                    held.push((head, tag as u32, buffers));
                    free -= buffers + 2;
                }
                if !held.is_empty() && (!pushed || which.index(2) == 0) {
                    let (head, tag, buffers) = held.swap_remove(which.index(held.len()));
                    device.give_back(u32::from(head), 5);
                    let finished = requests.pop(&mut []).unwrap().unwrap();
                    prop_assert_eq!(finished.payload.1, tag);
                    free += buffers + 2;
                }
                prop_assert_eq!(requests.outstanding(), held.len());
            }
        }
    }
}
