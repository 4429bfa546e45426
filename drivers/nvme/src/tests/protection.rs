//! End-to-end protection that the controller sees to.

use alloc::string::String;
use alloc::vec;

use basalt_models::nvme::NamespaceConfig;
use basalt_nvme_spec::{Command, IoFlags, NvmOpcode, Status};

use super::*;
use crate::RejectReason;

fn protected(kind: u8) -> Ready {
    let namespaces = vec![NamespaceConfig::new(1, 512, 16_384).protected(kind)];
    Ready::new(Config { namespaces, ..Config::default() }, 32)
}

#[test]
fn blocks_are_protected_and_checked_with_every_type() {
    for kind in 1..=3 {
        let mut ready = protected(kind);
        let (data, _) = ready.read(100, &[4096]);
        assert_eq!(data, vec![0; 4096], "what was never written can be read");
        for (lba, len) in [(0, 512), (7, 8192), (5000, 1 << 17)] {
            let data = ready.bench.buffers(&[len], 0x35);
            assert!(ready.write(lba, data).is_success());
            let (read, status) = ready.read(lba, &[len]);
            assert!(status.is_success() && read == vec![0x35; len], "type {kind}: {status}");
        }
        ready.queue.write_zeroes(&ready.ns, 9, 4, (0, vec![])).unwrap();
        assert!(ready.bench.drain(&mut ready.queue)[0].1.is_success());
        let (read, status) = ready.read(8, &[2048]);
        assert!(status.is_success() && read[512..] == [0; 1536], "type {kind}: {status}");
        assert_eq!(ready.bench.model.violations(), Vec::<String>::new());
    }
}

#[test]
fn a_block_that_changed_on_its_own_or_is_another_is_told() {
    let mut ready = protected(1);
    let data = ready.bench.buffers(&[4096], 1);
    assert!(ready.write(40, data).is_success());
    ready.bench.model.flip_bit(1, 42 * 512);
    assert_eq!(ready.read(40, &[4096]).1.sc(), Status::GUARD_CHECK.sc());
    assert!(ready.read(40, &[1024]).1.is_success());
    ready.bench.model.move_block(1, 40, 60);
    let moved = ready.read(60, &[512]).1;
    assert_eq!((moved.sct(), moved.sc()), (2, Status::REFERENCE_TAG_CHECK.sc()));
}

#[test]
fn a_command_of_somebody_else_moves_no_metadata() {
    let mut ready = protected(1);
    let mut read = Command::on_range(NvmOpcode::READ, 1, 0, 1);
    let data = ready.bench.buffers(&[512], 0);
    let refused = ready.queue.raw(&ready.ns, read, (0, data)).unwrap_err();
    assert_eq!(refused.reason, RejectReason::Unsupported);
    read.cdw12 = (read.cdw12.get() | IoFlags::PRACT.bits()).into();
    ready.queue.raw(&ready.ns, read, refused.payload).unwrap();
    assert!(ready.bench.drain(&mut ready.queue)[0].1.is_success());
    let vendor = Command { opcode: 0x82, ..Command::default() };
    let data = ready.bench.buffers(&[512], 0);
    let refused = ready.queue.raw(&ready.ns, vendor, (0, data)).unwrap_err();
    assert_eq!(refused.reason, RejectReason::Unsupported);
}
