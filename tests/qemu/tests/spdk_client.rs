//! What somebody brings along who ran SPDK before: scripts and a configuration, for its own client,
//! unmodified.

use std::fs::OpenOptions;
use std::time::Duration;

use basalt_qemu_tests::rpc_client::{Raw, SpdkRpc};
use basalt_qemu_tests::{BasaltGuest, Guest, HostedTwin};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

const BOOT: Duration = Duration::from_secs(120);
const DISK_BYTES: u64 = 64 << 20;

/// What SPDK saves of itself, with a RAM disk that is served.
const SPDK_CONFIG: &str = include_str!("../../../runtime/rpc/src/tests/spdk_config.json");

fn disk() -> NamedTempFile {
    let made = NamedTempFile::new().and_then(|disk| {
        disk.as_file().set_len(DISK_BYTES)?;
        Ok(disk)
    });
    made.unwrap_or_else(|error| panic!("no disk: {error}"))
}

fn start(name: &str, disk: &NamedTempFile, config: &str) -> (Guest, u16) {
    let machine = BasaltGuest::new(name).disk(disk.path()).config(config);
    let (machine, port) = machine.user_network(5260);
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    (guest, port)
}

/// Where the drive sits, as the log says.
fn drive(guest: &Guest) -> String {
    let lines = guest.lines();
    let line = lines.iter().find(|line| line.contains("NVMe controller"));
    let line = line.unwrap_or_else(|| panic!("there is no drive"));
    let address = line.split_whitespace().find(|word| word.starts_with("0000:"));
    String::from(address.unwrap_or_else(|| panic!("{line}")))
}

fn assert_sound(guest: &Guest) {
    let bad = |line: &&String| line.contains("PANIC") || line.contains("ERROR");
    assert_eq!(guest.lines().iter().find(bad), None);
}

/// SPDK's configuration with the calls of `more` before the first of subsystem `before`.
fn spdk_config(before: &str, more: &[Value]) -> String {
    let mut config: Value =
        serde_json::from_str(SPDK_CONFIG).unwrap_or_else(|error| panic!("{error}"));
    let subsystems = config["subsystems"].as_array_mut();
    let found = subsystems.and_then(|all| all.iter_mut().find(|one| one["subsystem"] == before));
    let calls = found.and_then(|one| one["config"].as_array_mut());
    calls.unwrap_or_else(|| panic!("no {before}")).splice(0..0, more.iter().cloned());
    config.to_string()
}

fn call(method: &str, params: Value) -> Value {
    json!({"method": method, "params": params})
}

#[test]
fn a_configuration_of_spdks_is_loaded_saved_and_is_the_same_after_the_next_boot() {
    let disk = disk();
    let wait = call("rpc_set_options", json!({"wait_for_rpc": true}));
    let waits = json!({"subsystems": [{"subsystem": "rpc", "config": [wait]}]}).to_string();
    let (guest, port) = start("waits", &disk, &waits);
    let rpc = SpdkRpc::new(port);
    assert!(rpc.complaint("bdev_get_bdevs").contains("\"code\": -1,"));
    let address = drive(&guest);
    let attach = json!({
        "name": "Fast", "trtype": "PCIe", "traddr": address, "prchk_reftag": false,
        "prchk_guard": false, "ctrlr_loss_timeout_sec": 0, "reconnect_delay_sec": 0,
        "fast_io_fail_timeout_sec": 0, "hdgst": false, "ddgst": false, "multipath": "multipath",
    });
    let add = json!({
        "nqn": "nqn.2016-06.io.spdk:cnode1", "namespace": {"nsid": 2, "bdev_name": "Fastn1"},
    });
    let mut config: Value =
        serde_json::from_str(&spdk_config("bdev", &[call("bdev_nvme_attach_controller", attach)]))
            .unwrap_or_else(|error| panic!("{error}"));
    let nvmf = config["subsystems"].as_array_mut().and_then(|all| {
        let nvmf = all.iter_mut().find(|one| one["subsystem"] == "nvmf")?;
        nvmf["config"].as_array_mut()
    });
    nvmf.unwrap_or_else(|| panic!("no nvmf")).push(call("nvmf_subsystem_add_ns", add));
    let loaded = rpc.feed("load_config", &config.to_string());
    assert_eq!(loaded, Ok(String::new()));
    let subsystems = rpc.call("nvmf_get_subsystems");
    assert_eq!(subsystems[1]["namespaces"][1]["bdev_name"], "Fastn1");
    assert_eq!(rpc.call("framework_wait_init"), "");
    let saved = rpc.text("save_config");
    assert_sound(&guest);
    drop(guest);

    let (again, port) = start("again", &disk, &saved);
    let rpc = SpdkRpc::new(port);
    assert_eq!(rpc.call("nvmf_get_subsystems"), subsystems);
    assert_eq!(rpc.text("save_config"), saved);
    assert_sound(&again);
}

