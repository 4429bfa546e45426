extern crate std;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::mem;
use std::sync::{Mutex, MutexGuard};

use basalt_bdev::{BdevInfo, Io, IoChannel, IoError, Op, RejectReason};
use basalt_env::Work;
use serde_json::{Value, json};

use super::*;
use crate::tests::Machine;

const MIB: usize = 1 << 20;
/// Where the text of the second slot is in a partition of that size.
const SECOND_TEXT: usize = (512 << 10) + 4096;

/// What became of a disk.
#[derive(Clone, Debug)]
enum Done {
    /// Bytes were written there.
    Write(usize, Vec<u8>),
    Flush,
}

#[derive(Default)]
struct Record {
    bytes: Vec<u8>,
    log: Vec<Done>,
    /// What fails.
    fails: Option<Op>,
}

/// A partition that remembers what it was asked, in order.
#[derive(Clone)]
struct Disk {
    info: BdevInfo,
    record: Arc<Mutex<Record>>,
}

impl Disk {
    fn new(name: &str, block_size: u32, bytes: Vec<u8>) -> Self {
        let mut uuid = [9; 16];
        uuid[..name.len()].copy_from_slice(name.as_bytes());
        let info = BdevInfo {
            name: name.into(),
            product_name: CONFIG_PRODUCT_NAME,
            block_size,
            num_blocks: (bytes.len() as u64 / u64::from(block_size)).into(),
            uuid,
            optimal_io_boundary: 0,
        };
        Self { info, record: Arc::new(Mutex::new(Record { bytes, ..Record::default() })) }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        self.record().bytes.clone()
    }
}

impl Bdev for Disk {
    fn info(&self) -> &BdevInfo {
        &self.info
    }

    fn supports(&self, op: Op) -> bool {
        matches!(op, Op::Read | Op::Write | Op::Flush)
    }

    fn channel(&self, _: &Local) -> Result<Box<dyn IoChannel>, OpenError> {
        Ok(Box::new(Channel { disk: self.clone(), done: Vec::new() }))
    }
}

struct Channel {
    disk: Disk,
    done: Vec<Io>,
}

impl IoChannel for Channel {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        let mut io = io.take();
        let mut record = self.disk.record();
        let at = io.lba as usize * self.disk.info.block_size as usize;
        let fails = record.fails == Some(io.op);
        io.status = if fails { Err(IoError::Timeout) } else { Ok(()) };
        match (io.op, io.data.as_mut_slice()) {
            _ if fails => {}
            (Op::Read, [buf]) => {
                let len = buf.len();
                buf.as_mut_slice().copy_from_slice(&record.bytes[at..at + len]);
            }
            (Op::Write, [buf]) => {
                record.bytes[at..at + buf.len()].copy_from_slice(buf.as_slice());
                record.log.push(Done::Write(at, buf.as_slice().into()));
            }
            _ => record.log.push(Done::Flush),
        }
        drop(record);
        self.done.push(io);
        Ok(())
    }

    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        self.done.iter_mut().for_each(done);
        Work(self.done.drain(..).len() as u32)
    }
}

/// A machine that has started with these partitions and what was handed over to it.
struct Started {
    machine: Machine,
    config: Config,
}

fn start(disks: &[Disk], handed_over: &str) -> Started {
    let mut machine = Machine::new();
    let local = machine.boot();
    local.provide(Rc::new(basalt_hosted::Machine::new().pool(1 << 20)));
    let registry = local.service::<Registry>().unwrap();
    for disk in disks {
        registry.register(Arc::new(disk.clone())).unwrap();
    }
    let config = Config::parse(handed_over.as_bytes());
    let config = machine.run(async move { Keeper::start(&local, config).await });
    Started { machine, config }
}

impl Started {
    fn text(&self) -> String {
        String::from_utf8(self.config.text().into()).unwrap()
    }

    fn save(&mut self, text: &[u8]) -> Result<Kept, RpcError> {
        let (keeper, text) = (self.machine.boot().service::<Keeper>().unwrap(), text.to_vec());
        self.machine.run(async move { keeper.save(Some(&text)).await })
    }

    fn apply(&mut self) {
        let (rpc, config) = (Rc::clone(&self.machine.rpc), self.config.clone());
        self.machine.run(async move { config.apply(&rpc).await }).unwrap();
    }

    fn message(&mut self, method: &str) -> (i64, String) {
        let error = self.machine.call(method, None).unwrap_err();
        (error.code, error.message)
    }
}

/// What a machine starts with that finds these bytes.
fn found(block_size: u32, bytes: &[u8]) -> String {
    start(&[Disk::new("P", block_size, bytes.into())], "").text()
}

fn blank(block_size: u32) -> Disk {
    Disk::new("P", block_size, vec![0; MIB])
}

