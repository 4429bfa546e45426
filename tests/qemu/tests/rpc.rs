//! SPDK's own client, unmodified, manages the image; what it makes is saved and comes back at the
//! next boot; and a client that misbehaves harms nobody else.

use std::thread;
use std::time::Duration;

use basalt_qemu_tests::rpc_client::{Raw, SpdkRpc};
use basalt_qemu_tests::{BasaltGuest, Guest, LinuxGuest};
use basalt_runner::{Network, Nic};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

const BOOT: Duration = Duration::from_secs(120);
const DISK_BYTES: u64 = 64 << 20;
const DEFAULT_NQN: &str = "nqn.2026-11.io.basalt:storage";
const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";
const RAM_NQN: &str = "nqn.2026-11.org.example:ram";
const README: &str = include_str!("../../../README.md");

/// A machine, its drive and its management.
struct Served {
    guest: Guest,
    port: u16,
}

impl Served {
    fn start(name: &str, disk: &NamedTempFile, config: Option<&str>) -> Self {
        let (mut machine, port) = BasaltGuest::new(name).disk(disk.path()).user_network(5260);
        if let Some(config) = config {
            machine = machine.config(config);
        }
        let guest = machine.start();
        guest.wait_for_line("basalt: ready", BOOT);
        Self { guest, port }
    }

    fn rpc(&self) -> SpdkRpc {
        SpdkRpc::new(self.port)
    }

    fn raw(&self) -> Raw {
        Raw::connect(self.port)
    }

    fn assert_sound(&self) {
        let bad = |line: &&String| line.contains("PANIC") || line.contains("ERROR");
        assert_eq!(self.guest.lines().iter().find(bad), None);
    }
}

fn disk() -> NamedTempFile {
    let made = NamedTempFile::new().and_then(|disk| {
        disk.as_file().set_len(DISK_BYTES)?;
        Ok(disk)
    });
    made.unwrap_or_else(|error| panic!("no disk: {error}"))
}

fn names(list: &Value, field: &str) -> Vec<String> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|entry| Some(entry[field].as_str()?.to_owned())).collect()
}

#[test]
fn spdks_client_sees_what_the_machine_is_and_what_it_serves() {
    let disk = disk();
    let served = Served::start("basalt", &disk, None);
    let rpc = served.rpc();

    let methods = rpc.call("rpc_get_methods");
    let promised = [
        "rpc_get_methods",
        "spdk_get_version",
        "framework_get_reactors",
        "bdev_get_bdevs",
        "bdev_get_iostat",
        "nvmf_get_subsystems",
        "save_config",
    ];
    let has = |name: &str| methods.as_array().is_some_and(|all| all.contains(&json!(name)));
    let missing: Vec<&str> = promised.into_iter().filter(|name| !has(name)).collect();
    assert_eq!(missing, ["save_config"], "all but what the client does itself");

    let version = rpc.call("spdk_get_version");
    assert!(version["version"].as_str().is_some_and(|text| text.starts_with("Basalt v")));
    assert!(version["fields"]["major"].is_u64());

    let reactors = rpc.call("framework_get_reactors");
    let lcores: Vec<&Value> =
        reactors["reactors"].as_array().unwrap().iter().map(|core| &core["lcore"]).collect();
    assert_eq!(lcores, [&json!(0), &json!(1)]);
    assert_eq!(reactors["tick_rate"], 1_000_000_000);
    let busy = |at: usize| reactors["reactors"][at]["busy"].as_u64().unwrap();
    assert!(busy(0) > 0);

    let bdevs = rpc.call("bdev_get_bdevs");
    assert_eq!(names(&bdevs, "name"), ["Nvme0n1"]);
    let size = bdevs[0]["block_size"].as_u64().unwrap() * bdevs[0]["num_blocks"].as_u64().unwrap();
    assert_eq!(size, DISK_BYTES);
    assert_eq!(bdevs[0]["supported_io_types"]["write"], true);
    assert_eq!(rpc.call("bdev_get_bdevs -b Nvme0n1"), bdevs);

    let iostat = rpc.call("bdev_get_iostat --names Nvme0n1");
    assert_eq!(names(&iostat["bdevs"], "name"), ["Nvme0n1"]);
    assert!(iostat["bdevs"][0]["num_read_ops"].is_u64() && iostat["ticks"].as_u64() > Some(0));

    let subsystems = rpc.call("nvmf_get_subsystems");
    assert_eq!(names(&subsystems, "nqn"), [DISCOVERY_NQN, DEFAULT_NQN]);
    assert_eq!(names(&subsystems[0]["listen_addresses"], "trsvcid"), ["8009"]);
    assert_eq!(names(&subsystems[1]["listen_addresses"], "trsvcid"), ["4420"]);
    assert_eq!(subsystems[1]["allow_any_host"], true);
    let namespace = &subsystems[1]["namespaces"][0];
    assert_eq!(namespace["nsid"], 1);
    assert_eq!(namespace["bdev_name"], "Nvme0n1");
    assert_eq!(namespace["uuid"], bdevs[0]["uuid"]);

    assert_eq!(names(&rpc.call("nvmf_get_transports"), "trtype"), ["TCP"]);
    assert_eq!(rpc.call("nvmf_get_stats")["poll_groups"].as_array().map(Vec::len), Some(2));
    served.assert_sound();
}

