use basalt_nvme_spec::identify::Oncs;
use basalt_nvme_spec::{Command, DsmRange, NvmOpcode};

use super::*;
use crate::{NotQuiesced, QueueError, RejectReason};

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i / 7) as u8 ^ (i / 4096) as u8 ^ seed).collect()
}

fn patterned(ready: &Ready, lens: &[usize], seed: u8) -> (Vec<DmaBuf>, Vec<u8>) {
    let all = pattern(lens.iter().sum(), seed);
    let mut buffers = ready.bench.buffers(lens, 0);
    let mut rest = &all[..];
    for buffer in &mut buffers {
        let (part, tail) = rest.split_at(buffer.len());
        buffer.as_mut_slice().copy_from_slice(part);
        rest = tail;
    }
    (buffers, all)
}

#[test]
fn what_is_written_is_read_back_whatever_the_segments() {
    let shapes: [&[usize]; 7] = [
        &[512],
        &[4096],
        &[8192],
        &[4096, 4096, 512],
        &[12_288],
        &[65_536, 4096, 131_072, 1024],
        &[1 << 20],
    ];
    for (seed, shape) in (0..).zip(shapes) {
        let mut ready = Ready::with_defaults();
        let (data, bytes) = patterned(&ready, shape, seed);
        assert!(ready.write(3, data).is_success());
        assert_eq!(ready.bench.model.contents(1, 3, bytes.len()), bytes);
        let (read, status) = ready.read(3, &[bytes.len()]);
        assert!(status.is_success() && read == bytes, "{shape:?}");
        let (read, _) = ready.read(3, shape);
        assert!(read == bytes, "{shape:?}");
        assert!(ready.bench.model.violations().is_empty());
    }
}

#[test]
fn a_list_of_pages_is_entered_in_the_middle_of_a_page_but_once() {
    let mut ready = Ready::new(Config { sgls: false, ..Config::default() }, 32);
    // Blocks of 512 bytes come from the lowest address up: the second starts inside a page.
    let held = ready.bench.buffers(&[512], 0);
    let (mut data, _) = patterned(&ready, &[512], 1);
    assert_ne!(data[0].phys().as_u64() % 4096, 0);
    data.extend(patterned(&ready, &[4096], 1).0);
    let refused = ready.queue.write(&ready.ns, 0, 9, (5, data)).unwrap_err();
    assert_eq!(refused.reason, RejectReason::Misaligned);
    assert_eq!((refused.payload.0, refused.payload.1.len()), (5, 2), "all is handed back");
    drop(held);
}

#[test]
fn the_largest_transfer_fits_one_list_and_the_next_is_refused() {
    let mut ready = Ready::new(Config { mdts: 0, ..Config::default() }, 8);
    assert_eq!(ready.queue.transfer_max(), 2 << 20);
    let (data, bytes) = patterned(&ready, &[2 << 20], 9);
    assert!(ready.write(0, data).is_success());
    assert!(ready.bench.model.contents(1, 0, 2 << 20) == bytes);
    let data = ready.bench.buffers(&[(2 << 20), 512], 0);
    let refused = ready.queue.write(&ready.ns, 0, 4097, (0, data)).unwrap_err();
    assert_eq!(refused.reason, RejectReason::MaxTransfer);
}

#[test]
fn lengths_and_ranges_are_checked_before_the_device_sees_anything() {
    let mut ready = Ready::with_defaults();
    let end = ready.ns.blocks();
    let cases = [
        (0, 0, RejectReason::OutOfRange),
        (end, 1, RejectReason::OutOfRange),
        (end - 1, 2, RejectReason::OutOfRange),
        (u64::MAX, 2, RejectReason::OutOfRange),
        (0, 65_537, RejectReason::OutOfRange),
        (0, 4096, RejectReason::MaxTransfer),
        (0, 7, RejectReason::BadLength),
        (0, 9, RejectReason::BadLength),
    ];
    for (lba, blocks, reason) in cases {
        let data = ready.bench.buffers(&[4096], 0);
        let refused = ready.queue.read(&ready.ns, lba, blocks, (0, data)).unwrap_err();
        assert_eq!(refused.reason, reason, "{lba} {blocks}");
    }
    let _ = ready.queue.commit();
    assert_eq!(ready.bench.model.io_commands(), 0);
}

