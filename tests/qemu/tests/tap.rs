//! The image on a card that completes checksums and cuts and joins TCP segments, at the other end
//! of which is this host's own kernel.
#![expect(clippy::expect_used, reason = "each names what a test has missed")]

use std::net::SocketAddr;
use std::time::Duration;

use basalt_qemu_tests::initiator::command::{self, Connect};
use basalt_qemu_tests::initiator::{Data, Initiator, Namespace, Queue};
use basalt_qemu_tests::rpc_client::Raw;
use basalt_qemu_tests::{BasaltGuest, Guest, Tap};
use serde_json::Value;

const BOOT: Duration = Duration::from_secs(120);
const CONFIG: &str = r#"{"subsystems":[{"subsystem":"net","config":[
    {"method":"net_set_interface","params":{"name":"net0","address":"198.18.7.1/24",
        "addresses":["fd00:7::1/64"]}}]}]}"#;
const BASALT: &str = "198.18.7.1:4420";
const BASALT_V6: &str = "[fd00:7::1]:4420";
const DISCOVERY_V6: &str = "[fd00:7::1]:8009";
/// The discovery log's header and two entries: discovery itself and the default subsystem.
const LOG_BYTES: u32 = 3 * 1024;
const HOST_V6: &str = "fd00:7::2/64";
const HOST: &str = "198.18.7.2/24";
const OFFLOADS: [&str; 6] =
    ["CSUM", "GUEST_CSUM", "HOST_TSO4", "GUEST_TSO4", "HOST_TSO6", "GUEST_TSO6"];
/// Bytes of one I/O.
const IO_BYTES: u32 = 128 << 10;

/// A tap device, or `None` with the reason printed where this host has none to give.
fn tap(host: &str, mtu: u16, queues: u16) -> Option<Tap> {
    let made = Tap::with_queues(host, mtu, queues);
    made.inspect_err(|error| println!("skipped: no tap device can be made here: {error:#}")).ok()
}

/// Boots the image with that configuration; the card gets further properties.
fn boot(tap: &Tap, config: &str, card: &str) -> (Guest, tempfile::NamedTempFile) {
    let disk = tempfile::NamedTempFile::new().expect("no disk");
    disk.as_file().set_len(64 << 20).expect("no room for a disk");
    let guest = BasaltGuest::new("basalt")
        .cpus(2)
        .disk(disk.path())
        .config(config)
        .qemu_arg("-netdev")
        .qemu_arg(&tap.netdev("tap"))
        .qemu_arg("-device")
        .qemu_arg(&format!("virtio-net-pci,netdev=tap,disable-legacy=on,romfile=,{card}"))
        .start();
    (guest, disk)
}

