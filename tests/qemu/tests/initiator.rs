//! Basalt as a client of another one: what the other exports becomes a bdev here, and is exported
//! again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::time::Duration;

use basalt_qemu_tests::initiator::{Initiator, pattern};
use basalt_qemu_tests::rpc_client::SpdkRpc;
use basalt_qemu_tests::{BasaltGuest, Guest, HostedTwin};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

const START: Duration = Duration::from_secs(60);
const BOOT: Duration = Duration::from_secs(120);
const DISK_BYTES: u64 = 64 << 20;
const STORAGE: &str = "nqn.2026-11.io.basalt:storage";

fn disk() -> NamedTempFile {
    let made =
        NamedTempFile::new().and_then(|disk| disk.as_file().set_len(DISK_BYTES).map(|()| disk));
    made.unwrap_or_else(|error| panic!("no disk: {error}"))
}

/// Where guests on QEMU's own network find this host.
const HOST: &str = "10.0.2.2";

/// Exports again what is exported at that address.
fn config(address: &str, port: u16) -> String {
    let attach = json!({"method": "bdev_nvme_attach_controller", "params": {
        "name": "Far", "trtype": "TCP", "adrfam": "IPv4", "traddr": address,
        "trsvcid": port.to_string(), "subnqn": STORAGE, "hdgst": true, "ddgst": true,
        "ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1}});
    json!({"subsystems": [{"subsystem": "bdev", "config": [attach]}]}).to_string()
}

/// Writes by the one that exports again, and reads what the drive of the other has.
fn round_trip(nvmf_port: u16, disk: &NamedTempFile, seed: u64) {
    let mut host = Initiator::connect(nvmf_port).unwrap();
    let namespaces = host.namespaces().unwrap();
    let [on] = namespaces[..] else { panic!("{} namespaces", namespaces.len()) };
    let block = DISK_BYTES / on.blocks;
    for (at, len) in [(0_u64, 4096_u32), (1 << 20, 64 << 10), (8 << 20, 1 << 20)] {
        host.verify(on, at / block, len, seed + at).unwrap();
        let bytes = fs::read(disk.path()).unwrap();
        let start = at as usize;
        assert!(bytes[start..start + len as usize] == pattern(seed + at, len as usize));
    }
}

#[test]
fn an_image_exports_what_another_image_exports_and_outlives_its_restart() {
    let disk = disk();
    let (far, nvmf_port) = BasaltGuest::new("far").disk(disk.path()).user_network(4420);
    let start = |guest: BasaltGuest| {
        let guest = guest.start();
        guest.wait_for_line("basalt: ready", BOOT);
        guest
    };
    let mut far: Guest = start(far);
    let near = BasaltGuest::new("near").cpus(1).config(&config(HOST, nvmf_port));
    let (near, [near_port, rpc_port]) = near.user_network_ports([4420, 5260]);
    let near = start(near);
    let rpc = SpdkRpc::new(rpc_port);
    let controllers = rpc.call("bdev_nvme_get_controllers");
    assert_eq!(controllers[0]["ctrlrs"][0]["state"], "enabled", "{controllers}");
    assert_eq!(controllers[0]["ctrlrs"][0]["trid"]["traddr"], HOST);
    assert_eq!(rpc.call("bdev_get_bdevs")[0]["name"], "Farn1");
    round_trip(near_port, &disk, 1);

    far.kill();
    near.wait_for_line("Far: path 10.0.2.2", BOOT);
    let again = BasaltGuest::new("far again").disk(disk.path());
    let _far = start(again.user_network_at(nvmf_port, 4420));
    near.wait_for_line("is back", BOOT);
    round_trip(near_port, &disk, 2);
    let saved = rpc.text("save_config");
    assert!(saved.contains("bdev_nvme_attach_controller"), "{saved}");
    rpc.call("bdev_nvme_detach_controller Far");
    assert_eq!(rpc.call("bdev_get_bdevs"), json!([]));
    assert!(!near.lines().iter().any(|line| line.contains("PANIC")));
}

#[test]
fn a_twin_attaches_by_two_paths_and_loses_one() {
    let disk = disk();
    let far = HostedTwin::new("far").file(disk.path());
    let (port, far_rpc) = (far.nvmf, SpdkRpc::new(far.rpc));
    let far = far.start();
    far.wait_for_line("basalt: ready", START);
    let second = basalt_qemu_tests::free_ports([4420])[0];
    let listener = format!("{STORAGE} -t tcp -a 127.0.0.1 -s {second}");
    far_rpc.call(&format!("nvmf_subsystem_add_listener {listener}"));

    let near = HostedTwin::new("near");
    let (near_port, rpc) = (near.nvmf, SpdkRpc::new(near.rpc));
    let near = near.start();
    near.wait_for_line("basalt: ready", START);
    let attach = |port| {
        format!(
            "bdev_nvme_attach_controller -b Far -t tcp -f ipv4 -a 127.0.0.1 \
                                 -s {port} -n {STORAGE} -x multipath -l -1 -o 1 \
                                 --policy active_active --selector round_robin --min-io 1"
        )
    };
    rpc.call("bdev_nvme_set_options --io-path-stat");
    assert_eq!(rpc.call(&attach(port)), "Farn1");
    assert_eq!(rpc.call(&attach(second)), "Farn1");
    let complaint = rpc.complaint(&attach(second));
    assert!(complaint.contains("has a path of that address already"), "{complaint}");
    rpc.call(&format!("nvmf_subsystem_add_ns {STORAGE} Farn1"));
    round_trip(near_port, &disk, 3);
    let paths = rpc.call("bdev_nvme_get_io_paths -n Farn1");
    assert_eq!(paths["poll_groups"][0]["io_paths"].as_array().map(Vec::len), Some(2), "{paths}");
    let counted = rpc.call("bdev_nvme_get_path_iostat -b Farn1");
    for path in 0..2 {
        let stat = &counted["stats"][path]["stat"];
        let ops = ["num_read_ops", "num_write_ops"].iter().filter_map(|op| stat[op].as_u64());
        assert!(ops.sum::<u64>() > 0, "the paths take turns: {counted}");
    }
    let cntlid = &paths["poll_groups"][0]["io_paths"][1]["cntlid"];
    assert_eq!(rpc.call(&format!("bdev_nvme_set_preferred_path -b Farn1 -c {cntlid}")), "");
    let done = rpc.call("bdev_nvme_get_transport_statistics");
    let tcp = &done["poll_groups"][0]["transports"];
    let completions = |group: &Value| group["transports"][0]["nvme_completions"].as_u64();
    let total: u64 =
        done["poll_groups"].as_array().into_iter().flatten().filter_map(completions).sum();
    assert!(total > 0 && tcp[0]["trname"] == "TCP", "{done}");
    let shown = rpc.call("bdev_get_bdevs")[0]["driver_specific"].clone();
    for (at, port) in [port, second].into_iter().enumerate() {
        assert_eq!(shown["nvme"][at]["trid"]["trsvcid"], port.to_string(), "{shown}");
        assert_eq!(shown["nvme"][at]["ns_data"]["id"], 1, "{shown}");
    }
    assert_eq!(shown["mp_policy"], "active_active");
    assert_eq!((&shown["selector"], &shown["rr_min_io"]), (&json!("round_robin"), &json!(1)));
    let none = attach(port).replace("-b Far", "-b None --max-bdevs 0");
    assert!(rpc.complaint(&none).contains("more than 'max_bdevs'"));

    let saved = rpc.text("save_config");
    let gone = format!("bdev_nvme_detach_controller Far -t tcp -a 127.0.0.1 -s {second} -f ipv4");
    rpc.call(&format!("{gone} -n {STORAGE}"));
    round_trip(near_port, &disk, 4);
    drop(near);

    let again = HostedTwin::new("near again").config(&saved);
    let rpc = SpdkRpc::new(again.rpc);
    let again = again.start();
    again.wait_for_line("basalt: ready", START);
    assert_eq!(rpc.text("save_config"), saved);
}

#[test]
fn a_twin_attaches_what_a_discovery_service_tells_of() {
    let disk = disk();
    let far = HostedTwin::new("far").file(disk.path());
    let (discovery, far_port) = (far.discovery, far.nvmf);
    let far = far.start();
    far.wait_for_line("basalt: ready", START);
    let near = HostedTwin::new("near");
    let rpc = SpdkRpc::new(near.rpc);
    let near = near.start();
    near.wait_for_line("basalt: ready", START);
    let start =
        format!("bdev_nvme_start_discovery -b Far -t tcp -f ipv4 -a 127.0.0.1 -s {discovery} -w");
    rpc.call(&start);
    let controllers = rpc.call("bdev_nvme_get_controllers");
    assert_eq!(controllers[0]["ctrlrs"][0]["trid"]["trsvcid"], far_port.to_string());
    assert_eq!(rpc.call("bdev_get_bdevs")[0]["name"], "Far0n1");
    assert_eq!(rpc.call("bdev_nvme_get_discovery_info")[0]["name"], "Far");
    assert!(rpc.complaint(&start).contains("attached already"));
    rpc.call("bdev_nvme_stop_discovery -b Far");
    assert_eq!(rpc.call("bdev_get_bdevs"), json!([]));
}
