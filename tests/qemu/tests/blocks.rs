//! What blktests' group `nvme` asks of a target, by purpose, with Linux as the host. Where each is:
//!
//! - one discovery log of very many subsystems, its generation counter; a discovery controller that
//!   stays for longer than its keep-alive timeout: here
//! - UUID, NGUID and namespace descriptors in sysfs, from where by-id links are made: here
//! - verified fio on the raw disk: `target.rs`; on a file system: here (and `target.rs`)
//! - flush: here, by a bdev that fails it; to the drive: `target.rs`
//! - I/O past the end; reads and writes by ioctl: here
//! - Dataset Management; write-zeroes by command, `blkdiscard -z` and `fallocate`: here
//! - SMART, effects and error logs; what is injected shows up there: here
//! - rescan; namespaces that come and go; deletion right after set-up: here
//! - all of these under I/O, controller and subsystem reset, disconnect: `blocks_busy.rs`
//! - tear-down of namespace, listener and subsystem under I/O: `blocks_busy.rs`
//! - another number of queues at reconnect: `blocks_busy.rs`
//! - reservations: `hosted.rs`; ANA fail-over by two listeners: `paths.rs`
//! - loss of the line, of the target and of the host: `losses.rs`, `target.rs`
//! - the drive's own commands: `passthru.rs`; zoned namespaces: `zones.rs`

use std::time::Duration;

use basalt_qemu_tests::linux::FIND_DISK;
use basalt_qemu_tests::{BasaltGuest, LinuxGuest, Wire};
use serde_json::{Value, json};

const BOOT: Duration = Duration::from_secs(120);
const STEP: Duration = Duration::from_secs(240);
/// Subsystems beside the one that is used.
const MANY: usize = 1000;
const NQN: &str = "nqn.2026-11.io.basalt:blocks";
const UUID: &str = "6c1ff6a2-19e5-4f6e-9d3c-0123456789ab";
const NGUID: &str = "0123456789abcdef0011223344556677";

fn call(method: &str, params: Value) -> Value {
    json!({ "method": method, "params": params })
}

/// The subsystem that is used, of a disk in memory and one that can be made to fail; and many more.
fn config() -> String {
    let net = call("net_set_interface", json!({ "name": "net0", "address": "10.0.0.1/24" }));
    let disk = |name: &str, size: u32, blocks: u32| {
        call(
            "bdev_malloc_create",
            json!({ "name": name, "num_blocks": blocks, "block_size": size }),
        )
    };
    let namespace = |bdev: &str, more: Value| {
        let mut namespace = json!({ "bdev_name": bdev });
        namespace.as_object_mut().into_iter().zip(more.as_object()).for_each(|(all, more)| {
            all.extend(more.clone());
        });
        call("nvmf_subsystem_add_ns", json!({ "nqn": NQN, "namespace": namespace }))
    };
    let mut nvmf = vec![call("nvmf_create_transport", json!({ "trtype": "TCP" }))];
    let others = (0..MANY).map(|n| format!("nqn.2026-11.io.basalt:many{n}"));
    for nqn in [NQN.to_owned()].into_iter().chain(others) {
        nvmf.push(call("nvmf_create_subsystem", json!({ "nqn": nqn, "allow_any_host": true })));
        let at = json!({ "trtype": "TCP", "traddr": "0.0.0.0", "trsvcid": "4420" });
        let listener = json!({ "nqn": nqn, "listen_address": at });
        nvmf.push(call("nvmf_subsystem_add_listener", listener));
    }
    nvmf.push(namespace("Ram0", json!({ "uuid": UUID, "nguid": NGUID })));
    nvmf.push(namespace("EE_Ram1", json!({})));
    let error = call("bdev_error_create", json!({ "base_name": "Ram1" }));
    let bdev = [disk("Ram0", 512, 65_536), disk("Ram1", 4096, 2048), error];
    let subsystem = |name: &str, config: &[Value]| json!({ "subsystem": name, "config": config });
    let all = [subsystem("net", &[net]), subsystem("bdev", &bdev), subsystem("nvmf", &nvmf)];
    json!({ "subsystems": all }).to_string()
}

