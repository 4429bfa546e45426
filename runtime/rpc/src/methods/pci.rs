//! The devices on the machine's PCI buses that are used. The environment that found them says how
//! to reach them.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use basalt_env::PciAddress;
use serde_json::{Value, json};

use crate::{Context, Outcome, Params, Router, When};

/// A device in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PciState {
    /// Where it sits.
    pub address: PciAddress,
    /// What it is to SPDK: `nvme`, `virtio`, ….
    pub kind: &'static str,
    /// Its node, if firmware tells of it.
    pub node: Option<u32>,
    /// Its configuration space: 256 bytes, or 4096 if it has so many.
    pub config: Vec<u8>,
}

/// How the methods reach the devices: a service of the boot core.
pub struct PciControl {
    list: Box<dyn Fn() -> Vec<PciState>>,
}

impl PciControl {
    /// A control that lists the devices by `list`.
    pub fn new(list: impl Fn() -> Vec<PciState> + 'static) -> Self {
        Self { list: Box::new(list) }
    }
}

impl fmt::Debug for PciControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PciControl").finish_non_exhaustive()
    }
}

pub(super) fn register(router: &mut Router) {
    router.register("framework_get_pci_devices", When::Runtime, get_devices);
}

fn get_devices(cx: Context, params: Params) -> Outcome {
    params.none()?;
    // A machine without such a service, as a process of Linux, has no devices of its own.
    let all = cx.service::<PciControl>().map_or_else(|_| Vec::new(), |control| (control.list)());
    Ok(all.iter().map(to_json).collect())
}

fn to_json(device: &PciState) -> Value {
    json!({
        "address": device.address.to_string(),
        "type": device.kind,
        "numa_id": device.node.map_or(-1, i64::from),
        "config_space": hex(&device.config),
    })
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02X}");
    }
    text
}
