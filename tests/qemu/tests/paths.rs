//! A Linux client reaches a namespace by two paths, and goes by what it is told of them.

use std::time::Duration;

use basalt_qemu_tests::{BasaltGuest, LinuxGuest, Wire};

const BOOT: Duration = Duration::from_secs(120);
const STEP: Duration = Duration::from_secs(180);

/// A subsystem of one namespace behind two ports, which tells how well they reach it.
const CONFIG: &str = r#"{"subsystems":[
    {"subsystem":"net","config":[
        {"method":"net_set_interface","params":{"name":"net0","address":"10.0.0.1/24"}}]},
    {"subsystem":"bdev","config":[
        {"method":"bdev_malloc_create",
         "params":{"name":"Ram0","num_blocks":32768,"block_size":512}}]},
    {"subsystem":"nvmf","config":[
        {"method":"nvmf_create_transport","params":{"trtype":"TCP"}},
        {"method":"nvmf_create_subsystem",
         "params":{"nqn":"nqn.2026-11.io.basalt:paths","allow_any_host":true,"ana_reporting":true}},
        {"method":"nvmf_subsystem_add_ns",
         "params":{"nqn":"nqn.2026-11.io.basalt:paths","namespace":{"bdev_name":"Ram0"}}},
        {"method":"nvmf_subsystem_add_listener",
         "params":{"nqn":"nqn.2026-11.io.basalt:paths","ana_state":"non_optimized",
            "listen_address":{"trtype":"TCP","traddr":"0.0.0.0","trsvcid":"4420"}}},
        {"method":"nvmf_subsystem_add_listener",
         "params":{"nqn":"nqn.2026-11.io.basalt:paths",
            "listen_address":{"trtype":"TCP","traddr":"0.0.0.0","trsvcid":"4421"}}}]}]}"#;

/// Connects both paths and says how they are; afterwards the disk is `$disk`.
const BOTH: &str = r#"
    nqn=nqn.2026-11.io.basalt:paths
    connect() { nvme connect -t tcp -a 10.0.0.1 -s $1 -n $nqn; }
    appears() {
        for disk in /sys/class/nvme-subsystem/*/nvme*n1; do
            grep -q $nqn ${disk%/*}/subsysnqn && disk=/dev/${disk##*/} && test -b $disk && return
        done
        return 1
    }
    state() {
        for path in /sys/class/nvme/nvme*/nvme*c*n*; do
            grep -q "trsvcid=$1" ${path%/*}/address && grep -qx "$2" $path/ana_state && return
        done
        return 1
    }
    becomes() { waits 20 state $1 $2; }
    set_state() {
        call='"jsonrpc":"2.0","id":1,"method":"nvmf_subsystem_listener_set_ana_state"'
        at='"listen_address":{"trtype":"tcp","traddr":"0.0.0.0","trsvcid":"'$1'"}'
        (echo "{$call,\"params\":{\"nqn\":\"$nqn\",$at,\"ana_state\":\"$2\"}}"; sleep 1) |
            nc 10.0.0.1 5260 >/tmp/answer
        grep -q '"result": *true' /tmp/answer || { cat /tmp/answer; return 1; }
    }
    step ping waits 30 ping -c 1 -W 1 10.0.0.1
    step first connect 4420
    step second connect 4421
    step disk waits 20 appears
    appears
    step poor becomes 4420 non-optimized
    step good becomes 4421 optimized
"#;

#[test]
fn a_client_takes_the_path_that_is_left_while_it_reads_and_writes() {
    let wire = Wire::new();
    let target = BasaltGuest::new("basalt").config(CONFIG).nic(wire.near_end()).start();
    target.wait_for_line("core 0 is up", BOOT);
    let script = [
        BOTH,
        r#"
        dd if=/dev/urandom of=/tmp/data bs=64k count=32 2>/dev/null
        load() {
            while test ! -e /tmp/enough; do
                dd if=/tmp/data of=$disk bs=64k oflag=direct 2>/dev/null &&
                    dd if=$disk of=/tmp/back bs=64k count=32 iflag=direct 2>/dev/null &&
                    cmp /tmp/data /tmp/back && echo >>/tmp/turns || { touch /tmp/failed; return; }
            done
            touch /tmp/ended
        }
        load &
        for turn in 1 2 3; do
            step close-good set_state 4421 inaccessible
            step closed becomes 4421 inaccessible
            step open-good set_state 4421 optimized
            step opened becomes 4421 optimized
            step close-poor set_state 4420 inaccessible
            step closed becomes 4420 inaccessible
            step open-poor set_state 4420 non_optimized
            step opened becomes 4420 non-optimized
        done
        touch /tmp/enough
        step ended waits 20 test -e /tmp/ended
        step unharmed test ! -e /tmp/failed
        step worked test -s /tmp/turns
        step both-left state 4420 non-optimized
        "#,
    ]
    .concat();
    let mut client = LinuxGuest::new("client", &script).nic(wire.far_end(), "10.0.0.2/24").start();
    client.wait_for_success(BOOT + STEP);
    assert!(!target.lines().iter().any(|line| line.contains("PANIC")), "Basalt panicked");
}
