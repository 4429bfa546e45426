//! The image as a UEFI application: a PE32+ file made from the bootable ELF file.
//!
//! Every loadable segment becomes a section at the same distance from the others, one page behind
//! the PE headers, so that all of the image is in memory as its own ELF headers say. The image's
//! relocations become PE ones: firmware loads the file where it likes and applies them, and the
//! image has nothing left to relocate. Names in quotes are those of Microsoft's PE specification.

use anyhow::{Context as _, ensure};
use object::LittleEndian as Le;
use object::elf::{PF_W, PF_X, ProgramHeader64};
use object::pe;
use object::read::elf::ProgramHeader as _;
use object::write::pe::{NtHeaders, Writer};

use super::LINK_BASE;
use super::elf::Image;

#[cfg(test)]
mod tests;

/// What sections are aligned to in memory and in the file.
const PAGE: u32 = 4096;
const FILE_ALIGNMENT: u32 = 512;
/// Where the image begins: behind the page that the PE headers take in memory.
const IMAGE_RVA: u32 = PAGE;

/// A section before it is written.
#[derive(Debug)]
struct Section {
    name: [u8; 8],
    flags: pe::SectionFlags,
    rva: u32,
    memory_len: u32,
    data: Vec<u8>,
}

/// The UEFI application of a bootable image.
///
/// # Errors
/// No ELF file of ours, no UEFI entry, or something that has no counterpart in a PE file:
/// relocations of other kinds, or segments that share a page.
pub fn from_elf(boot: &[u8]) -> anyhow::Result<Vec<u8>> {
    let image = Image::parse(boot)?;
    let sections = sections(&image)?;
    let entry = rva(image.uefi_entry()?)?;
    let in_code = |section: &&Section| section.flags.contains(pe::IMAGE_SCN_MEM_EXECUTE);
    let within = |section: &Section| entry.checked_sub(section.rva) < Some(section.memory_len);
    ensure!(
        sections.iter().filter(in_code).any(|section| entry >= section.rva && within(section)),
        "the UEFI entry lies outside of the code"
    );
    let relocations = image.relocations()?.into_iter().map(rva).collect::<Result<Vec<_>, _>>()?;
    ensure!(!relocations.is_empty(), "no relocations: firmware could not place it");
    write(&sections, entry, &relocations)
}

fn sections(image: &Image<'_>) -> anyhow::Result<Vec<Section>> {
    let mut sections: Vec<Section> = Vec::new();
    for load in image.loads() {
        let (segment, bytes) = load?;
        let section = section(segment, bytes)?;
        let free = sections.last().map_or(IMAGE_RVA, |last| last.rva + last.memory_len);
        ensure!(section.rva >= free, "segments that overlap or share a page");
        sections.push(section);
    }
    ensure!(sections.first().is_some_and(|first| first.rva == IMAGE_RVA), "no ELF headers in it");
    Ok(sections)
}

/// A segment, from the beginning of its first page.
fn section(segment: &ProgramHeader64<Le>, bytes: &[u8]) -> anyhow::Result<Section> {
    let start = rva(segment.p_vaddr(Le))?;
    let lead = start % PAGE;
    let memory_len = u32::try_from(segment.p_memsz(Le))?;
    ensure!(bytes.len() as u64 <= u64::from(memory_len), "a segment longer than its memory");
    let mut data = vec![0; lead as usize];
    data.extend(bytes);
    let readable = pe::IMAGE_SCN_MEM_READ;
    let (name, flags) = match segment.p_flags(Le) {
        flags if flags.contains(PF_X) => {
            (*b".text\0\0\0", readable | pe::IMAGE_SCN_CNT_CODE | pe::IMAGE_SCN_MEM_EXECUTE)
        }
        flags if flags.contains(PF_W) => (
            *b".data\0\0\0",
            readable | pe::IMAGE_SCN_CNT_INITIALIZED_DATA | pe::IMAGE_SCN_MEM_WRITE,
        ),
        _ => (*b".rdata\0\0", readable | pe::IMAGE_SCN_CNT_INITIALIZED_DATA),
    };
    let end = start.checked_add(memory_len).and_then(|end| end.checked_next_multiple_of(PAGE));
    let rva = start - lead;
    let memory_len = end.context("a segment beyond 4 GiB")? - rva;
    Ok(Section { name, flags, rva, memory_len, data })
}

/// The address as "RVA": from the beginning of the PE headers.
fn rva(address: u64) -> anyhow::Result<u32> {
    let offset = address.checked_sub(LINK_BASE).context("an address below the link base")?;
    u32::try_from(offset)?.checked_add(IMAGE_RVA).context("an address beyond 4 GiB")
}

fn write(sections: &[Section], entry: u32, relocations: &[u32]) -> anyhow::Result<Vec<u8>> {
    let mut file = Vec::new();
    let mut writer = Writer::new(true, PAGE, FILE_ALIGNMENT, &mut file);
    writer.reserve_dos_header();
    writer.reserve_nt_headers(pe::IMAGE_NUMBEROF_DIRECTORY_ENTRIES);
    writer.reserve_section_headers(u16::try_from(sections.len() + 1)?);
    let mut offsets = Vec::new();
    for section in sections {
        writer.reserve_virtual_until(section.rva);
        let data_len = u32::try_from(section.data.len())?;
        let range =
            writer.reserve_section(section.name, section.flags, section.memory_len, data_len);
        ensure!(range.virtual_address == section.rva, "the PE headers take more than a page");
        offsets.push(range.file_offset);
    }
    for &address in relocations {
        writer.add_reloc(address, pe::IMAGE_REL_BASED_DIR64);
    }
    writer.reserve_reloc_section();
    writer.write_empty_dos_header().context("the file does not fit in memory")?;
    writer.write_nt_headers(nt_headers(entry));
    writer.write_section_headers();
    for (section, offset) in sections.iter().zip(offsets) {
        writer.write_section(offset, &section.data);
    }
    writer.write_reloc_section();
    Ok(file)
}

fn nt_headers(entry: u32) -> NtHeaders {
    NtHeaders {
        machine: pe::IMAGE_FILE_MACHINE_AMD64,
        // None, so that the same image always makes the same file.
        time_date_stamp: 0,
        characteristics: pe::IMAGE_FILE_EXECUTABLE_IMAGE | pe::IMAGE_FILE_LARGE_ADDRESS_AWARE,
        major_linker_version: 0,
        minor_linker_version: 0,
        address_of_entry_point: entry,
        image_base: LINK_BASE - u64::from(IMAGE_RVA),
        major_operating_system_version: 0,
        minor_operating_system_version: 0,
        major_image_version: 0,
        minor_image_version: 0,
        major_subsystem_version: 0,
        minor_subsystem_version: 0,
        subsystem: pe::IMAGE_SUBSYSTEM_EFI_APPLICATION,
        // No section is both writable and executable, so firmware may enforce that.
        dll_characteristics: pe::IMAGE_DLLCHARACTERISTICS_NX_COMPAT
            | pe::IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE
            | pe::IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA,
        size_of_stack_reserve: 0,
        size_of_stack_commit: 0,
        size_of_heap_reserve: 0,
        size_of_heap_commit: 0,
    }
}
