//! Compare and write by the controller itself.

use basalt_bdev::suite::{self, Medium};
use basalt_bdev::{IoError, IoStatus};
use basalt_models::nvme::{Fault, io};
use basalt_nvme_spec::NvmOpcode;
use basalt_nvme_spec::identify::Oncs;

use super::*;

fn fusing(cores: usize) -> Rig {
    let config = Config { fused_max: 8, ..Config::default() };
    Rig::attached(cores, Config { oncs: config.oncs | Oncs::COMPARE, ..config })
}

impl Rig {
    fn swap(&self, core: usize, lba: u64, [old, new]: [u8; 2], tag: u64) -> Io {
        let mut buf = self.buf(core, 1024);
        buf.as_mut_slice()[..512].fill(old);
        buf.as_mut_slice()[512..].fill(new);
        Io::with_data(Op::CompareAndWrite, lba, 1, SgList::One(buf), tag)
    }
}

const DIFFERS: IoStatus = Err(IoError::Nvme { sct: 2, sc: 0x85, dnr: true });

#[test]
fn a_bdev_behaves_whose_controller_compares_and_writes() {
    let mut rig = fusing(1);
    let disk = rig.open("Nvme0n1");
    assert_eq!(disk.bdev().compare_and_write_max(), 8);
    suite::run(&mut rig, &disk, Medium::Keeps);
    rig.assert_no_violations();
}

#[test]
fn of_many_that_swap_the_same_block_each_sees_what_the_one_before_has_written() {
    let mut rig = fusing(2);
    let mut channels = [rig.channel(0), rig.channel(1)];
    for round in 0..20 {
        for (core, channel) in channels.iter_mut().enumerate() {
            for tag in 0..4 {
                let new = 1 + core as u8 * 4 + tag as u8;
                channel.submit(rig.swap(core, 9, [0, new], tag)).unwrap();
            }
        }
        let mut ended = Vec::new();
        for channel in &mut channels {
            ended.extend(rig.drain(channel, 4));
        }
        let won = ended.iter().filter(|io| io.status == Ok(())).count();
        assert_eq!(won, 1, "round {round}");
        assert_eq!(ended.iter().filter(|io| io.status == DIFFERS).count(), 7);
        let zero = rig.filled(0, &[0; 512]);
        channels[0].submit(Io::with_data(Op::Write, 9, 1, zero, 0)).unwrap();
        rig.drain(&mut channels[0], 1);
    }
    rig.assert_no_violations();
}

#[test]
fn it_comes_back_once_whatever_becomes_of_either_command() {
    for opcode in [NvmOpcode::COMPARE, NvmOpcode::WRITE] {
        for fault in [
            Fault::Status(0, 0x82),
            Fault::DropCompletion,
            Fault::Delay(1_000_000),
            Fault::WrongCid,
        ] {
            let mut rig = fusing(1);
            rig.model.plan(|plan| {
                plan.on(io(opcode), fault);
            });
            let mut channel = rig.channel(0);
            let before = rig.pools[0].stats();
            channel.submit(rig.swap(0, 3, [0, 1], 5)).unwrap();
            let ended = rig.drain(&mut channel, 1);
            assert!(ended[0].status.is_err(), "{opcode:?} {fault:?}: {:?}", ended[0].status);
            assert_eq!((ended[0].tag, ended[0].data.len()), (5, 1024));
            drop(ended);
            rig.rounds(500);
            assert_eq!(channel.in_flight(), 0);
            let swap = rig.swap(0, 4, [0, 1], 6);
            channel.submit(swap).unwrap();
            assert_eq!(rig.drain(&mut channel, 1)[0].status, Ok(()), "{opcode:?} {fault:?}");
            assert!(rig.pools[0].stats().bytes_free >= before.bytes_free, "no copy stays behind");
        }
    }
}

#[test]
fn it_can_be_aborted() {
    let mut rig = fusing(1);
    rig.model.plan(|plan| {
        plan.on(io(NvmOpcode::COMPARE), Fault::Delay(1_000_000));
    });
    let mut channel = rig.channel(0);
    channel.submit(rig.swap(0, 3, [7, 1], 5)).unwrap();
    rig.rounds(5);
    assert!(channel.abort(5));
    assert_eq!(rig.drain(&mut channel, 1)[0].status, Err(IoError::Aborted));
    rig.assert_no_violations();
}
