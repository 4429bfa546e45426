//! What the boot core does once its reactor runs: devices, drives, network, target, control plane,
//! configuration, in this order.

use alloc::rc::Rc;
use alloc::vec::Vec;

use basalt_bare::{Clock, EXIT_FAILURE, IdentityMap, PciConfig, exit, power_off};
use basalt_bdev::Registry;
use basalt_env::DmaPool;
use basalt_net::NetHandle;
use basalt_nvmf::{DEFAULT_NQN, DISCOVERY_NQN, PollGroup, Target, TransportConfig};
use basalt_reactor::Local;
use basalt_rpc::{Config, ConfigError, Router, Rpc, RpcError, Server, State};
use serde_json::json;

use crate::devices::{self, Devices};
use crate::{bench, drives, first_read, memory, network, roll_call};

/// NVMe/TCP's registered ports (NVMe/TCP transport specification 1.0 §3.2).
const NVMF_PORT: &str = "4420";
const DISCOVERY_PORT: &str = "8009";

/// What the boot core needs of the machine.
pub struct Parts {
    pub pci_config: PciConfig,
    pub map: IdentityMap,
    pub clock: Clock,
    /// The configuration as it was handed over.
    pub config: &'static [u8],
}

/// Brings everything up. A configuration that cannot be carried out stops the machine: half of
/// what was asked for is worse than a clear refusal.
pub async fn run(local: Local, parts: Parts) {
    if let Err(error) = bring_up(&local, parts).await {
        log::error!(target: "basalt", "{error}");
        log::error!(target: "basalt", "stopping; correct the configuration and start again");
        exit(EXIT_FAILURE);
    }
}

async fn bring_up(local: &Local, parts: Parts) -> Result<(), ConfigError> {
    let config = Config::parse(parts.config)?;
    let interfaces = config.interfaces()?;
    roll_call::run(local).await;
    let Devices { nvme, virtio_net } = devices::find(&parts.pci_config, parts.map);
    let registry = Registry::new(local.cores(), basalt_bare::entropy());
    local.provide(Rc::new(registry));
    drives::attach_all(local, nvme).await;
    first_read::run(local, parts.clock).await;
    network::start(local, parts.clock, virtio_net, &interfaces);
    let transport = TransportConfig::default();
    let target = Target::start(local, transport);
    let rpc = start_control_plane(local, parts.clock);
    start_services(local, transport).await;
    config.apply(&rpc).await?;
    if !config.has_subsystem("nvmf")
        && let Err(error) = export_all(local, &rpc).await
    {
        log::error!(target: "nvmf", "{DEFAULT_NQN} is not served in full: {error}");
    }
    memory::report(local).await;
    announce(local, &target).await;
    Ok(())
}

fn start_control_plane(local: &Local, clock: Clock) -> Rc<Rpc> {
    let mut router = Router::default();
    basalt_rpc::methods::register_all(&mut router);
    bench::register(&mut router, clock);
    memory::register(&mut router);
    let rpc = Rpc::start(local, router, State::Runtime);
    rpc.on_kill(|signal| {
        log::info!(target: "basalt", "{signal}: powering off");
        power_off();
    });
    rpc
}

/// Puts the target's and the control plane's pollers on every core that has a network stack.
async fn start_services(local: &Local, transport: TransportConfig) {
    for core in roll_call::ids(local.cores()) {
        let started = local.call(core, move |local| serve(local, transport)).await;
        if let Err(error) = started {
            log::error!(target: "basalt", "core {core} does not answer: {error}");
        }
    }
}

fn serve(local: &Local, transport: TransportConfig) {
    let (Some(net), Some(pool)) = (local.service::<NetHandle>(), local.service::<DmaPool>()) else {
        return;
    };
    let stack = net.stack();
    PollGroup::start(local, stack.clone(), (*pool).clone(), transport);
    let listening = Server::listen(&mut *stack.borrow_mut());
    match listening {
        Ok(mut server) => {
            let poll = move |local: &Local| server.poll(local, &mut *stack.borrow_mut());
            local.poller("rpc", poll).detach();
        }
        Err(error) => log::error!(target: "rpc", "core {} cannot listen: {error:?}", local.core()),
    }
}

/// Exports every bdev in the default subsystem to any host, by the calls a client would make, so
/// that they are saved like all others.
async fn export_all(local: &Local, rpc: &Rc<Rpc>) -> Result<(), RpcError> {
    rpc.call("nvmf_create_transport", Some(json!({"trtype": "TCP"}))).await?;
    let subsystem = json!({"nqn": DEFAULT_NQN, "allow_any_host": true});
    rpc.call("nvmf_create_subsystem", Some(subsystem)).await?;
    let bdevs = local.service::<Registry>().map(|registry| registry.list()).unwrap_or_default();
    for bdev in bdevs {
        let name = bdev.info().name.as_str();
        let params = json!({"nqn": DEFAULT_NQN, "namespace": {"bdev_name": name}});
        if let Err(error) = rpc.call("nvmf_subsystem_add_ns", Some(params)).await {
            log::error!(target: "nvmf", "{name}: {error}");
        }
    }
    for (nqn, port) in [(DEFAULT_NQN, NVMF_PORT), (DISCOVERY_NQN, DISCOVERY_PORT)] {
        let address = json!({
            "trtype": "TCP", "adrfam": "IPv4", "traddr": "0.0.0.0", "trsvcid": port,
        });
        let params = json!({"nqn": nqn, "listen_address": address});
        rpc.call("nvmf_subsystem_add_listener", Some(params)).await?;
    }
    Ok(())
}

/// Says what runs where, and how to reach it.
async fn announce(local: &Local, target: &Target) {
    for core in roll_call::ids(local.cores()) {
        let names = local.call(core, |local| {
            local.pollers().iter().map(|poller| poller.name).collect::<Vec<_>>()
        });
        if let Ok(names) = names.await {
            log::info!(target: "basalt", "core {core} polls {}", names.join(", "));
        }
    }
    let Some(address) = network::address(local).await else { return };
    for subsystem in target.subsystems() {
        let (nqn, count) = (&subsystem.nqn, subsystem.namespaces.len());
        log::info!(target: "basalt", "serving {nqn} ({count} namespaces), JSON-RPC on port 5260");
        for port in &subsystem.ports {
            log::info!(
                target: "basalt",
                "connect with: nvme connect -t tcp -a {address} -s {port} -n {nqn}"
            );
        }
    }
    log::info!(target: "basalt", "ready");
}