#[test]
fn what_cannot_be_done_is_refused_with_a_code_and_a_reason() {
    let disk = disk();
    let served = Served::start("basalt", &disk, None);
    let rpc = served.rpc();
    let table = [
        ("nvmf_get_subsystems nqn.2026-11.org.example:none", -19),
        ("nvmf_create_subsystem storage", -32602),
        ("nvmf_create_transport -t rdma", -32602),
        ("nvmf_create_transport -t tcp", -17),
        ("bdev_malloc_create -b Nvme0n1 1 512", -17),
        ("bdev_malloc_delete Nvme0n1", -19),
        ("nvmf_subsystem_remove_ns nqn.2026-11.io.basalt:storage 9", -2),
    ];
    for (command, code) in table {
        let complaint = rpc.complaint(command);
        assert!(complaint.contains(&format!("\"code\": {code},")), "{command}: {complaint}");
    }
    let mut raw = served.raw();
    assert_eq!(raw.call("bdev_moon_create")["error"]["code"], -32601);
    raw.send(br#"{"jsonrpc": "2.0", "id": 3, "method": "bdev_get_bdevs", "params": {"nam": 1}}"#);
    let refused = raw.receive();
    assert_eq!(refused["error"]["code"], -32602);
    let reason = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(reason.contains("'nam'"), "{reason}");
    assert_eq!(refused["id"], 3);
    served.assert_sound();
}

#[test]
fn what_was_made_by_rpc_is_saved_and_is_there_again_after_the_next_boot() {
    let disk = disk();
    let served = Served::start("first", &disk, None);
    let rpc = served.rpc();
    assert_eq!(rpc.call("bdev_malloc_create -b Ram0 16 512"), "Ram0");
    rpc.call(&format!("nvmf_create_subsystem {RAM_NQN} -s RAM1 -m 4"));
    rpc.call(&format!("nvmf_subsystem_add_ns {RAM_NQN} Ram0 -n 3"));
    rpc.call(&format!("nvmf_subsystem_add_ns {DEFAULT_NQN} Ram0"));
    rpc.call(&format!("nvmf_subsystem_add_listener {RAM_NQN} -t tcp -a 0.0.0.0 -s 4421"));
    rpc.call(&format!("nvmf_subsystem_add_host {RAM_NQN} nqn.2026-11.org.example:host"));
    let made = rpc.call("nvmf_get_subsystems");
    assert_eq!(names(&made, "nqn"), [DISCOVERY_NQN, DEFAULT_NQN, RAM_NQN]);
    assert_eq!(made[2]["namespaces"][0]["nsid"], 3);
    assert_eq!(made[1]["namespaces"][1]["bdev_name"], "Ram0");
    let saved = rpc.text("save_config");
    served.assert_sound();
    drop(served);

    let again = Served::start("second", &disk, Some(&saved));
    let rpc = again.rpc();
    assert_eq!(rpc.call("nvmf_get_subsystems"), made);
    assert_eq!(names(&rpc.call("bdev_get_bdevs"), "name"), ["Nvme0n1", "Ram0"]);
    assert_eq!(rpc.text("save_config"), saved);
    again.assert_sound();
}

#[test]
fn what_is_set_of_the_queues_of_drives_counts_for_drives_attached_later() {
    let disk = disk();
    let served = Served::start("set", &disk, None);
    let rpc = served.rpc();
    let set = "bdev_nvme_set_options --arbitration-burst";
    rpc.call(&format!("{set} 2 --high-priority-weight 7"));
    let complaint = rpc.complaint(&format!("{set} 8"));
    assert!(complaint.contains("'arbitration_burst' is a power of two"), "{complaint}");
    let mut saved: Value = serde_json::from_str(&rpc.text("save_config")).unwrap_or_default();
    drop(served);

    let is_bdev = |subsystem: &&mut Value| subsystem["subsystem"] == "bdev";
    let bdev = saved["subsystems"].as_array_mut().and_then(|all| all.iter_mut().find(is_bdev));
    let call = &mut bdev.unwrap_or_else(|| panic!("nothing of bdevs was saved"))["config"][0];
    assert_eq!(call["params"]["arbitration_burst"], 2);
    call["params"]["priorities"] = json!([{"core": 1, "priority": "urgent"}]);
    let again = Served::start("attached", &disk, Some(&saved.to_string()));
    // QEMU's drive knows neither priorities nor a burst, and does without.
    for line in ["Nvme0: its queues have no priorities", "arbitration: "] {
        assert!(again.guest.lines().iter().any(|said| said.contains(line)), "{line}");
    }
    let kept: Value = serde_json::from_str(&again.rpc().text("save_config")).unwrap_or_default();
    assert_eq!(kept, saved);
    again.assert_sound();
}

/// More connections, one after the other, than the machine would take at once.
#[test]
fn hundreds_of_short_connections_leave_nothing_behind() {
    let disk = disk();
    let served = Served::start("basalt", &disk, None);
    let connect = |count: u32| {
        for at in 0..count {
            let mut raw = served.raw();
            match at % 3 {
                0 => assert!(raw.call("spdk_get_version")["result"]["version"].is_string()),
                1 => raw.send(b"{\"jsonrpc\": \"2.0\", \"id\": 1, \"meth"),
                _ => {}
            }
            // QEMU has room for one connection to be forwarded; the next would wait a second.
            thread::sleep(Duration::from_millis(10));
        }
        served.raw().call("env_get_mem_stats")["result"]["heap"]["bytes_free"].as_u64().unwrap()
    };
    let (before, after) = (connect(100), connect(200));
    assert!(after + (1 << 20) > before, "{before} bytes were free, {after} are");
    assert_eq!(names(&served.rpc().call("bdev_get_bdevs"), "name"), ["Nvme0n1"]);
    let lines = served.guest.lines();
    assert_eq!(lines.iter().find(|line| line.contains("refused a connection")), None);
    served.assert_sound();
}

#[test]
fn garbage_ends_its_own_connection_and_no_other() {
    let disk = disk();
    let served = Served::start("basalt", &disk, None);
    let mut witness = served.raw();
    assert_eq!(witness.call("framework_wait_init")["result"], true);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\xff\xfe", b"{\"id\": 1, \"method\": }"] {
        let mut raw = served.raw();
        raw.send(garbage);
        assert_eq!(raw.receive()["error"]["code"], -32700);
        assert!(raw.is_closed());
        assert_eq!(witness.call("framework_wait_init")["result"], true);
    }
    let mut nested = served.raw();
    nested.send(&[b'['; 100_000]);
    assert!(nested.receive()["error"]["code"].is_i64());
    assert_eq!(witness.call("framework_wait_init")["result"], true);
    served.assert_sound();
}

/// The JSON block of the section on configuration.
fn example() -> &'static str {
    let section = README.split("\n## ").find(|section| section.starts_with("Configuration"));
    let block = section.and_then(|section| section.split("```json\n").nth(1));
    let example = block.and_then(|block| block.split("```").next());
    example.unwrap_or_else(|| panic!("the README shows no configuration"))
}

