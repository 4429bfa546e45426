//! The network interfaces: methods of Basalt's own, as SPDK leaves the network to its host.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use basalt_env::CoreId;
use basalt_net::{Addresses, IpAddress, Ipv6Cidr, MTU_MIN_V6, NetStats, QueueStats};
use serde_json::{Map, Value};

use super::object;
use crate::{Context, InterfaceSetting, Outcome, Params, Router, RpcError, When, errno};

/// A network interface as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InterfaceState {
    /// `net0`, `net1`, …
    pub name: String,
    /// Ethernet address.
    pub mac: [u8; 6],
    /// Its addresses and its ways out, as far as it has them.
    pub addresses: Addresses,
    /// Its link-local IPv6 address, if it has one.
    pub link_local: Option<Ipv6Cidr>,
    /// Whether the IPv4 address comes by DHCP.
    pub dhcp: bool,
    /// Largest IP packet, bytes.
    pub mtu: usize,
    /// Whether there is a link, if that is known.
    pub link_up: Option<bool>,
}

type Set = Box<dyn Fn(InterfaceSetting) -> Result<(), RpcError>>;
type List = Box<dyn Fn() -> Vec<InterfaceState>>;

/// How the methods reach the network stacks of all cores: a service of the boot core, provided by
/// whoever made those stacks.
pub struct NetControl {
    set: Set,
    list: List,
}

impl NetControl {
    /// A control of two parts: one gives an interface fixed addresses, if the setting has some
    /// (again, if it has those already), the other lists the interfaces. The MTU has been set when
    /// they started.
    pub fn new(
        set: impl Fn(InterfaceSetting) -> Result<(), RpcError> + 'static,
        list: impl Fn() -> Vec<InterfaceState> + 'static,
    ) -> Self {
        Self { set: Box::new(set), list: Box::new(list) }
    }
}

impl NetControl {
    /// The interfaces.
    pub fn list(&self) -> Vec<InterfaceState> {
        (self.list)()
    }
}

impl fmt::Debug for NetControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((self.list)()).finish()
    }
}

pub(super) fn register(router: &mut Router) {
    router.register("net_set_interface", When::Any, set_interface);
    router.register_async("net_get_interfaces", When::Any, get_interfaces);
}

fn set_interface(cx: Context, params: Params) -> Outcome {
    let setting = InterfaceSetting::from_params(params)?;
    let control = cx.service::<NetControl>()?;
    let name = format!("net{}", setting.index);
    if let Some(interface) = (control.list)().iter().find(|interface| interface.name == name) {
        interface.check(&setting)?;
    }
    (control.set)(setting)?;
    // Apart from each other, as each may be set again without the other.
    if let Some(mtu) = setting.mtu {
        let mut params = Map::new();
        params.insert("name".into(), name.clone().into());
        params.insert("mtu".into(), mtu.into());
        cx.remember_as("net", format!("{name}/mtu"), params);
    }
    if setting.addresses.is_some() {
        let mut params = cx.params();
        params.remove("mtu");
        cx.remember_as("net", format!("{name}/addresses"), params);
    }
    Ok(Value::Bool(true))
}

async fn get_interfaces(cx: Context, params: Params) -> Outcome {
    params.none()?;
    let control = cx.service::<NetControl>()?;
    let mut interfaces: Vec<_> = (control.list)().iter().map(interface_to_json).collect();
    let queues = basalt_net::queue_stats(cx.local()).await;
    // Only the first card is used.
    if let Some(first) = interfaces.first_mut() {
        first["queues"] = queues.iter().map(queue_to_json).collect();
    }
    Ok(interfaces.into())
}

fn queue_to_json((core, stats): &(CoreId, QueueStats)) -> Value {
    let NetStats { rx_frames, rx_bytes, rx_dropped, tx_frames, tx_bytes } = stats.card;
    let counters = [
        ("core", core.0.into()),
        ("rx_frames", rx_frames),
        ("rx_bytes", rx_bytes),
        ("rx_dropped", rx_dropped),
        ("rx_steered", stats.steered),
        ("tx_frames", tx_frames),
        ("tx_bytes", tx_bytes),
    ];
    let mut queue = Map::new();
    for (name, value) in counters {
        queue.insert(name.into(), Value::from(value));
    }
    Value::Object(queue)
}

/// Whether an interface has the address, or may get it: a DHCP server may yet give it, or a router.
/// Every one has the unspecified address.
pub(super) fn may_have(cx: &Context, address: IpAddress) -> bool {
    let Ok(control) = cx.service::<NetControl>() else { return true };
    address.is_unspecified() || (control.list)().iter().any(|interface| interface.may_have(address))
}

impl InterfaceState {
    /// Whether it can be as that says while it runs.
    fn check(&self, setting: &InterfaceSetting) -> Result<(), RpcError> {
        let Self { name, mtu, .. } = self;
        if setting.mtu.is_some_and(|wanted| usize::from(wanted) != *mtu) {
            let message = format!(
                "{name} runs with an MTU of {mtu}: another takes effect at the start only, so put \
                 it in the configuration file and start again"
            );
            return Err(RpcError::errno(errno::EBUSY, message));
        }
        let wants_v6 = |addresses: Addresses| addresses.v6().next().is_some();
        if *mtu < MTU_MIN_V6 && setting.addresses.is_some_and(wants_v6) {
            let error = format_args!("'address': the MTU of {name}, {mtu}, is too small for IPv6");
            return Err(RpcError::params(error));
        }
        Ok(())
    }

    fn may_have(&self, address: IpAddress) -> bool {
        let learns = match address {
            IpAddress::V4(_) => self.addresses.v4.is_none() && self.dhcp,
            IpAddress::V6(_) => self.link_local.is_some(),
        };
        let link_local = self.link_local.map(|cidr| cidr.address().into());
        learns || self.addresses.iter().chain(link_local).any(|own| own == address)
    }
}

fn interface_to_json(interface: &InterfaceState) -> Value {
    let [a, b, c, d, e, f] = interface.mac;
    let Addresses { v4, gateway_v6, .. } = interface.addresses;
    let gateway = v4.and_then(|address| address.gateway);
    let v6 = interface.addresses.v6().chain(interface.link_local);
    object(&mut [
        ("name", Value::from(interface.name.as_str())),
        ("mac", Value::from(format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"))),
        ("address", Value::from(v4.map(|address| format!("{}", address.cidr)))),
        ("gateway", Value::from(gateway.map(|gateway| format!("{gateway}")))),
        ("ipv6_addresses", Value::from(v6.map(|cidr| format!("{cidr}")).collect::<Vec<_>>())),
        ("ipv6_gateway", Value::from(gateway_v6.map(|gateway| format!("{gateway}")))),
        ("dhcp", Value::from(interface.dhcp)),
        ("mtu", Value::from(interface.mtu)),
        ("link_up", Value::from(interface.link_up)),
    ])
}
