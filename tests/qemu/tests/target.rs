//! A Linux client uses Basalt as its NVMe/TCP storage: finds it, connects, does verified I/O, keeps
//! a file system on it; and what it wrote is on the drive.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use basalt_qemu_tests::{BasaltGuest, Guest, LinuxGuest, Wire};

const BOOT: Duration = Duration::from_secs(120);
const STEP: Duration = Duration::from_secs(180);
const DISK_BYTES: u64 = 256 << 20;
const CONFIG: &str = r#"{"subsystems":[{"subsystem":"net","config":[
    {"method":"net_set_interface","params":{"name":"net0","address":"10.0.0.1/24"}}]}]}"#;

/// Finds and connects the drive; afterwards it is `$disk`.
const CONNECT: &str = r#"
    nqn=nqn.2026-11.io.basalt:storage
    target="-t tcp -a 10.0.0.1 -s 4420"
    connect() { nvme connect $target -n $nqn; }
    appears() {
        for disk in /sys/class/nvme-subsystem/*/nvme*n1; do
            grep -q $nqn ${disk%/*}/subsysnqn && disk=/dev/${disk##*/} && test -b $disk && return
        done
        return 1
    }
    find_disk() { waits 20 appears && appears && echo "disk $disk"; }
    step ping waits 30 ping -c 1 -W 1 10.0.0.1
"#;

/// Asks Basalt how much memory is free; the answer is one line of JSON, kept in a file.
const MEMORY: &str = r#"
    memory() {
        sleep 1
        (echo '{"jsonrpc":"2.0","id":1,"method":"env_get_mem_stats"}'; sleep 1) |
            nc 10.0.0.1 5260 >/tmp/memory
        cat /tmp/memory && grep -q bytes_free /tmp/memory
    }
"#;

/// A heap that is smaller by less has lost nothing that counts: a leak of one small block for each
/// of a hundred connections is more.
const HEAP_SLACK_BYTES: i64 = 1024;

/// Basalt with one drive on a wire.
struct Target {
    wire: Wire,
    disk: tempfile::NamedTempFile,
    guest: Guest,
}

impl Target {
    fn start() -> Self {
        let made = tempfile::NamedTempFile::new()
            .and_then(|disk| disk.as_file().set_len(DISK_BYTES).map(|()| disk));
        let disk = made.unwrap_or_else(|error| panic!("no disk: {error}"));
        let wire = Wire::new();
        let guest = BasaltGuest::new("basalt")
            .disk(disk.path())
            .config(CONFIG)
            .nic(wire.near_end())
            .start();
        guest.wait_for_line("core 0 is up", BOOT);
        Self { wire, disk, guest }
    }

    fn client(&self, script: &str) -> LinuxGuest {
        let script = [CONNECT, MEMORY, script].concat();
        LinuxGuest::new("client", &script).nic(self.wire.far_end(), "10.0.0.2/24")
    }

    /// Runs a client to its end, and checks that the target has not complained. Gives what the
    /// client was told about Basalt's memory, if it asked.
    fn run(&self, script: &str) -> Vec<Memory> {
        let mut client = self.client(script).start();
        client.wait_for_success(BOOT + STEP);
        let panicked = self.guest.lines().iter().any(|line| line.contains("PANIC"));
        assert!(!panicked, "Basalt panicked");
        client.lines().iter().filter_map(|line| Memory::read(line)).collect()
    }

    /// Runs such a client until each core has had a queue for I/O, as what it takes for the first
    /// one it keeps; gives the last one's first word on memory.
    fn settle(&self, script: &str) -> Memory {
        for _ in 0..8 {
            let memory = self.run(script).into_iter().next();
            let served = |core: &str| {
                let lines = self.guest.lines();
                let mut queues =
                    lines.iter().filter(|line| line.contains(" connected controller "));
                queues.any(|line| line.ends_with(core))
            };
            if let Some(memory) = memory.filter(|_| served("core 0") && served("core 1")) {
                return memory;
            }
        }
        panic!("every queue for I/O is on the same core, eight clients long");
    }

    /// How many of its lines hold `text`.
    fn count(&self, text: &str) -> usize {
        self.guest.lines().iter().filter(|line| line.contains(text)).count()
    }
}

/// Free memory as `env_get_mem_stats` told it.
#[derive(Debug)]
struct Memory {
    /// Every core's, as text: it is compared to the byte.
    dma: String,
    heap_free: i64,
}

impl Memory {
    fn read(line: &str) -> Option<Self> {
        let (_, dma) = line.split_once(r#""dma":"#)?;
        let (dma, heap) = dma.split_once(r#","heap":{"bytes_free":"#)?;
        let heap_free = heap.split_once(',')?.0.parse().ok()?;
        Some(Self { dma: dma.into(), heap_free })
    }

    #[track_caller]
    fn assert_same(&self, later: &Self) {
        assert_eq!(self.dma, later.dma, "DMA memory was lost");
        let lost = self.heap_free - later.heap_free;
        assert!(lost < HEAP_SLACK_BYTES, "{lost} bytes of heap were lost");
    }
}

fn bytes_at(path: &Path, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut bytes)
    });
    assert!(read.is_ok(), "{read:?}");
    bytes
}

#[test]
fn the_queues_of_a_client_are_spread_over_the_cores() {
    let target = Target::start();
    target.run(
        r#"
        step connect connect
        step disk find_disk
        step disconnect nvme disconnect -n $nqn
        "#,
    );
    let on = |core: &str| {
        let ends = format!("core {core}");
        let lines = target.guest.lines();
        lines.iter().filter(|line| line.contains(" connected ") && line.ends_with(&ends)).count()
    };
    assert!(on("0") > 0 && on("1") > 0, "{} on core 0, {} on core 1", on("0"), on("1"));
}