#[test]
fn the_image_and_this_host_exchange_large_segments_over_ipv4_and_ipv6() {
    for mtu in [1500, 9000] {
        let Some(tap) = tap(HOST, mtu, 1) else { return };
        let (guest, _disk) = boot(&tap, CONFIG, &format!("host_mtu={mtu}"));
        let features = guest.wait_for_line("virtio-net: ", BOOT);
        for feature in OFFLOADS {
            assert!(features.contains(feature), "{feature} is not agreed: {features}");
        }
        assert!(features.ends_with(&format!("mtu {mtu}")), "{features}");
        guest.wait_for_line("basalt: ready", BOOT);
        move_data(&tap, BASALT);
        match tap.add_address(HOST_V6) {
            Err(error) => println!("without IPv6, which this host lacks: {error:#}"),
            Ok(()) => {
                move_data(&tap, BASALT_V6);
                check_discovery();
            }
        }
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Writes and reads back, in frames that are large both ways.
fn move_data(tap: &Tap, at: &str) {
    let mut initiator = Initiator::connect_at(address(at)).expect("no connection");
    let disk: Namespace = initiator.namespaces().expect("no namespaces")[0];
    let before = tap.traffic().expect("no counters");
    for round in 0..64 {
        let lba = u64::from(round * IO_BYTES / disk.block_len);
        initiator.verify(disk, lba, IO_BYTES, round.into()).expect("data");
    }
    let after = tap.traffic().expect("no counters");
    let [sent, received] = [0, 1].map(|way| after[way].mean_since(&before[way]));
    println!("{at}: {sent} bytes a frame sent by the image, {received} received");
    // Acknowledgements count too.
    assert!(sent > 6000 && received > 6000, "frames of {sent} and {received} bytes");
}

/// A host that came over IPv6 is told of subsystems there.
fn check_discovery() {
    let mut queue = Queue::greet_at(address(DISCOVERY_V6)).expect("no discovery");
    let connected = queue.connect(&Connect::discovery()).expect("no answer");
    assert_eq!(connected.status, command::OK);
    // CC: 64-byte submission and 16-byte completion entries, enabled.
    let enabled = queue.run(command::property_set(0x14, 0x0046_0001), Data::None);
    assert_eq!(enabled.expect("no answer").status, command::OK);
    let log = queue.run(command::log_page(0x70, LOG_BYTES), Data::ToHost(LOG_BYTES));
    let log = log.expect("no log").data;
    let entries: Vec<_> = log[1024..].chunks(1024).collect();
    for entry in entries {
        assert_eq!(entry[1], 2, "the address family");
        assert!(entry[512..].starts_with(b"fd00:7::1"), "the address");
    }
}

/// What JSON-RPC there says of the interface.
fn interface(rpc: &mut Raw) -> Value {
    rpc.call("net_get_interfaces")["result"][0].clone()
}

/// I/O queues of a core so far, of hosts with one each.
fn io_queues(guest: &Guest, core: usize) -> u64 {
    let end = format!(", queue 1, core {core}");
    guest.lines().iter().filter(|line| line.ends_with(&end)).count() as u64
}

#[test]
fn two_cores_receive_and_send_by_queues_of_their_own() {
    let Some(tap) = tap("198.18.8.2/24", 1500, 2) else { return };
    let config = CONFIG.replace("198.18.7.1", "198.18.8.1");
    let (guest, _disk) = boot(&tap, &config, "mq=on,vectors=6");
    let line = guest.wait_for_line("virtio-net: ", BOOT);
    assert!(line.contains("MQ") && line.contains("2 queue pairs"), "{line}");
    guest.wait_for_line("basalt: ready", BOOT);
    let mut initiators = vec![];
    // Which cores have how many I/O queues is up to the switch, which knows connections only.
    while initiators.len() < 4 || (0..2).any(|core| io_queues(&guest, core) == 0) {
        assert!(initiators.len() < 16, "one core has all I/O queues");
        let at = address("198.18.8.1:4420");
        initiators.push(Initiator::connect_at(at).expect("no connection"));
    }
    let disk: Namespace = initiators[0].namespaces().expect("no namespaces")[0];
    for round in 0..16 {
        for (at, initiator) in initiators.iter_mut().enumerate() {
            let index = round * 16 + at as u32;
            let lba = u64::from(index * IO_BYTES / disk.block_len);
            initiator.verify(disk, lba, IO_BYTES, index.into()).expect("data");
        }
    }
    let mut rpc = Raw::connect_at(address("198.18.8.1:5260"));
    let interface = interface(&mut rpc);
    let queues = interface["queues"].as_array().expect("queues");
    println!("{interface}");
    assert_eq!(queues.len(), 2);
    let count = |queue: &Value, name: &str| queue[name].as_u64().expect("a counter");
    for (core, queue) in queues.iter().enumerate() {
        // Each of its connections has moved 2 MiB both ways, but for the first frames.
        let own = io_queues(&guest, core) * (2 << 20);
        let (own, all) = (own / 4 * 3, own + (1 << 20));
        for bytes in ["rx_bytes", "tx_bytes"] {
            let moved = count(queue, bytes);
            assert!((own..all).contains(&moved), "{bytes} of {moved} in {queue}");
        }
        // After the first frames a flow comes where it belongs.
        let [steered, frames] = ["rx_steered", "rx_frames"].map(|name| count(queue, name));
        assert!(steered * 4 < frames, "{queue}");
        assert_eq!(count(queue, "rx_dropped"), 0, "{queue}");
    }
}

#[test]
fn a_configured_mtu_bounds_what_is_sent_and_is_saved() {
    let Some(tap) = tap("198.18.9.2/24", 9000, 1) else { return };
    let config =
        CONFIG.replace("198.18.7.1", "198.18.9.1").replace("}}]}]}", ",\"mtu\":4000}}]}]}");
    let (guest, _disk) = boot(&tap, &config, "host_mtu=9000,host_tso4=off,host_tso6=off");
    let line = guest.wait_for_line("virtio-net: ", BOOT);
    assert!(line.ends_with("mtu 4000"), "{line}");
    guest.wait_for_line("basalt: ready", BOOT);
    let mut initiator = Initiator::connect_at(address("198.18.9.1:4420")).expect("no connection");
    let disk: Namespace = initiator.namespaces().expect("no namespaces")[0];
    let before = tap.traffic().expect("no counters");
    for round in 0..16 {
        let lba = u64::from(round * IO_BYTES / disk.block_len);
        initiator.verify(disk, lba, IO_BYTES, round.into()).expect("data");
    }
    let sent = tap.traffic().expect("no counters")[0].mean_since(&before[0]);
    println!("{sent} bytes a frame sent by the image");
    // Acknowledgements count too; a frame of data has 4014 bytes.
    assert!((1500..=4014).contains(&sent), "frames of {sent} bytes");
    let mut rpc = Raw::connect_at(address("198.18.9.1:5260"));
    assert_eq!(interface(&mut rpc)["mtu"], 4000);
    let mut call = |method: &str, params: &str| {
        let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        rpc.send(line.as_bytes());
        rpc.receive()
    };
    let saved = call("framework_get_config", r#"{"name":"net"}"#);
    let calls = saved["result"].as_array().expect("calls");
    assert!(calls.iter().any(|call| call["params"]["mtu"] == 4000), "{saved}");
    assert!(calls.iter().any(|call| call["params"]["address"] == "198.18.9.1/24"), "{saved}");
    let other = call("net_set_interface", r#"{"name":"net0","mtu":1500}"#);
    assert!(other["error"]["message"].to_string().contains("start again"), "{other}");
}

#[test]
fn an_mtu_beyond_the_cards_is_refused_by_name() {
    let Some(tap) = tap("198.18.10.2/24", 1500, 1) else { return };
    let config = CONFIG.replace("}}]}]}", ",\"mtu\":9000}}]}]}");
    let (guest, _disk) = boot(&tap, &config, "host_mtu=1500");
    guest.wait_for_line("an MTU of 9000 is configured, but the card's is 1500", BOOT);
    guest.wait_for_line("the configuration was carried out up to that call", BOOT);
}
