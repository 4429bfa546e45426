use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use basalt_net::{Address, Addresses, IpAddress, Ipv6Cidr, MTU_MIN_V6};
use serde_json::{Map, Value};

use crate::methods::{NVME_SET_OPTIONS, NvmeOptions};
use crate::{Params, Rpc, RpcError};

/// A configuration in SPDK's JSON form: calls to make at boot, in order.
///
/// `{"subsystems": [{"subsystem": "bdev", "config": [{"method": …, "params": …}]}]}`, where
/// `config` may be `null` and an entry may be an array of calls. Other root keys are ignored.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Config {
    calls: Vec<ConfigCall>,
}

#[derive(Clone, PartialEq, Debug)]
struct ConfigCall {
    place: Place,
    method: String,
    params: Option<Value>,
}

/// Where a call stands in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Place {
    subsystem: String,
    index: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "subsystem \"{}\", entry {}", self.subsystem, self.index)
    }
}

/// Why a configuration was refused.
#[derive(Clone, PartialEq, Debug)]
pub enum ConfigError {
    /// It is not JSON.
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
        /// What the parser says.
        reason: String,
    },
    /// It is JSON of another shape.
    Shape(String),
    /// A call could not be carried out; those before it were.
    Call {
        /// The subsystem that holds the call.
        subsystem: String,
        /// The entry within that subsystem, from 0.
        index: usize,
        /// The method.
        method: String,
        /// Why not.
        error: RpcError,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { line, column, reason } => {
                write!(f, "configuration, line {line}, column {column}: {reason}")
            }
            Self::Shape(reason) => write!(f, "configuration: {reason}"),
            Self::Call { subsystem, index, method, error } => write!(
                f,
                "configuration, subsystem \"{subsystem}\", entry {index}, {method}: {error}"
            ),
        }
    }
}

impl core::error::Error for ConfigError {}

impl Config {
    /// Reads a configuration file. Zero bytes at the end (padding of a boot module) are ignored,
    /// and a file of nothing but white space is an empty configuration.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let text = bytes.get(..end).unwrap_or_default().trim_ascii_end();
        if text.is_empty() {
            return Ok(Self::default());
        }
        let root: Value = serde_json::from_slice(text).map_err(syntax)?;
        let Value::Object(mut root) = root else {
            return Err(ConfigError::Shape("the root is not an object".into()));
        };
        let subsystems = match root.remove("subsystems") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(subsystems)) => subsystems,
            Some(_) => return Err(ConfigError::Shape("\"subsystems\" is not an array".into())),
        };
        let mut calls = Vec::new();
        for (index, subsystem) in subsystems.into_iter().enumerate() {
            read_subsystem(index, subsystem, &mut calls)?;
        }
        Ok(Self { calls })
    }

    /// How many calls it holds.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether it holds no call.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether it holds a call for `subsystem`.
    pub fn has_subsystem(&self, subsystem: &str) -> bool {
        self.calls.iter().any(|call| call.place.subsystem == subsystem)
    }

    /// The interfaces it sets, which must be known before the network starts.
    pub fn interfaces(&self) -> Result<Vec<InterfaceSetting>, ConfigError> {
        let calls = self.calls.iter().filter(|call| call.method == "net_set_interface");
        calls
            .map(|call| {
                let params = Params::new(call.params.clone());
                params.and_then(InterfaceSetting::from_params).map_err(|error| call.failed(error))
            })
            .collect()
    }

    /// What it sets of how NVMe controllers choose among queues, which must be known before they
    /// are attached, on a machine of so many cores. `None` if it sets nothing of the kind.
    pub fn nvme_options(&self, cores: usize) -> Result<Option<NvmeOptions>, ConfigError> {
        let mut options = None;
        for call in self.calls.iter().filter(|call| call.method == NVME_SET_OPTIONS) {
            let before: NvmeOptions = options.unwrap_or_default();
            let changed = Params::new(call.params.clone())
                .and_then(|mut params| before.with(&mut params, cores));
            options = Some(changed.map_err(|error| call.failed(error))?);
        }
        Ok(options)
    }

    /// Makes the calls in order; stops at the first that fails. Nothing is done if a method is
    /// unknown.
    pub async fn apply(&self, rpc: &Rc<Rpc>) -> Result<(), ConfigError> {
        if let Some(call) = self.calls.iter().find(|call| !rpc.router().contains(&call.method)) {
            let error = RpcError::new(RpcError::METHOD_NOT_FOUND, "unknown method");
            return Err(call.failed(error));
        }
        for call in &self.calls {
            let outcome = rpc.call_at_boot(&call.method, call.params.clone()).await;
            outcome.map_err(|error| call.failed(error))?;
        }
        Ok(())
    }
}

impl ConfigCall {
    fn failed(&self, error: RpcError) -> ConfigError {
        let Place { subsystem, index } = self.place.clone();
        ConfigError::Call { subsystem, index, method: self.method.clone(), error }
    }
}

fn syntax(error: serde_json::Error) -> ConfigError {
    let reason = error.to_string();
    ConfigError::Syntax { line: error.line(), column: error.column(), reason }
}

fn read_subsystem(
    index: usize,
    subsystem: Value,
    calls: &mut Vec<ConfigCall>,
) -> Result<(), ConfigError> {
    let Value::Object(mut fields) = subsystem else {
        return Err(ConfigError::Shape(format!("subsystem {index} is not an object")));
    };
    let Some(Value::String(name)) = fields.remove("subsystem") else {
        return Err(ConfigError::Shape(format!("subsystem {index} has no name")));
    };
    let entries = match fields.remove("config") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(entries)) => entries,
        Some(_) => {
            let reason = format!("\"config\" of subsystem \"{name}\" is not an array");
            return Err(ConfigError::Shape(reason));
        }
    };
    for (index, entry) in entries.into_iter().enumerate() {
        let place = Place { subsystem: name.clone(), index };
        match entry {
            Value::Object(call) => calls.push(read_call(place, call)?),
            Value::Array(batch) => read_batch(&place, batch, calls)?,
            _ => return Err(not_a_call(&place)),
        }
    }
    Ok(())
}

fn read_batch(
    place: &Place,
    batch: Vec<Value>,
    calls: &mut Vec<ConfigCall>,
) -> Result<(), ConfigError> {
    for call in batch {
        let Value::Object(call) = call else { return Err(not_a_call(place)) };
        calls.push(read_call(place.clone(), call)?);
    }
    Ok(())
}

fn read_call(place: Place, mut call: Map<String, Value>) -> Result<ConfigCall, ConfigError> {
    let Some(Value::String(method)) = call.remove("method") else {
        return Err(ConfigError::Shape(format!("{place} has no method")));
    };
    Ok(ConfigCall { place, method, params: call.remove("params") })
}

fn not_a_call(place: &Place) -> ConfigError {
    ConfigError::Shape(format!("{place} is neither a call nor an array of calls"))
}

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
        params.finish()?;
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
