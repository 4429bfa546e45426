//! Finds the shared libraries that programs need.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use object::LittleEndian as Le;
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader as _};

/// The name of the program that loads the others.
pub(super) const LOADER: &str = "ld-linux-x86-64.so.2";

/// All shared libraries below `root` by name.
#[derive(Debug)]
pub(super) struct Libraries {
    paths: BTreeMap<String, PathBuf>,
}

impl Libraries {
    /// Lists the libraries below `root`.
    pub(super) fn scan(root: &Path) -> anyhow::Result<Self> {
        let mut paths = BTreeMap::new();
        for path in files_below(root)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // A link to an absolute path leads out of the root; what it names is listed itself.
            let inside = fs::canonicalize(&path).is_ok_and(|real| real.starts_with(root));
            if name.contains(".so") && inside {
                paths.entry(name.to_owned()).or_insert(path);
            }
        }
        Ok(Self { paths })
    }

    /// The libraries these programs need, and those need, by name.
    pub(super) fn of(&self, programs: &[PathBuf]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
        let mut found = BTreeMap::new();
        let mut queue: Vec<PathBuf> = programs.to_vec();
        // Looked for by name at run time, so no program lists them.
        let mut wanted: BTreeSet<String> = [LOADER, "libgcc_s.so.1"].map(str::to_owned).into();
        loop {
            while let Some(path) = queue.pop() {
                wanted.extend(needed(&path)?);
            }
            let Some(name) = wanted.pop_first() else { return Ok(found) };
            if found.contains_key(&name) {
                continue;
            }
            let Some(path) = self.paths.get(&name) else { bail!("no package has {name}") };
            queue.push(path.clone());
            found.insert(name, path.clone());
        }
    }
}

/// The names in an ELF file's `DT_NEEDED` entries.
fn needed(path: &Path) -> anyhow::Result<Vec<String>> {
    let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let data = data.as_slice();
    let header = FileHeader64::<Le>::parse(data)
        .with_context(|| format!("{} is no ELF file", path.display()))?;
    let sections = header.sections(Le, data)?;
    let Some((dynamic, strings)) = sections.dynamic(Le, data)? else { return Ok(Vec::new()) };
    let strings = sections.strings(Le, data, strings)?;
    let mut names = Vec::new();
    for entry in dynamic.iter().filter(|entry| entry.tag(Le) == DT_NEEDED) {
        let name = entry.string(Le, strings)?;
        names.push(String::from_utf8_lossy(name).into_owned());
    }
    Ok(names)
}

/// Everything below a directory that is not a directory.
pub(super) fn files_below(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut queue = vec![directory.to_path_buf()];
    while let Some(directory) = queue.pop() {
        let entries =
            fs::read_dir(&directory).with_context(|| format!("no {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                queue.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}
