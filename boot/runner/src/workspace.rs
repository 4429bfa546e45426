//! The source tree the runner belongs to, and the building of its image.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::image::{self, MediumContents};

/// The workspace: where its sources are and where its output goes.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
    /// The package whose program is the image, unless it is Basalt alone.
    application: Option<String>,
}

/// Basalt alone: the package and its program.
const IMAGE: (&str, &str) = ("basalt-image", "basalt");

/// How a program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// To be used: optimised.
    Fast,
    /// To be tested: with overflow checks and debug assertions, and freed DMA memory poisoned.
    Checked,
}

/// A lock between processes; held until dropped.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl Workspace {
    /// Finds the workspace this program was built from; `CARGO_TARGET_DIR` moves its output.
    ///
    /// # Errors
    /// The sources are no longer where they were.
    pub fn locate() -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root.canonicalize().with_context(|| {
            format!("the sources are no longer at {}; build the runner anew", root.display())
        })?;
        let target = match env::var_os("CARGO_TARGET_DIR").filter(|path| !path.is_empty()) {
            Some(path) => std::path::absolute(path)?,
            None => root.join("target"),
        };
        Ok(Self { root, target, application: None })
    }

    /// The same, but the image is the program of an application: of the package `name` of this
    /// workspace, which is called like the package. The boot files are named after it.
    #[must_use]
    pub fn with_application(mut self, name: Option<&str>) -> Self {
        self.application = name.map(str::to_owned);
        self
    }

    /// The file `target/image/PROGRAM` with this extension.
    fn boot_file(&self, extension: &str) -> PathBuf {
        self.image_with_symbols().with_extension(extension)
    }

    /// The root of the source tree.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory cargo builds into.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The directory of the boot files.
    #[must_use]
    pub fn image_directory(&self) -> PathBuf {
        // Cargo puts the output of the profile named `image` there as well.
        self.target.join("image")
    }

    /// The bootable image, made by [`build_image`](Self::build_image).
    #[must_use]
    pub fn boot_elf(&self) -> PathBuf {
        self.boot_file("elf")
    }

    /// The UEFI application, made by [`build_boot_files`](Self::build_boot_files).
    #[must_use]
    pub fn efi_application(&self) -> PathBuf {
        self.boot_file("efi")
    }

    /// The boot disk for UEFI, made by [`build_boot_files`](Self::build_boot_files).
    #[must_use]
    pub fn boot_disk(&self) -> PathBuf {
        self.boot_file("img")
    }

    /// Builds the image and makes it bootable; returns the path of the boot file and its size in
    /// bytes.
    ///
    /// # Errors
    /// The build fails (cargo has said why), or the built image lacks what boot files need.
    pub fn build_image(&self) -> anyhow::Result<(PathBuf, u64)> {
        let _lock = self.lock("image")?;
        self.build_elf()
    }

    /// The image as it was linked, with symbols and lines of source, once it has been built.
    #[must_use]
    pub fn image_with_symbols(&self) -> PathBuf {
        self.image_directory().join(self.application.as_deref().unwrap_or(IMAGE.1))
    }

    /// Builds the image and makes every boot file of it; returns their paths. The boot disk gets
    /// the configuration in file `config`.
    ///
    /// # Errors
    /// As for [`build_image`](Self::build_image); or a file cannot be read or written.
    pub fn build_boot_files(&self, config: Option<&Path>) -> anyhow::Result<[PathBuf; 3]> {
        let config = config.map(fs::read).transpose().context("cannot read the configuration")?;
        let _lock = self.lock("image")?;
        let (elf, _) = self.build_elf()?;
        let data = fs::read(&elf).with_context(|| format!("cannot read {}", elf.display()))?;
        let application = image::uefi_application(&data)
            .with_context(|| format!("cannot make a UEFI application of {}", elf.display()))?;
        let (efi, disk) = (self.efi_application(), self.boot_disk());
        image::replace(&efi, |path| Ok(fs::write(path, &application)?))?;
        let contents = MediumContents { application: &application, config: config.as_deref() };
        image::replace(&disk, |path| image::write_medium(path, contents))?;
        Ok([elf, efi, disk])
    }

    /// Builds the hosted twin; returns the path of the program.
    ///
    /// # Errors
    /// The build fails (cargo has said why).
    pub fn build_hosted(&self, build: Build) -> anyhow::Result<PathBuf> {
        let (profile, directory) = match build {
            Build::Fast => ("release", "release"),
            Build::Checked => ("dev", "debug"),
        };
        self.cargo_build(&["-p", "basalt-hosted-target", "--profile", profile])
            .context("the hosted twin does not build")?;
        Ok(self.target.join(directory).join("basalt-hosted-target"))
    }

    fn cargo_build(&self, what: &[&str]) -> anyhow::Result<()> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(&cargo)
            .arg("build")
            .args(what)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .status()
            .with_context(|| format!("cannot start {}; is it in PATH?", cargo.display()))?;
        if !status.success() {
            bail!("cargo says why above");
        }
        Ok(())
    }

    fn build_elf(&self) -> anyhow::Result<(PathBuf, u64)> {
        let package = self.application.as_deref().unwrap_or(IMAGE.0);
        self.cargo_build(&["-p", package, "--profile", "image"])
            .context("the image does not build")?;
        let (linked, boot) = (self.image_with_symbols(), self.boot_elf());
        let size_bytes = image::prepare(&linked, &boot)?;
        Ok((boot, size_bytes))
    }

    /// Takes the lock called `name`, waiting for another process that holds it.
    ///
    /// # Errors
    /// The lock file cannot be created under the target directory.
    pub fn lock(&self, name: &str) -> anyhow::Result<FileLock> {
        fs::create_dir_all(&self.target)
            .with_context(|| format!("cannot create {}", self.target.display()))?;
        let path = self.target.join(format!(".{name}.lock"));
        let file =
            File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(FileLock { _file: file })
    }
}
