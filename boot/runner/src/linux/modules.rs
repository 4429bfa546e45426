//! Finds the kernel modules a client needs, each after those it depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use object::{Object as _, ObjectSection as _};

/// All modules below a directory, by name.
#[derive(Debug)]
pub(super) struct Modules {
    paths: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

/// A module to load.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) data: Vec<u8>,
}

impl Modules {
    /// Lists the modules of the kernel that is unpacked at `root`.
    pub(super) fn scan(root: &Path) -> anyhow::Result<Self> {
        let all = root.join("lib/modules");
        let entries = fs::read_dir(&all).with_context(|| format!("no {}", all.display()))?;
        let version = entries.flatten().next().context("the kernel has no modules")?.path();
        let builtin = fs::read_to_string(version.join("modules.builtin"))?;
        let builtin = builtin.lines().filter_map(|line| name_of(Path::new(line))).collect();
        let mut paths = BTreeMap::new();
        for path in super::libraries::files_below(&version)? {
            if let Some(name) = name_of(&path) {
                paths.insert(name, path);
            }
        }
        Ok(Self { paths, builtin })
    }

    /// The modules `wanted` and all they depend on, in an order they can be loaded in.
    pub(super) fn in_order(&self, wanted: &[&str]) -> anyhow::Result<Vec<Module>> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in wanted {
            self.add(&canonical(name), &mut seen, &mut order)?;
        }
        Ok(order)
    }

    fn add(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<Module>,
    ) -> anyhow::Result<()> {
        if self.builtin.contains(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(path) = self.paths.get(name) else { bail!("the kernel has no module {name}") };
        let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let needed = dependencies(&data).with_context(|| format!("module {name}"))?;
        for needed in needed {
            self.add(&needed, seen, order)?;
        }
        order.push(Module { name: name.to_owned(), data });
        Ok(())
    }
}

/// What a module says of itself: `depends=a,b` among NUL-terminated texts.
fn dependencies(module: &[u8]) -> anyhow::Result<Vec<String>> {
    let file = object::File::parse(module).context("no ELF file; is it compressed?")?;
    let section = file.section_by_name(".modinfo").context("no .modinfo")?;
    let texts = section.data()?;
    let depends = texts.split(|byte| *byte == 0).find_map(|text| text.strip_prefix(b"depends="));
    let depends = String::from_utf8_lossy(depends.unwrap_or_default());
    Ok(depends.split(',').filter(|name| !name.is_empty()).map(canonical).collect())
}

fn name_of(path: &Path) -> Option<String> {
    path.file_name()?.to_str()?.strip_suffix(".ko").map(canonical)
}

/// Dashes and underscores mean the same in a module's name.
fn canonical(name: &str) -> String {
    name.trim().replace('-', "_")
}
