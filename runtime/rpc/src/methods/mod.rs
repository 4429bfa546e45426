//! The methods, one module per subsystem. Parameters and results are those of SPDK 26.09.

mod absent;
mod accel;
mod bdev;
mod file;
mod framework;
mod iostat;
mod kept;
mod limits;
mod log;
mod net;
mod notify;
mod nvme;
mod nvme_command;
mod nvme_discovery;
mod nvme_errors;
mod nvme_health;
mod nvme_local;
mod nvme_manage;
mod nvme_options;
mod nvme_paths;
mod nvme_remote;
mod nvme_report;
mod nvmf;
mod options;
mod pci;
mod pool;
mod raid;
mod rpc;
mod scheduler;
mod sock;
mod syslog;
mod thread;
mod trace;
mod vbdev;
mod virtio;

pub use self::file::{FileControl, FileModule, FileOptions};
pub use self::net::{InterfaceState, NetControl};
pub(crate) use self::notify::Notifications;
pub use self::nvme::{
    NvmeAdmin, NvmeAttached, NvmeControl, NvmeDone, NvmeManaged, NvmeQueueStats, NvmeRefusal,
    NvmeState, NvmeSwitch, QueueStatsOf,
};
pub use self::nvme_command::NvmeAnswer;
pub(crate) use self::nvme_local::key as nvme_local_key;
pub(crate) use self::nvme_options::METHOD as NVME_SET_OPTIONS;
pub use self::nvme_options::NvmeOptions;
pub use self::pci::{PciControl, PciState};
pub(crate) use self::rpc::WAIT_KEY;
pub use self::syslog::{SyslogControl, SyslogSetting, SyslogState};
pub use self::virtio::{VirtioAttached, VirtioControl, VirtioDetached, VirtioKind, VirtioState};

use alloc::string::String;

use serde_json::{Map, Value};

use crate::Router;

/// Adds the methods of this crate to a router.
pub fn register_all(router: &mut Router) {
    framework::register(router);
    kept::register(router);
    rpc::register(router);
    thread::register(router);
    trace::register(router);
    log::register(router);
    syslog::register(router);
    options::register(router);
    scheduler::register(router);
    sock::register(router);
    accel::register(router);
    pool::register(router);
    pci::register(router);
    notify::register(router);
    absent::register(router);
    net::register(router);
    bdev::register(router);
    iostat::register(router);
    limits::register(router);
    vbdev::register(router);
    raid::register(router);
    file::register(router);
    nvme::register(router);
    nvme_manage::register(router);
    nvme_options::register(router);
    nvme_remote::register(router);
    nvme_paths::register(router);
    nvme_discovery::register(router);
    virtio::register(router);
    nvmf::register(router);
}

/// A JSON object of these members, whose values are taken. With `json!` each takes code of its own
/// to be put in, which counts where there are many.
fn object(members: &mut [(&str, Value)]) -> Value {
    let mut object = Map::new();
    for (name, value) in members {
        object.insert((*name).into(), value.take());
    }
    Value::Object(object)
}

/// The same of members that are numbers, one by one: to make a map of all at once sorts them first.
fn numbers(members: &[(&str, u64)]) -> Map<String, Value> {
    let mut object = Map::new();
    for (name, number) in members {
        object.insert((*name).into(), (*number).into());
    }
    object
}
