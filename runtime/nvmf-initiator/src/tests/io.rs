use core::sync::atomic::Ordering;

use super::*;
use basalt_metrics::{Operation, OperationStats};
use basalt_nvmf_pdu::Digests;

#[test]
fn a_remote_bdev_behaves_as_every_bdev_does() {
    let mut two = Two::new(1, 1, disk());
    let options = two.options();
    two.attach(options).unwrap();
    let descriptor = two.open("Nvme0n1");
    suite::run(&mut two, &descriptor, suite::Medium::Keeps);
}

#[test]
fn so_it_does_with_digests_and_small_transfers_on_the_second_core() {
    let config = TransportConfig {
        io_len_max: 8192,
        in_capsule_len: 4096,
        queue_size_max: 32,
        ..TransportConfig::default()
    };
    let mut two = Two::configured(2, 2, config, disk());
    let digests = Digests { header: true, data: true };
    let options = RemoteOptions { digests, ..two.options() };
    two.attach(options).unwrap();
    two.suite_core = 1;
    let descriptor = two.open("Nvme0n1");
    suite::run(&mut two, &descriptor, suite::Medium::Keeps);
}

#[test]
fn digests_of_data_are_counted_at_both_ends() {
    let mut two = Two::new(1, 1, disk());
    let digests = Digests { header: true, data: true };
    let options = RemoteOptions { digests, ..two.options() };
    two.attach(options).unwrap();
    let meshes = [two.host.core(0), two.far.core(0)].map(|local| local.mesh().clone());
    let counted = || meshes.each_ref().map(|mesh| mesh.operation(Operation::Crc32c));
    let before = counted();
    assert!(before[0].executed > 0 && before[0] == before[1], "{before:?}");
    let mut channel = two.channel(0);
    channel.submit(two.write(0, 8, &[0x5a; 4096], 1)).unwrap();
    assert_eq!(two.drain(&mut channel, 1)[0].status, Ok(()));
    channel.submit(two.read(0, 8, 4, 2)).unwrap();
    assert_eq!(two.drain(&mut channel, 1)[0].status, Ok(()));
    let both = OperationStats { executed: 2, failed: 0, bytes: 4096 + 2048 };
    assert_eq!(counted(), before.map(|before| before.plus(both)));
}

#[test]
fn a_core_without_a_queue_borrows_one() {
    let mut two = Two::new(3, 2, disk());
    let options = RemoteOptions { io_queues: 1, ..two.options() };
    two.attach(options).unwrap();
    assert_eq!(two.at_target().0, 2);
    let mut channel = two.channel(2);
    channel.submit(two.write(2, 8, &[0x5a; 4096], 1)).unwrap();
    assert_eq!(two.drain(&mut channel, 1)[0].status, Ok(()));
    channel.submit(two.read(2, 8, 8, 2)).unwrap();
    let ended = two.drain(&mut channel, 1);
    assert!(ended[0].data.as_slice()[0].as_slice().iter().all(|byte| *byte == 0x5a));
}

#[test]
fn an_error_of_the_drive_comes_back_as_it_is() {
    let drive = Arc::new(Disk::new(512, 8192));
    let shared = Arc::clone(&drive.shared);
    let mut two = Two::new(1, 1, drive);
    let options = two.options();
    two.attach(options).unwrap();
    shared.fail.store(true, Ordering::Relaxed);
    let mut channel = two.channel(0);
    channel.submit(two.read(0, 0, 1, 1)).unwrap();
    let status = two.drain(&mut channel, 1)[0].status;
    assert!(
        matches!(status, Err(basalt_bdev::IoError::Nvme { sct: 2, sc: 0x81, .. })),
        "{status:?}"
    );
}
