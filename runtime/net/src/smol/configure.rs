//! The stack's address: static, or from a DHCP server.

use smoltcp::socket::dhcpv4;
use smoltcp::wire::{self, IpCidr};

use super::SmolStack;
use crate::port::FramePort;
use crate::{Address, InterfaceConfig, Ipv4Cidr};

impl<P: FramePort> SmolStack<P> {
    /// Takes its address from `config` from now on. Connections from another address are reset.
    pub fn configure(&mut self, config: InterfaceConfig) {
        if let Some(handle) = self.dhcp.take() {
            self.sockets.remove(handle);
        }
        match config {
            InterfaceConfig::Static(address) => self.set_address(Some(address)),
            InterfaceConfig::Dhcp => {
                self.set_address(None);
                self.dhcp = Some(self.sockets.add(dhcpv4::Socket::new()));
            }
        }
        self.dirty = true;
    }

    /// Its address and gateway, once there are some.
    pub fn interface_address(&self) -> Option<Address> {
        self.address
    }

    /// Sets its address without changing where it comes from: for a stack that follows another.
    pub fn set_address(&mut self, address: Option<Address>) {
        if self.address == address {
            return;
        }
        self.address = address;
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            let cidr = address.map(|address| smol_cidr(address.cidr));
            // The list is empty and holds at least one.
            addresses.extend(cidr);
        });
        let routes = self.interface.routes_mut();
        routes.remove_default_ipv4_route();
        if let Some(gateway) = address.and_then(|address| address.gateway)
            && routes.add_default_ipv4_route(gateway).is_err()
        {
            log::error!(target: "net", "no room for a route to {gateway}");
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
        self.set_address(address);
    }
}

fn smol_cidr(cidr: Ipv4Cidr) -> IpCidr {
    IpCidr::Ipv4(wire::Ipv4Cidr::new(cidr.address(), cidr.prefix_len()))
}
