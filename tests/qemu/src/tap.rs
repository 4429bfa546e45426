//! An Ethernet cable between a guest and this host's own kernel.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, bail};

/// A network device of this host whose other end is a guest's card; removed when dropped.
///
/// It is the one network of QEMU 7.2 whose card completes checksums and cuts and joins segments.
#[derive(Debug)]
pub struct Tap {
    name: String,
    queues: u16,
}

/// What has come through a tap device from its guest, or gone there.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Frames, as they crossed between card and host.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Tap {
    /// A new device with an address of its own, such as `198.18.0.2/24`, and an MTU.
    ///
    /// # Errors
    /// This host lets nobody, or not this process, make one.
    pub fn make(address: &str, mtu: u16) -> anyhow::Result<Self> {
        Self::with_queues(address, mtu, 1)
    }

    /// The same with so many pairs of queues.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub fn with_queues(address: &str, mtu: u16, queues: u16) -> anyhow::Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("basalt{}_{number}", std::process::id() % 100_000);
        let mut add = vec!["tuntap", "add", "dev", &name, "mode", "tap", "vnet_hdr"];
        if queues > 1 {
            add.push("multi_queue");
        }
        ip(&add)?;
        let tap = Self { name, queues };
        ip(&["address", "add", address, "dev", &tap.name, "nodad"])?;
        ip(&["link", "set", &tap.name, "up", "mtu", &mtu.to_string()])?;
        Ok(tap)
    }

    /// Adds another address.
    ///
    /// # Errors
    /// The host does not want it.
    pub fn add_address(&self, address: &str) -> anyhow::Result<()> {
        ip(&["address", "add", address, "dev", &self.name, "nodad"])
    }

    /// What QEMU is told of it: a network `id`.
    #[must_use]
    pub fn netdev(&self, id: &str) -> String {
        let Self { name, queues } = self;
        let several = if *queues > 1 { format!(",queues={queues}") } else { String::new() };
        format!("tap,id={id},ifname={name},script=no,downscript=no,vhost=off{several}")
    }

    /// What has come from the guest, and what has gone there.
    ///
    /// # Errors
    /// The device is gone.
    pub fn traffic(&self) -> anyhow::Result<[Traffic; 2]> {
        let read = |counter: &str| -> anyhow::Result<u64> {
            let path = format!("/sys/class/net/{}/statistics/{counter}", self.name);
            Ok(fs::read_to_string(path)?.trim().parse()?)
        };
        let way = |way: &str| -> anyhow::Result<Traffic> {
            let frames = read(&format!("{way}_packets"))?;
            Ok(Traffic { frames, bytes: read(&format!("{way}_bytes"))? })
        };
        Ok([way("rx")?, way("tx")?])
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if let Err(error) = ip(&["link", "delete", &self.name]) {
            eprintln!("the tap device {} stays: {error:#}", self.name);
        }
    }
}

impl Traffic {
    /// Bytes of a frame on average, from `earlier` on.
    #[must_use]
    pub fn mean_since(&self, earlier: &Self) -> u64 {
        (self.bytes - earlier.bytes) / (self.frames - earlier.frames).max(1)
    }
}

/// Runs `ip` of iproute2.
fn ip(args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(args).output().context("cannot run ip")?;
    if !output.status.success() {
        bail!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