fn ram(name: &str) -> Value {
    json!({"name": name, "num_blocks": 64, "block_size": 512})
}

#[test]
fn what_was_saved_is_in_force_at_the_next_start_and_is_saved_as_the_same_again() {
    let disk = blank(512);
    let mut first = start(slice(&disk), "");
    assert!(first.config.is_empty() && !first.config.is_whole());
    first.machine.call("bdev_malloc_create", ram("Ram0")).unwrap();
    let over = json!({"name": "Over", "base_bdev_name": "Ram0"});
    first.machine.call("bdev_passthru_create", over).unwrap();
    first.machine.call("rpc_set_listener", json!({"allow": ["10.0.0.0/8"]})).unwrap();
    let saved = first.machine.call("framework_save_config", None).unwrap();
    assert_eq!((&saved["bdev_name"], &saved["generation"]), (&json!("P"), &json!(1)));
    assert_eq!(saved["bytes_max"], (512 << 10) - 4096);

    let disk = Disk::new("Q", 512, disk.bytes());
    let mut second = start(slice(&disk), "");
    assert!(second.config.is_whole());
    let text = second.text();
    assert_eq!(text.lines().count(), 14 + 2 + 4, "a line for each subsystem and call: {text}");
    second.apply();
    assert!(second.machine.boot().service::<Registry>().unwrap().get("Over").is_some());
    let again = second.machine.call("framework_save_config", json!({})).unwrap();
    assert_eq!((&again["generation"], &again["bytes"]), (&json!(2), &saved["bytes"]));
    let registry = second.machine.boot().service::<Registry>().unwrap();
    assert_eq!(registry.claim("Q"), Some(Access::Exclusive));
    let kept = second.machine.call("framework_get_saved_config", None).unwrap();
    assert_eq!((kept, found(512, &disk.bytes())), (again, text));
}

fn slice(disk: &Disk) -> &[Disk] {
    core::slice::from_ref(disk)
}

#[test]
fn what_is_saved_by_spdks_client_and_by_the_machine_is_the_same() {
    let mut machine = start(slice(&blank(512)), "");
    machine.machine.call("bdev_malloc_create", ram("Ram0")).unwrap();
    let by_client = crate::tests::config::save(&mut machine.machine);
    let disk = blank(512);
    let mut machine = start(slice(&disk), "");
    machine.machine.call("bdev_malloc_create", ram("Ram0")).unwrap();
    machine.machine.call("framework_save_config", None).unwrap();
    let by_machine: Value = serde_json::from_str(&found(512, &disk.bytes())).unwrap();
    assert_eq!(by_machine, by_client);
}

/// Texts of no block, of a few, and of several chunks.
fn texts() -> [Vec<u8>; 4] {
    [(1, 100), (2, 9_000), (3, 150_000), (4, 70_000)]
        .map(|(seed, len)| (0..len).map(|at: u32| b'a' + (at * seed % 25) as u8).collect())
}

/// Every state that a crash can leave a disk in whose blocks are written whole: all writes before
/// the last flush that it came to, and of the blocks after that those that `has` says, or only
/// the first so many.
fn crashes(block_size: usize, before: &[u8], log: &[Done], mut look: impl FnMut(&[u8])) {
    let mut durable = before.to_vec();
    for run in log.split_inclusive(|done| matches!(done, Done::Flush)) {
        let mut blocks = Vec::new();
        for done in run {
            let Done::Write(at, bytes) = done else { continue };
            let places = (*at..).step_by(block_size).zip(bytes.chunks(block_size));
            blocks.extend(places.map(|(at, block)| (at, block.to_vec())));
        }
        let put = |disk: &mut Vec<u8>, (at, block): &(usize, Vec<u8>)| {
            disk[*at..at + block.len()].copy_from_slice(block);
        };
        let step = blocks.len().div_ceil(12).max(1);
        for count in (0..=blocks.len()).step_by(step).chain([blocks.len()]) {
            let mut disk = durable.clone();
            blocks[..count].iter().for_each(|block| put(&mut disk, block));
            look(&disk);
            let mut disk = durable.clone();
            blocks[count..].iter().for_each(|block| put(&mut disk, block));
            look(&disk);
        }
        for stride in 2..5 {
            let mut disk = durable.clone();
            blocks.iter().step_by(stride).for_each(|block| put(&mut disk, block));
            look(&disk);
        }
        blocks.iter().for_each(|block| put(&mut durable, block));
    }
}

