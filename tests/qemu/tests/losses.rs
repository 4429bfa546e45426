//! The line between a Linux client and Basalt loses frames, or is cut; either of them is killed:
//! the client comes back, and no write that was acknowledged is lost or wrong.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::thread;
use std::time::Duration;

use basalt_qemu_tests::{BasaltGuest, Guest, LinuxGuest, Losses, Relay};
use tempfile::NamedTempFile;

const BOOT: Duration = Duration::from_secs(120);
const STEP: Duration = Duration::from_secs(180);
const DISK_BYTES: u64 = 64 << 20;
const BLOCK: usize = 4096;
const CONFIG: &str = r#"{"subsystems":[{"subsystem":"net","config":[
    {"method":"net_set_interface","params":{"name":"net0","address":"10.0.0.1/24"}}]}]}"#;

/// Connects the drive, which is `$disk` then; it comes back for two minutes.
const CONNECT: &str = r#"
    nqn=nqn.2026-11.io.basalt:storage
    options="--keep-alive-tmo=3 --reconnect-delay=1 --ctrl-loss-tmo=120"
    connect() { nvme connect -t tcp -a 10.0.0.1 -s 4420 -n $nqn $options; }
    appears() {
        for disk in /sys/class/nvme-subsystem/*/nvme*n1; do
            grep -q $nqn ${disk%/*}/subsysnqn && disk=/dev/${disk##*/} && test -b $disk && return
        done
        return 1
    }
    step ping waits 30 ping -c 1 -W 1 10.0.0.1
    step connect connect
    step disk waits 20 appears
    appears
"#;

fn disk() -> NamedTempFile {
    let made =
        NamedTempFile::new().and_then(|disk| disk.as_file().set_len(DISK_BYTES).map(|()| disk));
    made.unwrap_or_else(|error| panic!("no disk: {error}"))
}

fn target(relay: &Relay, disk: &NamedTempFile) -> Guest {
    let machine = BasaltGuest::new("basalt").disk(disk.path()).config(CONFIG);
    machine.nic(relay.near_end()).start()
}

fn client(relay: &Relay, script: &str) -> LinuxGuest {
    LinuxGuest::new("client", &[CONNECT, script].concat()).nic(relay.far_end(), "10.0.0.2/24")
}

fn assert_no_panic(target: &Guest) {
    assert!(!target.lines().iter().any(|line| line.contains("PANIC")), "Basalt panicked");
}

#[test]
fn what_a_client_writes_is_right_over_a_line_that_loses_frames_and_is_cut() {
    let (relay, disk) = (Relay::new(), disk());
    let target = target(&relay, &disk);
    let script = r#"
        check() {
            fio --name=$1 --filename=$disk --rw=randwrite --bsrange=4k-64k --size=$2 --offset=$3 \
                --direct=1 --ioengine=libaio --iodepth=16 --verify=crc32c --verify_fatal=1 \
                --do_verify=1 --output=/tmp/$1 || { cat /tmp/$1; return 1; }
        }
        step few check few 4m 0
        step many check many 512k 8m
        go_on() {
            until test -e /tmp/healed; do
                check cut 1m 16m || return 1
            done
        }
        (go_on; echo $? >/tmp/end) &
        echo "WRITING NOW."
        reconnects() { dmesg | grep -q 'Successfully reconnected'; }
        step reconnect waits 60 reconnects
        touch /tmp/healed
        step end waits 60 test -s /tmp/end
        step verified grep -q '^0$' /tmp/end
    "#;
    let mut client = client(&relay, script).with_fio().start();
    client.wait_for_step("disk", BOOT);
    relay.set_losses(Losses { lost: 10, doubled: 10, swapped: 10 });
    client.wait_for_step("few", STEP);
    relay.set_losses(Losses { lost: 50, doubled: 20, swapped: 50 });
    client.wait_for_step("many", STEP);
    relay.set_losses(Losses::default());
    let (passed, lost) = relay.counts();
    println!("{passed} frames got through, {lost} did not");
    assert!(lost > 30, "the line lost {lost} frames only");
    client.wait_for_line("WRITING NOW.", STEP);
    thread::sleep(Duration::from_secs(1));
    relay.cut();
    // Longer than either side believes in the other.
    thread::sleep(Duration::from_secs(8));
    relay.heal();
    client.wait_for_success(STEP);
    assert_no_panic(&target);
}

/// The number in the last line of the form `ACKED <number>.`; blocks up to it were acknowledged.
fn acknowledged(client: &Guest) -> u64 {
    let lines = client.lines();
    let number = |line: &String| line.split_once("ACKED ")?.1.split_once('.')?.0.parse().ok();
    lines.iter().rev().find_map(number).unwrap_or(0)
}

/// What the client writes to a block.
fn block(number: u64) -> Vec<u8> {
    let line = format!("block {number}\n");
    line.bytes().cycle().take(BLOCK).collect()
}

#[test]
fn no_acknowledged_write_is_lost_when_target_or_client_is_killed() {
    let (relay, disk) = (Relay::new(), disk());
    let mut first = target(&relay, &disk);
    let script = r#"
        write() {
            yes "block $1" | head -c 4096 >/tmp/block
            dd if=/tmp/block of=$disk bs=4096 seek=$1 oflag=direct conv=notrunc 2>/tmp/dd
        }
        for number in $(seq 1 4000); do
            write $number || { cat /tmp/dd; result 1; }
            echo "ACKED $number."
        done
    "#;
    let mut client = client(&relay, script).start();
    client.wait_for_line("ACKED 30.", BOOT + STEP);
    first.kill();
    let before = acknowledged(&client);
    let second = target(&relay, &disk);
    client.wait_for_line(&format!("ACKED {}.", before + 30), STEP);
    client.kill();
    let last = acknowledged(&client);
    println!("{before} writes before the target was killed, {last} before the client was");
    let file = File::open(disk.path()).unwrap();
    for number in 1..=last {
        let mut found = vec![0; BLOCK];
        file.read_exact_at(&mut found, number * BLOCK as u64).unwrap();
        assert!(found == block(number), "block {number} of {last} is lost");
    }
    // The killed client's controller goes with its keep-alive timer.
    second.wait_for_line(" ended", STEP);
    assert_no_panic(&second);
}