/// Connects, and calls Basalt's methods.
const HELP: &str = r#"
    nqn=nqn.2026-11.io.basalt:blocks
    target="-t tcp -a 10.0.0.1 -s 4420"
    connect() { nvme connect $target -n $nqn "$@"; }
    # rpc METHOD PARAMETERS: the answer is in /tmp/answer.
    rpc() {
        : >/tmp/answer
        (echo "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"$1\",\"params\":{$2}}"
            waits 10 grep -q '}' /tmp/answer) | nc 10.0.0.1 5260 >/tmp/answer
        grep -q '"result"' /tmp/answer || { cat /tmp/answer; return 1; }
    }
    add_ns() {
        rpc nvmf_subsystem_add_ns \
            "\"nqn\":\"$nqn\",\"namespace\":{\"bdev_name\":\"$1\",\"nsid\":$2}"
    }
    remove_ns() { rpc nvmf_subsystem_remove_ns "\"nqn\":\"$nqn\",\"nsid\":$1"; }
    # number FIELD FILE: of what nvme prints.
    number() { sed -n "s/^$1[[:space:]]*: *\([0-9,]*\).*/\1/p" $2 | head -n 1 | tr -d ,; }
    # zero BYTES: as many zeroes.
    zero() { head -c $1 /dev/zero; }
    step ping waits 60 ping -c 1 -W 1 10.0.0.1
"#;

