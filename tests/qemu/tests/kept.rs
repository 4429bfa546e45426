//! The configuration that a machine saves on a drive of its own, and starts with again.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::Duration;

use basalt_qemu_tests::rpc_client::Raw;
use basalt_qemu_tests::{BasaltGuest, Guest, HostedTwin, uefi_application};
use basalt_runner::DebugExit;
use basalt_runner::image::{MediumContents, write_medium};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::partition_types::{OperatingSystem, Type};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

/// Firmware, then the image.
const BOOT: Duration = Duration::from_secs(120);
const NQN: &str = "nqn.2026-11.org.example:kept";
const MIB: usize = 1 << 20;

/// The boot disk as `cargo run -- image` makes it.
fn boot_disk() -> NamedTempFile {
    let application = fs::read(uefi_application()).unwrap();
    let file = NamedTempFile::new().unwrap();
    write_medium(file.path(), MediumContents { application: &application, config: None }).unwrap();
    file
}

/// What lies in the partition for the configuration, which is the last one of the disk.
fn texts(disk: &Path) -> [String; 2] {
    let bytes = fs::read(disk).unwrap();
    let partition = &bytes[bytes.len() - 2 * MIB..bytes.len() - MIB];
    [0, 1].map(|slot| {
        let len = &partition[slot * 4096 + 12..slot * 4096 + 16];
        let len = u32::from_le_bytes(len.try_into().unwrap()) as usize;
        let start = 8192 + slot * (MIB / 2 - 4096);
        String::from_utf8(partition[start..start + len].to_vec()).unwrap()
    })
}

#[track_caller]
fn call(rpc: &mut Raw, method: &str, params: impl Into<Option<Value>>) -> Value {
    let mut reply = ask(rpc, method, params);
    assert!(reply.get("error").is_none(), "{method}: {reply}");
    reply["result"].take()
}

fn ask(rpc: &mut Raw, method: &str, params: impl Into<Option<Value>>) -> Value {
    let mut call = json!({"jsonrpc": "2.0", "id": 1, "method": method});
    if let Some(params) = params.into() {
        call["params"] = params;
    }
    rpc.send(call.to_string().as_bytes());
    rpc.receive()
}

/// A bdev in memory and a subsystem that has it.
fn configure(rpc: &mut Raw) {
    let ram = json!({"name": "Ram0", "num_blocks": 64, "block_size": 512});
    call(rpc, "bdev_malloc_create", ram);
    call(rpc, "nvmf_create_subsystem", json!({"nqn": NQN, "allow_any_host": true}));
    let namespace = json!({"nqn": NQN, "namespace": {"bdev_name": "Ram0"}});
    call(rpc, "nvmf_subsystem_add_ns", namespace);
}

/// What the configuration is about, by what is there.
fn there(rpc: &mut Raw) -> (Vec<String>, Vec<Value>) {
    let bdevs = call(rpc, "bdev_get_bdevs", None);
    let name = |bdev: &Value| bdev["name"].as_str().map(String::from);
    let mut names: Vec<_> = bdevs.as_array().into_iter().flatten().filter_map(name).collect();
    names.sort();
    let subsystem = call(rpc, "nvmf_get_subsystems", json!({"nqn": NQN}));
    (names, subsystem.as_array().cloned().unwrap_or_default())
}

fn switch_off(mut guest: Guest, rpc: &mut Raw) {
    call(rpc, "spdk_kill_instance", json!({"sig_name": "SIGTERM"}));
    assert_eq!(guest.wait_for_exit(BOOT), DebugExit::PoweredOff);
}

#[test]
fn a_machine_that_boots_from_its_own_drive_has_what_it_saved_there() {
    let disk = boot_disk();
    let boot = || {
        let machine = BasaltGuest::new("kept").uefi_from_drives().disk(disk.path());
        let (machine, port) = machine.user_network(5260);
        (machine.start(), port)
    };
    let (guest, port) = boot();
    guest.wait_for_line("Nvme0n1 is not served itself", BOOT);
    guest.wait_for_line("basalt: ready", BOOT);
    let mut rpc = Raw::connect(port);
    configure(&mut rpc);
    let export = json!({"nqn": NQN, "namespace": {"bdev_name": "Nvme0n1p2"}});
    let refused = ask(&mut rpc, "nvmf_subsystem_add_ns", export);
    assert!(refused["error"]["code"].is_i64(), "hosts do not get the partition: {refused}");
    let saved = call(&mut rpc, "framework_save_config", None);
    assert_eq!((&saved["bdev_name"], &saved["generation"]), (&json!("Nvme0n1p2"), &json!(1)));
    let before = there(&mut rpc);
    assert_eq!(before.0, ["Nvme0n1", "Nvme0n1p2", "Ram0"]);
    switch_off(guest, &mut rpc);
    let [text, nothing] = texts(disk.path());
    assert_eq!((text.len(), nothing.len()), (saved["bytes"].as_u64().unwrap() as usize, 0));

    let (guest, port) = boot();
    guest.wait_for_line("the configuration saved in Nvme0n1p2 counts", BOOT);
    guest.wait_for_line("basalt: ready", BOOT);
    let mut rpc = Raw::connect(port);
    assert_eq!(there(&mut rpc), before);
    let again = call(&mut rpc, "framework_save_config", None);
    assert_eq!(again["generation"], 2);
    switch_off(guest, &mut rpc);
    assert_eq!(texts(disk.path()), [text.clone(), text]);
}