#[test]
fn a_crash_at_any_write_leaves_the_old_configuration_or_the_new_one() {
    for block_size in [512, 4096] {
        let disk = blank(block_size);
        let mut machine = start(slice(&disk), "");
        let mut old = String::new();
        for new in texts() {
            let before = disk.bytes();
            disk.record().log.clear();
            machine.save(&new).unwrap();
            let log = mem::take(&mut disk.record().log);
            let new = String::from_utf8(new).unwrap();
            let (mut seen_old, mut seen_new) = (0, 0);
            crashes(block_size as usize, &before, &log, |bytes| {
                let found = found(block_size, bytes);
                assert!(found == old || found == new, "{} bytes", found.len());
                (seen_old, seen_new) =
                    (seen_old + u32::from(found == old), seen_new + u32::from(found == new));
            });
            assert!(seen_old > 3 && seen_new > 0, "{seen_old} {seen_new}");
            old = new;
        }
    }
}

#[test]
fn a_header_that_was_written_half_does_not_count() {
    let disk = blank(512);
    let mut machine = start(slice(&disk), "");
    machine.save(b"{\"old\": 1}").unwrap();
    let before = disk.bytes();
    machine.save(b"{\"new\": 1}").unwrap();
    let after = disk.bytes();
    let header = 4096;
    for cut in 0..=64 {
        let mut bytes = after.clone();
        bytes[header + cut..header + 64].copy_from_slice(&before[header + cut..header + 64]);
        let expected = if cut < 64 { "{\"old\": 1}" } else { "{\"new\": 1}" };
        assert_eq!(found(512, &bytes), expected, "{cut} bytes");
    }
}