/// A command a line; what is made is asked for and deleted.
const SCRIPT: &str = "
    # What the machine is.
    rpc_get_methods --current
    spdk_get_version
    framework_get_reactors
    framework_get_scheduler
    framework_set_scheduler static
    framework_get_governor
    framework_monitor_context_switch
    framework_disable_cpumask_locks
    framework_enable_cpumask_locks
    framework_get_subsystems
    framework_get_config bdev
    framework_get_pci_devices --format-lspci
    thread_get_stats
    thread_get_pollers
    thread_get_io_channels
    thread_set_cpumask -i 1 -m 0x1
    log_get_flags
    log_clear_flag nvmf
    log_set_flag all
    log_set_level NOTICE
    log_get_level
    log_set_print_level NOTICE
    log_get_print_level
    log_enable_timestamps --timestamps
    iobuf_get_stats
    env_dpdk_get_mem_stats
    sock_get_default_impl
    sock_impl_get_options -i posix
    accel_get_opc_assignments
    accel_get_module_info
    accel_get_stats
    trace_get_info
    trace_clear
    bdev_iscsi_set_options -t 30
    bdev_virtio_blk_set_hotplug --no-hotplug
    fsdev_set_opts 64 8
    notify_get_types
    # Bdevs, and bdevs over them.
    bdev_malloc_create -b M1 16 512
    bdev_malloc_create -b M2 16 512 -u 8d0a7a3c-0d1f-4f6e-9a0a-3f1e9b2f1c11
    bdev_null_create N1 16 512
    bdev_null_resize N1 32
    bdev_passthru_create -b M1 -p P1
    bdev_get_bdevs -b P1 -t 100
    bdev_delay_create -b M2 -d D1 -r 10 -t 20 -w 10 -n 20
    bdev_delay_update_latency D1 avg_read 5
    bdev_delay_delete D1
    bdev_error_create N1
    bdev_error_inject_error EE_N1 read failure -n 2
    bdev_error_resume_pending EE_N1
    bdev_error_delete EE_N1
    bdev_split_create M2 2
    bdev_split_delete M2
    bdev_raid_create -n R0 -r raid0 -z 64 -b 'M2 N1'
    bdev_raid_get_bdevs all
    bdev_raid_delete R0
    bdev_raid_set_options -w 1024
    bdev_set_qos_limit M2 --rw-ios-per-sec 10000
    bdev_enable_histogram --histogram M2
    bdev_get_histogram M2
    bdev_get_histogram_borders M2 --borders 10,100
    bdev_set_qd_sampling_period M2 100
    bdev_get_iostat --names M2 --per-channel
    bdev_get_iostat --names M2 --reset-mode maxmin
    bdev_reset_iostat -b M2 -m error
    bdev_reset_iostat -m maxmin
    bdev_wait_for_examine
    bdev_examine -b M2
    notify_get_notifications -n 3
    # Drives.
    bdev_nvme_get_controllers
    bdev_nvme_get_controller_health_info -c Nvme0
    bdev_nvme_reset_controller Nvme0
    bdev_nvme_disable_controller Nvme0
    bdev_nvme_get_controllers -n Nvme0
    bdev_nvme_enable_controller Nvme0
    bdev_nvme_add_error_injection -n Nvme0 -t io -o 9
    bdev_nvme_remove_error_injection -n Nvme0 -t io -o 9
    bdev_nvme_set_options --action-on-timeout none --io-path-stat
    bdev_nvme_set_hotplug --no-hotplug
    bdev_nvme_get_io_paths
    bdev_nvme_get_path_iostat -b Nvme0n1
    bdev_nvme_get_transport_statistics
    bdev_nvme_get_discovery_info
    bdev_virtio_scsi_get_devices
    # The target.
    nvmf_create_transport -t tcp
    nvmf_get_transports --trtype TCP
    nvmf_create_subsystem nqn.2026-11.org.example:a -s S1 -d Model -m 8 -i 1 -I 100 -r
    nvmf_subsystem_add_ns nqn.2026-11.org.example:a M2 -n 3
    nvmf_subsystem_set_ns_ana_group nqn.2026-11.org.example:a 3 2
    nvmf_subsystem_add_listener nqn.2026-11.org.example:a -t tcp -a 0.0.0.0 -s 4421
    nvmf_subsystem_listener_set_ana_state nqn.2026-11.org.example:a -t tcp -a 0.0.0.0 -s 4421 \
        -n non_optimized
    nvmf_subsystem_get_listeners nqn.2026-11.org.example:a
    nvmf_subsystem_get_controllers nqn.2026-11.org.example:a
    nvmf_subsystem_get_qpairs nqn.2026-11.org.example:a
    nvmf_subsystem_allow_any_host --allow-any-host nqn.2026-11.org.example:a
    nvmf_subsystem_add_host nqn.2026-11.org.example:a nqn.2026-11.org.example:h
    nvmf_subsystem_remove_host nqn.2026-11.org.example:a nqn.2026-11.org.example:h
    nvmf_subsystem_add_ns nqn.2026-11.org.example:a N1 -n 4 --no-auto-visible
    nvmf_ns_add_host nqn.2026-11.org.example:a 4 nqn.2026-11.org.example:h
    nvmf_ns_remove_host nqn.2026-11.org.example:a 4 nqn.2026-11.org.example:h
    nvmf_subsystem_remove_ns nqn.2026-11.org.example:a 4
    nvmf_discovery_add_referral -t tcp -a 10.0.2.9 -s 8010
    nvmf_discovery_get_referrals
    nvmf_discovery_remove_referral -t tcp -a 10.0.2.9 -s 8010
    nvmf_get_subsystems
    nvmf_get_stats
    nvmf_subsystem_remove_ns nqn.2026-11.org.example:a 3
    nvmf_subsystem_remove_listener nqn.2026-11.org.example:a -t tcp -a 0.0.0.0 -s 4421
    nvmf_delete_subsystem nqn.2026-11.org.example:a
    bdev_passthru_delete P1
    bdev_null_delete N1
    bdev_malloc_delete M1
    bdev_malloc_delete M2
    bdev_nvme_detach_controller Nvme0
