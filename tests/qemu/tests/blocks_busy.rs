//! What blktests' group `nvme` does to a target while there is I/O: reset of controller and
//! subsystem, rescan, namespaces that come and go, the tear-down of listener, subsystem and
//! namespace, another number of queues at reconnect, disconnect. All that is written meanwhile is
//! read back and compared. `blocks.rs` has the index of purposes.

use std::time::Duration;

use basalt_qemu_tests::linux::FIND_DISK;
use basalt_qemu_tests::{BasaltGuest, Guest, LinuxGuest, Relay};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

const BOOT: Duration = Duration::from_secs(120);
const STEP: Duration = Duration::from_secs(180);
const DISK_BYTES: u64 = 64 << 20;
const NQN: &str = "nqn.2026-11.io.basalt:busy";
const UUID: &str = "6c1ff6a2-19e5-4f6e-9d3c-0123456789ab";

/// The drive in a subsystem that hosts may reset, with so many I/O queues for each, and two disks
/// in memory that are not in it.
fn target(relay: &Relay, disk: &NamedTempFile, queues: u32) -> Guest {
    let call = |method: &str, params: Value| json!({ "method": method, "params": params });
    let ram = |name: &str, blocks: u32| {
        call("bdev_malloc_create", json!({ "name": name, "num_blocks": blocks, "block_size": 512 }))
    };
    let at = json!({ "trtype": "TCP", "traddr": "0.0.0.0", "trsvcid": "4420" });
    let namespace = json!({ "bdev_name": "Nvme0n1", "nsid": 1, "uuid": UUID });
    let transport = json!({ "trtype": "TCP", "max_io_qpairs_per_ctrlr": queues });
    let subsystem = json!({ "nqn": NQN, "allow_any_host": true, "enable_nssr": true });
    let nvmf = [
        call("nvmf_create_transport", transport),
        call("nvmf_create_subsystem", subsystem),
        call("nvmf_subsystem_add_ns", json!({ "nqn": NQN, "namespace": namespace })),
        call("nvmf_subsystem_add_listener", json!({ "nqn": NQN, "listen_address": at })),
    ];
    let net = call("net_set_interface", json!({ "name": "net0", "address": "10.0.0.1/24" }));
    let bdev = [ram("Ram2", 4096), ram("Ram3", 8192)];
    let config = json!({ "subsystems": [
        { "subsystem": "net", "config": [net] },
        { "subsystem": "bdev", "config": bdev },
        { "subsystem": "nvmf", "config": nvmf },
    ] });
    let machine = BasaltGuest::new("basalt").disk(disk.path()).config(&config.to_string());
    machine.nic(relay.near_end()).start()
}

/// Connects the drive, which is `$disk` then.
const CONNECT: &str = r#"
    nqn=nqn.2026-11.io.basalt:busy
    options="--keep-alive-tmo=3 --reconnect-delay=1 --ctrl-loss-tmo=300"
    connect() { nvme connect -t tcp -a 10.0.0.1 -s 4420 -n $nqn $options; }
    find_disk() { waits 20 disk 1 && disk=$(disk 1) && controller=$(echo /sys/class/nvme/nvme*); }
    is_live() { grep -qx live $controller/state; }
    is_down() { ! is_live; }
    # another ID: the controller is not that one any more.
    another() { is_live && test $(cat $controller/cntlid) != $1; }
    # rpc METHOD PARAMETERS: in time, and without an error.
    answer=/tmp/answer
    rpc() {
        : >$answer
        (echo "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"$1\",\"params\":{\"nqn\":\"$nqn\"$2}}"
            waits 10 grep -q '}' $answer) | nc 10.0.0.1 5260 >$answer
        grep -q '"result"' $answer || { cat $answer; return 1; }
    }
    add_ns() { rpc nvmf_subsystem_add_ns ",\"namespace\":{\"bdev_name\":\"$1\",\"nsid\":$2$3}"; }
    add_disk() { add_ns Nvme0n1 1 ',"uuid":"6c1ff6a2-19e5-4f6e-9d3c-0123456789ab"'; }
    remove_ns() { rpc nvmf_subsystem_remove_ns ",\"nsid\":$1"; }
    listener() {
        rpc nvmf_subsystem_$1_listener \
            ',"listen_address":{"trtype":"tcp","traddr":"0.0.0.0","trsvcid":"4420"}'
    }
    step ping waits 30 ping -c 1 -W 1 10.0.0.1
    step connect connect
    step disk find_disk
    head -c 1048576 /dev/urandom >/tmp/kept
    step keep dd if=/tmp/kept of=$disk bs=64k seek=800 oflag=direct conv=notrunc
    kept() { dd if=$disk bs=64k skip=800 count=16 iflag=direct 2>/dev/null | cmp - /tmp/kept; }
"#;

