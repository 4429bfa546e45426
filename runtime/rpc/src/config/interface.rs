use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use basalt_net::{Address, Addresses, IpAddress, Ipv6Cidr, MTU_MIN_V6};

use crate::{Params, RpcError};

/// What is set of a network interface by `net_set_interface`. What is not given stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterfaceSetting {
    /// Which one: 0 for `net0`.
    pub index: u16,
    /// Its fixed addresses and its ways out.
    pub addresses: Option<Addresses>,
    /// Largest IP packet that it sends, bytes.
    pub mtu: Option<u16>,
}

impl InterfaceSetting {
    /// The smallest MTU of IPv4 (RFC 791), and the smallest that holds what DHCP sends (RFC 2131).
    const MTU_MIN: u16 = 68;
    const MTU_MIN_DHCP: u16 = 576;

    /// Reads the parameters `name`; `address` (`10.0.0.1/24` or `fd00::1/64`), `addresses` (a list
    /// of them, of which at most one is IPv4), or both; `gateway` and `gateways` (optional), at
    /// most one for either version; `mtu`. Addresses or an MTU there have to be.
    pub fn from_params(mut params: Params) -> Result<Self, RpcError> {
        let name: String = params.required("name")?;
        let cidrs = one_or_list(&mut params, "address", "addresses")?;
        let gateways = one_or_list(&mut params, "gateway", "gateways")?;
        let mtu: Option<u16> = params.optional("mtu")?;
        let index = name.strip_prefix("net").and_then(|index| index.parse().ok());
        let index = index.ok_or_else(|| {
            RpcError::params(format_args!("'name' is net0, net1, …, not '{name}'"))
        })?;
        if cidrs.is_empty() && (mtu.is_none() || !gateways.is_empty()) {
            return Err(RpcError::params("'address' is missing"));
        }
        let mut addresses = Addresses::default();
        cidrs.iter().try_for_each(|text| add_address(&mut addresses, text))?;
        gateways.iter().try_for_each(|text| add_gateway(&mut addresses, text))?;
        let setting = Self { index, addresses: (!cidrs.is_empty()).then_some(addresses), mtu };
        setting.check_mtu()?;
        params.finish()?;
        Ok(setting)
    }

    fn check_mtu(&self) -> Result<(), RpcError> {
        let Some(mtu) = self.mtu else { return Ok(()) };
        let has_v6 = self.addresses.is_some_and(|addresses| addresses.v6().next().is_some());
        let (least, what) = match self.addresses {
            _ if mtu < Self::MTU_MIN => (Self::MTU_MIN, "IPv4"),
            Some(_) if has_v6 => (MTU_MIN_V6 as u16, "IPv6"),
            Some(_) => (Self::MTU_MIN, "IPv4"),
            None => (Self::MTU_MIN_DHCP, "DHCP"),
        };
        if mtu >= least {
            return Ok(());
        }
        let error = format_args!("'mtu': {mtu} is too small for {what}, which takes {least} bytes");
        Err(RpcError::params(error))
    }
}

/// What the parameter `one` and the list `many` have.
fn one_or_list(params: &mut Params, one: &str, many: &str) -> Result<Vec<String>, RpcError> {
    let first: Option<String> = params.optional(one)?;
    let more: Option<Vec<String>> = params.optional(many)?;
    Ok(first.into_iter().chain(more.unwrap_or_default()).collect())
}

fn add_address(addresses: &mut Addresses, text: &str) -> Result<(), RpcError> {
    let bad = |why: &dyn fmt::Display| {
        Err(RpcError::params(format_args!("'address': '{text}' is {why}")))
    };
    if let Ok(cidr) = text.parse::<Ipv6Cidr>() {
        if cidr.address().is_unicast_link_local() {
            return bad(&"link-local, which the interface has by itself");
        }
        let most = Addresses::V6_FIXED_MAX;
        if addresses.v6().count() >= most || addresses.add_v6(cidr).is_err() {
            return bad(&format_args!("one IPv6 address too many; {most} are possible"));
        }
        return Ok(());
    }
    match text.parse() {
        Err(error) => bad(&error),
        Ok(_) if addresses.v4.is_some() => bad(&"a second IPv4 address; only one is possible"),
        Ok(cidr) => {
            addresses.v4 = Some(Address { cidr, gateway: None });
            Ok(())
        }
    }
}

fn add_gateway(addresses: &mut Addresses, text: &str) -> Result<(), RpcError> {
    let bad = |why| Err(RpcError::params(format_args!("'gateway': '{text}' is {why}")));
    match (text.parse(), &mut addresses.v4) {
        (Err(_), _) => bad("not an IP address"),
        (Ok(IpAddress::V4(_)), None) => bad("of no use without an IPv4 address"),
        (Ok(IpAddress::V4(_)), Some(Address { gateway: Some(_), .. })) => bad("a second one"),
        (Ok(IpAddress::V4(router)), Some(address)) => {
            address.gateway = Some(router);
            Ok(())
        }
        (Ok(IpAddress::V6(_)), _) if addresses.gateway_v6.is_some() => bad("a second one"),
        (Ok(IpAddress::V6(router)), _) => {
            addresses.gateway_v6 = Some(router);
            Ok(())
        }
    }
}