";

/// The same for a machine that waits to be told to start.
const STARTUP_SCRIPT: &str = "
    rpc_get_methods
    sock_set_default_impl -i posix
    sock_impl_set_options -i posix -r 2097152 -s 2097152
    iobuf_set_options --small-pool-count 8192 --large-pool-count 1024
    accel_set_options --task-count 2048
    accel_assign_opc -o crc32c -m software
    bdev_set_options -p 65535 -c 256
    bdev_nvme_set_options -r 4
    scheduler_set_options -i 0x0
    keyring_linux_set_options
    vmd_enable
    iscsi_set_options -a 128
    nvmf_set_max_subsystems -x 16
    nvmf_set_crdt -t1 10 -t2 20 -t3 30
    nvmf_set_config -d transport
    framework_start_init
    framework_wait_init
    nvmf_get_transports
";

/// What else is called by way of the client: tests of what takes files, drives and other machines.
const OTHER_TESTS: [&str; 5] = [
    include_str!("hosted.rs"),
    include_str!("initiator.rs"),
    include_str!("raid.rs"),
    include_str!("trace.rs"),
    include_str!("virtio_disks.rs"),
];

/// The methods that are there only to say why not.
const REFUSED: &str = include_str!("../../../docs/configuration/refused.md");

#[test]
fn a_machine_that_waits_takes_what_is_to_be_said_before_the_start() {
    let twin = HostedTwin::new("waits").argument("--wait-for-rpc");
    let port = twin.rpc;
    let guest = twin.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let rpc = SpdkRpc::new(port);
    if let Err(complaint) = rpc.feed("", STARTUP_SCRIPT) {
        panic!("{complaint}");
    }
    let saved = rpc.text("save_config");
    for kept in ["\"impl_name\": \"posix\"", "\"crdt2\": 20", "\"max_subsystems\": 16"] {
        assert!(saved.contains(kept), "{saved}");
    }
    let complaint = rpc.complaint("nvmf_set_crdt -t1 10");
    assert!(complaint.contains("\"code\": -1,"), "{complaint}");
    assert_sound(&guest);
}

