//! The image on a card that completes checksums and cuts and joins TCP segments, at the other end
//! of which is this host's own kernel.
#![expect(clippy::expect_used, reason = "each names what a test has missed")]

use std::net::SocketAddr;
use std::time::Duration;

use basalt_qemu_tests::initiator::command::{self, Connect};
use basalt_qemu_tests::initiator::{Data, Initiator, Namespace, Queue};
use basalt_qemu_tests::{BasaltGuest, Guest, Tap};

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
fn tap(mtu: u16) -> Option<Tap> {
    let made = Tap::make(HOST, mtu);
    made.inspect_err(|error| println!("skipped: no tap device can be made here: {error:#}")).ok()
}

fn boot(tap: &Tap, mtu: u16) -> (Guest, tempfile::NamedTempFile) {
    let disk = tempfile::NamedTempFile::new().expect("no disk");
    disk.as_file().set_len(64 << 20).expect("no room for a disk");
    let guest = BasaltGuest::new("basalt")
        .disk(disk.path())
        .config(CONFIG)
        .qemu_arg("-netdev")
        .qemu_arg(&tap.netdev("tap"))
        .qemu_arg("-device")
        .qemu_arg(&format!("virtio-net-pci,netdev=tap,disable-legacy=on,host_mtu={mtu}"))
        .start();
    (guest, disk)
}

#[test]
fn the_image_and_this_host_exchange_large_segments_over_ipv4_and_ipv6() {
    for mtu in [1500, 9000] {
        let Some(tap) = tap(mtu) else { return };
        let (guest, _disk) = boot(&tap, mtu);
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
