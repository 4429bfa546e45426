use alloc::vec::Vec;

use basalt_bdev::{Channel, Io, IoError, IoStatus, Op, RejectReason, SgList};
use basalt_models::nvme::{Config, Fault, NamespaceConfig, ZoneConfig, io};
use basalt_nvme_spec::{NvmOpcode, Status, ZoneDescriptor, ZoneState};
use zerocopy::FromBytes;

use super::Rig;

const ZONE: u32 = 64;
/// What of it can be written.
const CAPACITY: u32 = 50;

/// A machine with a namespace of eight zones.
fn rig(config: Config) -> Rig {
    let zones =
        ZoneConfig { blocks: ZONE.into(), capacity: CAPACITY.into(), open_max: 2, active_max: 3 };
    let namespace = NamespaceConfig::new(1, 512, 8 * u64::from(ZONE)).zoned(zones);
    Rig::attached(2, Config { namespaces: [namespace].to_vec(), ..config })
}

const fn zone(n: u64) -> u64 {
    n * ZONE as u64
}

fn data(rig: &Rig, blocks: u32, byte: u8) -> SgList {
    let mut buf = rig.buf(0, blocks as usize * 512);
    buf.as_mut_slice().fill(byte);
    SgList::One(buf)
}

fn run(rig: &mut Rig, channel: &mut Channel, io: Io) -> Io {
    channel.submit(io).unwrap();
    rig.drain(channel, 1).remove(0)
}

fn write(rig: &mut Rig, channel: &mut Channel, lba: u64, blocks: u32, byte: u8) -> IoStatus {
    let io = Io::with_data(Op::Write, lba, blocks, data(rig, blocks, byte), 0);
    run(rig, channel, io).status
}

fn append(rig: &mut Rig, channel: &mut Channel, n: u64, blocks: u32, byte: u8) -> Io {
    let io = Io::with_data(Op::ZoneAppend, zone(n), blocks, data(rig, blocks, byte), 7);
    run(rig, channel, io)
}

fn manage(rig: &mut Rig, channel: &mut Channel, op: Op, n: u64) -> IoStatus {
    run(rig, channel, Io::new(op, zone(n), ZONE, 0)).status
}

/// State and blocks written of so many zones from that one on.
fn report(rig: &mut Rig, channel: &mut Channel, n: u64, count: usize) -> Vec<(u8, u64)> {
    let mut buf = rig.buf(0, count * 64);
    buf.as_mut_slice().fill(0xee);
    let io = Io::with_data(Op::ZoneReport, zone(n) + 3, 1, SgList::One(buf), 0);
    let io = run(rig, channel, io);
    assert_eq!(io.status, Ok(()));
    let bytes = io.data.as_slice()[0].as_slice().chunks_exact(64);
    let zones = bytes.map(|bytes| ZoneDescriptor::read_from_bytes(bytes).unwrap());
    zones.map(|zone| (zone.state(), zone.wp.get() - zone.zslba.get())).collect()
}

const fn nvme(status: Status) -> IoStatus {
    Err(IoError::Nvme { sct: status.sct(), sc: status.sc(), dnr: false })
}

#[test]
fn a_zoned_namespace_says_what_its_zones_are_like() {
    let rig = rig(Config { zasl: 1, ..Config::default() });
    let bdev = rig.registry.get("Nvme0n1").unwrap();
    let zones = bdev.zones().unwrap();
    assert_eq!((zones.blocks, zones.append_max), (64, 16));
    assert_eq!((zones.open_max, zones.active_max), (2, 3));
    assert!(bdev.supports(Op::ZoneAppend) && bdev.supports(Op::ZoneReport));
    assert!(!bdev.supports(Op::Unmap) && !bdev.supports(Op::Copy));
    let disk = rig.open("Nvme0n1");
    assert!(disk.allows(Op::Compare) && !disk.allows(Op::Copy), "nothing is emulated by writes");
    let plain = Rig::attached(1, Config::default()).registry.get("Nvme0n1").unwrap();
    assert!(plain.zones().is_none() && !plain.supports(Op::ZoneReset));
}

#[test]
fn zones_are_written_in_order_and_appended_to() {
    let mut rig = rig(Config::default());
    let mut channel = rig.channel(0);
    assert_eq!(write(&mut rig, &mut channel, 0, 10, 1), Ok(()));
    assert_eq!(write(&mut rig, &mut channel, 5, 1, 9), nvme(Status::ZONE_INVALID_WRITE));
    let appended = append(&mut rig, &mut channel, 0, 4, 2);
    assert_eq!((appended.status, appended.lba, appended.tag), (Ok(()), 10, 7));
    assert_eq!(append(&mut rig, &mut channel, 0, 3, 3).lba, 14);
    let expected = [[1; 512].repeat(10), [2; 512].repeat(4), [3; 512].repeat(3)].concat();
    assert!(rig.model.contents(1, 0, 17 * 512) == expected);
    assert_eq!(append(&mut rig, &mut channel, 0, 34, 4).status, nvme(Status::ZONE_BOUNDARY));
    assert_eq!(append(&mut rig, &mut channel, 0, 33, 4).status, Ok(()));
    assert_eq!(append(&mut rig, &mut channel, 0, 1, 4).status, nvme(Status::ZONE_FULL));
    let all = report(&mut rig, &mut channel, 0, 10);
    assert_eq!(all[0], (ZoneState::Full as u8, 50));
    assert_eq!(all[7], (ZoneState::Empty as u8, 0));
    assert_eq!(all[8..], [(0, 0), (0, 0)], "there are no more");
    rig.assert_no_violations();
}

