use object::pe::{IMAGE_DIRECTORY_ENTRY_BASERELOC, ImageDosHeader, ImageNtHeaders64};
use object::read::pe::{DataDirectories, ImageNtHeaders as _, PeFile64, SectionTable};

use super::*;
use crate::image::bootable;
use crate::image::tests::{PROGRAM, linked};

/// Two words that hold addresses, and the note that names `start` as the entry.
const UEFI: &str = "
    .section .uefi, \"aw\", @note
    .balign 4
    .long 7, 8, 1
    .asciz \"Basalt\"
    .balign 4
    .quad start
    .data
    .quad start
    .quad BASALT_SYMBOLS
";

fn boot(parts: &[&str]) -> Vec<u8> {
    bootable(&linked(&[&PROGRAM.concat(), parts.concat().as_str()].concat())).unwrap()
}

fn application() -> (Vec<u8>, Vec<u8>) {
    let boot = boot(&[UEFI]);
    let application = from_elf(&boot).unwrap();
    (boot, application)
}

fn parts(application: &[u8]) -> (&ImageNtHeaders64, DataDirectories<'_>, SectionTable<'_>) {
    let dos = ImageDosHeader::parse(application).unwrap();
    let mut offset = dos.nt_headers_offset().into();
    let (headers, directories) = ImageNtHeaders64::parse(application, &mut offset).unwrap();
    (headers, directories, headers.sections(application, offset).unwrap())
}

/// All relocations: where, and the word there.
fn relocated(application: &[u8]) -> Vec<(u32, u64)> {
    let (_, directories, sections) = parts(application);
    let mut blocks = directories.relocation_blocks(application, &sections).unwrap().unwrap();
    let mut words = Vec::new();
    while let Some(block) = blocks.next().unwrap() {
        for relocation in block {
            assert_eq!(relocation.typ, pe::IMAGE_REL_BASED_DIR64);
            let at = relocation.virtual_address;
            let data = sections.pe_data_at(application, at).unwrap();
            words.push((at, u64::from_le_bytes(data[..8].try_into().unwrap())));
        }
    }
    words
}

#[test]
fn the_application_is_one_that_firmware_runs() {
    let (boot, application) = application();
    let (headers, directories, sections) = parts(&application);
    let optional = &headers.optional_header;
    assert_eq!(optional.subsystem.get(Le), pe::Subsystem(10));
    assert_eq!(optional.image_base.get(Le), LINK_BASE - 0x1000);
    assert_eq!(headers.file_header.machine.get(Le), pe::Machine(0x8664));
    assert!(directories.get(IMAGE_DIRECTORY_ENTRY_BASERELOC).is_some());
    let entry = optional.address_of_entry_point.get(Le);
    let image = Image::parse(&boot).unwrap();
    assert_eq!(u64::from(entry), image.uefi_entry().unwrap() - LINK_BASE + 0x1000);
    let code = sections.section_containing(entry).unwrap();
    assert!(code.characteristics.get(Le).contains(pe::IMAGE_SCN_MEM_EXECUTE));
    PeFile64::parse(application.as_slice()).unwrap();
}

#[test]
fn every_segment_is_where_the_elf_headers_say() {
    let (boot, application) = application();
    let (_, _, sections) = parts(&application);
    for load in Image::parse(&boot).unwrap().loads() {
        let (segment, bytes) = load.unwrap();
        let rva = rva(segment.p_vaddr(Le)).unwrap();
        let section = sections.section_containing(rva).unwrap();
        let data = section.pe_data_at(application.as_slice(), rva).unwrap();
        assert_eq!(&data[..bytes.len()], bytes);
        let end = section.virtual_address.get(Le) + section.virtual_size.get(Le);
        assert!(u64::from(end - rva) >= segment.p_memsz(Le));
    }
    let header = sections.pe_data_at(application.as_slice(), 0x1000).unwrap();
    assert_eq!(&header[..4], b"\x7fELF");
}

#[test]
fn no_section_is_both_writable_and_executable() {
    let (_, application) = application();
    let (_, _, sections) = parts(&application);
    let both = pe::IMAGE_SCN_MEM_WRITE | pe::IMAGE_SCN_MEM_EXECUTE;
    assert!(sections.iter().all(|section| !section.characteristics.get(Le).contains(both)));
}

#[test]
fn every_relocation_of_the_image_is_one_of_the_application() {
    let (boot, application) = application();
    let expected = Image::parse(&boot).unwrap().relocations().unwrap();
    let words = relocated(&application);
    assert_eq!(words.len(), expected.len());
    assert_eq!(words.len(), 4, "the entries in two notes, and two words of data");
    for ((at, word), address) in words.into_iter().zip(expected) {
        assert_eq!(at, rva(address).unwrap());
        rva(word).unwrap();
    }
}

#[test]
fn what_firmware_could_not_run_is_refused_with_the_reason() {
    let refusal = |boot: &[u8]| format!("{:#}", from_elf(boot).unwrap_err());
    assert!(refusal(b"no ELF").contains("not a 64-bit ELF"));
    assert!(refusal(&boot(&[])).contains("no UEFI note"));
    let outside = UEFI.replacen(".quad start", ".quad BASALT_SYMBOLS", 1);
    assert!(refusal(&boot(&[&outside])).contains("outside of the code"));
}

#[test]
fn a_cut_off_image_is_refused_and_never_a_panic() {
    let (boot, _) = application();
    for length in (0..boot.len()).step_by(89) {
        let _ = from_elf(&boot[..length]);
    }
}