#[test]
fn a_client_discovers_and_identifies_the_drive() {
    let target = Target::start();
    target.run(
        r#"
        discover() {
            nvme discover $target >/tmp/log && cat /tmp/log && grep -q $nqn /tmp/log &&
                ! grep -q unrecognized /tmp/log
        }
        counts() {
            dd if=$disk of=/dev/null bs=1M count=4 iflag=direct
            nvme smart-log $disk >/tmp/smart && cat /tmp/smart &&
                grep -q '^host_read_commands.*: [1-9]' /tmp/smart
        }
        step discover discover
        step connect connect
        step disk find_disk
        step id-ctrl nvme id-ctrl $disk
        step id-ns nvme id-ns $disk
        step smart-log counts
        step error-log nvme error-log $disk
        step size test $(blockdev --getsize64 $disk) -eq 268435456
        step disconnect nvme disconnect -n $nqn
        "#,
    );
}

#[test]
fn what_a_client_writes_is_on_the_drive_and_what_is_there_it_reads() {
    let target = Target::start();
    let before: Vec<u8> = (0..1 << 20).map(|at: u32| (at * 7 / 3) as u8).collect();
    let mut whole = vec![0; 64 << 20];
    whole.extend(&before);
    fs::write(target.disk.path(), whole).unwrap();
    File::options().write(true).open(target.disk.path()).unwrap().set_len(DISK_BYTES).unwrap();
    target.run(
        r#"
        copy() { dd if=$disk of=$disk bs=1M skip=64 seek=130 count=1 iflag=direct oflag=direct; }
        pattern() {
            yes Basalt | head -c 1048576 >/tmp/pattern
            dd if=/tmp/pattern of=$disk bs=1M seek=100 oflag=direct
        }
        step connect connect
        step disk find_disk
        step copy copy
        step pattern pattern
        step flush nvme flush $disk
        step disconnect nvme disconnect -n $nqn
        "#,
    );
    let expected: Vec<u8> = b"Basalt\n".iter().copied().cycle().take(1 << 20).collect();
    assert!(bytes_at(target.disk.path(), 100 << 20, 1 << 20) == expected);
    assert!(bytes_at(target.disk.path(), 130 << 20, 1 << 20) == before);
    let untouched = bytes_at(target.disk.path(), 101 << 20, 1 << 20);
    assert!(untouched.iter().all(|byte| *byte == 0));
}

#[test]
fn random_io_of_many_sizes_reads_back_what_was_written() {
    let target = Target::start();
    let script = r#"
        step connect connect
        step disk find_disk
        verify() {
            fio --name=verify --filename=$disk --rw=randrw --bsrange=4k-256k --size=64m \
                --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --verify_fatal=1 \
                --do_verify=1 --randseed=20261122
        }
        step fio verify
        step disconnect nvme disconnect -n $nqn
    "#;
    target.client(script).with_fio().start().wait_for_success(BOOT + STEP);
}

#[test]
fn a_file_system_survives_unmounting_checking_and_mounting_again() {
    let target = Target::start();
    target.run(
        r#"
        tree() { cp -a /bin /lib /modules /mnt/ && (cd /mnt && find bin lib modules -type f \
            -exec sha256sum {} +) >/tmp/sums && test -s /tmp/sums; }
        compare() { (cd /mnt && sha256sum -c /tmp/sums) | grep -v ': OK$' && return 1; return 0; }
        step connect connect
        step disk find_disk
        step mkfs mkfs.ext4 -q -F $disk
        step mount mount -t ext4 $disk /mnt
        step tree tree
        step unmount umount /mnt
        step fsck e2fsck -f -n $disk
        step disconnect nvme disconnect -n $nqn
        step connect-again connect
        step disk-again find_disk
        step mount-again mount -t ext4 $disk /mnt
        step compare compare
        step unmount-again umount /mnt
        step disconnect-again nvme disconnect -n $nqn
        "#,
    );
}

#[test]
fn a_client_that_dies_while_writing_leaves_nothing_behind() {
    let target = Target::start();
    let session = r#"
        step connect connect
        step disk find_disk
        step write dd if=/bin/busybox of=$disk bs=1M oflag=direct conv=sync
        step read dd if=$disk of=/dev/null bs=1M count=1 iflag=direct
        step disconnect nvme disconnect -n $nqn
        step memory memory
    "#;
    let before = target.settle(session);
    let mut doomed = target
        .client(
            r#"
            step connect connect
            step disk find_disk
            while true; do dd if=/dev/zero of=$disk bs=1M count=64 oflag=direct 2>/dev/null
            echo "BASALT-WROTE"; done
            "#,
        )
        .start();
    doomed.wait_for_line("BASALT-WROTE", BOOT + STEP);
    doomed.kill();
    target.guest.wait_for_line("keep-alive timeout", STEP);
    target.guest.wait_for_nth_line(" closed: ", target.count(" connected "), STEP);
    let after = target.run(session);
    before.assert_same(&after[0]);
}

#[test]
fn a_hundred_connections_come_and_go() {
    let target = Target::start();
    let memory = target.run(
        r#"
        cycles() {
            left=$1
            while [ $left -gt 0 ]; do
                connect >/dev/null && find_disk >/dev/null || return 1
                dd if=$disk of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null || return 1
                nvme disconnect -n $nqn >/dev/null || return 1
                left=$((left - 1))
                [ $((left % 10)) -ne 0 ] || echo "$left cycles left"
            done
        }
        step first-cycles cycles 8
        step memory-before memory
        step cycles cycles 100
        step memory-after memory
        "#,
    );
    memory[0].assert_same(&memory[1]);
}
