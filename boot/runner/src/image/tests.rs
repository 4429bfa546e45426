use std::process::{Command, Stdio};

use basalt_symbols::Table;
use object::elf::PT_LOAD;
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use object::{LittleEndian as Le, Object as _};

use super::*;

/// A program linked as the image is, by the C compiler that Rust links with.
pub(super) fn linked(source: &str) -> Vec<u8> {
    linked_with(source, "-Wl,-z,pack-relative-relocs")
}

/// The same with one more argument of the linker.
pub(super) fn linked_with(source: &str, argument: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let (assembly, program) = (directory.path().join("a.s"), directory.path().join("a"));
    fs::write(&assembly, source).unwrap();
    let status = Command::new("cc")
        .args(["-g", "-nostdlib", "-static-pie", "-Wl,--no-dynamic-linker"])
        .args(["-Wl,-Ttext-segment=0x200000", "-Wl,-e,start", argument, "-o"])
        .args([&program, &assembly])
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    fs::read(&program).unwrap()
}

const NOTE: &str = "
    .section .pvh, \"aw\", @note
    .long 4, 8, 18
    .asciz \"Xen\"
    .quad start
";

const CODE: &str = "
    .text
    .globl start
    .type start, @function
    start: ret
    .size start, . - start
    .type _ZN6basalt4boot17h0123456789abcdefE, @function
    _ZN6basalt4boot17h0123456789abcdefE: nop
    ret
    .size _ZN6basalt4boot17h0123456789abcdefE, . - _ZN6basalt4boot17h0123456789abcdefE
    stub: nop
    nop
    ret
    .section .note.GNU-stack, \"\", @progbits
";

const SYMBOLS: &str = "
    .data
    .globl BASALT_SYMBOLS
    .type BASALT_SYMBOLS, @object
    BASALT_SYMBOLS: .ascii \"BASLSYM2\"
    .quad 0, 0
    .size BASALT_SYMBOLS, 24
    .bss
    .skip 10000
";

/// A whole image for PVH.
pub(super) const PROGRAM: [&str; 3] = [NOTE, SYMBOLS, CODE];

fn image() -> Vec<u8> {
    linked(&PROGRAM.concat())
}

fn loads(data: &[u8]) -> Vec<(u64, &[u8], u64)> {
    let header = object::elf::FileHeader64::<Le>::parse(data).unwrap();
    let segments = header.program_headers(Le, data).unwrap();
    let loads = segments.iter().filter(|segment| segment.p_type(Le) == PT_LOAD);
    loads.map(|s| (s.p_vaddr(Le), s.data(Le, data).unwrap(), s.p_memsz(Le))).collect()
}

fn at(data: &[u8], address: u64, length: usize) -> Vec<u8> {
    let loads = loads(data);
    let (start, bytes, _) = loads
        .iter()
        .find(|(start, bytes, _)| (*start..start + bytes.len() as u64).contains(&address))
        .unwrap();
    let from = (address - start) as usize;
    bytes[from..from + length].to_vec()
}

fn u64_at(data: &[u8], address: u64) -> u64 {
    u64::from_le_bytes(at(data, address, 8).try_into().unwrap())
}

fn announced_table(linked: &[u8], boot: &[u8]) -> (u64, Vec<u8>) {
    let file = object::File::parse(linked).unwrap();
    let symbol = object::ObjectSymbol::address(&file.symbol_by_name("BASALT_SYMBOLS").unwrap());
    let (address, length) = (u64_at(boot, symbol + 8), u64_at(boot, symbol + 16));
    (address, at(boot, address, length as usize))
}

#[test]
fn the_image_finds_its_symbols_behind_all_its_memory() {
    let linked = image();
    let boot = bootable(&linked).unwrap();
    let (address, table) = announced_table(&linked, &boot);
    assert_eq!(address % 4096, 0);
    let memory_end = loads(&linked).iter().map(|(start, _, size)| start + size).max().unwrap();
    assert!(address >= memory_end);
    let table = Table::new(&table).unwrap();
    let name_at = |address: u64| {
        let (name, into) = table.find((address - LINK_BASE) as u32)?;
        Some((name.to_string(), into))
    };
    let file = object::File::parse(linked.as_slice()).unwrap();
    let start = object::ObjectSymbol::address(&file.symbol_by_name("start").unwrap());
    assert_eq!(name_at(start), Some(("start".into(), 0)));
    assert_eq!(name_at(start + 1), Some(("basalt::boot".into(), 0)));
    assert_eq!(name_at(start + 2), Some(("basalt::boot".into(), 1)));
    // A label without a size reaches to the end of its section.
    assert_eq!(name_at(start + 3), Some(("stub".into(), 0)));
    assert_eq!(name_at(start + 5), Some(("stub".into(), 2)));
    assert_eq!(name_at(start + 6), None);
}

#[test]
fn segments_stay_and_sections_go() {
    let linked = image();
    let boot = bootable(&linked).unwrap();
    let (before, after) = (loads(&linked), loads(&boot));
    assert_eq!(after.len(), before.len() + 1);
    for ((start, old, size), (start_after, new, size_after)) in before.iter().zip(&after) {
        assert_eq!((start, size, old.len()), (start_after, size_after, new.len()));
    }
    assert!(object::File::parse(boot.as_slice()).unwrap().sections().next().is_none());
    elf::Image::parse(&boot).unwrap();
}

#[test]
fn what_is_not_an_image_of_ours_is_refused_with_the_reason() {
    let refusal = |data: &[u8]| format!("{:#}", bootable(data).unwrap_err());
    assert!(refusal(b"no ELF").contains("not a 64-bit ELF"));
    assert!(refusal(&linked(&[NOTE, CODE].concat())).contains("no symbol BASALT_SYMBOLS"));
    assert!(refusal(&linked(&[SYMBOLS, CODE].concat())).contains("no PVH note"));
    let other = SYMBOLS.replace("BASLSYM2", "OTHERSYM");
    assert!(refusal(&linked(&[NOTE, &other, CODE].concat())).contains("magic"));
    let zeroed = SYMBOLS.replace(".data", ".bss").replace(".ascii \"BASLSYM2\"", ".quad 0");
    assert!(refusal(&linked(&[NOTE, &zeroed, CODE].concat())).contains(".bss"));
    assert!(!refusal(&bootable(&image()).unwrap()).is_empty(), "its symbols are gone");
}

#[test]
fn a_cut_off_image_is_refused_and_never_a_panic() {
    let linked = image();
    for length in (0..linked.len()).step_by(97) {
        assert!(bootable(&linked[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn the_boot_file_replaces_an_older_one() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("basalt"), directory.path().join("basalt.elf"));
    fs::write(&from, image()).unwrap();
    fs::write(&to, "old").unwrap();
    let size_bytes = prepare(&from, &to).unwrap();
    assert_eq!(fs::metadata(&to).unwrap().len(), size_bytes);
    assert!(prepare(&to.with_extension("none"), &to).is_err());
}