const DISCOVERY: &str = r#"
    discover() { nvme discover $target >/tmp/log 2>&1 || { cat /tmp/log; return 1; }; }
    records() { sed -n 's/^Discovery Log Number of Records \([0-9]*\).*/\1/p' /tmp/log; }
    generation() { sed -n 's/.*Generation counter \([0-9]*\).*/\1/p' /tmp/log; }
    all_there() {
        test $(sed -n 's/^subnqn: *.*:many\([0-9]*\)$/\1/p' /tmp/log | sort -u | wc -l) -eq 1000 &&
            grep -q "^subnqn: *$nqn$" /tmp/log && test $(records) -ge 1001
    }
    another() {
        local before=$(generation) count=$(records)
        rpc nvmf_delete_subsystem '"nqn":"nqn.2026-11.io.basalt:many500"' && discover || return 1
        echo "generation $before, then $(generation); records $count, then $(records)"
        test $(generation) -gt $before && test $(records) -eq $((count - 1)) &&
            ! grep -q ':many500$' /tmp/log
    }
    step discover discover
    step thousand all_there
    # Several timeouts long. A controller that was lost and came back has another identifier.
    stays() {
        nvme discover $target --persistent --keep-alive-tmo=3 >/tmp/log 2>&1 ||
            { cat /tmp/log; return 1; }
        local controller=$(dirname $(grep -l discovery /sys/class/nvme/nvme*/subsysnqn))
        local before=$(cat $controller/cntlid) timeout=$(cat $controller/kato)
        sleep 12
        echo "timeout $timeout, controller $before, $(cat $controller/cntlid $controller/state)"
        test $timeout -eq 3 && test $(cat $controller/cntlid) = $before &&
            grep -q live $controller/state && nvme disconnect -d ${controller##*/}
    }
    step persistent stays
    step generation another
    short_lived() {
        for turn in 1 2 3 4 5 6 7 8; do
            connect >/dev/null && nvme disconnect -n $nqn >/dev/null || return 1
            nvme connect $target -n nqn.2026-11.io.basalt:many$turn >/dev/null || return 1
            for controller in /sys/class/nvme/nvme*; do
                echo 1 >$controller/delete_controller || return 1
            done
        done
        ! ls /sys/class/nvme/nvme* 2>/dev/null
    }
    step deleted-at-once short_lived
    nobody() {
        rpc nvmf_subsystem_get_controllers "\"nqn\":\"$nqn\"" && tr -d ' \n' </tmp/answer |
            grep -q '"result":\[\]'
    }
    step nobody-left waits 10 nobody
"#;

const NAMES: &str = r#"
    step connect connect
    step disks waits 20 disk 2
    one=$(disk 1) two=$(disk 2) controller=/dev/$(ls /sys/class/nvme | head -n 1)
    queue=/sys/block/${one##*/}/queue
    is() { test "$(cat $1)" = "$2" || { echo "$1 has $(cat $1), not $2"; return 1; }; }
    uuid=6c1ff6a2-19e5-4f6e-9d3c-0123456789ab
    step uuid is /sys/block/${one##*/}/uuid $uuid
    step by-id is /sys/block/${one##*/}/wwid uuid.$uuid
    step nguid is /sys/block/${one##*/}/nguid 01234567-89ab-cdef-0011-223344556677
    nvme ns-descs $one >/tmp/descriptors
    step descriptors grep -q "uuid *: *$uuid" /tmp/descriptors
    other_uuid() {
        cat /sys/block/${two##*/}/uuid >/tmp/uuid
        grep -q '[1-9a-f]' /tmp/uuid && ! grep -q $uuid /tmp/uuid
    }
    step other-uuid other_uuid
    step sizes test $(blockdev --getsize64 $one)/$(blockdev --getss $two) = 33554432/4096
    step listed sh -c "nvme list-subsys | grep -q $nqn"
"#;

const DATA: &str = r#"
    head -c 1048576 /dev/urandom >/tmp/data
    # fresh: the first MiB is /tmp/data, and so is what is expected.
    fresh() {
        cp /tmp/data /tmp/expected
        dd if=/tmp/data of=$one bs=64k oflag=direct conv=notrunc 2>/dev/null
    }
    # zeroed AT BYTES: those are expected to be zeroes.
    zeroed() { zero $2 | dd of=/tmp/expected bs=512 seek=$(($1 / 512)) conv=notrunc 2>/dev/null; }
    right() {
        dd if=$one of=/tmp/is bs=64k count=16 iflag=direct 2>/dev/null && cmp /tmp/expected /tmp/is
    }
    step fresh fresh
    step dsm nvme dsm $one --ad --slbs=8,100 --blocks=8,3
    zeroed 4096 4096; zeroed 51200 1536
    step dsm-right right
    step discard /sbin/blkdiscard -o 65536 -l 131072 $one
    zeroed 65536 131072
    step discard-right right
    step fresh-again fresh
    step zeroes-told test $(cat $queue/write_zeroes_max_bytes) -gt 0
    step write-zeroes nvme write-zeroes $one -s 5 -c 6
    zeroed 2560 3584
    step blkdiscard-z /sbin/blkdiscard -z -o 131072 -l 65536 $one
    zeroed 131072 65536
    step fallocate-z /usr/bin/fallocate -n -z -o 262144 -l 8192 $one
    zeroed 262144 8192
    step fallocate-p /usr/bin/fallocate -n -p -o 524288 -l 4096 $one
    zeroed 524288 4096
    step zeroes-right right
    # By ioctl, past the page cache.
    head -c 4096 /tmp/data >/tmp/block
    step passthru-write nvme write $one -s 2000 -c 7 -z 4096 -d /tmp/block
    step passthru-read nvme read $one -s 2000 -c 7 -z 4096 -d /tmp/back
    step passthru-same cmp /tmp/block /tmp/back
    step compare nvme compare $one -s 2000 -c 7 -z 4096 -d /tmp/block
    differs() {
        zero 4096 >/tmp/zeroes
        nvme compare $one -s 2000 -c 7 -z 4096 -d /tmp/zeroes >/tmp/says 2>&1 && return 1
        grep -qi 'compare failure' /tmp/says || { cat /tmp/says; return 1; }
    }
    step compare-differs differs
"#;

const PAST_THE_END: &str = r#"
    # beyond COMMAND...: it is refused for its blocks.
    beyond() {
        "$@" >/tmp/says 2>&1 && return 1
        grep -qi 'lba out of range' /tmp/says || { cat /tmp/says; return 1; }
    }
    last=65535
    step last-block nvme write $one -s $last -c 0 -z 512 -d /tmp/block
    step read-past beyond nvme read $one -s $((last + 1)) -c 0 -z 512 -d /tmp/back
    step read-across beyond nvme read $one -s $last -c 1 -z 1024 -d /tmp/back
    step read-wrapped beyond nvme read $one -s 0xffffffffffffffff -c 1 -z 1024 -d /tmp/back
    step write-across beyond nvme write $one -s $last -c 1 -z 1024 -d /tmp/data
    step zeroes-across beyond nvme write-zeroes $one -s $last -c 1
    step dsm-across beyond nvme dsm $one --ad --slbs=$last --blocks=2
    kept() {
        dd if=$one bs=512 skip=$last count=1 iflag=direct 2>/dev/null | cmp -n 512 - /tmp/block
    }
    step last-block-kept kept
    nvme error-log $one -e 4 >/tmp/errors
    last_error() {
        grep -qi 'status_field.*lba out of range' /tmp/errors &&
            grep -q "^lba[[:space:]]*: $(printf %#x $last)" /tmp/errors && return
        cat /tmp/errors
        return 1
    }
    step error-log last_error
"#;

const LOGS: &str = r#"
    counts() {
        nvme smart-log $one >/tmp/smart
        echo $(number host_read_commands /tmp/smart) $(number host_write_commands /tmp/smart)
    }
    before=$(counts)
    dd if=$one of=/dev/null bs=4k count=20 iflag=direct 2>/dev/null
    dd if=/tmp/data of=$one bs=4k count=10 oflag=direct conv=notrunc 2>/dev/null
    after=$(counts)
    more() {
        echo "reads and writes: $before, then $after"
        test $((${after% *} - ${before% *})) -ge 20 && test $((${after#* } - ${before#* })) -ge 10
    }
    step smart more
    nvme effects-log $controller -c 0 -H >/tmp/effects 2>&1
    effect() { grep -q "\[$1 *\] .* CSUPP+ *LBCC$2" /tmp/effects; }
    effects() {
        effect Identify - && effect Read - && effect Write + && effect 'Dataset Management' + &&
            effect 'Write Zeroes' + && return
        cat /tmp/effects
        return 1
    }
    step effects effects
    # What is injected is told of: a read, then a flush.
    inject() {
        rpc bdev_error_inject_error \
            "\"name\":\"EE_Ram1\",\"io_type\":\"$1\",\"error_type\":\"failure\",\"num\":$2"
    }
    errors() { nvme smart-log $two >/tmp/smart && number num_err_log_entries /tmp/smart; }
    before=$(errors)
    step inject-flush inject flush 1
    step flush-fails sh -c "! nvme flush $two -n 2"
    step flush nvme flush $two -n 2
    step inject-read inject read 1
    step read-fails sh -c "! nvme read $two -s 0 -c 0 -z 4096 -d /tmp/back"
    step read nvme read $two -s 0 -c 0 -z 4096 -d /tmp/back
    step counted test $(errors) -eq $((before + 2))
    step write-cache grep -q 'write back' $queue/write_cache
"#;

const COMING_AND_GOING: &str = r#"
    bdev() { rpc bdev_malloc_create "\"name\":\"$1\",\"num_blocks\":$2,\"block_size\":512"; }
    step bdev bdev Ram3 4096
    step comes add_ns Ram3 7
    step come waits 20 disk 7
    step its-size test $(blockdev --getsize64 $(disk 7)) -eq 2097152
    rescan() { nvme ns-rescan $controller; }
    step rescan rescan
    step still-there test -b "$(disk 1)" -a -b "$(disk 7)"
    step goes remove_ns 7
    step went waits 20 gone 7
    step rescan-again rescan
    step others-stay test -b "$(disk 1)" -a -b "$(disk 2)"
    step mkfs mkfs.ext4 -q -F $one
    step mount mount -t ext4 $one /mnt
    files() {
        fio --name=files --directory=/mnt --nrfiles=4 --size=8m --rw=randwrite --bsrange=1k-64k \
            --ioengine=libaio --iodepth=8 --fsync=16 --verify=crc32c --verify_fatal=1 \
            --do_verify=1 --output=/tmp/fio || { cat /tmp/fio; return 1; }
    }
    step fio files
    step trim fstrim -v /mnt
    step unmount umount /mnt
    step fsck e2fsck -f -n $one
    step disconnect nvme disconnect -n $nqn
"#;

#[test]
fn a_host_finds_all_it_is_offered_and_what_it_asks_is_done() {
    let wire = Wire::new();
    let target = BasaltGuest::new("basalt").config(&config()).nic(wire.near_end()).start();
    target.wait_for_line("core 0 is up", BOOT);
    let script =
        [FIND_DISK, HELP, DISCOVERY, NAMES, DATA, PAST_THE_END, LOGS, COMING_AND_GOING].concat();
    let client = LinuxGuest::new("client", &script).nic(wire.far_end(), "10.0.0.2/24");
    let mut client = client.with_fio().start();
    client.wait_for_success(BOOT + STEP);
    assert!(!target.lines().iter().any(|line| line.contains("PANIC")), "Basalt panicked");
}