#[test]
fn flush_deallocate_and_write_zeroes_do_what_they_say() {
    let mut ready = Ready::with_defaults();
    let (data, _) = patterned(&ready, &[65_536], 0xff);
    assert!(ready.write(0, data).is_success());
    let none = || (0, Vec::new());
    ready.queue.flush(&ready.ns, none()).unwrap();
    ready.queue.write_zeroes(&ready.ns, 1, 2, none()).unwrap();
    let ranges = [DsmRange::new(8, 1), DsmRange::new(16, 4)];
    ready.queue.deallocate(&ready.ns, &ranges, none()).unwrap();
    let done = ready.bench.drain(&mut ready.queue);
    assert!(done.len() == 3 && done.iter().all(|(_, status)| status.is_success()));
    let zero = |lba| ready.bench.model.contents(1, lba, 512).iter().all(|&b| b == 0);
    let zeroed: Vec<u64> = (0..32).filter(|&lba| zero(lba)).collect();
    assert_eq!(zeroed, [1, 2, 8, 16, 17, 18, 19]);
}

#[test]
fn deallocate_takes_one_to_256_ranges_inside_the_namespace() {
    let mut ready = Ready::with_defaults();
    let none = || (0, Vec::new());
    for ranges in [vec_of(0), vec_of(257), [DsmRange::new(u64::MAX, 2)].to_vec()] {
        let refused = ready.queue.deallocate(&ready.ns, &ranges, none()).unwrap_err();
        assert_eq!(refused.reason, RejectReason::OutOfRange);
    }
    ready.queue.deallocate(&ready.ns, &vec_of(256), none()).unwrap();
    assert!(ready.bench.drain(&mut ready.queue)[0].1.is_success());
}

fn vec_of(ranges: u64) -> Vec<DsmRange> {
    (0..ranges).map(|i| DsmRange::new(i * 2, 1)).collect()
}

#[test]
fn optional_commands_are_refused_where_the_controller_lacks_them() {
    let mut ready = Ready::new(Config { oncs: Oncs::empty(), ..Config::default() }, 8);
    let refused = ready.queue.write_zeroes(&ready.ns, 0, 1, (0, Vec::new())).unwrap_err();
    assert_eq!(refused.reason, RejectReason::Unsupported);
    let ranges = [DsmRange::new(0, 1)];
    let refused = ready.queue.deallocate(&ready.ns, &ranges, (0, Vec::new())).unwrap_err();
    assert_eq!(refused.reason, RejectReason::Unsupported);
}

#[test]
fn a_full_queue_refuses_and_takes_again_after_a_poll() {
    for entries in [2, 3, 16, 1024] {
        let mut ready = Ready::new(Config::default(), entries);
        let depth = u64::from(entries) - 1;
        (0..depth).for_each(|tag| ready.submit_read(tag));
        let data = ready.bench.buffers(&[4096], 0);
        let refused = ready.queue.read(&ready.ns, 0, 8, (99, data)).unwrap_err();
        assert_eq!((refused.reason, refused.payload.0), (RejectReason::QueueFull, 99));
        let mut tags: Vec<_> =
            ready.bench.drain(&mut ready.queue).iter().map(|(payload, _)| payload.0).collect();
        tags.sort_unstable();
        assert!(tags.into_iter().eq(0..depth));
        ready.submit_read(0);
        assert_eq!(ready.bench.drain(&mut ready.queue).len(), 1);
    }
}

#[test]
fn the_rings_wrap_many_times_and_ring_one_doorbell_each_a_round() {
    let mut ready = Ready::new(Config { doorbell_stride: 32, ..Config::default() }, 5);
    for round in 0..400 {
        let count = 1 + round % 4;
        let before = ready.bench.model.doorbells();
        (0..count).for_each(|tag| ready.submit_read(tag));
        let _ = ready.queue.commit();
        let work = ready.queue.poll(64, |_, status| assert!(status.is_success()));
        assert_eq!(u64::from(work.0), count);
        assert!((1..=2).contains(&(ready.bench.model.doorbells() - before)));
        assert_eq!(ready.queue.poll(64, |_, _| panic!("nothing is left")).0, 0);
    }
    assert_eq!(ready.queue.stats().completed, 1000);
    assert!(ready.bench.model.violations().is_empty());
}

#[test]
fn a_poll_keeps_to_its_budget() {
    let mut ready = Ready::with_defaults();
    (0..10).for_each(|tag| ready.submit_read(tag));
    let _ = ready.queue.commit();
    assert_eq!(ready.queue.poll(3, |_, _| {}).0, 3);
    assert_eq!(ready.queue.outstanding(), 7);
    assert_eq!(ready.queue.poll(64, |_, _| {}).0, 7);
}

