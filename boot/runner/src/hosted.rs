//! The hosted twin: built, then run in place of this process.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::run::default_disk;
use crate::{Build, Workspace, disk};

/// Builds the hosted twin and becomes it; without `arguments` it serves the default disk.
///
/// # Errors
/// It does not build or start, or the default disk cannot be made.
pub fn run(workspace: &Workspace, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let program = workspace.build_hosted(Build::Fast)?;
    let mut command = Command::new(&program);
    command.args(arguments);
    if arguments.is_empty() {
        let disk = default_disk(workspace);
        disk::create_if_missing(&disk, disk::DEFAULT_SIZE_BYTES)?;
        command.arg("--file").arg(disk);
    }
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}
