//! The pollers of the target, of the control plane and of the page, on every core.

use alloc::rc::Rc;

use basalt_env::DmaPool;
use basalt_net::NetHandle;
use basalt_nvmf::{PollGroup, SharedStack, TransportConfig};
use basalt_reactor::Local;
use basalt_rpc::{Gate, WebGate};
use basalt_serve::Server;
use basalt_web::{Collector, Environment};

use crate::{roll_call, syslog};

/// The TCP ports that are served unless a configuration says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    /// NVMe/TCP, discovery included.
    pub nvmf: u16,
    /// NVMe/TCP discovery.
    pub discovery: u16,
    /// JSON-RPC.
    pub rpc: u16,
    /// HTTP: the page and the metrics.
    pub http: u16,
}

impl Ports {
    /// NVMe/TCP's registered ports (NVMe/TCP transport specification 1.0 §3.2), the default of
    /// SPDK's client, and that of Prometheus itself.
    pub const STANDARD: Self =
        Self { nvmf: 4420, discovery: 8009, rpc: basalt_rpc::PORT, http: basalt_web::PORT };
}

/// Puts the pollers on every core that has a network stack. Neither the control plane nor the page
/// is reached before [`Rpc::open`](basalt_rpc::Rpc::open).
pub async fn start(
    local: &Local,
    transport: TransportConfig,
    ports: Ports,
    environment: Environment,
) {
    Collector::start(local, environment);
    let Environment { started_at, .. } = environment;
    syslog::start(local, started_at);
    for core in roll_call::ids(local.cores()) {
        let serve = move |local: &Local| serve(local, transport, ports, started_at);
        let started = local.call(core, serve).await;
        if let Err(error) = started {
            log::error!(target: "basalt", "core {core} does not answer: {error}");
        }
    }
}

fn serve(local: &Local, transport: TransportConfig, ports: Ports, started_at: Option<u64>) {
    let (Some(net), Some(pool)) = (local.service::<NetHandle>(), local.service::<DmaPool>()) else {
        return;
    };
    let stack = net.stack();
    PollGroup::start(local, stack.clone(), (*pool).clone(), transport);
    let gate = Rc::new(Gate::default());
    local.provide(Rc::clone(&gate));
    run(local, "rpc", Rc::clone(&stack), basalt_rpc::server(gate, ports.rpc));
    let gate = Rc::new(WebGate::default());
    local.provide(Rc::clone(&gate));
    let server = basalt_web::server(Rc::clone(&gate.0), ports.http, started_at);
    run(local, "web", stack, server);
}

fn run(local: &Local, name: &'static str, stack: SharedStack, mut server: Server) {
    let poll = move |local: &Local| server.poll(local, &mut *stack.borrow_mut());
    local.background_poller(name, poll).detach();
}
