//! The ELF file, edited in place: segments stay where they are, sections go, and the header of the
//! stack (which means nothing without an operating system) becomes one more loadable segment.

use anyhow::{Context as _, bail, ensure};
use object::elf::{
    DT_NULL, DT_RELA, DT_RELASZ, DT_RELR, DT_RELRSZ, Dyn64, DynamicTag, FileHeader64, NoteType,
    PF_R, PT_GNU_STACK, PT_LOAD, PT_NOTE, ProgramHeader64, R_X86_64_RELATIVE, Rela64, Relr64,
};
use object::pod::Pod;
use object::read::elf::{Dyn as _, ElfFile64, FileHeader as _, ProgramHeader as _, RelrIterator};
use object::{LittleEndian as Le, Object as _, ObjectSymbol as _};

#[cfg(test)]
mod tests;

const PAGE: u64 = 4096;
const HEADER_SIZE: usize = 64;
const PROGRAM_HEADER_SIZE: usize = 56;
/// `Xen`'s note that holds the entry point of the PVH boot protocol.
const PVH_NOTE: NoteType = NoteType(18);
/// `Basalt`'s note that holds the entry point for UEFI.
const UEFI_NOTE: NoteType = NoteType(1);
/// The magic number in the symbol below: `BASLSYM2` as bytes.
const SYMBOLS_MAGIC: u64 = 0x324d_5953_4c53_4142;
/// The symbol the image finds its table by: magic, address and length, each a `u64`.
const SYMBOLS_NAME: &str = "BASALT_SYMBOLS";

/// A linked image, checked to be one.
#[derive(Debug)]
pub(super) struct Image<'a> {
    data: &'a [u8],
    header: &'a FileHeader64<Le>,
    segments: &'a [ProgramHeader64<Le>],
}

impl<'a> Image<'a> {
    pub(super) fn parse(data: &'a [u8]) -> anyhow::Result<Self> {
        let header = FileHeader64::<Le>::parse(data).context("not a 64-bit ELF file")?;
        let segments = header.program_headers(Le, data).context("broken program headers")?;
        let image = Self { data, header, segments };
        image.check_pvh_note()?;
        Ok(image)
    }

    /// The image without its sections and with `table` as a read-only segment behind all others.
    pub(super) fn with_symbols(&self, table: &[u8]) -> anyhow::Result<Vec<u8>> {
        let slot =
            self.segments.iter().position(|segment| segment.p_type(Le) == PT_GNU_STACK).context(
                "no PT_GNU_STACK program header to make the table of symbols a segment of",
            )?;
        let file_end = self.end(|s| s.p_offset(Le).checked_add(s.p_filesz(Le)))?;
        let memory_end = self.end(|s| s.p_vaddr(Le).checked_add(s.p_memsz(Le)))?;
        let (offset, address) = (page_up(file_end)?, page_up(memory_end)?);
        let mut file = self.data.get(..usize::try_from(file_end)?).context("truncated")?.to_vec();
        file.resize(usize::try_from(offset)?, 0);
        file.extend(table);
        let length = table.len() as u64;
        self.announce(&mut file, address, length)?;
        self.replace_segment(&mut file, slot, [offset, address, length])?;
        drop_sections(&mut file);
        Ok(file)
    }

    /// Where the last of the loaded segments (and of the headers themselves) ends.
    fn end(&self, of: impl Fn(&ProgramHeader64<Le>) -> Option<u64>) -> anyhow::Result<u64> {
        let headers = self.header.e_phoff.get(Le) + size_of_val(self.segments) as u64;
        let mut end = headers;
        for segment in self.segments.iter().filter(|s| s.p_type(Le) == PT_LOAD) {
            end = end.max(of(segment).context("a segment beyond the address space")?);
        }
        Ok(end)
    }

    fn check_pvh_note(&self) -> anyhow::Result<()> {
        let note = self.note(b"Xen", PVH_NOTE)?;
        note.map(|_| ()).context("no PVH note: QEMU would not know where to enter it")
    }

    /// The address at which UEFI firmware is to enter the image.
    pub(super) fn uefi_entry(&self) -> anyhow::Result<u64> {
        let note = self.note(b"Basalt", UEFI_NOTE)?;
        let address = note.context("no UEFI note: firmware would not know where to enter it")?;
        Ok(u64::from_le_bytes(address.try_into().context("the UEFI note holds no address")?))
    }

