//! The runner with a guest: what a user sees of a boot, of Ctrl-C, and of a guest that fails.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use basalt_runner::ports;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Boots on free ports and a disk of its own; builds the image if it must.
fn boot(disk: &str, more: &[&str]) -> Child {
    let port = || ports::pick_free().map_or_else(|_| "0".to_owned(), |port| port.to_string());
    Command::new(env!("CARGO_BIN_EXE_basalt-runner"))
        .args([
            "--disk",
            disk,
            "--nvmf-port",
            &port(),
            "--rpc-port",
            &port(),
            "--http-port",
            &port(),
        ])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("the runner does not start: {error}"))
}

/// Waits for the end; kills the runner (and with it QEMU) after a while.
fn exit_code(runner: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if let Ok(Some(status)) = runner.try_wait() {
            return status.code();
        }
        thread::sleep(Duration::from_millis(20));
    }
    let killed = runner.kill().and_then(|()| runner.wait());
    panic!("the runner did not end ({killed:?})");
}

fn disk() -> tempfile::NamedTempFile {
    let made = tempfile::NamedTempFile::new()
        .and_then(|disk| disk.as_file().set_len(1 << 20).map(|()| disk));
    made.unwrap_or_else(|error| panic!("no disk: {error}"))
}

#[test]
fn ctrl_c_ends_the_guest_and_the_runner_in_order() {
    let disk = disk();
    let mut runner = boot(&disk.path().to_string_lossy(), &[]);
    let mut console = BufReader::new(runner.stdout.take().unwrap());
    let mut first = String::new();
    console.read_line(&mut first).unwrap();
    assert!(first.contains("Basalt"), "{first}");
    kill(Pid::from_raw(i32::try_from(runner.id()).unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(exit_code(&mut runner), Some(0));
    // QEMU held the other end of this pipe, so its end is QEMU's end.
    console.read_to_string(&mut first).unwrap();
    let mut notes = String::new();
    runner.stderr.take().unwrap().read_to_string(&mut notes).unwrap();
    assert!(notes.contains("Ctrl-C to stop") && notes.contains("stopped"), "{notes}");
}

#[test]
fn firmware_boots_the_image_where_asked() {
    let disk = disk();
    let mut runner = boot(&disk.path().to_string_lossy(), &["--firmware", "uefi"]);
    let mut console = BufReader::new(runner.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(console.any(|line| line.contains("core 1 is up")));
    kill(Pid::from_raw(i32::try_from(runner.id()).unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(exit_code(&mut runner), Some(0));
}

#[test]
fn a_guest_that_panics_makes_the_runner_fail() {
    let disk = disk();
    let fault = ["--qemu-arg=-fw_cfg", "--qemu-arg=name=opt/basalt/fault,string=panic"];
    let mut runner = boot(&disk.path().to_string_lossy(), &fault);
    let mut console = String::new();
    runner.stdout.take().unwrap().read_to_string(&mut console).unwrap();
    assert_eq!(exit_code(&mut runner), Some(1));
    assert!(console.contains("PANIC"), "{console}");
}

#[test]
fn a_qemu_that_refuses_to_start_is_quoted() {
    let disk = disk();
    let mut runner = boot(&disk.path().to_string_lossy(), &["--qemu-arg=-no-such-option"]);
    let mut notes = String::new();
    runner.stderr.take().unwrap().read_to_string(&mut notes).unwrap();
    assert_eq!(exit_code(&mut runner), Some(1));
    assert!(notes.contains("-no-such-option") && notes.contains("error: QEMU"), "{notes}");
}
