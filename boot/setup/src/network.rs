//! The network: cards to stacks on every core.

use alloc::format;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use core::time::Duration;

use basalt_app::roll_call;
use basalt_bare::Clock;
use basalt_env::{Device, DmaPool};
use basalt_net::{InterfaceConfig, IpAddress, Ipv6Cidr, NetConfig, NetInterface, StackOptions};
use basalt_reactor::Local;
use basalt_rpc::methods::{InterfaceState, NetControl};
use basalt_rpc::{InterfaceSetting, RpcError, errno};
use basalt_virtio_net::VirtioNet;

use crate::devices::{Firmware, PciDevice};

/// The share of the heap that connections' buffers may take: one in this many bytes.
const HEAP_SHARE: usize = 2;

/// How long it may take to get an address before that is worth a word, and how often to look.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(10);
const ADDRESS_PERIOD: Duration = Duration::from_millis(5);

/// Starts the first card that works and tells the control plane how to reach it.
///
/// Without a card nothing is served, which is said, and the rest of the machine runs on.
pub async fn start(
    local: &Local,
    firmware: &Firmware,
    clock: Clock,
    cards: Vec<PciDevice>,
    settings: &[InterfaceSetting],
) {
    let count = cards.len();
    let settings = || settings.iter().filter(|setting| setting.index == 0);
    // Each is given in a call of its own, or both in one; the last says.
    let fixed = settings().filter_map(|setting| setting.addresses).next_back();
    let mtu = settings().filter_map(|setting| setting.mtu).next_back();
    let mut card = None;
    for device in cards {
        card = bring_up(local, device, clock, mtu).await;
        if card.is_some() {
            break;
        }
    }
    let Some(card) = card else {
        let why = if count == 0 { "there is no virtio network card" } else { "no card works" };
        log::error!(target: "net", "{why}: nothing can be served; add a virtio-net-pci device");
        return;
    };
    if count > 1 {
        log::warn!(target: "net", "{count} network cards; only the first that works is used");
    }
    let interface = fixed.map_or(InterfaceConfig::Dhcp, InterfaceConfig::Static);
    let cores = roll_call::ids(local.cores()).skip(1).collect();
    let heap = basalt_bare::heap_stats().bytes_total;
    let options = StackOptions::within(heap / HEAP_SHARE / local.cores());
    let config = NetConfig { interface, cores, seed: basalt_bare::entropy(), options };
    if let Err(error) = (firmware.paths.network)(local, card, config) {
        log::error!(target: "net", "the network does not start: {error}");
        return;
    }
    provide_control(local, fixed.is_none());
}

async fn bring_up(
    local: &Local,
    device: PciDevice,
    clock: Clock,
    mtu: Option<u16>,
) -> Option<VirtioNet<PciDevice>> {
    let pool = local.service::<DmaPool>()?;
    let address = device.address();
    match basalt_net::bring_up(local, device, &pool, &|| clock.now(), mtu).await {
        Ok(card) => {
            let [a, b, c, d, e, f] = card.mac();
            log::info!(
                target: "net",
                "net0 is {address}, MAC {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}, MTU {}",
                card.mtu()
            );
            Some(card)
        }
        Err(error) => {
            log::error!(target: "net", "network card {address}: {error}; it is left alone");
            None
        }
    }
}

/// Lets the control plane set and list the interface.
fn provide_control(local: &Local, dhcp: bool) {
    let Some(interface) = local.service::<NetInterface>() else { return };
    let dhcp = Rc::new(Cell::new(dhcp));
    let (set_interface, set_dhcp) = (Rc::clone(&interface), Rc::clone(&dhcp));
    let set = move |setting: InterfaceSetting| {
        if setting.index != 0 {
            let message = format!("there is no interface net{}", setting.index);
            return Err(RpcError::errno(errno::ENODEV, message));
        }
        if let Some(addresses) = setting.addresses {
            set_dhcp.set(false);
            // Those that it has already stay, and so do their connections.
            set_interface.configure(InterfaceConfig::Static(addresses));
        }
        Ok(())
    };
    let list = move || {
        let info = interface.info();
        let (name, mac, mtu) = ("net0".into(), info.mac, info.mtu);
        let link_local = info.has_ipv6().then(|| Ipv6Cidr::link_local(mac));
        let (addresses, dhcp, link_up) = (info.addresses, dhcp.get(), Some(info.link_up));
        vec![InterfaceState { name, mac, addresses, link_local, dhcp, mtu, link_up }]
    };
    local.provide(Rc::new(NetControl::new(set, list)));
}

/// Waits until the interface has an address; `None` if there is no interface. Says so if it takes
/// long: a DHCP server may come later than we.
pub async fn address(local: &Local) -> Option<IpAddress> {
    let interface = local.service::<NetInterface>()?;
    let impatient_at = local.now() + ADDRESS_PATIENCE;
    let mut said = false;
    loop {
        if let Some(address) = interface.info().addresses.iter().next() {
            return Some(address);
        }
        if local.now() > impatient_at && !said {
            log::warn!(target: "net", "still no address; is there a DHCP server?");
            said = true;
        }
        local.sleep(ADDRESS_PERIOD).await;
    }
}
