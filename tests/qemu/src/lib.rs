//! Boots the real image in QEMU and talks to it as the outside world does: over its console, over
//! the network, and by the bytes it leaves on its drives.
//!
//! - [`Guest`] is a running QEMU with its console captured line by line. It is ended when dropped,
//!   and a test that panics prints the console of every guest it had.
//! - [`BasaltGuest`] describes a machine that boots Basalt, built and prepared by the runner's own
//!   code.
//! - [`HostedTwin`] describes the same program as a process of this host.
//! - [`LinuxGuest`] describes one that boots Debian's kernel with the NVMe/TCP initiator, `fio` and
//!   file system tools, and runs a script.
//! - [`Wire`] connects two of them, as does a [`Relay`], with losses; [`Tap`] one with this host.
//! - [`Monitor`] is QEMU's own, which also shows a guest's screen.
//! - [`browser`] is Chromium without a window.
//! - [`rpc_client`] is SPDK's own client, and one that breaks the rules.
//! - [`syslog`] is a syslog server that knows its grammar.
//! - [`initiator`] is a small NVMe/TCP initiator inside the test, also for breaking the rules.
//!
//! Every wait has a limit; each panics with what was waited for.

mod basalt;
pub mod browser;
mod console;
mod guest;
mod hosted;
pub mod initiator;
pub mod linux;
mod monitor;
mod relay;
pub mod rpc_client;
pub mod rsyslog;
mod screen;
pub mod syslog;
mod tap;
mod wire;

pub use basalt::{BasaltGuest, boot_image, free_ports, uefi_application};
pub use guest::Guest;
pub use hosted::HostedTwin;
pub use linux::LinuxGuest;
pub use monitor::{Monitor, MonitorSocket};
pub use relay::{Losses, Relay};
pub use tap::Tap;
pub use wire::{BASALT_MAC, CLIENT_MAC, Wire};

use std::sync::OnceLock;

use basalt_runner::accel::{self, Accel};
use basalt_runner::cli::AccelChoice;
use basalt_runner::{Workspace, packages};

/// What all guests of a test process share.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) workspace: Workspace,
    pub(crate) accel: Accel,
}

/// Whether guests have a processor that is a program, QEMU's TCG.
pub fn is_emulated() -> bool {
    host().accel != Accel::Kvm
}

/// Finds the workspace, installs QEMU if it is missing, and chooses what executes guests; once.
pub(crate) fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let prepare = || -> anyhow::Result<Host> {
            let workspace = Workspace::locate()?;
            packages::ensure_qemu(&workspace)?;
            let accel = accel::choose(&workspace, AccelChoice::Auto)?;
            Ok(Host { workspace, accel })
        };
        prepare().unwrap_or_else(|error| panic!("this host cannot run guests: {error:#}"))
    })
}
