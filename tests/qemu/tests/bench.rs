//! The benchmark that the program carries measures what it says, on the machine and in the hosted
//! twin.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use basalt_qemu_tests::{BasaltGuest, Guest, HostedTwin};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

const END: Duration = Duration::from_secs(180);
const IOS: u64 = 2_000;
const DISK_BYTES: u64 = 64 << 20;

fn disk() -> NamedTempFile {
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(DISK_BYTES).unwrap();
    disk
}

/// A configuration that runs each of `runs` and ends the program.
fn configuration(runs: &[Value]) -> String {
    let run = |params: &Value| json!({"method": "bench_run", "params": params});
    let mut calls: Vec<Value> = runs.iter().map(run).collect();
    calls.push(json!({"method": "bench_exit"}));
    json!({"subsystems": [{"subsystem": "bench", "config": calls}]}).to_string()
}

/// All results, once the program has ended.
fn results(guest: &mut Guest) -> Vec<Value> {
    guest.wait_for_line("bench: done", END);
    let text = |line: String| line.split_once(" bench: {").map(|(_, rest)| format!("{{{rest}"));
    let texts = guest.lines().into_iter().filter_map(text);
    texts.map(|text| serde_json::from_str(&text).unwrap()).collect()
}

/// Where several cores ran, what one allocates to begin or end may fall into another's run.
fn nothing_was_allocated(results: &[Value]) {
    for result in results {
        let most = if result["cores"] == 1 { 0.0 } else { 0.01 };
        assert!(result["allocations_per_io"].as_f64().unwrap() <= most, "{result}");
    }
}

#[test]
fn a_drive_is_measured_and_verified_without_any_allocation() {
    let drive = disk();
    let runs = [
        json!({"bdev": "Nvme0n1", "workload": "verify", "ios": IOS, "depths": [1, 32]}),
        json!({"bdev": "Nvme0n1", "workload": "randrw", "ios": IOS, "depths": [32],
               "io_size": 16384}),
        json!({"bdev": "Nvme0n1", "workload": "unmap", "ios": 200, "depths": [8]}),
        json!({"bdev": "Nvme0n1", "workload": "flush", "ios": 20, "depths": [1]}),
        json!({"bdev": "Nvme0n1", "workload": "verify", "ios": IOS, "depths": [16], "cores": 2}),
    ];
    let machine = BasaltGuest::new("bench").cpus(2).disk(drive.path());
    let mut guest = machine.config(&configuration(&runs)).start();
    let results = results(&mut guest);
    let counted: Vec<_> = results.iter().map(|result| result["ios"].as_u64().unwrap()).collect();
    assert_eq!(counted, [IOS, IOS, IOS, 200, 20, 2 * IOS]);
    nothing_was_allocated(&results);
}

#[test]
fn a_drive_with_its_doorbells_in_memory_is_measured_and_verified() {
    let drive = disk();
    let run = |depths: &[u32], cores| {
        json!({"bdev": "Nvme0n1", "workload": "verify", "ios": IOS, "depths": depths,
               "cores": cores})
    };
    // A processor that does not say that it is emulated, which leaves doorbells in memory alone.
    let machine = BasaltGuest::new("bench").qemu_arg("-cpu").qemu_arg("max,tcg-cpuid=off");
    let machine = machine.cpus(2).disk(drive.path());
    let runs = [run(&[1, 32], 1), run(&[128], 1), run(&[16], 2)];
    let mut guest = machine.config(&configuration(&runs)).start();
    let results = results(&mut guest);
    let counted: Vec<_> = results.iter().map(|result| result["ios"].as_u64().unwrap()).collect();
    assert_eq!(counted, [IOS, IOS, IOS, 2 * IOS]);
    nothing_was_allocated(&results);
    assert!(guest.lines().iter().any(|line| line.contains("its doorbells are in memory")));
}

#[test]
fn a_drive_with_queues_in_its_own_memory_is_measured_and_verified() {
    // QEMU's drives offer it as from NVMe 1.4 on, or as before.
    for drive in ["cmb_size_mb=16", "cmb_size_mb=1,legacy-cmb=on"] {
        let image = disk();
        let run = |depths: &[u32], cores| {
            json!({"bdev": "Nvme0n1", "workload": "verify", "ios": IOS, "depths": depths,
                   "cores": cores})
        };
        // A processor that does not say that it is a guest's, where commands stay in memory.
        let machine = BasaltGuest::new("bench").qemu_arg("-cpu").qemu_arg("max,hypervisor=off");
        let file = format!("file,node-name=image,filename={}", image.path().display());
        let machine = machine
            .qemu_arg("-blockdev")
            .qemu_arg(&file)
            .qemu_arg("-device")
            .qemu_arg(&format!("nvme,serial=memory,drive=image,{drive}"));
        let runs = [run(&[1, 32], 1), run(&[128], 1), run(&[16], 2)];
        let mut guest = machine.cpus(2).config(&configuration(&runs)).start();
        let results = results(&mut guest);
        let counted: Vec<_> =
            results.iter().map(|result| result["ios"].as_u64().unwrap()).collect();
        assert_eq!(counted, [IOS, IOS, IOS, 2 * IOS], "{drive}");
        nothing_was_allocated(&results);
        let is_used = |line: &String| line.contains("submission queues in its own ");
        assert!(guest.lines().iter().any(is_used), "{drive}");
    }
}

#[test]
fn a_file_of_the_host_is_measured_and_verified_without_any_allocation() {
    let file = disk();
    let runs = [
        json!({"bdev": "Aio0", "workload": "verify", "ios": IOS, "depths": [1, 32]}),
        json!({"bdev": "Aio0", "workload": "randread", "ios": IOS, "depths": [32], "cores": 2}),
    ];
    let twin = HostedTwin::new("bench").file(file.path()).config(&configuration(&runs));
    let mut guest = twin.start();
    let results = results(&mut guest);
    let counted: Vec<_> = results.iter().map(|result| result["ios"].as_u64().unwrap()).collect();
    assert_eq!(counted, [IOS, IOS, 2 * IOS]);
    nothing_was_allocated(&results);
}
