//! The Linux client that other tests use, tried by itself.

use std::time::Duration;

use basalt_qemu_tests::{LinuxGuest, Wire};

const BOOT: Duration = Duration::from_secs(120);

#[test]
fn a_client_boots_loads_the_initiator_and_reaches_itself() {
    let script = "
        step initiator test -c /dev/nvme-fabrics
        step ping ping -c 1 127.0.0.1
        step nvme nvme version
        step ext4 grep -q ext4 /proc/filesystems
        step tools sh -c 'mkfs.ext4 -V && e2fsck -V'
        step fio fio --version
    ";
    let mut client = LinuxGuest::new("client", script).with_fio().start();
    client.wait_for_success(BOOT);
}

#[test]
fn two_clients_reach_each_other_over_a_wire_and_one_can_be_replaced() {
    let wire = Wire::new();
    let near = LinuxGuest::new("near", "step ready true; sleep 1000")
        .nic(wire.near_end(), "10.0.0.1/24")
        .start();
    near.wait_for_step("ready", BOOT);
    for name in ["first", "second"] {
        let script = "step ping waits 20 ping -c 1 -W 1 10.0.0.1";
        let far = LinuxGuest::new(name, script).nic(wire.far_end(), "10.0.0.2/24");
        far.start().wait_for_success(BOOT);
    }
}

#[test]
fn a_failing_step_ends_the_script() {
    let script = "step good true; step bad false; step never true";
    let client = LinuxGuest::new("client", script).start();
    client.wait_for_line("BASALT-STEP-FAILED bad with 1.", BOOT);
    client.wait_for_line("BASALT-RESULT 1", BOOT);
    assert!(!client.lines().iter().any(|line| line.contains("never")));
}