#[test]
fn zones_are_opened_closed_finished_and_reset() {
    use ZoneState::{Closed, Empty, ExplicitlyOpened, Full, ImplicitlyOpened};
    let mut rig = rig(Config::default());
    let mut channel = rig.channel(0);
    let state = |rig: &mut Rig, channel: &mut Channel, n| report(rig, channel, n, 1)[0].0;
    let steps = [
        (Op::ZoneOpen, ExplicitlyOpened),
        (Op::ZoneClose, Closed),
        (Op::ZoneFinish, Full),
        (Op::ZoneReset, Empty),
    ];
    for (op, after) in steps {
        assert_eq!(manage(&mut rig, &mut channel, op, 2), Ok(()), "{op:?}");
        assert_eq!(state(&mut rig, &mut channel, 2), after as u8, "{op:?}");
    }
    assert_eq!(write(&mut rig, &mut channel, zone(2), 1, 1), Ok(()));
    assert_eq!(state(&mut rig, &mut channel, 2), ImplicitlyOpened as u8);
    let refused = manage(&mut rig, &mut channel, Op::ZoneClose, 3);
    assert_eq!(refused, nvme(Status::INVALID_ZONE_TRANSITION));
    for n in [4, 5] {
        assert_eq!(manage(&mut rig, &mut channel, Op::ZoneOpen, n), Ok(()));
    }
    let too_many = manage(&mut rig, &mut channel, Op::ZoneOpen, 6);
    assert_eq!(too_many, nvme(Status::TOO_MANY_ACTIVE_ZONES));
    rig.assert_no_violations();
}

#[test]
fn what_is_no_zone_is_refused() {
    let rig = rig(Config { zasl: 1, ..Config::default() });
    let mut channel = rig.channel(0);
    let refused = |channel: &mut Channel, io| channel.submit(io).unwrap_err().reason;
    for (lba, blocks) in [(1, ZONE), (0, ZONE - 1), (zone(8), ZONE), (0, 0), (zone(7), 2 * ZONE)] {
        let reset = Io::new(Op::ZoneReset, lba, blocks, 0);
        assert_eq!(refused(&mut channel, reset), RejectReason::OutOfRange, "{blocks} at {lba}");
    }
    let odd = Io::with_data(Op::ZoneAppend, 1, 1, data(&rig, 1, 1), 0);
    assert_eq!(refused(&mut channel, odd), RejectReason::OutOfRange);
    let long = Io::with_data(Op::ZoneAppend, 0, 17, data(&rig, 17, 1), 0);
    assert_eq!(refused(&mut channel, long), RejectReason::BadBuffer);
    let short = Io::with_data(Op::ZoneReport, 0, 1, SgList::One(rig.buf(0, 100)), 0);
    assert_eq!(refused(&mut channel, short), RejectReason::BadBuffer);
    rig.assert_no_violations();
}

#[test]
fn reads_are_cut_where_a_zone_ends_and_scattered_appends_are_one_command() {
    for sgls in [true, false] {
        let mut rig = rig(Config { sgls, ..Config::default() });
        let mut channel = rig.channel(1);
        for n in 0..2 {
            assert_eq!(append(&mut rig, &mut channel, n, CAPACITY, n as u8 + 1).status, Ok(()));
        }
        let read = Io::with_data(Op::Read, 40, 40, data(&rig, 40, 0), 0);
        let read = run(&mut rig, &mut channel, read);
        assert_eq!(read.status, Ok(()));
        let bytes = read.data.as_slice()[0].as_slice();
        assert_eq!([0, 9, 10, 23, 24, 39].map(|block| bytes[block * 512]), [1, 1, 0, 0, 2, 2]);
        let bufs = [100, 412, 3000, 72, 512].map(|len| {
            let mut buf = rig.buf(0, len);
            buf.as_mut_slice().fill(len as u8);
            buf
        });
        let append = Io::with_data(Op::ZoneAppend, zone(2), 8, SgList::Many(bufs.into()), 0);
        let before = rig.model.io_commands();
        let appended = run(&mut rig, &mut channel, append);
        assert_eq!((appended.status, appended.lba), (Ok(()), zone(2)));
        assert_eq!(rig.model.io_commands() - before, 1);
        let written = rig.model.contents(1, zone(2), 4096);
        assert_eq!([0, 100, 512, 3512, 3584].map(|at| written[at]), [100, 156, 184, 72, 0]);
        rig.assert_no_violations();
    }
}

#[test]
fn a_zone_is_not_written_twice_because_of_a_reset() {
    for (op, opcode) in [(Op::Write, NvmOpcode::WRITE), (Op::ZoneAppend, NvmOpcode::ZONE_APPEND)] {
        let mut rig = rig(Config::default());
        rig.model.inject(io(opcode), Fault::DropCompletion);
        let mut channel = rig.channel(0);
        let io = Io::with_data(op, 0, 3, data(&rig, 3, 5), 0);
        assert_eq!(run(&mut rig, &mut channel, io).status, Err(IoError::Timeout));
        rig.rounds(100);
        assert_eq!(report(&mut rig, &mut channel, 0, 1)[0].1, 3, "nobody knows whether it was");
    }
}