#[test]
fn what_was_changed_last_counts() {
    let disk = blank(4096);
    let (a, b) = (r#"{"subsystems": []}"#, r#"{"subsystems": null}"#);
    start(slice(&disk), a).save(b"{\"saved\": 1}").unwrap();
    let bytes = disk.bytes();
    let with = |handed_over: &str| {
        let started = start(slice(&Disk::new("P", 4096, bytes.clone())), handed_over);
        (started.config.is_whole(), started.text())
    };
    for same in [a, "", "\0\0\0", &format!("{a}\n\0\0")] {
        assert_eq!(with(same), (true, "{\"saved\": 1}".into()), "{same:?}");
    }
    assert_eq!(with(b), (false, b.into()));
    assert_eq!(with("{"), (false, "{".into()));
    // Saved under the one, it counts with that one.
    let disk = Disk::new("P", 4096, bytes.clone());
    start(slice(&disk), b).save(b"{\"later\": 1}").unwrap();
    assert_eq!(start(slice(&disk.clone()), b).text(), "{\"later\": 1}");
    assert_eq!(start(slice(&disk), a).text(), a);
}

#[test]
fn what_was_saved_is_dropped_when_asked_for() {
    let disk = blank(512);
    let mut machine = start(slice(&disk), "");
    machine.save(b"{}").unwrap();
    machine.save(b"{\"saved\": 1}").unwrap();
    machine.machine.call("framework_delete_saved_config", None).unwrap();
    let kept = machine.machine.call("framework_get_saved_config", None).unwrap();
    assert_eq!((&kept["generation"], &kept["bytes"]), (&json!(3), &json!(0)));
    let next = start(slice(&Disk::new("P", 512, disk.bytes())), "");
    assert!(next.config.is_empty() && !next.config.is_whole());
}

#[test]
fn a_damaged_text_gives_way_to_the_one_before_and_that_to_none_at_all() {
    let disk = blank(512);
    let mut machine = start(slice(&disk), "");
    machine.save(b"{\"old\": 1}").unwrap();
    machine.save(b"{\"new\": 1}").unwrap();
    let mut bytes = disk.bytes();
    bytes[SECOND_TEXT] ^= 1;
    assert_eq!(found(512, &bytes), "{\"old\": 1}");
    // What counts then is not written over.
    let damaged = Disk::new("P", 512, bytes.clone());
    let saved = start(slice(&damaged), "").save(b"{\"third\": 1}").unwrap();
    assert_eq!((saved.generation, found(512, &damaged.bytes())), (2, "{\"third\": 1}".into()));
    let mut third = damaged.bytes();
    third[SECOND_TEXT] ^= 1;
    assert_eq!(found(512, &third), "{\"old\": 1}");

    bytes[8192] ^= 1;
    let mut lost = start(slice(&Disk::new("P", 512, bytes.clone())), "");
    assert!(lost.config.is_whole() && !lost.config.is_empty());
    let complaints = lost.config.check(&lost.machine.rpc);
    let text = format!("{}", complaints[0]);
    assert!(text.contains("saved in P cannot be read: what was saved is damaged"), "{text}");
    // It can be put right.
    lost.machine.call("framework_save_config", None).unwrap();
    let handed = start(slice(&Disk::new("P", 512, bytes)), "{}");
    // What was handed over counts, but nothing is exported by default.
    assert!(handed.config.is_whole() && handed.text() == "{}");
}

#[test]
fn of_several_partitions_the_one_that_was_saved_to_last_is_used() {
    let [a, b] = ["A", "B"].map(|name| Disk::new(name, 512, vec![0; MIB]));
    start(slice(&a), "").save(b"{\"a\": 1}").unwrap();
    let mut other = start(slice(&b), "");
    other.save(b"{}").unwrap();
    other.save(b"{\"b\": 1}").unwrap();
    for disks in [[a.clone(), b.clone()], [b, a]] {
        let disks = disks.map(|disk| Disk::new(&disk.info.name, 512, disk.bytes()));
        let mut machine = start(&disks, "");
        assert_eq!(machine.text(), "{\"b\": 1}");
        assert_eq!(machine.save(b"{}").unwrap().bdev_name, "B");
    }
}

#[test]
fn a_save_that_cannot_be_says_why_and_what_to_do() {
    let (code, message) = start(&[], "").message("framework_save_config");
    assert_eq!(code, -errno::ENODEV);
    assert!(
        message.contains("775df5a4-d056-43fa-9356-561f96ba8dc9") && message.contains("1 MiB"),
        "{message}"
    );

    let small = Disk::new("P", 512, vec![0; 20 << 10]);
    let mut machine = start(slice(&small), "");
    for name in 0..30 {
        machine.machine.call("bdev_malloc_create", ram(&format!("Ram{name}"))).unwrap();
    }
    let (code, message) = machine.message("framework_save_config");
    assert_eq!(code, -errno::ENOSPC);
    assert!(message.contains("4096 bytes"), "{message}");
    assert!(small.bytes().iter().all(|byte| *byte == 0), "nothing was written");

    let tiny = Disk::new("P", 512, vec![0; 8 << 10]);
    let (code, message) = start(slice(&tiny), "").message("framework_save_config");
    assert_eq!((code, message.contains("too small")), (-errno::ENOSPC, true));
    assert!(Machine::new().call("framework_save_config", None).is_err());
}

#[test]
fn a_drive_that_fails_is_told_of_and_the_old_configuration_stays() {
    for op in [Op::Write, Op::Flush, Op::Read] {
        let disk = blank(512);
        let mut machine = start(slice(&disk), "");
        machine.save(b"{\"old\": 1}").unwrap();
        disk.record().fails = Some(op);
        let (code, message) = machine.message("framework_save_config");
        assert_eq!(code, -errno::EIO, "{message}");
        disk.record().fails = None;
        assert_eq!(found(512, &disk.bytes()), "{\"old\": 1}");
        machine.save(b"{\"new\": 1}").unwrap();
        assert_eq!(found(512, &disk.bytes()), "{\"new\": 1}");
    }
    let disk = blank(512);
    disk.record().fails = Some(Op::Read);
    assert!(!start(slice(&disk), "").config.is_empty(), "it does not pass for an empty one");
}

#[test]
fn a_partition_is_followed_through_names_and_not_taken_from_others() {
    let disk = blank(512);
    let mut machine = start(slice(&disk), "");
    let registry = machine.machine.boot().service::<Registry>().unwrap();
    assert_eq!(registry.open("P", Access::ReadWrite).unwrap_err(), OpenError::Claimed);
    registry.remove("P").unwrap();
    let (code, message) = machine.message("framework_save_config");
    assert_eq!((code, message.contains("put its drive back")), (-errno::ENODEV, true));
    let mut renamed = disk.clone();
    renamed.info.name = "Fastp1".into();
    // Somebody who hears of it first has it.
    let others = registry.clone();
    let held = Rc::new(RefCell::new(Vec::new()));
    let keep = Rc::clone(&held);
    let local = machine.machine.boot();
    registry.register(Arc::new(renamed)).unwrap();
    assert_eq!(registry.claim("Fastp1"), Some(Access::Exclusive));
    let keeper = local.service::<Keeper>().unwrap();
    keeper.held.take();
    keep.borrow_mut().push(others.open("Fastp1", Access::ReadWrite).unwrap());
    let (code, message) = machine.message("framework_save_config");
    assert_eq!((code, message.contains("such as a subsystem")), (-errno::EBUSY, true));
    held.borrow_mut().clear();
    machine.machine.call("framework_save_config", None).unwrap();
}

#[test]
fn one_save_is_carried_out_at_a_time() {
    let mut machine = start(slice(&blank(512)), "");
    let keeper = machine.machine.boot().service::<Keeper>().unwrap();
    let both = machine.machine.run(async move {
        let first = keeper.save(Some(b"{}"));
        let mut first = core::pin::pin!(first);
        let started = core::future::poll_fn(|cx| core::task::Poll::Ready(first.as_mut().poll(cx)));
        assert!(started.await.is_pending());
        let second = keeper.save(Some(b"{}")).await;
        (first.await.is_ok(), second)
    });
    assert!(both.0);
    assert_eq!(both.1.unwrap_err().code, -errno::EBUSY);
    machine.save(b"{}").unwrap();
}
