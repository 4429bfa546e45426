//! An application in the image: it works on the drives that the image serves, and is driven by
//! methods of its own.

use std::thread;
use std::time::{Duration, Instant};

use basalt_qemu_tests::rpc_client::Raw;
use basalt_qemu_tests::{BasaltGuest, Guest};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

const BOOT: Duration = Duration::from_secs(120);
const DISK_BYTES: u64 = 4 << 20;
const BLOCKS: u64 = DISK_BYTES / 512;

/// Boots it with a drive whose block 1000 cannot be read.
fn start(config: Option<&str>) -> (Guest, Raw) {
    let disk = NamedTempFile::new().and_then(|disk| {
        disk.as_file().set_len(DISK_BYTES)?;
        Ok(disk)
    });
    let disk = disk.unwrap_or_else(|error| panic!("no disk: {error}"));
    let backend = format!(
        "driver=raw,node-name=bad,file.driver=blkdebug,file.image.driver=file,\
         file.image.filename={},file.inject-error.0.event=read_aio,\
         file.inject-error.0.sector=1000",
        disk.path().display()
    );
    let mut machine = BasaltGuest::new("scrub").application("basalt-scrub").cpus(1);
    for argument in ["-blockdev", &backend, "-device", "nvme,serial=bad,drive=bad"] {
        machine = machine.qemu_arg(argument);
    }
    if let Some(config) = config {
        machine = machine.config(config);
    }
    let (machine, port) = machine.user_network(5260);
    let guest = machine.start().keep(disk);
    guest.wait_for_line("basalt: ready", BOOT);
    (guest, Raw::connect(port))
}

fn call(rpc: &mut Raw, method: &str, params: Value) -> Value {
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    rpc.send(call.to_string().as_bytes());
    rpc.receive()
}

/// The progress of the only bdev that was ever scrubbed, once it is over.
fn outcome(guest: &Guest, rpc: &mut Raw) -> Value {
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        let progress = rpc.call("scrub_get_progress")["result"][0].clone();
        if progress["running"] == false {
            return progress;
        }
        let console = || guest.lines().join("\n");
        assert!(Instant::now() < end, "it goes on: {progress}; console:\n{}", console());
        thread::sleep(Duration::from_millis(100));
    }
}

fn all_but_one_block() -> Value {
    json!({"name": "Nvme0n1", "checked": BLOCKS, "bad": 1, "running": false})
}

#[test]
fn a_scrub_finds_the_one_block_that_cannot_be_read() {
    let (guest, mut rpc) = start(None);
    let fast = json!({"name": "Nvme0n1", "mb_per_sec": 1000});
    assert_eq!(call(&mut rpc, "scrub_start", fast)["result"], true);
    assert_eq!(outcome(&guest, &mut rpc), all_but_one_block());
    let gone = call(&mut rpc, "scrub_start", json!({"name": "Nvme7n1"}));
    assert_eq!(gone["error"]["code"], -19, "{gone}");
    let slow = json!({"name": "Nvme0n1", "mb_per_sec": 1});
    assert_eq!(call(&mut rpc, "scrub_start", slow.clone())["result"], true);
    let twice = call(&mut rpc, "scrub_start", slow);
    assert_eq!(twice["error"]["code"], -16, "{twice}");
}

#[test]
fn a_configuration_may_call_the_methods_of_an_application() {
    let config = r#"{"subsystems":[{"subsystem":"bdev","config":[
        {"method":"scrub_start","params":{"name":"Nvme0n1","mb_per_sec":1000}}]}]}"#;
    let (guest, mut rpc) = start(Some(config));
    assert_eq!(outcome(&guest, &mut rpc), all_but_one_block());
}
