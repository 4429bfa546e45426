#![expect(unsafe_code, reason = "reads the image's own ELF headers")]

//! The image in memory, by its own ELF headers: where it is and what may be done with each part.

use core::ptr::addr_of;

use crate::memory::{PAGE, Span};

/// Where `boot/image` is linked.
pub(crate) const LINK_BASE: u64 = 0x20_0000;

const ELF_MAGIC: [u8; 4] = *b"\x7fELF";
const PT_LOAD: u32 = 1;
const PF_X: u32 = 1;
const PF_W: u32 = 2;

unsafe extern "C" {
    /// The ELF header, the first byte of the loaded image; placed by the linker.
    safe static __ehdr_start: ElfHeader;
}

/// Elf64_Ehdr.
#[repr(C)]
struct ElfHeader {
    magic: [u8; 4],
    _ident: [u8; 12],
    _kind: u16,
    _machine: u16,
    _version: u32,
    _entry: u64,
    program_headers: u64,
    _section_headers: u64,
    _flags: u32,
    _header_len: u16,
    program_header_len: u16,
    program_header_count: u16,
}

/// Elf64_Phdr.
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    _offset: u64,
    virtual_address: u64,
    _physical_address: u64,
    _file_len: u64,
    memory_len: u64,
    _align: u64,
}

/// What may be done with a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Read,
    ReadWrite,
    ReadExecute,
}

/// Where the image's first byte is.
pub(crate) fn base() -> u64 {
    addr_of!(__ehdr_start) as u64
}

/// The segments as they lie in memory, in whole pages.
pub(crate) fn segments() -> impl Iterator<Item = (Span, Access)> {
    let shift = base().wrapping_sub(LINK_BASE);
    program_headers().iter().filter(|header| header.kind == PT_LOAD).map(move |header| {
        let start = header.virtual_address.wrapping_add(shift);
        let access = match header.flags {
            flags if flags & PF_X != 0 => Access::ReadExecute,
            flags if flags & PF_W != 0 => Access::ReadWrite,
            _ => Access::Read,
        };
        (Span::new(start, header.memory_len).whole_pages(), access)
    })
}

/// The whole image.
pub(crate) fn span() -> Span {
    let end = segments().map(|(span, _)| span.end).max().unwrap_or(base() + PAGE);
    Span { start: base(), end }
}

fn program_headers() -> &'static [ProgramHeader] {
    let header = &__ehdr_start;
    let count = usize::from(header.program_header_count);
    let len = usize::from(header.program_header_len) * count;
    let in_first_page = header.program_headers + len as u64 <= PAGE;
    if header.magic != ELF_MAGIC
        || usize::from(header.program_header_len) != size_of::<ProgramHeader>()
        || !in_first_page
    {
        return &[];
    }
    let first = base() + header.program_headers;
    // SAFETY: the linker places the program headers right behind the ELF header, in the first
    // page of the read-only first segment (checked); nothing writes them.
    unsafe { core::slice::from_raw_parts(first as *const ProgramHeader, count) }
}