#[test]
fn namespaces_of_different_block_sizes_share_a_queue() {
    let mut ready = Ready::new(two_namespaces(), 16);
    let large = ready.controller.namespaces()[1];
    let data = ready.bench.buffers(&[8192], 0x5a);
    ready.queue.write(&large, 255, 2, (0, data)).unwrap_err();
    let data = ready.bench.buffers(&[8192], 0x5a);
    ready.queue.write(&large, 254, 2, (0, data)).unwrap();
    assert!(ready.bench.drain(&mut ready.queue)[0].1.is_success());
    assert!(ready.bench.model.contents(9, 254, 8192).iter().all(|&b| b == 0x5a));
    assert!(ready.bench.model.contents(2, 0, 4096).iter().all(|&b| b == 0));
}

#[test]
fn two_controllers_on_one_machine_keep_to_themselves() {
    let machine = Machine::new();
    let make = |pci_bus| {
        let pool = machine.pool(16 << 20);
        let model = Model::new(machine.bus(), Config { pci_bus, ..Config::default() });
        Bench { pool, model, time: Rc::default() }
    };
    let mut ready = [make(1), make(2)].map(|bench| {
        let controller = bench.controller(Options::default());
        let queue = bench.queue(&controller, 1);
        let ns = controller.namespaces()[0];
        Ready { bench, controller, queue, ns }
    });
    for (fill, one) in (1..).zip(&mut ready) {
        let data = one.bench.buffers(&[4096], fill);
        assert!(one.write(0, data).is_success());
    }
    assert_eq!(ready[0].read(0, &[4096]).0, [1; 4096]);
    assert_eq!(ready[1].read(0, &[4096]).0, [2; 4096]);
    let other = ready[1].bench.run(ready[1].controller.stop());
    assert_eq!(ready[0].queue.abort_all(other, |_| {}), Err(NotQuiesced));
}

#[test]
fn a_deleted_queue_hands_back_what_was_outstanding_and_can_be_made_again() {
    let mut ready = Ready::with_defaults();
    ready.submit_read(4);
    let proof = ready.bench.run(ready.controller.delete_io_queue(1)).unwrap();
    let mut tags = Vec::new();
    assert_eq!(ready.queue.abort_all(proof, |(tag, _)| tags.push(tag)), Ok(1));
    assert_eq!(tags, [4]);
    assert_eq!(ready.queue.fault(), Some(QueueError::Stopped));
    ready.queue = ready.bench.queue(&ready.controller, 1);
    assert_eq!(ready.queue.abort_all(proof, |_| {}), Err(NotQuiesced), "that was another queue");
    ready.submit_read(0);
    assert_eq!(ready.bench.drain(&mut ready.queue).len(), 1);
}

#[test]
fn buffers_that_lie_anywhere_go_by_sgl() {
    for block_size in [512, 4096] {
        let namespaces = [NamespaceConfig::new(1, block_size, 2048)].to_vec();
        let mut ready = Ready::new(Config { namespaces, ..Config::default() }, 32);
        // In blocks of the pool that are no pages, cut where no block ends.
        for lens in [&[512, 100, 3484][..], &[1, 4095], &[512; 256], &[4096, 512, 512, 3072]] {
            let (data, bytes) = patterned(&ready, lens, lens.len() as u8);
            assert!(ready.write(2, data).is_success());
            assert_eq!(ready.bench.model.contents(1, 2, bytes.len()), bytes);
            let (read, status) = ready.read(2, lens);
            assert!(status.is_success() && read == bytes);
        }
        let (data, _) = patterned(&ready, &[16; 257], 0);
        let blocks = 4112 / block_size;
        let refused = ready.queue.write(&ready.ns, 0, blocks, (5, data)).unwrap_err();
        assert!(matches!(refused.reason, RejectReason::MaxTransfer | RejectReason::BadLength));
        assert!(ready.bench.model.violations().is_empty());
    }
}

