//! Compare and Write as one.

use alloc::string::String;
use alloc::vec;

use basalt_models::nvme::NamespaceConfig;
use basalt_nvme_spec::Status;
use basalt_nvme_spec::identify::Oncs;

use super::*;
use crate::RejectReason;

fn fusing(protection: u8, entries: u16) -> Ready {
    let namespace = NamespaceConfig::new(1, 512, 4096);
    let namespace = if protection > 0 { namespace.protected(protection) } else { namespace };
    let config = Config { namespaces: vec![namespace], fused_max: 8, ..Config::default() };
    Ready::new(Config { oncs: config.oncs | Oncs::COMPARE, ..config }, entries)
}

impl Ready {
    fn compare_and_write(&mut self, lba: u64, blocks: u32, old: u8, new: u8) -> [Status; 2] {
        let len = blocks as usize * 512;
        let [old, new] = [old, new].map(|fill| self.bench.buffers(&[len], fill));
        self.queue.compare_and_write(&self.ns, lba, blocks, (1, old), (2, new)).unwrap();
        let mut done = self.bench.drain(&mut self.queue);
        done.sort_by_key(|((tag, _), _)| *tag);
        assert!(done.iter().map(|((tag, _), _)| *tag).eq([1, 2]));
        [done[0].1, done[1].1]
    }
}

#[test]
fn blocks_are_written_if_they_are_as_expected() {
    for protection in 0..=3 {
        let mut ready = fusing(protection, 8);
        assert_eq!(ready.ns.compare_and_write_max(), 8);
        for _ in 0..20 {
            let data = ready.bench.buffers(&[4096], 1);
            assert!(ready.write(8, data).is_success());
            assert!(ready.compare_and_write(8, 8, 1, 2).iter().all(|s| s.is_success()));
            assert_eq!(ready.read(8, &[4096]).0, vec![2; 4096]);
            let [compared, written] = ready.compare_and_write(8, 8, 1, 3);
            assert!(compared.is(Status::COMPARE_FAILURE) && written.is(Status::FAILED_FUSED));
            assert_eq!(ready.read(8, &[4096]).0, vec![2; 4096]);
        }
        assert_eq!(ready.bench.model.violations(), Vec::<String>::new(), "type {protection}");
    }
}

#[test]
fn both_are_given_back_if_they_cannot_go_together() {
    let mut ready = fusing(0, 4);
    let refuse = |ready: &mut Ready, lba, blocks: u32, lens: [usize; 2]| {
        let [old, new] = lens.map(|len| ready.bench.buffers(&[len], 1));
        let refused =
            ready.queue.compare_and_write(&ready.ns, lba, blocks, (1, old), (2, new)).unwrap_err();
        let ((first, old), (second, new)) = refused.payload;
        assert_eq!((first, second, [old[0].len(), new[0].len()]), (1, 2, lens));
        refused.reason
    };
    assert_eq!(refuse(&mut ready, 0, 9, [9 * 512; 2]), RejectReason::Unsupported);
    assert_eq!(refuse(&mut ready, 4096, 1, [512; 2]), RejectReason::OutOfRange);
    assert_eq!(refuse(&mut ready, 0, 1, [1024, 512]), RejectReason::BadLength);
    assert_eq!(refuse(&mut ready, 0, 1, [512, 1024]), RejectReason::BadLength);
    assert_eq!(ready.queue.outstanding(), 0);
    ready.submit_read(7);
    ready.submit_read(8);
    assert_eq!(refuse(&mut ready, 0, 1, [512; 2]), RejectReason::QueueFull);
    assert_eq!(ready.bench.drain(&mut ready.queue).len(), 2);
    assert!(ready.compare_and_write(0, 1, 0, 5).iter().all(|status| status.is_success()));
    assert_eq!(ready.bench.model.violations(), Vec::<String>::new());
}

#[test]
fn a_controller_that_does_not_fuse_is_not_asked_to() {
    let mut ready = Ready::with_defaults();
    assert_eq!(ready.ns.compare_and_write_max(), 0);
    let [old, new] = [0, 1].map(|fill| ready.bench.buffers(&[512], fill));
    let refused = ready.queue.compare_and_write(&ready.ns, 0, 1, (1, old), (2, new)).unwrap_err();
    assert_eq!(refused.reason, RejectReason::Unsupported);
}
