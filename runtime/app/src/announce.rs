//! The last words of a start: what runs where, and how to reach it.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr as Endpoint};

use basalt_nvmf::Target;
use basalt_reactor::Local;
use basalt_rpc::{Access, Door, Entrance, Prefix, Rpc};

use crate::{Ports, roll_call};

/// Logs the pollers of every core.
pub async fn pollers(local: &Local) {
    for core in roll_call::ids(local.cores()) {
        let names = local.call(core, |local| {
            local.pollers().iter().map(|poller| poller.name).collect::<Vec<_>>()
        });
        if let Ok(names) = names.await {
            log::info!(target: "basalt", "core {core} polls {}", names.join(", "));
        }
    }
}

/// Logs how to reach each subsystem at `address`, who may reach what else there is, and that all is
/// ready.
pub fn ready(target: &Target, address: IpAddr, ports: Ports, rpc: &Rpc) {
    let calls = calls(&rpc.entrance(Door::Rpc), ports.rpc);
    for subsystem in target.subsystems() {
        let (nqn, count) = (&subsystem.nqn, subsystem.namespaces.len());
        log::info!(target: "basalt", "serving {nqn} ({count} namespaces), {calls}");
        for port in &subsystem.ports {
            log::info!(
                target: "basalt",
                "connect with: nvme connect -t tcp -a {address} -s {port} -n {nqn}"
            );
        }
    }
    log::info!(target: "basalt", "{}", page(&rpc.entrance(Door::Web), address, ports.http));
    log::info!(target: "basalt", "ready");
}

/// Where calls are taken, by default at `port`.
fn calls(entrance: &Entrance, port: u16) -> String {
    let port = entrance.port.unwrap_or(port);
    match &entrance.access {
        Access::Closed => "no JSON-RPC, as rpc_set_listener says".into(),
        Access::Open => format!("JSON-RPC on port {port}"),
        Access::Limited { address, allow } => {
            let at = address.map(|address| format!(" of {address}")).unwrap_or_default();
            format!("JSON-RPC on port {port}{at}{}", only_for(allow))
        }
    }
}

/// Where the page is, by default at `port` of `address`.
fn page(entrance: &Entrance, address: IpAddr, port: u16) -> String {
    let (at, allow) = match &entrance.access {
        Access::Closed => return "no page and no metrics, as web_set_listener says".into(),
        Access::Open => (address, &[][..]),
        Access::Limited { address: at, allow } => (at.unwrap_or(address), allow.as_slice()),
    };
    let page = Endpoint::new(at, entrance.port.unwrap_or(port));
    let only_for = only_for(allow);
    format!("page on http://{page}/, metrics on http://{page}/metrics{only_for}")
}

/// Who is let in, unless that is everybody.
fn only_for(allow: &[Prefix]) -> String {
    if allow.is_empty() {
        return String::new();
    }
    let list: Vec<String> = allow.iter().map(Prefix::to_string).collect();
    format!(", for {} only", list.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 2, 15));

    fn limited(address: Option<&str>, allow: &[&str], port: Option<u16>) -> Entrance {
        let address = address.map(|text| text.parse().unwrap());
        let allow = allow.iter().map(|text| text.parse().unwrap()).collect();
        Entrance { access: Access::Limited { address, allow }, port }
    }

    #[test]
    fn the_page_is_said_to_be_where_it_is_served() {
        let told = |entrance: &Entrance| page(entrance, OWN, 9090);
        let everywhere = "page on http://10.0.2.15:9090/, metrics on http://10.0.2.15:9090/metrics";
        assert_eq!(told(&Entrance::default()), everywhere);
        let moved = Entrance { port: Some(80), ..Entrance::default() };
        let expected = "page on http://10.0.2.15:80/, metrics on http://10.0.2.15:80/metrics";
        assert_eq!(told(&moved), expected);
        let few = limited(Some("fd00::1"), &["10.0.0.0/8", "fd00::/8"], Some(8080));
        let expected = "page on http://[fd00::1]:8080/, metrics on http://[fd00::1]:8080/metrics, \
                        for 10.0.0.0/8, fd00::/8 only";
        assert_eq!(told(&few), expected);
        let closed = Entrance { access: Access::Closed, port: Some(80) };
        assert_eq!(told(&closed), "no page and no metrics, as web_set_listener says");
    }

    #[test]
    fn calls_are_said_to_be_taken_where_they_are() {
        let told = |entrance: &Entrance| calls(entrance, 5260);
        assert_eq!(told(&Entrance::default()), "JSON-RPC on port 5260");
        let here = limited(Some("10.0.2.15"), &[], None);
        assert_eq!(told(&here), "JSON-RPC on port 5260 of 10.0.2.15");
        let few = limited(None, &["10.0.0.7"], None);
        assert_eq!(told(&few), "JSON-RPC on port 5260, for 10.0.0.7/32 only");
        let closed = Entrance { access: Access::Closed, port: None };
        assert_eq!(told(&closed), "no JSON-RPC, as rpc_set_listener says");
    }
}
