//! The stack's addresses: fixed, from a DHCP server, or advertised by routers.
//!
//! smoltcp does the latter (RFC 4862) for prefixes of 64 bits, without looking whether an address
//! is in use already (§5.4), and follows a prefix's lifetime. It knows no DHCP for IPv6.

use smoltcp::iface::{Interface, Route};
use smoltcp::socket::dhcpv4;
use smoltcp::wire::{self, IpCidr};

use super::IpStack;
use crate::port::FramePort;
use crate::{Address, Addresses, InterfaceConfig, Ipv4Cidr, Ipv6Cidr};

/// A link that carries less is no link for IPv6 (RFC 8200 §5).
pub const MTU_MIN_V6: usize = 1280;

impl<P: FramePort> IpStack<P> {
    /// Takes its addresses from `config` from now on. Connections from another address are reset.
    pub fn configure(&mut self, config: InterfaceConfig) {
        if let Some(handle) = self.dhcp.take() {
            self.sockets.remove(handle);
        }
        match config {
            InterfaceConfig::Static(addresses) => self.set_addresses(addresses),
            InterfaceConfig::Dhcp => {
                self.set_addresses(Addresses::default());
                self.dhcp = Some(self.sockets.add(dhcpv4::Socket::new()));
            }
        }
        self.dirty = true;
    }

    /// Its IPv4 address and gateway, once there are some.
    pub fn interface_address(&self) -> Option<Address> {
        self.addresses.v4
    }

    /// All its addresses and gateways, with those that routers advertise.
    pub fn addresses(&self) -> Addresses {
        let mut all = self.addresses;
        for cidr in self.interface.ip_addrs() {
            let IpCidr::Ipv6(cidr) = cidr else { continue };
            if let Ok(cidr) = Ipv6Cidr::new(cidr.address(), cidr.prefix_len())
                && !cidr.address().is_unicast_link_local()
            {
                // There is room for as many as smoltcp learns.
                let _ = all.add_v6(cidr);
            }
        }
        let learnt = self.interface.routes().get_default_ipv6_route();
        all.gateway_v6 = all.gateway_v6.or(learnt.and_then(|route| match route.via_router {
            wire::IpAddress::Ipv6(router) => Some(router),
            wire::IpAddress::Ipv4(_) => None,
        }));
        all
    }

    /// Grows whenever the addresses have changed.
    pub(crate) fn addresses_version(&self) -> u32 {
        self.addresses_version
    }

    /// Sets its addresses without changing where they come from: for a stack that follows another.
    pub fn set_addresses(&mut self, addresses: Addresses) {
        if self.addresses == addresses {
            return;
        }
        let before = core::mem::replace(&mut self.addresses, addresses);
        self.interface.update_ip_addrs(|list| {
            // The link-local one stays, and what routers have advertised.
            list.retain(|cidr| match cidr {
                IpCidr::Ipv4(_) => false,
                IpCidr::Ipv6(cidr) => !before.v6().any(|old| smol_v6(old) == *cidr),
            });
            let v4 = addresses.v4.map(|address| IpCidr::Ipv4(smol_v4(address.cidr)));
            let v6 = addresses.v6().map(|cidr| IpCidr::Ipv6(smol_v6(cidr)));
            for cidr in v4.into_iter().chain(v6) {
                if !list.contains(&cidr) && list.push(cidr).is_err() {
                    log::error!(target: "net", "no room for the address {cidr}");
                }
            }
        });
        set_routes(&mut self.interface, &before, &addresses);
        self.addresses_version += 1;
        self.reset_foreign();
    }

    /// Takes over what routers have advertised, or do no longer.
    pub(super) fn follow_routers(&mut self) {
        let updated = self.interface.slaac_updated_at();
        if updated == self.routers_seen {
            return;
        }
        self.routers_seen = updated;
        self.addresses_version += 1;
        let now = self.addresses();
        let learnt = || now.v6().filter(|cidr| !self.addresses.v6().any(|fixed| fixed == *cidr));
        match (learnt().next(), now.gateway_v6) {
            (Some(cidr), Some(gateway)) => {
                log::info!(target: "net", "a router gave {cidr}, gateway {gateway}");
            }
            (Some(cidr), None) => log::info!(target: "net", "a router gave {cidr}, no gateway"),
            (None, _) => log::info!(target: "net", "routers give no address"),
        }
        self.reset_foreign();
    }

    /// Takes over what the DHCP client has learnt.
    pub(super) fn follow_dhcp(&mut self) {
        let Some(handle) = self.dhcp else { return };
        let event = match self.sockets.get_mut::<dhcpv4::Socket>(handle).poll() {
            None => return,
            Some(dhcpv4::Event::Deconfigured) => None,
            Some(dhcpv4::Event::Configured(config)) => Some((config.address, config.router)),
        };
        let address = event.and_then(|(address, gateway)| {
            let cidr = Ipv4Cidr::new(address.address(), address.prefix_len());
            cidr.ok().map(|cidr| Address { cidr, gateway })
        });
        match address {
            Some(Address { cidr, gateway: Some(gateway) }) => {
                log::info!(target: "net", "DHCP gave {cidr}, gateway {gateway}");
            }
            Some(Address { cidr, gateway: None }) => {
                log::info!(target: "net", "DHCP gave {cidr}, no gateway");
            }
            None if self.interface_address().is_some() => {
                log::warn!(target: "net", "DHCP gives no address any more");
            }
            None => log::info!(target: "net", "asking for an address by DHCP"),
        }
        let mut addresses = self.addresses;
        addresses.v4 = address;
        self.set_addresses(addresses);
    }
}

/// Replaces the ways out that were set before; what routers have advertised stays.
fn set_routes(interface: &mut Interface, before: &Addresses, now: &Addresses) {
    let router = |route: &Route| route.via_router;
    interface.routes_mut().update(|routes| {
        let old_v6 = before.gateway_v6.map(wire::IpAddress::Ipv6);
        routes.retain(|route| !route.is_ipv4_gateway() && Some(router(route)) != old_v6);
        let v4 = now.v4.and_then(|address| address.gateway).map(Route::new_ipv4_gateway);
        let v6 = now.gateway_v6.map(Route::new_ipv6_gateway);
        for route in v4.into_iter().chain(v6) {
            if routes.push(route).is_err() {
                log::error!(target: "net", "no room for a route to {}", route.via_router);
            }
        }
    });
}

fn smol_v4(cidr: Ipv4Cidr) -> wire::Ipv4Cidr {
    wire::Ipv4Cidr::new(cidr.address(), cidr.prefix_len())
}

pub(super) fn smol_v6(cidr: Ipv6Cidr) -> wire::Ipv6Cidr {
    wire::Ipv6Cidr::new(cidr.address(), cidr.prefix_len())
}