    fn note(&self, owner: &[u8], kind: NoteType) -> anyhow::Result<Option<&'a [u8]>> {
        for segment in self.segments.iter().filter(|s| s.p_type(Le) == PT_NOTE) {
            let Some(mut notes) = segment.notes(Le, self.data)? else { continue };
            while let Some(note) = notes.next()? {
                let name = note.name().strip_suffix(b"\0").unwrap_or(note.name());
                if name == owner && note.n_type(Le) == kind {
                    return Ok(Some(note.desc()));
                }
            }
        }
        Ok(None)
    }

    /// The segments to load, with their bytes in the file.
    pub(super) fn loads(
        &self,
    ) -> impl Iterator<Item = anyhow::Result<(&'a ProgramHeader64<Le>, &'a [u8])>> {
        let loads = self.segments.iter().filter(|s| s.p_type(Le) == PT_LOAD && s.p_memsz(Le) > 0);
        loads.map(|segment| {
            let bytes = segment.data(Le, self.data).ok().context("a segment is cut off")?;
            Ok((segment, bytes))
        })
    }

    /// The addresses of all words that hold an address, ascending: the image's own relocations.
    ///
    /// What loads the image elsewhere adds the distance to each, so they must hold the address at
    /// which it is linked already: packed ones always do, the others if they are applied.
    pub(super) fn relocations(&self) -> anyhow::Result<Vec<u64>> {
        let dynamic = self.dynamic()?;
        let mut addresses = Vec::new();
        for entry in self.array::<Rela64<Le>>(dynamic, DT_RELA, DT_RELASZ)? {
            let (address, value) = (entry.r_offset.get(Le), entry.r_addend.get(Le));
            ensure!(
                entry.r_type(Le, false) == R_X86_64_RELATIVE,
                "a relocation at {address:#x} that is not relative to the image"
            );
            ensure!(
                self.word(address)? == value.to_le_bytes(),
                "the relocation at {address:#x} is not applied (--apply-dynamic-relocs)"
            );
            addresses.push(address);
        }
        let packed = self.array::<Relr64<Le>>(dynamic, DT_RELR, DT_RELRSZ)?;
        for address in RelrIterator::<FileHeader64<Le>>::new(Le, packed) {
            self.word(address)?;
            addresses.push(address);
        }
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }

    /// The bytes of the word at `address`, which is to be relocated.
    fn word(&self, address: u64) -> anyhow::Result<&'a [u8]> {
        let at = self.file_offset(address)?;
        self.data.get(at..at + 8).context("a relocated word is cut off")
    }

    /// The entries between the address in `start` and the length in `len`; none without them.
    fn array<T: Pod>(
        &self,
        dynamic: &[Dyn64<Le>],
        start: DynamicTag,
        len: DynamicTag,
    ) -> anyhow::Result<&'a [T]> {
        let value = |tag| dynamic.iter().find(|entry| entry.d_tag(Le) == tag).map(|e| e.d_val(Le));
        let (Some(address), Some(len)) = (value(start), value(len)) else { return Ok(&[]) };
        let count = usize::try_from(len)? / size_of::<T>();
        if count == 0 {
            return Ok(&[]);
        }
        let bytes = self.data.get(self.file_offset(address)?..).context("truncated")?;
        let entries = object::slice_from_bytes(bytes, count).ok().context("relocations cut off")?;
        Ok(entries.0)
    }

    fn dynamic(&self) -> anyhow::Result<&'a [Dyn64<Le>]> {
        for segment in self.segments {
            if let Some(dynamic) = segment.dynamic(Le, self.data)? {
                let end = dynamic.iter().position(|entry| entry.d_tag(Le) == DT_NULL);
                return Ok(&dynamic[..end.unwrap_or(dynamic.len())]);
            }
        }
        bail!("no dynamic section, so no relocations: it was not linked as a static PIE")
    }

    /// Writes the table's address and length where the image looks for them.
    fn announce(&self, file: &mut [u8], address: u64, length: u64) -> anyhow::Result<()> {
        let at = self.file_offset(self.symbols_address()?).context("BASALT_SYMBOLS")?;
        let place = file.get_mut(at..at + 24).context("BASALT_SYMBOLS is cut off")?;
        ensure!(
            place[..8] == SYMBOLS_MAGIC.to_le_bytes(),
            "BASALT_SYMBOLS does not begin with its magic number"
        );
        place[8..16].copy_from_slice(&address.to_le_bytes());
        place[16..].copy_from_slice(&length.to_le_bytes());
        Ok(())
    }

    fn symbols_address(&self) -> anyhow::Result<u64> {
        let file = ElfFile64::<Le>::parse(self.data)?;
        file.symbols()
            .find(|symbol| symbol.name() == Ok(SYMBOLS_NAME) && symbol.is_definition())
            .map(|symbol| symbol.address())
            .context("no symbol BASALT_SYMBOLS, so its backtraces could not find their names")
    }

    fn file_offset(&self, address: u64) -> anyhow::Result<usize> {
        for segment in self.segments.iter().filter(|s| s.p_type(Le) == PT_LOAD) {
            let within = address.checked_sub(segment.p_vaddr(Le));
            if let Some(within) = within.filter(|within| *within < segment.p_filesz(Le)) {
                return Ok(usize::try_from(segment.p_offset(Le) + within)?);
            }
        }
        bail!("{address:#x} lies in no loaded data; it must not be in .bss")
    }

    /// Makes header `slot` a read-only segment with this `[offset, address, length]`.
    fn replace_segment(
        &self,
        file: &mut [u8],
        slot: usize,
        [offset, address, length]: [u64; 3],
    ) -> anyhow::Result<()> {
        let at = usize::try_from(self.header.e_phoff.get(Le))? + slot * PROGRAM_HEADER_SIZE;
        let place = file.get_mut(at..at + PROGRAM_HEADER_SIZE).context("truncated headers")?;
        place[..4].copy_from_slice(&PT_LOAD.0.to_le_bytes());
        place[4..8].copy_from_slice(&PF_R.0.to_le_bytes());
        let values = [offset, address, address, length, length, PAGE];
        for (bytes, value) in place[8..].chunks_exact_mut(8).zip(values) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        Ok(())
    }
}

fn page_up(value: u64) -> anyhow::Result<u64> {
    value.checked_next_multiple_of(PAGE).context("a segment beyond the address space")
}

/// Clears the header's `e_shoff`, `e_shnum` and `e_shstrndx`.
fn drop_sections(file: &mut [u8]) {
    file[40..48].fill(0);
    file[60..HEADER_SIZE].fill(0);
}
