use core::fmt;
use core::net::Ipv4Addr;
use core::str::FromStr;

/// An IPv4 address and the length of its network's prefix, written `10.0.0.1/24`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4Cidr {
    address: Ipv4Addr,
    prefix_len: u8,
}

/// Text that is no address with a prefix length, or one that no interface can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadCidr;

impl fmt::Display for BadCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an interface address like 10.0.0.1/24")
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

impl FromStr for Ipv4Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let (address, prefix_len) = text.split_once('/').ok_or(BadCidr)?;
        let address = address.parse().map_err(|_| BadCidr)?;
        Self::new(address, prefix_len.parse().map_err(|_| BadCidr)?)
    }
}

impl fmt::Display for Ipv4Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

/// An interface's address and its way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// Address and network.
    pub cidr: Ipv4Cidr,
    /// Router for everything outside the network.
    pub gateway: Option<Ipv4Addr>,
}

/// Where an interface's address comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InterfaceConfig {
    /// From a DHCP server.
    Dhcp,
    /// From the configuration.
    Static(Address),
}
