//! What the boot core does once its reactor runs: files, target, control plane, configuration, in
//! this order.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::SystemTime;

use basalt_app::bench::{self, Instruments};
use basalt_app::configuration::{self, Exports};
use basalt_app::{Environment, Ports, announce, control, export, first_read, roll_call, services};
use basalt_bdev::Registry;
use basalt_bdev::vbdev::gpt::Examiner;
use basalt_hosted::{Clock, allocations, cores};
use basalt_net::{Address, Addresses, Ipv4Cidr};
use basalt_nvmf::{Target, TransportConfig};
use basalt_reactor::Local;
use basalt_rpc::methods::{InterfaceState, NetControl};
use basalt_rpc::{Config, Keeper, Router, RpcError, errno};
use serde_json::json;

use crate::ending::Ending;
use crate::files;

/// What the boot core needs.
pub struct Parts {
    pub clock: Clock,
    /// The configuration as it was handed over.
    pub config: Vec<u8>,
    /// Files to serve.
    pub files: Vec<PathBuf>,
    pub ports: Ports,
    pub address: Ipv4Addr,
    /// Whether to wait for `framework_start_init`.
    pub waits: bool,
    pub ending: Ending,
}

/// Brings everything up, or ends the program if it has no files to serve or nothing to measure.
pub async fn run(local: Local, parts: Parts) {
    let ending = parts.ending.clone();
    if let Err(error) = bring_up(&local, parts).await {
        log::error!(target: "basalt", "{error:#}");
        log::error!(target: "basalt", "stopping; correct this and start again");
        ending.fail();
    }
}

async fn bring_up(local: &Local, parts: Parts) -> anyhow::Result<()> {
    let Parts { clock, config, files, ports, address, waits, ending } = parts;
    let config = Config::parse(&config);
    roll_call::run(local).await;
    local.provide(Rc::new(Registry::new(local.cores(), cores::entropy())));
    Examiner::start(local);
    local.provide(Rc::new(net_control(address)));
    local.provide(Rc::new(files::control(local)));
    let transport = TransportConfig::default();
    let target = Target::start(local, transport);
    let instruments = Instruments { ticks: clock, allocations };
    let measured = ending.clone();
    let more = |router: &mut Router| bench::register(router, instruments, move || measured.ask());
    let rpc = control::start(local, || None, more, move || ending.ask());
    files::create_all(&rpc, &files).await?;
    first_read::run(local, move || clock.now()).await;
    let environment = Environment { name: "hosted", started_at: started_at(clock), heap: || None };
    services::start(local, transport, ports, environment).await;
    Examiner::settled(local).await;
    let config = Keeper::start(local, config).await;
    files::give_way(&rpc, &files, &config).await?;
    let exports = configuration::carry_out(&config, &rpc).await?;
    if waits {
        let params = json!({"wait_for_rpc": true});
        rpc.call_at_boot("rpc_set_options", Some(params)).await?;
    }
    if exports == Exports::Default && !rpc.waits() {
        export::run(local, &rpc, ports).await;
    }
    rpc.open().await;
    announce::pollers(local).await;
    local.mesh().settle();
    announce::ready(&target, address.into(), ports, &rpc);
    Ok(())
}

/// The time of day when `clock` started, in seconds since 1970, by the host's clock.
fn started_at(clock: Clock) -> Option<u64> {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(unix.as_secs().saturating_sub(clock.now().as_us() / 1_000_000))
}

/// The host's interfaces are its own: there is one with the address we listen on, and it cannot be
/// set.
fn net_control(address: Ipv4Addr) -> NetControl {
    let cidr = Ipv4Cidr::new(address, 32).ok();
    let v4 = cidr.map(|cidr| Address { cidr, gateway: None });
    let addresses = v4.map(Addresses::from).unwrap_or_default();
    let list = move || {
        let (name, mac, mtu) = ("host".into(), [0; 6], 65536);
        let (link_local, link_up) = (None, None);
        vec![InterfaceState { name, mac, addresses, link_local, dhcp: false, mtu, link_up }]
    };
    let set = |_| {
        let message = "The host's network is used as it is: give it its addresses there, and \
                       choose one by --address";
        Err(RpcError::errno(errno::EOPNOTSUPP, message))
    };
    NetControl::new(set, list)
}
