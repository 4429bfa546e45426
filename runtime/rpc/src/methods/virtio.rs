//! The machine's virtio disks. The block layer knows only their bdevs, so whoever finds them says
//! how to reach them.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::pin::Pin;

use basalt_env::PciAddress;
use serde_json::{Value, json};

use super::bdev::no_such_device;
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

/// What kind of device it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VirtioKind {
    /// A block device, which is one bdev.
    Blk,
    /// A SCSI host, which has several.
    Scsi,
}

/// An attached device as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VirtioState {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: VirtioKind,
    /// Where it sits.
    pub address: PciAddress,
    /// How many queues of requests are in use.
    pub queues: usize,
    /// Descriptors of each.
    pub queue_size: u16,
}

/// How an attachment ends: the names of the bdevs.
pub type VirtioAttached = Pin<Box<dyn Future<Output = Result<Vec<String>, RpcError>>>>;
/// How a detachment ends.
pub type VirtioDetached = Pin<Box<dyn Future<Output = Result<(), RpcError>>>>;

type Attach = Box<dyn Fn(String, VirtioKind, PciAddress) -> VirtioAttached>;
type Detach = Box<dyn Fn(String) -> VirtioDetached>;

/// How the methods reach the devices: a service of the boot core.
pub struct VirtioControl {
    list: Box<dyn Fn() -> Vec<VirtioState>>,
    attach: Attach,
    detach: Detach,
}

impl VirtioControl {
    /// A control of three parts: one lists the attached devices; the others attach the one at an
    /// address under a name, and detach the one of a name.
    pub fn new(
        list: impl Fn() -> Vec<VirtioState> + 'static,
        attach: impl Fn(String, VirtioKind, PciAddress) -> VirtioAttached + 'static,
        detach: impl Fn(String) -> VirtioDetached + 'static,
    ) -> Self {
        Self { list: Box::new(list), attach: Box::new(attach), detach: Box::new(detach) }
    }
}

impl fmt::Debug for VirtioControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((self.list)()).finish()
    }
}

pub(super) fn register(router: &mut Router) {
    router.register_async("bdev_virtio_attach_controller", When::Runtime, attach);
    router.register_async("bdev_virtio_detach_controller", When::Runtime, detach);
    router.register("bdev_virtio_scsi_get_devices", When::Runtime, scsi_get_devices);
}

async fn attach(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    let trtype: String = params.required("trtype")?;
    let traddr: String = params.required("traddr")?;
    let dev_type: String = params.required("dev_type")?;
    // Of virtio-user only, as SPDK has it; its client sends them with any transport.
    let _vq_count: Option<u32> = params.optional("vq_count")?;
    let _vq_size: Option<u32> = params.optional("vq_size")?;
    params.finish()?;
    let kind = match dev_type.as_str() {
        "blk" => VirtioKind::Blk,
        "scsi" => VirtioKind::Scsi,
        other => return Err(invalid(format!("'dev_type' is 'blk' or 'scsi', not '{other}'"))),
    };
    if trtype != "pci" {
        let message = format!("'trtype' is 'pci': there are no sockets for '{trtype}' here");
        return Err(invalid(message));
    }
    let address = read_address(&traddr).ok_or_else(|| {
        invalid(format!("'traddr' is a PCI address like 0000:00:04.0, not '{traddr}'"))
    })?;
    let control = cx.service::<VirtioControl>().map_err(|_| no_such_device(&traddr))?;
    let bdevs = (control.attach)(name.clone(), kind, address).await?;
    cx.remember("bdev", key(&name));
    Ok(bdevs.into())
}

async fn detach(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    params.finish()?;
    let control = cx.service::<VirtioControl>().map_err(|_| no_such_device(&name))?;
    if !(control.list)().iter().any(|state| state.name == name) {
        return Err(no_such_device(&name));
    }
    (control.detach)(name.clone()).await?;
    cx.forget("bdev", &key(&name));
    Ok(Value::Bool(true))
}

fn scsi_get_devices(cx: Context, params: Params) -> Outcome {
    params.finish()?;
    let all = cx.service::<VirtioControl>().map_or_else(|_| Vec::new(), |control| (control.list)());
    let hosts = all.iter().filter(|state| state.kind == VirtioKind::Scsi);
    let shown = hosts.map(|VirtioState { name, address, queues, queue_size, .. }| {
        json!({
            "name": name,
            "virtio": {
                "vq_count": queues,
                "vq_size": queue_size,
                "type": "pci-modern",
                "pci_address": format!("{address}"),
            },
        })
    });
    Ok(shown.collect())
}

fn key(name: &str) -> String {
    format!("virtio/{name}")
}

fn invalid(message: String) -> RpcError {
    RpcError::errno(errno::EINVAL, message)
}

/// `segment:bus:device.function` in hexadecimal, the segment left out if it is 0.
pub(super) fn read_address(text: &str) -> Option<PciAddress> {
    let (rest, function) = text.rsplit_once('.')?;
    let mut parts = rest.rsplit(':');
    let (device, bus) = (parts.next()?, parts.next()?);
    let segment = parts.next().unwrap_or("0");
    let is_over = parts.next().is_none();
    let number = |text, below: u16| {
        let number = u16::from_str_radix(text, 16).ok()?;
        (number <= below).then_some(number)
    };
    let [bus, device, function] =
        [number(bus, 0xff)?, number(device, 0x1f)?, number(function, 7)?].map(|part| part as u8);
    is_over.then_some(PciAddress::new(number(segment, u16::MAX)?, bus, device, function))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_are_read_as_they_are_written() {
        assert_eq!(read_address("0000:01:1f.7"), Some(PciAddress::new(0, 1, 0x1f, 7)));
        assert_eq!(read_address("00:04.0"), Some(PciAddress::new(0, 0, 4, 0)));
        assert_eq!(read_address("a:00:04.0"), Some(PciAddress::new(10, 0, 4, 0)));
        for wrong in ["", "4", "00:04", "0:0:00:04.0", "00:20.0", "00:04.8", "00:04.x", "/sock"] {
            assert_eq!(read_address(wrong), None, "{wrong}");
        }
    }
}
