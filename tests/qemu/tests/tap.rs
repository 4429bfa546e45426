//! The image on a card that completes checksums and cuts and joins TCP segments, at the other end
//! of which is this host's own kernel.

use std::net::SocketAddr;
use std::time::Duration;

use basalt_qemu_tests::initiator::{Initiator, Namespace};
use basalt_qemu_tests::{BasaltGuest, Guest, Tap};

const BOOT: Duration = Duration::from_secs(120);
const CONFIG: &str = r#"{"subsystems":[{"subsystem":"net","config":[
    {"method":"net_set_interface","params":{"name":"net0","address":"198.18.7.1/24"}}]}]}"#;
const BASALT: &str = "198.18.7.1:4420";
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
fn large_segments_go_both_ways_between_the_image_and_this_host() {
    for mtu in [1500, 9000] {
        let Some(tap) = tap(mtu) else { return };
        let (guest, _disk) = boot(&tap, mtu);
        let features = guest.wait_for_line("virtio-net: ", BOOT);
        for feature in ["CSUM", "GUEST_CSUM", "HOST_TSO4", "GUEST_TSO4", "HOST_TSO6", "GUEST_TSO6"]
        {
            assert!(features.contains(feature), "{feature} is not agreed: {features}");
        }
        assert!(features.ends_with(&format!("mtu {mtu}")), "{features}");
        guest.wait_for_line("basalt: ready", BOOT);
        let address: SocketAddr = BASALT.parse().expect("an address");
        let mut initiator = Initiator::connect_at(address).expect("no connection");
        let disk: Namespace = initiator.namespaces().expect("no namespaces")[0];
        let before = tap.traffic().expect("no counters");
        for round in 0..64 {
            let lba = u64::from(round * IO_BYTES / disk.block_len);
            initiator.verify(disk, lba, IO_BYTES, round.into()).expect("data");
        }
        let after = tap.traffic().expect("no counters");
        let [sent, received] = [0, 1].map(|way| after[way].mean_since(&before[way]));
        println!("MTU {mtu}: {sent} bytes a frame sent by the image, {received} received");
        // Acknowledgements count too.
        assert!(sent > 6000 && received > 6000, "frames of {sent} and {received} bytes");
    }
}