#[test]
fn addresses_and_what_drives_are_told_are_in_force_again_and_another_handover_counts() {
    let disk = boot_disk();
    let boot = |config: Option<&str>| {
        let machine = BasaltGuest::new("kept").disk(disk.path());
        let machine = config.into_iter().fold(machine, BasaltGuest::config);
        let (machine, port) = machine.user_network(5260);
        let guest = machine.start();
        guest.wait_for_line("basalt: ready", BOOT);
        (guest, Raw::connect(port))
    };
    let (guest, mut rpc) = boot(None);
    let address = json!({"name": "net0", "address": "10.0.2.15/24", "gateway": "10.0.2.2"});
    call(&mut rpc, "net_set_interface", address);
    call(&mut rpc, "bdev_nvme_set_options", json!({"arbitration_burst": 3}));
    call(&mut rpc, "framework_save_config", None);
    switch_off(guest, &mut rpc);

    let (guest, mut rpc) = boot(None);
    guest.wait_for_line("Nvme0: detached", BOOT);
    let interfaces = call(&mut rpc, "net_get_interfaces", None);
    assert_eq!(
        (&interfaces[0]["dhcp"], &interfaces[0]["address"]),
        (&json!(false), &json!("10.0.2.15/24"))
    );
    call(&mut rpc, "framework_save_config", None);
    switch_off(guest, &mut rpc);
    let [first, second] = texts(disk.path());
    assert_eq!(first, second);

    let (guest, mut rpc) = boot(Some("{}"));
    guest.wait_for_line("handed over has changed since another was saved in Nvme0n1p2", BOOT);
    assert_eq!(call(&mut rpc, "net_get_interfaces", None)[0]["dhcp"], true);
    let kept = call(&mut rpc, "framework_get_saved_config", None);
    assert_eq!(kept["generation"], 2);
}

#[test]
fn a_saved_configuration_that_is_damaged_exports_nothing_and_can_be_saved_anew() {
    let disk = boot_disk();
    let mut bytes = fs::read(disk.path()).unwrap();
    let start = bytes.len() - 2 * MIB;
    bytes[start..start + 12].copy_from_slice(b"BASALTCF\x01\0\0\0");
    fs::write(disk.path(), bytes).unwrap();
    let (machine, port) = BasaltGuest::new("kept").disk(disk.path()).user_network(5260);
    let guest = machine.start();
    guest.wait_for_line("saved in Nvme0n1p2 cannot be read: what was saved is damaged", BOOT);
    guest.wait_for_line("JSON-RPC, which is served all the same", BOOT);
    let mut rpc = Raw::connect(port);
    let subsystems = call(&mut rpc, "nvmf_get_subsystems", None);
    let only_discovery = |subsystem: &Value| subsystem["subtype"] == "Discovery";
    assert!(subsystems.as_array().unwrap().iter().all(only_discovery), "{subsystems}");
    configure(&mut rpc);
    let saved = call(&mut rpc, "framework_save_config", None);
    assert_eq!(saved["generation"], 1);
}

#[test]
fn a_machine_without_such_a_partition_says_how_to_make_one() {
    let (machine, port) = BasaltGuest::new("kept").user_network(5260);
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let reply = ask(&mut Raw::connect(port), "framework_save_config", None);
    let message = reply["error"]["message"].as_str().unwrap();
    assert!(message.contains("775df5a4-d056-43fa-9356-561f96ba8dc9"), "{message}");
    assert_eq!(reply["error"]["code"], -19);
}

#[test]
fn the_hosted_twin_keeps_it_in_a_file() {
    let disk = disk_of_large_blocks();
    let run = || {
        let twin = HostedTwin::new("kept").file(disk.path());
        let port = twin.rpc;
        let guest = twin.start();
        guest.wait_for_line("basalt: ready", BOOT);
        (guest, Raw::connect(port))
    };
    let (guest, mut rpc) = run();
    configure(&mut rpc);
    call(&mut rpc, "framework_save_config", None);
    let before = there(&mut rpc);
    drop((rpc, guest));
    let (guest, mut rpc) = run();
    guest.wait_for_line("the configuration saved in Aio0p1 counts", BOOT);
    assert_eq!(there(&mut rpc), before);
    call(&mut rpc, "framework_save_config", None);
    let [first, second] = texts(disk.path());
    assert_eq!(first, second);
}

/// A disk of blocks of 4 KiB, as the hosted twin has files whose length allows it, with the
/// partition alone.
fn disk_of_large_blocks() -> NamedTempFile {
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(3 * MIB as u64).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(disk.path()).unwrap();
    let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb4096);
    let mut table = config.create_from_device(file, None).unwrap();
    let guid = "775df5a4-d056-43fa-9356-561f96ba8dc9".parse().unwrap();
    let kind = Type { guid, os: OperatingSystem::None };
    table.add_partition("kept", MIB as u64, kind, 0, Some(256)).unwrap();
    table.write().unwrap();
    disk
}
