//! Commands that somebody else wrote.

use alloc::string::String;
use alloc::vec;

use basalt_nvme_spec::identify::Oncs;
use basalt_nvme_spec::{Command, NvmOpcode};

use super::*;
use crate::RejectReason;

const VENDOR: u8 = 0x7f;

fn config(sgls: bool) -> Config {
    Config { sgls, oncs: Oncs::WRITE_ZEROES | Oncs::DATASET_MANAGEMENT, ..Config::default() }
}

fn send(ready: &mut Ready, command: Command, data: Vec<DmaBuf>) -> Result<Status, RejectReason> {
    let sent = ready.queue.raw(&ready.ns, command, (0, data));
    sent.map_err(|refused| refused.reason)?;
    Ok(ready.bench.drain(&mut ready.queue)[0].1)
}

#[test]
fn a_read_and_a_write_move_just_the_buffer() {
    for sgls in [false, true] {
        let mut ready = Ready::new(config(sgls), 32);
        // It says another namespace, other memory and half of a fused pair.
        let mut write = Command::on_range(NvmOpcode::WRITE, 77, 5, 16);
        write.set_prps(0x1234_5000, 0x6789_a000);
        write.flags = 1;
        let data = ready.bench.buffers(&[8192], 0x5a);
        assert!(send(&mut ready, write, data).unwrap().is_success());
        assert_eq!(ready.bench.model.contents(1, 5, 8192), vec![0x5a; 8192]);
        let read = Command::on_range(NvmOpcode::READ, 0, 5, 16);
        let data = ready.bench.buffers(&[8192], 0);
        ready.queue.raw(&ready.ns, read, (3, data)).unwrap();
        let ((tag, data), status) = ready.bench.drain(&mut ready.queue).remove(0);
        assert!(status.is_success() && tag == 3);
        assert!(data[0].as_slice().iter().all(|byte| *byte == 0x5a));
        let flush = Command::nvm(NvmOpcode::FLUSH, 0);
        assert!(send(&mut ready, flush, vec![]).unwrap().is_success());
        assert_eq!(ready.bench.model.violations(), Vec::<String>::new());
    }
}

#[test]
fn a_length_that_is_known_must_be_that_of_the_buffer() {
    let mut ready = Ready::new(config(true), 32);
    let read = Command::on_range(NvmOpcode::READ, 0, 5, 16);
    for lens in [&[4096][..], &[8192 + 512], &[4096, 4096], &[]] {
        let data = ready.bench.buffers(lens, 0);
        assert_eq!(send(&mut ready, read, data), Err(RejectReason::BadLength), "{lens:?}");
    }
    let data = ready.bench.buffers(&[512], 0);
    let zeroes = Command::write_zeroes(1, 0, 1);
    assert_eq!(send(&mut ready, zeroes, data), Err(RejectReason::BadLength));
    assert_eq!(ready.queue.outstanding(), 0);
}

#[test]
fn what_is_not_known_goes_by_sgl_or_not_at_all() {
    let vendor = Command { opcode: VENDOR, ..Command::default() };
    let mut ready = Ready::new(config(true), 32);
    let data = ready.bench.buffers(&[4096], 0);
    assert_eq!(send(&mut ready, vendor, data).map(|status| status.sc()), Ok(0x01));
    assert_eq!(send(&mut ready, vendor, vec![]), Err(RejectReason::BadLength), "it moves data");
    let mut empty = ready.bench.buffers(&[512], 0);
    empty[0].set_len(0);
    assert_eq!(send(&mut ready, vendor, empty), Err(RejectReason::BadLength));
    let mut ready = Ready::new(config(false), 32);
    let data = ready.bench.buffers(&[4096], 0);
    assert_eq!(send(&mut ready, vendor, data), Err(RejectReason::Unsupported));
    let silent = Command { opcode: 0x80, ..Command::default() };
    assert_eq!(send(&mut ready, silent, vec![]).map(|status| status.sc()), Ok(0x01));
}
