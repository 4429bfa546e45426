//! The table of function symbols: read from the linked image, written in the form the image reads.
//!
//! The form, which is that of the crate `basalt_symbols`, makes it a quarter of what names and
//! numbers as such would take: it is a part of every image.

use anyhow::{Context as _, bail};
use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind, SymbolKind};

mod names;
#[cfg(test)]
mod tests;

use names::put;

/// The address the image is linked at.
pub const LINK_BASE: u64 = 0x20_0000;

/// The functions of an image, sorted by address.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SymbolTable {
    functions: Vec<Function>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Function {
    address: u64,
    size: u64,
    /// How far its section reaches, for functions written in assembly without a size.
    limit: u64,
    name: String,
}

impl SymbolTable {
    /// Collects the named code of a linked image, names demangled.
    ///
    /// # Errors
    /// No 64-bit ELF file, or one without symbols.
    pub fn read(linked: &[u8]) -> anyhow::Result<Self> {
        let file =
            ElfFile64::<object::Endianness>::parse(linked).context("not a 64-bit ELF file")?;
        let mut functions = Vec::new();
        for symbol in file.symbols() {
            let code = matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Label)
                || symbol.kind() == SymbolKind::Unknown;
            let Some(index) = symbol.section_index().filter(|_| code) else { continue };
            let section = file.section_by_index(index).context("broken symbol table")?;
            let Ok(name) = symbol.name() else { continue };
            if section.kind() != SectionKind::Text || name.is_empty() {
                continue;
            }
            functions.push(Function {
                address: symbol.address(),
                size: symbol.size(),
                limit: section.address().saturating_add(section.size()),
                name: format!("{:#}", rustc_demangle::demangle(name)),
            });
        }
        if functions.is_empty() {
            bail!("no symbols in it; was it stripped?");
        }
        Ok(Self::new(functions))
    }

    /// Sorts, keeps one name per address (a sized one before a bare label), lets a function without
    /// a size reach to its neighbour, and none any further.
    fn new(mut functions: Vec<Function>) -> Self {
        functions.sort_by(|a, b| {
            let key = |f: &Function| (f.address, std::cmp::Reverse(f.size));
            key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
        });
        functions.dedup_by_key(|function| function.address);
        let next: Vec<_> = functions.iter().skip(1).map(|f| f.address).chain([u64::MAX]).collect();
        for (function, next) in functions.iter_mut().zip(next) {
            if function.size == 0 {
                function.size = function.limit.saturating_sub(function.address).max(1);
            }
            function.size = function.size.min(next - function.address);
        }
        Self { functions }
    }

    /// How many functions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.functions.len()
    }

    /// The functions by ascending address: where each begins, its size in bytes, and its name.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64, &str)> {
        self.functions.iter().map(|f| (f.address, f.size, f.name.as_str()))
    }

    /// The table in the image's form.
    ///
    /// # Errors
    /// A function below [`LINK_BASE`], or one that ends 4 GiB above it or beyond.
    pub fn to_bytes(&self) -> anyhow::Result<Vec<u8>> {
        let (dictionary, codes) = names::pack(self.functions.iter().map(|f| f.name.as_str()));
        let mut bytes = Vec::new();
        let mut end = LINK_BASE;
        put_bytes(&mut bytes, &dictionary);
        for function in &self.functions {
            let gap = function.address.checked_sub(end).with_context(|| {
                format!("{} lies below the link address {LINK_BASE:#x}", function.name)
            })?;
            end = function.address.saturating_add(function.size);
            u32::try_from(end - LINK_BASE).with_context(|| {
                format!("{} ends 4 GiB above the link address or beyond", function.name)
            })?;
            put(&mut bytes, usize::try_from(gap)?);
            put(&mut bytes, usize::try_from(function.size)?);
            put_bytes(&mut bytes, &codes[function.name.as_str()]);
        }
        Ok(bytes)
    }
}

/// Appends the length of `part` and `part`.
fn put_bytes(bytes: &mut Vec<u8>, part: &[u8]) {
    put(bytes, part.len());
    bytes.extend(part);
}
