//! What is served when no configuration says otherwise.

use alloc::format;
use alloc::rc::Rc;

use basalt_bdev::vbdev::gpt::{CONFIG_PRODUCT_NAME, Examiner};
use basalt_bdev::{Bdev, Event, Registry};
use basalt_nvmf::{DEFAULT_NQN, DISCOVERY_NQN};
use basalt_reactor::Local;
use basalt_rpc::{Rpc, RpcError};
use serde_json::json;

use crate::Ports;

/// Exports every bdev in the default subsystem to any host, by the calls a client would make, so
/// that they are saved like all others. What cannot be exported is said.
pub async fn run(local: &Local, rpc: &Rc<Rpc>, ports: Ports) {
    if let Err(error) = export_all(local, rpc, ports).await {
        log::error!(target: "nvmf", "{DEFAULT_NQN} is not served in full: {error}");
    }
}

async fn export_all(local: &Local, rpc: &Rc<Rpc>, ports: Ports) -> Result<(), RpcError> {
    rpc.call_at_boot("nvmf_create_transport", Some(json!({"trtype": "TCP"}))).await?;
    let subsystem = json!({"nqn": DEFAULT_NQN, "allow_any_host": true});
    rpc.call_at_boot("nvmf_create_subsystem", Some(subsystem)).await?;
    let bdevs = local.service::<Registry>().map(|registry| registry.list()).unwrap_or_default();
    // A partition for the machine's configuration is nothing for hosts.
    for bdev in bdevs.iter().filter(|bdev| bdev.info().product_name != CONFIG_PRODUCT_NAME) {
        add(local, rpc, &bdev.info().name).await;
    }
    for (nqn, port) in [(DEFAULT_NQN, ports.nvmf), (DISCOVERY_NQN, ports.discovery)] {
        let address = json!({
            "trtype": "TCP", "adrfam": "IPv4", "traddr": "0.0.0.0", "trsvcid": format!("{port}"),
        });
        let params = json!({"nqn": nqn, "listen_address": address});
        rpc.call_at_boot("nvmf_subsystem_add_listener", Some(params)).await?;
    }
    Ok(())
}

/// Exports as well, from now on, what comes later and `is_drive`: not what a client makes, who will
/// say what it is for.
pub fn follow(local: &Local, rpc: &Rc<Rpc>, is_drive: impl Fn(&dyn Bdev) -> bool + 'static) {
    let Some(registry) = local.service::<Registry>() else { return };
    let (local, rpc) = (local.clone(), Rc::downgrade(rpc));
    registry.subscribe(move |event| {
        let (Event::Registered(bdev), Some(rpc)) = (event, rpc.upgrade()) else { return };
        if is_drive(&**bdev) {
            let name = bdev.info().name.clone();
            let waits = local.clone();
            local.spawn("export", async move { add(&waits, &rpc, &name).await });
        }
    });
}

/// Exports the bdev called `name` in the default subsystem as well, unless others stand on it; says
/// so if it cannot be.
async fn add(local: &Local, rpc: &Rc<Rpc>, name: &str) {
    Examiner::settled(local).await;
    if local.service::<Registry>().is_some_and(|registry| registry.is_claimed(name)) {
        return log::info!(target: "nvmf", "{name} is not served itself: other bdevs stand on it");
    }
    let params = json!({"nqn": DEFAULT_NQN, "namespace": {"bdev_name": name}});
    if let Err(error) = rpc.call_at_boot("nvmf_subsystem_add_ns", Some(params)).await {
        log::error!(target: "nvmf", "{name}: {error}");
    }
}