#[test]
fn the_client_calls_every_method_that_it_knows_and_that_is_there() {
    let twin = HostedTwin::new("all");
    let port = twin.rpc;
    let guest = twin.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let rpc = SpdkRpc::new(port);
    let methods = rpc.call("rpc_get_methods");
    let methods: Vec<_> =
        methods.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let known = SpdkRpc::methods();
    assert!(known.len() > 250 && methods.len() > 250, "{known:?}");
    let calls = [SCRIPT, STARTUP_SCRIPT, SPDK_CONFIG].into_iter().chain(OTHER_TESTS);
    let calls: Vec<_> = calls.flat_map(words).collect();
    let refused: Vec<_> = words(REFUSED).collect();
    let is_there = |method: &&&str| known.iter().any(|known| known == **method);
    let is_left = |method: &&&str| !refused.contains(*method) && !calls.contains(*method);
    let left: Vec<_> = methods.iter().filter(is_there).filter(is_left).collect();
    assert!(left.is_empty(), "the tests do not call {left:?}");
    let is_unheard = |known: &&String| {
        let is_method = !known.starts_with("save_") && !known.starts_with("load_");
        is_method && !methods.contains(&known.as_str())
    };
    let unheard: Vec<_> = known.iter().filter(is_unheard).collect();
    assert!(unheard.is_empty(), "SPDK's client knows {unheard:?}");
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| letter != '_' && !letter.is_ascii_alphanumeric())
}

#[test]
fn a_script_makes_asks_for_and_deletes_what_there_is_of_every_kind() {
    let disk = disk();
    let nothing = json!({"subsystems": [{"subsystem": "nvmf", "config": [
        call("nvmf_set_max_subsystems", json!({"max_subsystems": 1024})),
    ]}]});
    let (guest, port) = start("script", &disk, &nothing.to_string());
    let rpc = SpdkRpc::new(port);
    let before = rpc.text("save_config");
    let script = SCRIPT.replace("\\\n", "");
    if let Err(complaint) = rpc.feed("", &script) {
        panic!("{complaint}");
    }
    assert_eq!(rpc.call("bdev_get_bdevs"), json!([]));
    let attached =
        rpc.call(&format!("bdev_nvme_attach_controller -b Nvme0 -t pcie -a {}", drive(&guest)));
    assert!(attached.to_string().contains("Nvme0n1"), "{attached}");
    // Of all that was done, only options are left, and that the drive was asked for.
    let lines = |text: &str| text.lines().filter(|line| line.contains("_create")).count();
    let after = rpc.text("save_config");
    assert_eq!((lines(&before), lines(&after)), (0, 1), "{after}");
    assert!(after.contains("nvmf_create_transport") && after.contains("\"Nvme0\""));

    let batch = "bdev_malloc_create -b B1 1 512\nbdev_get_bdevs -b B1\nbdev_malloc_delete B1\n";
    let told = rpc.feed("-b", batch).unwrap_or_else(|complaint| panic!("{complaint}"));
    assert!(told.contains("\"num_blocks\": 2048") && told.trim_end().ends_with("true"), "{told}");
    let failed = rpc.feed("-b", "bdev_malloc_delete B1\nbdev_malloc_create -b B2 1 512\n");
    let complaint = failed.err().unwrap_or_else(|| panic!("B1 was deleted twice"));
    assert!(complaint.contains("\"code\": -19"), "{complaint}");
    assert_eq!(rpc.call("bdev_get_bdevs -b B2")[0]["name"], "B2", "the rest is carried out");
    assert_sound(&guest);
}

#[test]
fn what_is_not_there_is_refused_with_its_reason_alone_and_within_a_configuration() {
    let twin = HostedTwin::new("absent").argument("--wait-for-rpc");
    let port = twin.rpc;
    let guest = twin.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let rpc = SpdkRpc::new(port);
    let store = call("bdev_lvol_create_lvstore", json!({"bdev_name": "M", "lvs_name": "l"}));
    let refused = rpc.feed("load_config", &spdk_config("nvmf", &[store]));
    let complaint = refused.err().unwrap_or_else(|| panic!("there are logical volumes"));
    assert!(complaint.contains("Logical volumes are not supported"), "{complaint}");
    assert!(complaint.contains("\"code\": -95"), "{complaint}");
    // What came before it is there.
    assert_eq!(rpc.call("bdev_get_bdevs")[0]["name"], "Malloc0");
    for (command, says) in [
        ("vhost_get_controllers", "vhost"),
        ("nbd_get_disks", "NBD"),
        ("keyring_file_add_key key /key", "Keys"),
        ("bdev_rbd_create pool image 512", "Ceph"),
    ] {
        let complaint = rpc.complaint(command);
        assert!(complaint.contains("\"code\": -95") && complaint.contains(says), "{complaint}");
    }
    assert_sound(&guest);
}

