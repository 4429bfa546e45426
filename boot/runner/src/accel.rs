//! Finds out what can execute a guest here.
//!
//! That `/dev/kvm` opens says little: inside some virtual machines it does, and every 64-bit guest
//! then dies or hangs. So a guest of some instructions is really run once, and the answer is kept
//! under the target directory until the host's kernel, QEMU or the device changes.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::cli::AccelChoice;
use crate::packages::{QEMU, find_program};
use crate::{DebugExit, Workspace};

mod probe;

const KVM_DEVICE: &str = "/dev/kvm";
const TRIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// What executes the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// The processor itself.
    Kvm,
    /// QEMU's emulation, one host thread per core.
    Tcg,
    /// QEMU's emulation with a clock that advances by a nanosecond per instruction; one core.
    Counted,
}

impl Accel {
    /// The value of QEMU's `-accel`.
    #[must_use]
    pub fn qemu_accel(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
            Self::Counted => "tcg,thread=single",
        }
    }

    /// How a user would call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Tcg => "emulated (TCG)",
            Self::Counted => "emulated (TCG), counting instructions",
        }
    }
}

/// Turns the user's wish into what will be used, trying KVM where that matters.
///
/// # Errors
/// KVM was asked for and does not work, or a trial guest could not even be made.
pub fn choose(workspace: &Workspace, choice: AccelChoice) -> anyhow::Result<Accel> {
    match choice {
        AccelChoice::Tcg => Ok(Accel::Tcg),
        AccelChoice::Auto if kvm_works(workspace)? => Ok(Accel::Kvm),
        AccelChoice::Auto => Ok(Accel::Tcg),
        AccelChoice::Kvm if kvm_works(workspace)? => Ok(Accel::Kvm),
        AccelChoice::Kvm => bail!(
            "--accel kvm: a 64-bit guest does not run under KVM here (the trial ran without \
             success, or {KVM_DEVICE} does not open); use --accel tcg"
        ),
    }
}

fn kvm_works(workspace: &Workspace) -> anyhow::Result<bool> {
    if OpenOptions::new().read(true).write(true).open(KVM_DEVICE).is_err() {
        return Ok(false);
    }
    let _lock = workspace.lock("kvm-trial")?;
    let answer = workspace.target().join("kvm-trial");
    let key = trial_key();
    if let Some(works) = read_answer(&answer, &key) {
        return Ok(works);
    }
    let works = trial(workspace, Accel::Kvm)?;
    fs::write(&answer, format!("{key}\n{}\n", if works { "works" } else { "fails" }))
        .with_context(|| format!("cannot write {}", answer.display()))?;
    Ok(works)
}

fn read_answer(path: &Path, key: &str) -> Option<bool> {
    let text = fs::read_to_string(path).ok()?;
    match text.strip_prefix(key)?.trim() {
        "works" => Some(true),
        "fails" => Some(false),
        _ => None,
    }
}

/// What the answer depends on: the kernel and its boot, QEMU, and the device's owner and mode.
fn trial_key() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let stamp = |path: &Path| {
        fs::metadata(path)
            .map(|found| format!("{}:{}:{}", found.size(), found.mtime(), found.mode()))
            .unwrap_or_default()
    };
    let qemu = find_program(QEMU).map(|path| stamp(&path)).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease");
    let boot = read("/proc/sys/kernel/random/boot_id");
    format!("{release} {boot} {qemu} {}", stamp(Path::new(KVM_DEVICE)))
}

/// Runs the trial guest and tells whether it came through.
fn trial(workspace: &Workspace, accel: Accel) -> anyhow::Result<bool> {
    let path = workspace.target().join("kvm-trial.elf");
    fs::write(&path, probe::elf()).with_context(|| format!("cannot write {}", path.display()))?;
    let mut child = Command::new(QEMU)
        .args(["-machine", "q35", "-accel", accel.qemu_accel(), "-cpu", "max"])
        .args(["-smp", "1,maxcpus=2", "-m", "64M", "-kernel"])
        .arg(&path)
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-display", "none"])
        .args(["-no-reboot", "-nodefaults"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {QEMU}"))?;
    let deadline = Instant::now() + TRIAL_TIMEOUT;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(DebugExit::decode(status.code(), "") == DebugExit::Value(probe::SUCCESS));
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.kill()?;
    child.wait()?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trial_guest_comes_through_under_emulation() {
        let workspace = Workspace::locate().unwrap();
        crate::packages::ensure_qemu(&workspace).unwrap();
        let _lock = workspace.lock("kvm-trial").unwrap();
        assert!(trial(&workspace, Accel::Tcg).unwrap());
    }

    #[test]
    fn a_kept_answer_counts_only_for_its_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "host a\nfails\n").unwrap();
        assert_eq!(read_answer(file.path(), "host a"), Some(false));
        assert_eq!(read_answer(file.path(), "host b"), None);
    }
}
