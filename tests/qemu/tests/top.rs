//! What a machine is busy with, as `cargo run -- top` prints it.

use std::thread;
use std::time::Duration;

use basalt_qemu_tests::HostedTwin;
use basalt_qemu_tests::initiator::Initiator;
use basalt_runner::{rpc, top};
use tempfile::NamedTempFile;

const START: Duration = Duration::from_secs(120);

/// One look at the machine, half a second long.
fn look(port: u16) -> anyhow::Result<String> {
    let client = rpc::Client::connect(&format!("127.0.0.1:{port}"))?;
    let mut out = Vec::new();
    top::print(&mut out, client, Duration::from_millis(500), 1)?;
    Ok(String::from_utf8(out)?)
}

/// The number in a row's column, counted from 0.
fn number(text: &str, row: &str, column: usize) -> f64 {
    let line = text.lines().find(|line| line.trim_start().starts_with(row));
    let line = line.unwrap_or_else(|| panic!("no row {row:?} in\n{text}"));
    let cell = line.split_whitespace().nth(column).unwrap_or_default();
    cell.replace(',', "").parse().unwrap_or_else(|_| panic!("{cell:?} in {line:?} is no number"))
}

#[test]
fn the_numbers_move_with_the_load_and_rest_without_it() {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(16 << 20).unwrap();
    let twin = HostedTwin::new("watched").file(file.path());
    let (nvmf, port) = (twin.nvmf, twin.rpc);
    let mut guest = twin.start();
    guest.wait_for_line("basalt: ready", START);
    let mut initiator = Initiator::connect(nvmf).unwrap();
    let disk = initiator.namespaces().unwrap()[0];
    let idle = look(port).unwrap();
    let aio = |text: &str| number(text, "Aio0 ", 1);
    assert!(aio(&idle).abs() < 0.5, "{idle}");
    assert!(
        idle.contains("nqn.2026-11.io.basalt:storage") && idle.contains("127.0.0.1 "),
        "{idle}"
    );
    let looking = thread::spawn(move || look(port).unwrap());
    let mut reads: u64 = 0;
    while !looking.is_finished() {
        initiator.read(disk, reads % 64, 1).unwrap();
        reads += 1;
    }
    let busy = looking.join().unwrap();
    // All of them were read in the time of the look and in that of the calls around it.
    assert!(aio(&busy) > 0.0 && aio(&busy) <= 2.0 * reads as f64, "{reads} reads:\n{busy}");
    assert!(number(&busy, "Aio0 ", 5) > 0.0, "a read takes some time:\n{busy}");
    let of_core = |core: &str| number(&busy, core, 7);
    assert!(of_core("0 ") + of_core("1 ") > 0.0, "{busy}");
    guest.kill();
    let gone = format!("{:#}", look(port).unwrap_err());
    assert!(gone.contains("nothing answers") || gone.contains("has gone"), "{gone}");
}
