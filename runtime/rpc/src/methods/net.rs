//! The network interfaces: methods of Basalt's own, as SPDK leaves the network to its host.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use basalt_net::{Addresses, IpAddress, Ipv6Cidr};
use serde_json::{Value, json};

use crate::{Context, InterfaceSetting, Outcome, Params, Router, RpcError, When};

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
    /// A control of two parts: one gives an interface fixed addresses (again, if it has those
    /// already), the other lists the interfaces.
    pub fn new(
        set: impl Fn(InterfaceSetting) -> Result<(), RpcError> + 'static,
        list: impl Fn() -> Vec<InterfaceState> + 'static,
    ) -> Self {
        Self { set: Box::new(set), list: Box::new(list) }
    }
}

impl fmt::Debug for NetControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((self.list)()).finish()
    }
}

pub(super) fn register(router: &mut Router) {
    router.register("net_set_interface", When::Any, set_interface);
    router.register("net_get_interfaces", When::Any, get_interfaces);
}

fn set_interface(cx: Context, params: Params) -> Outcome {
    let setting = InterfaceSetting::from_params(params)?;
    (cx.service::<NetControl>()?.set)(setting)?;
    cx.remember("net", format!("net{}", setting.index));
    Ok(Value::Bool(true))
}

fn get_interfaces(cx: Context, params: Params) -> Outcome {
    params.none()?;
    let control = cx.service::<NetControl>()?;
    Ok((control.list)().iter().map(interface_to_json).collect())
}

/// Whether an interface has the address, or may get it: a DHCP server may yet give it, or a router.
/// Every one has the unspecified address.
pub(super) fn may_have(cx: &Context, address: IpAddress) -> bool {
    let Ok(control) = cx.service::<NetControl>() else { return true };
    address.is_unspecified() || (control.list)().iter().any(|interface| interface.may_have(address))
}

impl InterfaceState {
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
    json!({
        "name": interface.name,
        "mac": format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"),
        "address": v4.map(|address| format!("{}", address.cidr)),
        "gateway": gateway.map(|gateway| format!("{gateway}")),
        "ipv6_addresses": v6.map(|cidr| format!("{cidr}")).collect::<Vec<_>>(),
        "ipv6_gateway": gateway_v6.map(|gateway| format!("{gateway}")),
        "dhcp": interface.dhcp,
        "mtu": interface.mtu,
    })
}
