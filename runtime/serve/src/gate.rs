use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::str::FromStr;

use basalt_net::{Endpoint, IpAddress};

/// Who reaches a server over the network.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Access {
    /// Everybody, at every address.
    #[default]
    Open,
    /// Those who come to `address`, or to any if there is none, from one of `allow`, or from
    /// anywhere if that is empty.
    Limited {
        /// The address of ours that is listened at.
        address: Option<IpAddress>,
        /// Where clients may be.
        allow: Vec<Prefix>,
    },
    /// Nobody.
    Closed,
}

impl Access {
    /// Whether a connection from `peer` to our `local` end is let in. One whose ends are not known
    /// is let in by [`Self::Open`] only.
    pub fn admits(&self, local: Option<Endpoint>, peer: Option<Endpoint>) -> bool {
        let (address, allow) = match self {
            Self::Open => return true,
            Self::Closed => return false,
            Self::Limited { address, allow } => (address, allow),
        };
        let (Some(local), Some(peer)) = (local, peer) else { return false };
        let peer = peer.ip().to_canonical();
        address.is_none_or(|address| address == local.ip().to_canonical())
            && (allow.is_empty() || allow.iter().any(|prefix| prefix.contains(peer)))
    }
}

/// The addresses that begin with the same bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    address: IpAddress,
    /// How many bits: at most those of the address.
    len: u8,
}

/// A text is no prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadPrefix;

impl Prefix {
    /// Whether `address` begins with these bits; one of the other version does not.
    pub fn contains(&self, address: IpAddress) -> bool {
        match (self.address, address) {
            (IpAddress::V4(own), IpAddress::V4(other)) => {
                let differs = own.to_bits() ^ other.to_bits();
                differs.leading_zeros() >= u32::from(self.len)
            }
            (IpAddress::V6(own), IpAddress::V6(other)) => {
                let differs = own.to_bits() ^ other.to_bits();
                differs.leading_zeros() >= u32::from(self.len)
            }
            _ => false,
        }
    }
}

impl FromStr for Prefix {
    type Err = BadPrefix;

    /// Reads `10.0.0.0/8`, `fd00::/8`, or an address, which is a prefix of all its bits.
    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        let (address, len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len.parse::<u8>().map_err(|_| BadPrefix)?)),
            None => (text, None),
        };
        let address: IpAddress = address.parse().map_err(|_| BadPrefix)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let len = len.unwrap_or(most);
        if len > most {
            return Err(BadPrefix);
        }
        Ok(Self { address, len })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

/// A core's word on who may connect. Closed until it is set for the first time, so that nobody
/// comes in before what limits it is known.
#[derive(Debug)]
pub struct Gate {
    access: RefCell<Rc<Access>>,
    port: Cell<Option<u16>>,
    version: Cell<u32>,
}

impl Default for Gate {
    fn default() -> Self {
        let access = RefCell::new(Rc::new(Access::Closed));
        Self { access, port: Cell::new(None), version: Cell::new(0) }
    }
}

impl Gate {
    /// Says who may connect from now on, at the port that there is by default.
    pub fn set(&self, access: Access) {
        self.set_at(access, None);
    }

    /// Says who may connect from now on, and at which port if not at the one by default.
    pub fn set_at(&self, access: Access, port: Option<u16>) {
        self.port.set(port);
        *self.access.borrow_mut() = Rc::new(access);
        self.version.set(self.version.get().wrapping_add(1));
    }

    /// Who may connect.
    pub fn access(&self) -> Rc<Access> {
        Rc::clone(&self.access.borrow())
    }

    /// The TCP port that was chosen instead of the default, if one was.
    pub fn port(&self) -> Option<u16> {
        self.port.get()
    }

    /// Changes whenever [`Self::set`] is called.
    pub fn version(&self) -> u32 {
        self.version.get()
    }
}
