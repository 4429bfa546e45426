use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use crate::IpAddress;

/// An IPv4 address and the length of its network's prefix, written `10.0.0.1/24`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4Cidr {
    address: Ipv4Addr,
    prefix_len: u8,
}

/// An IPv6 address and the length of its network's prefix, written `fd00::1/64`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6Cidr {
    address: Ipv6Addr,
    prefix_len: u8,
}

/// Text that is no address with a prefix length, or one that no interface can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadCidr;

impl fmt::Display for BadCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an interface address like 10.0.0.1/24 or fd00::1/64")
    }
}

impl Ipv4Cidr {
    /// An interface address: a unicast address, and 1 to 32 bits of prefix.
    pub fn new(address: Ipv4Addr, prefix_len: u8) -> Result<Self, BadCidr> {
        let unicast =
            !(address.is_unspecified() || address.is_multicast() || address.is_broadcast());
        if !unicast || !(1..=32).contains(&prefix_len) {
            return Err(BadCidr);
        }
        Ok(Self { address, prefix_len })
    }

    /// The address.
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// Bits of the prefix.
    pub const fn prefix_len(self) -> u8 {
        self.prefix_len
    }
}

impl Ipv6Cidr {
    /// An interface address: a unicast address, and 1 to 128 bits of prefix.
    pub fn new(address: Ipv6Addr, prefix_len: u8) -> Result<Self, BadCidr> {
        let unicast =
            !(address.is_unspecified() || address.is_multicast() || address.is_loopback());
        if !unicast || !(1..=128).contains(&prefix_len) {
            return Err(BadCidr);
        }
        Ok(Self { address, prefix_len })
    }

    /// The link-local address that follows from a MAC address (RFC 4291 §2.5.6 and appendix A).
    pub fn link_local([a, b, c, d, e, f]: [u8; 6]) -> Self {
        let low = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        Self { address: Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(low)), prefix_len: 64 }
    }

    /// The address.
    pub const fn address(self) -> Ipv6Addr {
        self.address
    }

    /// Bits of the prefix.
    pub const fn prefix_len(self) -> u8 {
        self.prefix_len
    }
}

/// Reads an address and the length of its prefix.
fn split<A: FromStr>(text: &str) -> Result<(A, u8), BadCidr> {
    let (address, prefix_len) = text.split_once('/').ok_or(BadCidr)?;
    let address = address.parse().map_err(|_| BadCidr)?;
    Ok((address, prefix_len.parse().map_err(|_| BadCidr)?))
}

impl Ipv4Cidr {
    /// Whether an address is in the network.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        let host_bits = 32 - u32::from(self.prefix_len);
        let differ = self.address.to_bits() ^ address.to_bits();
        differ.checked_shr(host_bits).unwrap_or(0) == 0
    }
}

impl Ipv6Cidr {
    /// Whether an address is in the network.
    pub fn contains(self, address: Ipv6Addr) -> bool {
        let host_bits = 128 - u32::from(self.prefix_len);
        let differ = self.address.to_bits() ^ address.to_bits();
        differ.checked_shr(host_bits).unwrap_or(0) == 0
    }
}

impl FromStr for Ipv4Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let (address, prefix_len) = split(text)?;
        Self::new(address, prefix_len)
    }
}

impl FromStr for Ipv6Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let (address, prefix_len) = split(text)?;
        Self::new(address, prefix_len)
    }
}

impl fmt::Display for Ipv4Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl fmt::Display for Ipv6Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

/// An interface's IPv4 address and its way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// Address and network.
    pub cidr: Ipv4Cidr,
    /// Router for everything outside the network.
    pub gateway: Option<Ipv4Addr>,
}

/// All addresses of an interface but its link-local one, which follows from its MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Addresses {
    /// The IPv4 address.
    pub v4: Option<Address>,
    /// Router for IPv6 outside of the networks.
    pub gateway_v6: Option<Ipv6Addr>,
    /// From the front.
    v6: [Option<Ipv6Cidr>; Self::V6_MAX],
}

/// There is no room for another IPv6 address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooMany;

impl Addresses {
    /// Most IPv6 addresses.
    pub const V6_MAX: usize = 6;
    /// Most of these that are not learnt from routers.
    pub const V6_FIXED_MAX: usize = 4;

    /// Adds an IPv6 address, unless it is there.
    pub fn add_v6(&mut self, cidr: Ipv6Cidr) -> Result<(), TooMany> {
        if self.v6().any(|known| known == cidr) {
            return Ok(());
        }
        let free = self.v6.iter_mut().find(|place| place.is_none()).ok_or(TooMany)?;
        *free = Some(cidr);
        Ok(())
    }

    /// The IPv6 addresses.
    pub fn v6(&self) -> impl Iterator<Item = Ipv6Cidr> {
        self.v6.into_iter().flatten()
    }

    /// All addresses, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpAddress> {
        let v4 = self.v4.map(|address| address.cidr.address().into());
        v4.into_iter().chain(self.v6().map(|cidr| cidr.address().into()))
    }
}

impl From<Address> for Addresses {
    fn from(address: Address) -> Self {
        Self { v4: Some(address), ..Self::default() }
    }
}

/// Where an interface's addresses come from. There are also those that routers advertise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InterfaceConfig {
    /// The IPv4 address from a DHCP server.
    Dhcp,
    /// From the configuration.
    Static(Addresses),
}