#[test]
fn the_configuration_of_the_readme_serves_its_ram_disk_to_linux() {
    let (machine, [rpc_port, nvme_port]) =
        BasaltGuest::new("basalt").config(example()).user_network_ports([5260, 4420]);
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let rpc = SpdkRpc::new(rpc_port);
    let subsystems = rpc.call("nvmf_get_subsystems");
    assert_eq!(names(&subsystems, "nqn"), [DISCOVERY_NQN, RAM_NQN]);
    let interfaces = Raw::connect(rpc_port).call("net_get_interfaces");
    assert_eq!(interfaces["result"][0]["address"], "10.0.2.15/24");
    assert_eq!(interfaces["result"][0]["dhcp"], false);

    // The client reaches the host, and the host forwards to Basalt.
    let script = format!(
        r#"
        target="-t tcp -a 10.0.2.2 -s {nvme_port} -n {RAM_NQN}"
        step connect waits 30 nvme connect $target
        step disk waits 20 test -b /dev/nvme0n1
        step size test $(blockdev --getsize64 /dev/nvme0n1) -eq 16777216
        yes Basalt | head -c 1048576 >/tmp/pattern
        step write dd if=/tmp/pattern of=/dev/nvme0n1 bs=64k oflag=direct
        step compare cmp -n 1048576 /tmp/pattern /dev/nvme0n1
        sleep 600
        "#
    );
    let nic = Nic { network: Network::User(Vec::new()), mac: None };
    let client = LinuxGuest::new("client", &script).nic(nic, "10.0.2.15/24").start();
    client.wait_for_step("compare", BOOT + BOOT);

    let controllers = rpc.call(&format!("nvmf_subsystem_get_controllers {RAM_NQN}"));
    assert_eq!(controllers.as_array().map(Vec::len), Some(1));
    let qpairs = rpc.call(&format!("nvmf_subsystem_get_qpairs {RAM_NQN}"));
    let io_queues = controllers[0]["num_io_qpairs"].as_u64().unwrap();
    assert_eq!(qpairs.as_array().unwrap().len() as u64, 1 + io_queues);
    assert_eq!(qpairs[0]["listen_address"]["traddr"], "10.0.2.15");
    assert_eq!(qpairs[0]["hostnqn"], controllers[0]["hostnqn"]);
    let iostat = rpc.call("bdev_get_iostat --names Ram0");
    assert!(iostat["bdevs"][0]["bytes_written"].as_u64() >= Some(1 << 20));
    let groups = rpc.call("nvmf_get_stats");
    let groups = groups["poll_groups"].as_array().unwrap();
    let count = |field: &str| groups.iter().filter_map(|group| group[field].as_u64()).sum::<u64>();
    assert_eq!(count("current_io_qpairs"), io_queues);
    assert!(count("completed_nvme_io") > 16);
}

#[test]
fn a_ram_disk_beyond_the_memory_is_refused_and_the_machine_goes_on() {
    let (machine, port) = BasaltGuest::new("basalt").memory_mib(6 << 10).user_network(5260);
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let rpc = SpdkRpc::new(port);
    for mib in [4 << 10, 6 << 10, 64 << 10] {
        let complaint = rpc.complaint(&format!("bdev_malloc_create -b Large {mib} 4096"));
        assert!(complaint.contains("\"code\": -12,"), "{mib} MiB: {complaint}");
    }
    // Memory that is given back can be had again, above 4 GiB as well.
    for _ in 0..2 {
        assert_eq!(rpc.call("bdev_malloc_create -b Large 2048 4096"), "Large");
        assert_eq!(rpc.call("bdev_malloc_create -b Small 256 512"), "Small");
        for name in ["Large", "Small"] {
            rpc.call(&format!("bdev_malloc_delete {name}"));
        }
    }
    assert_eq!(rpc.call("bdev_get_bdevs").as_array().map(Vec::len), Some(0));
}