#[test]
fn blocks_are_verified_and_copied_within_what_the_controller_says() {
    let oncs = Oncs::VERIFY | Oncs::COPY | Oncs::WRITE_UNCORRECTABLE;
    let mut ready =
        Ready::new(Config { oncs, range_max: 8, dataless_max: 1, ..Config::default() }, 32);
    assert_eq!(ready.controller.command_limits().verify_bytes, 8192);
    assert_eq!(ready.controller.command_limits().deallocate_blocks, 8);
    let (data, bytes) = patterned(&ready, &[4096], 3);
    assert!(ready.write(10, data).is_success());
    ready.queue.copy(&ready.ns, 10, 20, 8, (1, Vec::new())).unwrap();
    ready.queue.verify(&ready.ns, 20, 8, (2, Vec::new())).unwrap();
    let done = ready.bench.drain(&mut ready.queue);
    assert!(done.iter().all(|(_, status)| status.is_success()), "{done:?}");
    assert_eq!(ready.bench.model.contents(1, 20, 4096), bytes);
    let size = ready.ns.blocks();
    for (from, to, blocks, reason) in [
        (0, 100, 9, RejectReason::Unsupported),
        (size - 1, 0, 2, RejectReason::OutOfRange),
        (0, size - 1, 2, RejectReason::OutOfRange),
        (0, 100, 0, RejectReason::OutOfRange),
    ] {
        let refused = ready.queue.copy(&ready.ns, from, to, blocks, (0, Vec::new())).unwrap_err();
        assert_eq!(refused.reason, reason, "{blocks} from {from} to {to}");
    }
    let refused = ready.queue.verify(&ready.ns, size, 1, (0, Vec::new())).unwrap_err();
    assert_eq!(refused.reason, RejectReason::OutOfRange);
    // A block that is marked as bad is found.
    let command = Command::on_range(NvmOpcode::WRITE_UNCORRECTABLE, 0, 21, 1);
    ready.queue.raw(&ready.ns, command, (3, Vec::new())).unwrap();
    assert!(ready.bench.drain(&mut ready.queue)[0].1.is_success());
    ready.queue.verify(&ready.ns, 20, 8, (4, Vec::new())).unwrap();
    assert!(ready.bench.drain(&mut ready.queue)[0].1.is(Status::UNRECOVERED_READ));
    assert!(ready.bench.model.violations().is_empty());
}

#[test]
fn a_controller_that_neither_verifies_nor_copies_is_not_asked_to() {
    let mut ready = Ready::with_defaults();
    let refused = ready.queue.verify(&ready.ns, 0, 1, (0, Vec::new())).unwrap_err();
    assert_eq!(refused.reason, RejectReason::Unsupported);
    assert_eq!(ready.ns.copy_max(), 0);
    let refused = ready.queue.copy(&ready.ns, 0, 9, 1, (0, Vec::new())).unwrap_err();
    assert_eq!(refused.reason, RejectReason::Unsupported);
}

#[test]
fn doorbells_in_memory_spare_registers_as_far_as_the_controller_looks_there() {
    let doorbells = |shadow| {
        let mut ready = Ready::new(Config { shadow, ..Config::default() }, 8);
        let before = ready.bench.model.doorbells();
        for round in 0..50 {
            for tag in 0..1 + round % 7 {
                ready.submit_read(tag);
            }
            let done = ready.bench.drain(&mut ready.queue);
            assert_eq!(done.len() as u64, 1 + round % 7);
            assert!(done.iter().all(|(_, status)| status.is_success()));
        }
        assert!(ready.bench.model.violations().is_empty(), "{:?}", ready.bench.model.violations());
        ready.bench.model.doorbells() - before
    };
    let plain = doorbells(Shadowing::No);
    assert_eq!(doorbells(Shadowing::WhenTold), plain);
    // Those of completions are left, and the register is written whenever a ring begins anew.
    assert!((50..=100).contains(&plain) && doorbells(Shadowing::Always) < plain - 20);
}

#[test]
fn completions_are_given_back_a_quarter_of_the_ring_at_once_or_when_asked() {
    let mut ready = Ready::new(Config::default(), 64);
    let mut rung = |reads: u64, settles| {
        let before = ready.bench.model.doorbells();
        for tag in 0..reads {
            ready.submit_read(tag);
            assert_eq!(ready.bench.drain(&mut ready.queue).len(), 1);
        }
        (0..settles).for_each(|_| ready.queue.settle());
        ready.bench.model.doorbells() - before - reads
    };
    assert_eq!(rung(15, 0), 0);
    assert_eq!(rung(0, 2), 1, "once for all fifteen");
    assert_eq!(rung(16, 1), 1, "the sixteenth did");
    assert_eq!(rung(160, 0), 10);
    assert!(ready.bench.model.violations().is_empty());
}

#[test]
fn doorbells_in_memory_are_new_after_a_reset() {
    let mut ready = Ready::new(Config { shadow: Shadowing::Always, ..Config::default() }, 8);
    for _ in 0..3 {
        ready.submit_read(1);
        assert_eq!(ready.bench.drain(&mut ready.queue).len(), 1);
        ready.stop();
        ready.bench.run(ready.controller.restart()).unwrap();
        ready.queue = ready.bench.queue(&ready.controller, 1);
    }
    assert!(ready.bench.model.violations().is_empty());
}
