//! UEFI firmware for virtual machines: OVMF, found where distributions put it or installed.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::{Workspace, packages};

/// Debian's package.
const PACKAGE: &str = "ovmf";

/// Where Debian, Fedora, Arch and QEMU itself put code and variables; without secure boot, as the
/// image is not signed.
const PLACES: [(&str, &str); 5] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/qemu/edk2-x86_64-code.fd", "/usr/share/qemu/edk2-i386-vars.fd"),
];

/// The two parts of a machine's firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// The program, only read.
    pub code: PathBuf,
    /// Its settings as delivered; a machine's changes to them are dropped when it ends.
    pub variables: PathBuf,
}

impl Firmware {
    /// The firmware that is installed.
    #[must_use]
    pub fn find() -> Option<Self> {
        let installed = |(code, variables): (&str, &str)| {
            let (code, variables) = (Path::new(code), Path::new(variables));
            let found = code.is_file() && variables.is_file();
            found.then(|| Self { code: code.to_path_buf(), variables: variables.to_path_buf() })
        };
        PLACES.into_iter().find_map(installed)
    }

    /// The firmware that is installed; installs it if it is missing.
    ///
    /// # Errors
    /// It is missing and cannot be installed; the error names the command that would.
    pub fn ensure(workspace: &Workspace) -> anyhow::Result<Self> {
        let is_there = || Self::find().is_some();
        packages::ensure_that(workspace, "OVMF (UEFI for QEMU)", &[PACKAGE], is_there)?;
        Self::find().context("OVMF is gone again")
    }

    /// Debian's, whether it is installed or not.
    #[must_use]
    pub fn usual() -> Self {
        let (code, variables) = PLACES[0];
        Self { code: code.into(), variables: variables.into() }
    }
}
