use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A file of the repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// Its path, relative to the root, with `/`.
    pub path: String,
    /// What it holds.
    pub text: String,
}

/// What a dependency is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The crate itself, or its build script.
    Normal,
    /// Its tests, examples and benchmarks.
    Dev,
}

/// One dependency of a package.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dependency {
    /// Its name, as published.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// Its directory relative to the root, if it is a crate of this repository.
    pub directory: Option<String>,
    /// The version requirement.
    pub requirement: String,
}

/// One crate of this repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Package {
    /// Its directory, relative to the root, for example `drivers/ring`.
    pub directory: String,
    /// What it depends on.
    pub dependencies: Vec<Dependency>,
    /// The roots of its library and binaries, relative to the root of the repository.
    pub roots: Vec<String>,
}

/// The real tree.
#[derive(Debug)]
pub struct Repository {
    root: PathBuf,
    metadata: Value,
}

impl Repository {
    /// Asks `cargo` where the tree is and what it holds.
    pub fn open() -> io::Result<Self> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let metadata: Value = serde_json::from_slice(&output.stdout).map_err(io::Error::other)?;
        let root = metadata["workspace_root"].as_str().unwrap_or_default().into();
        Ok(Self { root, metadata })
    }

    /// Every crate.
    pub fn packages(&self) -> Vec<Package> {
        array(&self.metadata["packages"]).iter().map(|package| self.package(package)).collect()
    }

    /// A file by its path relative to the root.
    pub fn file(&self, path: &str) -> io::Result<Source> {
        let text = fs::read_to_string(self.root.join(path))?;
        Ok(Source { path: path.to_owned(), text })
    }

    /// Every Rust file of every crate, in order of path.
    pub fn sources(&self) -> io::Result<Vec<Source>> {
        let mut paths = Vec::new();
        for package in self.packages() {
            collect(&self.root.join(package.directory), &mut paths)?;
        }
        paths.sort();
        paths.iter().map(|path| self.file(&self.relative(path))).collect()
    }

    fn package(&self, package: &Value) -> Package {
        let manifest = Path::new(text(&package["manifest_path"]));
        let is_root = |target: &&Value| {
            array(&target["kind"]).iter().any(|kind| matches!(text(kind), "lib" | "bin"))
        };
        let targets = array(&package["targets"]).iter().filter(is_root);
        Package {
            directory: self.relative(manifest.parent().unwrap_or(manifest)),
            dependencies: array(&package["dependencies"])
                .iter()
                .map(|d| self.dependency(d))
                .collect(),
            roots: targets.map(|t| self.relative(Path::new(text(&t["src_path"])))).collect(),
        }
    }

    fn dependency(&self, dependency: &Value) -> Dependency {
        Dependency {
            name: text(&dependency["name"]).to_owned(),
            kind: if text(&dependency["kind"]) == "dev" { Kind::Dev } else { Kind::Normal },
            directory: dependency["path"].as_str().map(|path| self.relative(Path::new(path))),
            requirement: text(&dependency["req"]).to_owned(),
        }
    }

    fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().replace('\\', "/")
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Adds every `.rs` file below `directory`, except what a build or a hidden directory holds.
fn collect(directory: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            collect(&path, paths)?;
        } else if path.extension() == Some(OsStr::new("rs")) {
            paths.push(path);
        }
    }
    Ok(())
}
