//! The table of function symbols: read from the linked image, written in the form the image reads.
//!
//! All numbers are little-endian `u32`: the count; for each symbol, sorted by address, its offset
//! from [`LINK_BASE`], its size in bytes, and where its name starts in the area of names; then that
//! area, each name UTF-8 with a final NUL.

use std::collections::HashMap;

use anyhow::{Context as _, bail};
use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind, SymbolKind};

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

    /// Sorts, keeps one name per address (a sized one before a bare label), and lets a function
    /// without a size reach to its neighbour.
    fn new(mut functions: Vec<Function>) -> Self {
        functions.sort_by(|a, b| {
            let key = |f: &Function| (f.address, std::cmp::Reverse(f.size));
            key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
        });
        functions.dedup_by_key(|function| function.address);
        let next: Vec<_> = functions.iter().skip(1).map(|f| f.address).chain([u64::MAX]).collect();
        for (function, next) in functions.iter_mut().zip(next) {
            if function.size == 0 {
                function.size = next.min(function.limit).saturating_sub(function.address);
            }
        }
        Self { functions }
    }

    /// How many functions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.functions.len()
    }

    /// The table in the image's form.
    ///
    /// # Errors
    /// A function below [`LINK_BASE`], or one more than 4 GiB above it.
    pub fn to_bytes(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = u32::try_from(self.functions.len())?.to_le_bytes().to_vec();
        let mut names: Vec<u8> = Vec::new();
        let mut known: HashMap<&str, u32> = HashMap::new();
        for function in &self.functions {
            let start = u32::try_from(names.len())?;
            let name = *known.entry(&function.name).or_insert(start);
            if name == start {
                names.extend(function.name.bytes().filter(|byte| *byte != 0));
                names.push(0);
            }
            let offset = function.address.checked_sub(LINK_BASE).with_context(|| {
                format!("{} lies below the link address {LINK_BASE:#x}", function.name)
            })?;
            for value in [u32::try_from(offset)?, u32::try_from(function.size)?, name] {
                bytes.extend(value.to_le_bytes());
            }
        }
        bytes.extend(names);
        Ok(bytes)
    }
}
