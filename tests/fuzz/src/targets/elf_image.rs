//! What the runner makes of a linked image: the bootable ELF file, and of that the UEFI
//! application.

use object::read::pe::PeFile64;

use crate::seed::Seed;

/// Where images are linked.
const BASE: u64 = 0x20_0000;
const PAGE: usize = 4096;

/// A linked image, or what is taken for one.
pub fn run(bytes: &[u8]) {
    for elf in basalt_runner::image::bootable(bytes).iter().map(Vec::as_slice).chain([bytes]) {
        if let Ok(application) = basalt_runner::image::uefi_application(elf) {
            PeFile64::parse(application.as_slice()).unwrap();
        }
    }
}

/// An image as the linker leaves it, by hand: two segments, notes, a relocation, symbols.
pub fn seeds() -> Vec<Seed> {
    let mut file = vec![0; PAGE + 0x300];
    let start = BASE + 0x800;
    let data = BASE + PAGE as u64;
    put(&mut file, 0, b"\x7fELF\x02\x01\x01");
    put(&mut file, 16, &[3, 0, 62, 0, 1, 0, 0, 0]);
    words(&mut file, 24, &[start, 64, PAGE as u64 + 0x200]);
    put(&mut file, 52, &[64, 0, 56, 0, 5, 0, 64, 0, 4, 0, 3, 0]);
    let segments = [
        (1, 5, 0, PAGE as u64),
        (1, 6, PAGE as u64, 0x200),
        (4, 6, PAGE as u64, 0x34),
        (2, 6, PAGE as u64 + 0x60, 48),
        (0x6474_e551, 6, 0, 0),
    ];
    for (index, (kind, flags, offset, len)) in segments.into_iter().enumerate() {
        let at = 64 + 56 * index;
        words(&mut file, at, &[kind | flags << 32, offset, BASE + offset, BASE + offset, len, len]);
        words(&mut file, at + 48, &[4]);
    }
    put(&mut file, PAGE, &[4, 0, 0, 0, 8, 0, 0, 0, 18, 0, 0, 0, b'X', b'e', b'n', 0]);
    words(&mut file, PAGE + 16, &[start]);
    put(&mut file, PAGE + 24, b"\x07\0\0\0\x08\0\0\0\x01\0\0\0Basalt\0\0");
    words(&mut file, PAGE + 44, &[start]);
    // A word that holds an address, its relocation, and the way there.
    words(&mut file, PAGE + 0x38, &[start, data + 0x38, 8, start]);
    words(&mut file, PAGE + 0x60, &[7, data + 0x40, 8, 24, 0, 0]);
    put(&mut file, PAGE + 0x90, b"BASLSYM2");
    // Symbols, their names, and sections: none, text, symbols, names.
    put(&mut file, PAGE + 0x100, b"\0BASALT_SYMBOLS\0_ZN4boot5start17h0123456789abcdefE\0.text\0");
    symbol(&mut file, 0x158, 1, 0x11, data + 0x90, 24);
    symbol(&mut file, 0x170, 16, 0x12, start, 8);
    let sections = [
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [52, 1, 6, BASE, 0, PAGE as u64, 0, 0, 0],
        [0, 2, 0, 0, PAGE as u64 + 0x140, 72, 3, 1, 24],
        [0, 3, 0, 0, PAGE as u64 + 0x100, 0x40, 0, 0, 0],
    ];
    for (index, [name, kind, flags, address, offset, len, link, info, each]) in
        sections.into_iter().enumerate()
    {
        let at = PAGE + 0x200 + 64 * index;
        words(&mut file, at, &[name | kind << 32, flags, address, offset, len]);
        words(&mut file, at + 40, &[link | info << 32, 1, each]);
    }
    let cuts = (0..file.len()).step_by(64).collect();
    vec![Seed { bytes: file, cuts }]
}

fn symbol(file: &mut [u8], at: usize, name: u64, kind: u64, address: u64, len: u64) {
    words(file, PAGE + at, &[name | kind << 32 | 1 << 48, address, len]);
}

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn words(file: &mut [u8], at: usize, words: &[u64]) {
    for (index, word) in words.iter().enumerate() {
        put(file, at + 8 * index, &word.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_is_an_image_of_ours_all_the_way() {
        for seed in seeds() {
            let boot = basalt_runner::image::bootable(&seed.bytes).expect("bootable");
            basalt_runner::image::uefi_application(&boot).unwrap();
        }
    }
}
