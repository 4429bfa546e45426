//! What is administered of QEMU's NVMe controller: formats, and namespaces that are attached.

use std::thread;
use std::time::{Duration, Instant};

use basalt_qemu_tests::BasaltGuest;
use basalt_qemu_tests::initiator::Initiator;
use basalt_qemu_tests::rpc_client::Raw;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

const BOOT: Duration = Duration::from_secs(60);
const SUBSYSTEM: &str = "nqn.2026-11.io.basalt:storage";

/// The result of a method.
#[track_caller]
fn call(rpc: &mut Raw, method: &str, params: Value) -> Value {
    let mut reply = ask(rpc, method, params);
    assert!(reply.get("error").is_none(), "{method}: {reply}");
    reply["result"].take()
}

/// What a method that must fail complains about.
#[track_caller]
fn complaint(rpc: &mut Raw, method: &str, params: Value) -> String {
    let reply = ask(rpc, method, params);
    let message = reply["error"]["message"].as_str();
    String::from(message.unwrap_or_else(|| panic!("{method} went well: {reply}")))
}

fn ask(rpc: &mut Raw, method: &str, params: Value) -> Value {
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    rpc.send(call.to_string().as_bytes());
    rpc.receive()
}

fn bdevs(rpc: &mut Raw) -> Vec<(String, u64)> {
    let bdevs = call(rpc, "bdev_get_bdevs", json!({}));
    let bdev = |bdev: &Value| {
        let name = bdev["name"].as_str().map(String::from);
        (name.unwrap_or_default(), bdev["block_size"].as_u64().unwrap_or(0))
    };
    bdevs.as_array().into_iter().flatten().map(bdev).collect()
}

/// Takes a bdev out of the subsystem, once it is served there.
fn withdraw(rpc: &mut Raw, bdev: &str) {
    let start = Instant::now();
    while start.elapsed() < BOOT {
        let subsystem = call(rpc, "nvmf_get_subsystems", json!({"nqn": SUBSYSTEM}));
        let mut namespaces = subsystem[0]["namespaces"].as_array().into_iter().flatten();
        if let Some(found) = namespaces.find(|namespace| namespace["bdev_name"] == bdev) {
            let remove = json!({"nqn": SUBSYSTEM, "nsid": found["nsid"]});
            assert_eq!(call(rpc, "nvmf_subsystem_remove_ns", remove), true);
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("{bdev} is not served");
}

/// A controller with namespace 1 attached, and namespace 2 not.
fn start(disks: &[NamedTempFile; 2]) -> (basalt_qemu_tests::Guest, [u16; 2]) {
    let mut args = vec![
        String::from("nvme-subsys,id=shelf"),
        String::from("nvme,id=ctrl,subsys=shelf,serial=shelf"),
    ];
    let (machine, ports) = BasaltGuest::new("manage").cpus(2).user_network_ports([4420, 5260]);
    let mut machine = machine;
    for (nsid, disk) in (1..).zip(disks) {
        let path = disk.path().display();
        let file = format!("file={path},if=none,format=raw,id=disk{nsid}");
        machine = machine.qemu_arg("-drive").qemu_arg(&file);
        let detached = if nsid == 2 { ",detached=on" } else { "" };
        args.push(format!("nvme-ns,drive=disk{nsid},bus=ctrl,nsid={nsid}{detached}"));
    }
    let with = |machine: BasaltGuest, arg: &String| machine.qemu_arg("-device").qemu_arg(arg);
    let guest = args.iter().fold(machine, with).start();
    guest.wait_for_line("basalt: ready", BOOT);
    (guest, ports)
}

#[test]
fn a_drive_is_formatted_once_nobody_uses_it_and_namespaces_come_and_go() {
    let disk = || {
        let disk = NamedTempFile::new().unwrap_or_else(|error| panic!("{error}"));
        disk.as_file().set_len(64 << 20).unwrap_or_else(|error| panic!("{error}"));
        disk
    };
    let disks = [disk(), disk()];
    let (_guest, [nvmf, port]) = start(&disks);
    let mut rpc = Raw::connect(port);
    assert_eq!(bdevs(&mut rpc), [("Nvme0n1".into(), 512)]);

    let format = json!({"name": "Nvme0", "nsid": 1, "block_size": 4096});
    let refused = complaint(&mut rpc, "bdev_nvme_format_namespace", format.clone());
    assert_eq!(refused, format!("Nvme0n1 is in use by {SUBSYSTEM}: nothing was done"));
    withdraw(&mut rpc, "Nvme0n1");
    assert_eq!(call(&mut rpc, "bdev_nvme_format_namespace", format), true);
    assert_eq!(bdevs(&mut rpc), [("Nvme0n1".into(), 4096)]);

    let on = |nsid: u32| json!({"name": "Nvme0", "nsid": nsid});
    let told = call(&mut rpc, "bdev_nvme_get_namespaces", json!({"name": "Nvme0"}));
    assert_eq!((&told["allocated"], &told["attached"]), (&json!([1, 2]), &json!([1])));
    assert_eq!(call(&mut rpc, "bdev_nvme_attach_namespace", on(2)), true);
    let refused = complaint(&mut rpc, "bdev_nvme_attach_namespace", on(2));
    assert!(refused.contains("namespace already attached"), "{refused}");
    assert_eq!(bdevs(&mut rpc), [("Nvme0n1".into(), 4096), ("Nvme0n2".into(), 512)]);
    // What comes is served, even if it was there before.
    let refused = complaint(&mut rpc, "bdev_nvme_detach_namespace", on(1));
    assert!(refused.contains(SUBSYSTEM), "{refused}");
    withdraw(&mut rpc, "Nvme0n1");
    assert_eq!(call(&mut rpc, "bdev_nvme_detach_namespace", on(1)), true);
    assert_eq!(bdevs(&mut rpc), [("Nvme0n2".into(), 512)]);

    let mut host = Initiator::connect(nvmf).unwrap_or_else(|error| panic!("{error:#}"));
    let namespaces = host.namespaces().unwrap_or_else(|error| panic!("{error:#}"));
    let written = host.verify(namespaces[0], 0, 64 << 10, 7);
    written.unwrap_or_else(|error| panic!("{error:#}"));

    let log = |log: &str| json!({"name": "Nvme0", "log": log});
    let effects = call(&mut rpc, "bdev_nvme_get_log", log("effects"));
    let names = effects["admin"].as_array().into_iter().flatten();
    assert!(names.map(|command| &command["name"]).any(|name| name == "Format NVM"), "{effects}");
    let refused = complaint(&mut rpc, "bdev_nvme_get_log", log("self_test"));
    assert_eq!(refused, "the controller does not offer that");
}
