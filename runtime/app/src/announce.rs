//! The last words of a start: what runs where, and how to reach it.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr as Endpoint};

use basalt_nvmf::Target;
use basalt_reactor::Local;

use crate::{Ports, roll_call};

/// Logs the pollers of every core.
pub async fn pollers(local: &Local) {
    for core in roll_call::ids(local.cores()) {
        let names = local.call(core, |local| {
            local.pollers().iter().map(|poller| poller.name).collect::<Vec<_>>()
        });
        if let Ok(names) = names.await {
            log::info!(target: "basalt", "core {core} polls {}", names.join(", "));
        }
    }
}

/// Logs how to reach each subsystem at `address`, and that all is ready.
pub fn ready(target: &Target, address: IpAddr, ports: Ports) {
    for subsystem in target.subsystems() {
        let (nqn, count) = (&subsystem.nqn, subsystem.namespaces.len());
        log::info!(
            target: "basalt",
            "serving {nqn} ({count} namespaces), JSON-RPC on port {}",
            ports.rpc
        );
        for port in &subsystem.ports {
            log::info!(
                target: "basalt",
                "connect with: nvme connect -t tcp -a {address} -s {port} -n {nqn}"
            );
        }
    }
    let page = Endpoint::new(address, ports.http);
    log::info!(target: "basalt", "page on http://{page}/, metrics on http://{page}/metrics");
    log::info!(target: "basalt", "ready");
}