#[test]
fn a_file_that_has_grown_is_a_larger_bdev_once_it_is_looked_at_again() {
    let file = disk();
    let twin = HostedTwin::new("grown").file(file.path());
    let port = twin.rpc;
    let guest = twin.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let rpc = SpdkRpc::new(port);
    let blocks = |rpc: &SpdkRpc| rpc.call("bdev_get_bdevs -b Aio0")[0]["num_blocks"].as_u64();
    let before = blocks(&rpc);
    let grown = OpenOptions::new().write(true).open(file.path());
    let grown = grown.and_then(|file| file.set_len(2 * DISK_BYTES));
    grown.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(blocks(&rpc), before);
    rpc.call("bdev_aio_rescan Aio0");
    assert_eq!(blocks(&rpc), before.map(|blocks| 2 * blocks));
    assert!(rpc.complaint("bdev_uring_rescan Aio0").contains("\"code\": -19"));
    assert_sound(&guest);
}

#[test]
fn a_core_takes_64_connections_and_refuses_the_next_until_one_ends() {
    let twin = HostedTwin::new("crowd").argument("--cpus").argument("1");
    let port = twin.rpc;
    let guest = twin.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let mut crowd: Vec<Raw> = (0..64).map(|_| Raw::connect(port)).collect();
    for raw in &mut crowd {
        assert_eq!(raw.call("framework_wait_init")["result"], true);
    }
    assert!(Raw::connect(port).is_cut_off());
    for raw in &mut crowd {
        assert_eq!(raw.call("framework_wait_init")["result"], true);
    }
    guest.wait_for_line("refused a connection: 64 are open", BOOT);
    drop(crowd.pop());
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(Raw::connect(port).call("framework_wait_init")["result"], true);
}

#[test]
fn a_message_is_taken_whole_in_pieces_and_up_to_its_limits() {
    let twin = HostedTwin::new("limits");
    let port = twin.rpc;
    let guest = twin.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let message = |padding: usize| {
        let padding = "x".repeat(padding);
        format!(r#"{{"id": 1, "padding": "{padding}", "method": "framework_wait_init"}}"#)
    };
    let least = message(0).len();
    let longest = message((256 << 10) - least);
    let mut raw = Raw::connect(port);
    for byte in message(8).as_bytes() {
        raw.send(&[*byte]);
    }
    assert_eq!(raw.receive()["result"], true);
    raw.send(longest.as_bytes());
    assert_eq!(raw.receive()["result"], true);
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    raw.send(nested(64).as_bytes());
    assert_eq!(raw.receive()[0]["error"]["code"], -32600);
    for (bytes, says) in [
        (message((256 << 10) + 1 - least).into_bytes(), "longer than 262144 bytes"),
        (nested(65).into_bytes(), "nested more than 64 deep"),
        (b"{\"id\": 1, \"method\": \"\xff\xfe\"}".to_vec(), "not JSON"),
        (format!("[{}0]", "0,".repeat(8192)).into_bytes(), "more than 8192 values"),
    ] {
        let mut bad = Raw::connect(port);
        bad.send(&bytes);
        let reply = bad.receive();
        assert_eq!(reply["error"]["code"], -32700);
        let message = reply["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(says), "{message}");
        assert!(bad.is_closed());
        assert_eq!(raw.call("framework_wait_init")["result"], true);
    }
    assert_sound(&guest);
}

/// QEMU's network of a user has its clients come from 10.0.2.2, to 10.0.2.15.
#[test]
fn who_is_not_allowed_is_turned_away_from_the_start_and_from_then_on() {
    let disk = disk();
    let listener = |params: Value| {
        let call = call("rpc_set_listener", params);
        json!({"subsystems": [{"subsystem": "rpc", "config": [call]}]}).to_string()
    };
    let allowed = listener(json!({"address": "10.0.2.15", "allow": ["10.0.2.0/29"]}));
    let (guest, port) = start("allowed", &disk, &allowed);
    let rpc = SpdkRpc::new(port);
    let saved = rpc.text("save_config");
    assert!(saved.contains("rpc_set_listener") && saved.contains("10.0.2.0/29"));
    let mut idle = Raw::connect(port);
    assert_eq!(idle.call("framework_wait_init")["result"], true);
    let mut raw = Raw::connect(port);
    let shut = r#"{"id": 1, "method": "rpc_set_listener", "params": {"enabled": false}}"#;
    raw.send(shut.as_bytes());
    assert_eq!(raw.receive()["result"], true);
    assert!(raw.is_closed() && idle.is_closed());
    assert!(Raw::connect(port).is_cut_off());
    assert_sound(&guest);
    drop(guest);

    let (guest, port) = start("refused", &disk, &listener(json!({"allow": ["192.0.2.0/24"]})));
    assert!(Raw::connect(port).is_cut_off());
    assert_sound(&guest);
}
