//! The pollers of the target and of the control plane, on every core.

use alloc::rc::Rc;

use basalt_env::DmaPool;
use basalt_net::NetHandle;
use basalt_nvmf::{PollGroup, TransportConfig};
use basalt_reactor::Local;
use basalt_rpc::{Gate, Server};

use crate::roll_call;

/// The TCP ports that are served unless a configuration says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    /// NVMe/TCP, discovery included.
    pub nvmf: u16,
    /// NVMe/TCP discovery.
    pub discovery: u16,
    /// JSON-RPC.
    pub rpc: u16,
}

impl Ports {
    /// NVMe/TCP's registered ports (NVMe/TCP transport specification 1.0 §3.2) and the default of
    /// SPDK's client.
    pub const STANDARD: Self = Self { nvmf: 4420, discovery: 8009, rpc: basalt_rpc::PORT };
}

/// Puts the pollers on every core that has a network stack. The control plane takes no calls before
/// [`Rpc::open`](basalt_rpc::Rpc::open).
pub async fn start(local: &Local, transport: TransportConfig, rpc_port: u16) {
    for core in roll_call::ids(local.cores()) {
        let started = local.call(core, move |local| serve(local, transport, rpc_port)).await;
        if let Err(error) = started {
            log::error!(target: "basalt", "core {core} does not answer: {error}");
        }
    }
}

fn serve(local: &Local, transport: TransportConfig, rpc_port: u16) {
    let (Some(net), Some(pool)) = (local.service::<NetHandle>(), local.service::<DmaPool>()) else {
        return;
    };
    let stack = net.stack();
    PollGroup::start(local, stack.clone(), (*pool).clone(), transport);
    let gate = Rc::new(Gate::default());
    local.provide(Rc::clone(&gate));
    let mut server = Server::new(gate, rpc_port);
    let poll = move |local: &Local| server.poll(local, &mut *stack.borrow_mut());
    local.poller("rpc", poll).detach();
}