/// I/O that goes on: one file after the other is written and read back, and fio has many requests
/// on their way. What either finds is in a file at its end: 0 if all was right.
const LOAD: &str = r#"
    head -c 524288 /dev/urandom >/tmp/data0
    head -c 524288 /dev/urandom >/tmp/data1
    turns() {
        local turn=0
        until test -e /tmp/enough; do
            turn=$((1 - turn))
            test -b $disk || return 1
            dd if=/tmp/data$turn of=$disk bs=64k oflag=direct conv=notrunc 2>/tmp/dd || return 1
            dd if=$disk of=/tmp/back bs=64k count=8 iflag=direct 2>/tmp/dd || return 1
            cmp /tmp/data$turn /tmp/back || return 2
            echo >>/tmp/turns
        done
    }
    deep() {
        until test -e /tmp/enough; do
            fio --name=deep --filename=$disk --offset=16m --size=4m --rw=randwrite \
                --bsrange=4k-32k --direct=1 --ioengine=libaio --iodepth=16 --verify=crc32c \
                --verify_fatal=1 --do_verify=1 --output=/tmp/fio >/dev/null 2>&1 || return 1
        done
    }
    start() {
        rm -f /tmp/enough /tmp/turned /tmp/deep
        : >/tmp/turns
        (turns; echo $? >/tmp/turned) &
        (deep; echo $? >/tmp/deep) &
    }
    turned() { test $(wc -l </tmp/turns) -ge $1; }
    # Two turns end after this, the second of which has begun after it.
    goes_on() { waits 90 turned $(($(wc -l </tmp/turns) + 2)) && ! test -s /tmp/deep; }
    both_ended() { test -s /tmp/turned && test -s /tmp/deep; }
    all_right() {
        touch /tmp/enough
        waits 90 both_ended && grep -qx 0 /tmp/turned && grep -qx 0 /tmp/deep && return
        cat /tmp/turned /tmp/dd /tmp/deep /tmp/fio
        return 1
    }
    # It has ended because there was no disk any more, and not with wrong data. What was opened
    # just then is a file where the disk's node is to be again.
    failed() {
        waits 90 both_ended && grep -qx 1 /tmp/turned && grep -qx 1 /tmp/deep || return 1
        test -b $disk || rm -f $disk
    }
    start
    step goes-on goes_on
"#;

const RESETS: &str = r#"
    for turn in 1 2 3; do
        was=$(cat $controller/cntlid)
        step reset nvme reset /dev/${controller##*/}
        step another waits 30 another $was
        step goes-on goes_on
    done
    was=$(cat $controller/cntlid)
    step subsystem-reset nvme subsystem-reset /dev/${controller##*/}
    step another waits 30 another $was
    step goes-on goes_on
    rescans() {
        for turn in 1 2 3 4 5 6 7 8; do nvme ns-rescan /dev/${controller##*/} || return 1; done
    }
    step rescans rescans
    # Two namespaces come and go side by side, and the host looks for them all the time.
    come_and_go() {
        answer=/tmp/answer$1
        for turn in 1 2 3 4 5 6; do
            add_ns Ram$1 $1 && remove_ns $1 || return 1
        done
        add_ns Ram$1 $1
    }
    side_by_side() {
        (come_and_go 2; echo $? >/tmp/two) &
        (come_and_go 3; echo $? >/tmp/three) &
        rescans && waits 60 test -s /tmp/two && waits 60 test -s /tmp/three || return 1
        grep -qx 0 /tmp/two && grep -qx 0 /tmp/three
    }
    step side-by-side side_by_side
    sizes() {
        test "$(blockdev --getsize64 $(disk 2))/$(blockdev --getsize64 $(disk 3))" = 2097152/4194304
    }
    step there waits 20 sizes
    step goes-on goes_on
    step taken remove_ns 2
    step taken remove_ns 3
    step gone waits 20 gone 2
    step gone waits 20 gone 3
    step goes-on goes_on
"#;

const TEAR_DOWN: &str = r#"
    step close listener remove
    step down waits 20 is_down
    step open listener add
    step live waits 60 is_live
    step goes-on goes_on
    step delete rpc nvmf_delete_subsystem
    step down waits 20 is_down
    step create rpc nvmf_create_subsystem ',"allow_any_host":true,"enable_nssr":true'
    step fill add_disk
    step open listener add
    step live waits 60 is_live
    step goes-on goes_on
    # So many queues, with the admin queue; the target is another by then.
    queues() { is_live && test $(cat $controller/queue_count) -eq $1; }
    step three-queues queues 3
    echo "RESTART WITH ONE QUEUE."
    step two-queues waits 120 queues 2
    step goes-on goes_on
    echo "RESTART WITH FOUR QUEUES."
    step three-queues-again waits 120 queues 3
    step goes-on goes_on
    step all-right all_right
    step kept kept
"#;

const FAREWELL: &str = r#"
    start
    step goes-on goes_on
    step take remove_ns 1
    step failed failed
    step gone waits 20 gone 1
    step put-back add_disk
    step disk find_disk
    step kept kept
    start
    step goes-on goes_on
    step disconnect nvme disconnect -n $nqn
    step failed failed
    step none sh -c '! ls -d /sys/class/nvme/nvme*'
    step connect connect
    step disk find_disk
    step kept kept
    start
    step goes-on goes_on
    step all-right all_right
    step disconnect nvme disconnect -n $nqn
"#;

#[test]
fn nothing_is_lost_whatever_is_done_to_a_target_under_io() {
    let disk = NamedTempFile::new();
    let disk = disk.and_then(|disk| disk.as_file().set_len(DISK_BYTES).map(|()| disk)).unwrap();
    let relay = Relay::new();
    let mut first = target(&relay, &disk, 2);
    let script = [FIND_DISK, CONNECT, LOAD, RESETS, TEAR_DOWN, FAREWELL].concat();
    let client = LinuxGuest::new("client", &script).nic(relay.far_end(), "10.0.0.2/24");
    let mut client = client.with_fio().start();
    client.wait_for_line("RESTART WITH ONE QUEUE.", BOOT + STEP);
    first.kill();
    let mut second = target(&relay, &disk, 1);
    client.wait_for_line("RESTART WITH FOUR QUEUES.", STEP);
    second.kill();
    let third = target(&relay, &disk, 4);
    client.wait_for_success(STEP + STEP);
    for target in [first, second, third] {
        assert!(!target.lines().iter().any(|line| line.contains("PANIC")), "Basalt panicked");
    }
}
