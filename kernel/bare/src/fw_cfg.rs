#![expect(unsafe_code, reason = "port input and output")]

//! Files that QEMU was told to hand over (`-fw_cfg name=…`, QEMU `docs/specs/fw_cfg.rst`).

use alloc::vec::Vec;

use x86_64::instructions::port::Port;

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;
const KEY_SIGNATURE: u16 = 0;
const KEY_DIRECTORY: u16 = 0x19;
/// A directory or a file longer than this is not one of ours.
const FILES_MAX: u32 = 4096;
const LEN_MAX: u32 = 16 << 20;
/// Bytes of a file name, NUL-padded.
const NAME_LEN: usize = 56;

/// The contents of file `name`; `None` if there is no such file, or no fw_cfg.
pub(crate) fn read(name: &str) -> Option<Vec<u8>> {
    select(KEY_SIGNATURE);
    if next_bytes() != *b"QEMU" {
        return None;
    }
    let (key, len) = find(name)?;
    select(key);
    Some((0..len).map(|_| next()).collect())
}

/// The key and the length of file `name`, at most [`LEN_MAX`].
fn find(name: &str) -> Option<(u16, u32)> {
    select(KEY_DIRECTORY);
    let count = u32::from_be_bytes(next_bytes());
    for _ in 0..count.min(FILES_MAX) {
        let len = u32::from_be_bytes(next_bytes());
        let key = u16::from_be_bytes(next_bytes());
        let _reserved: [u8; 2] = next_bytes();
        let padded: [u8; NAME_LEN] = next_bytes();
        let found = padded.split(|&byte| byte == 0).next();
        if found == Some(name.as_bytes()) && len <= LEN_MAX {
            return Some((key, len));
        }
    }
    None
}

fn select(key: u16) {
    // SAFETY: the port is fw_cfg's or nobody's; it does not affect memory.
    unsafe { Port::<u16>::new(SELECTOR).write(key) }
}

fn next() -> u8 {
    // SAFETY: as in `select`.
    unsafe { Port::<u8>::new(DATA).read() }
}

fn next_bytes<const N: usize>() -> [u8; N] {
    core::array::from_fn(|_| next())
}
