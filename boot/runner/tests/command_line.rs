//! The runner as a user meets it: every mistake is told in a sentence, before anything is started.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};

/// Runs the runner with a target directory of its own, so that it cannot touch a user's disk.
fn runner(target: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_basalt-runner"))
        .args(arguments)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .unwrap_or_else(|error| panic!("the runner does not start: {error}"))
}

/// Checks that the runner refuses, and that it says each of `words`.
fn assert_refused(arguments: &[&str], words: &[&str]) {
    let target = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let output = runner(target.path(), arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{arguments:?} was accepted");
    for word in words {
        assert!(text.contains(word), "{arguments:?} does not say {word:?} but: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
    let untouched = fs::read_dir(target.path()).map(Iterator::count).unwrap_or(usize::MAX);
    assert_eq!(untouched, 0, "{arguments:?} left something behind");
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[test]
fn help_names_every_option_and_command() {
    let target = tempfile::tempdir().unwrap();
    let output = runner(target.path(), &["--help"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for word in [
        "image",
        "check",
        "bench",
        "--cpus",
        "--memory",
        "--disk",
        "--config",
        "--firmware",
        "--nvmf-port",
        "--rpc-port",
        "--http-port",
        "--accel",
        "--qemu-arg",
        "--print-command",
        "Ctrl-C",
        "cargo run --",
    ] {
        assert!(text.contains(word), "{word} is missing in: {text}");
    }
}

#[test]
fn an_unknown_option_is_refused() {
    assert_refused(&["--frobnicate"], &["--frobnicate", "--help"]);
    assert_refused(&["frobnicate"], &["frobnicate"]);
    assert_refused(&["--accel", "magic"], &["auto", "kvm", "tcg"]);
    assert_refused(&["--firmware", "magic"], &["pvh", "uefi"]);
    assert_refused(&["image", "--frobnicate"], &["--frobnicate"]);
}

#[test]
fn numbers_out_of_range_are_refused() {
    assert_refused(&["--memory", "16M"], &["too little memory", "at least 32M"]);
    assert_refused(&["--memory", "lots"], &["lots", "512M"]);
    assert_refused(&["--cpus", "0"], &["--cpus", "1 to"]);
    assert_refused(&["--nvmf-port", "0"], &["--nvmf-port", "1 to"]);
    assert_refused(&["--nvmf-port", "65536"], &["65536"]);
    assert_refused(&["--nvmf-port", "14420", "--rpc-port", "14420"], &["both", "14420"]);
    assert_refused(&["--nvmf-port", "14421", "--http-port", "14421"], &["both", "14421"]);
}

#[test]
fn a_port_in_use_is_refused() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    assert_refused(&["--nvmf-port", &port], &["in use", &port, "--nvmf-port"]);
    assert_refused(&["--rpc-port", &port, "--nvmf-port", "39999"], &["in use", "--rpc-port"]);
}

#[test]
fn what_is_no_disk_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().join("disk");
    let name = path_text(&disk);
    assert_refused(&["--disk", &name], &["no such file", "truncate -s 1G"]);
    assert_refused(&["--disk", &path_text(directory.path())], &["directory"]);
    fs::write(&disk, [0; 1000]).unwrap();
    assert_refused(&["--disk", &name], &["1000 bytes", "512"]);
    fs::write(&disk, [0; 1024]).unwrap();
    assert_refused(&["--disk", &name, "--disk", &name], &["twice"]);
    let mut permissions = fs::metadata(&disk).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&disk, permissions).unwrap();
    assert_refused(&["--disk", &name], &["read-only", "chmod u+w"]);
}

#[test]
fn a_broken_configuration_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("basalt.json");
    let name = path_text(&file);
    assert_refused(&["--config", &name], &["cannot read", "basalt.json"]);
    fs::write(&file, "{").unwrap();
    assert_refused(&["--config", &name], &["basalt.json:1:1: EOF while parsing"]);
    fs::write(&file, "{\"subsystem\":[]}").unwrap();
    let slip = "basalt.json:1:2: subsystem: unknown key (did you mean \"subsystems\"?)";
    assert_refused(&["--config", &name], &[slip]);
    assert_refused(&["image", "--config", &name], &[slip]);
}

#[test]
fn a_configuration_is_checked_without_booting() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("basalt.json");
    let name = path_text(&file);
    assert_refused(&["check"], &["<FILE>"]);
    assert_refused(&["check", &name], &["cannot read", "basalt.json"]);

    let call = "{\"method\": \"bdev_null_create\",\n \"params\": {\"name\": \"N\", \
                \"num_blocks\": 8, \"block_size\": 512}}";
    let text =
        format!("{{\"subsystems\": [\n{{\"subsystem\": \"bdev\", \"config\": [\n{call}]}}]}}");
    fs::write(&file, &text).unwrap();
    let output = runner(directory.path(), &["check", &name]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, format!("{name}: 1 calls, nothing is wrong with them\n"));

    let wrong = |text: String, lines: &[&str]| {
        fs::write(&file, text).unwrap();
        let output = runner(directory.path(), &["check", &name]);
        assert_eq!((output.status.code(), output.stdout), (Some(1), Vec::new()));
        let said = String::from_utf8(output.stderr).unwrap();
        let expected: String = lines.iter().map(|line| format!("{name}:{line}\n")).collect();
        assert_eq!(said, expected);
    };
    wrong(text.replace("]}]}", "]}}"), &["4:64: expected `,` or `]`"]);
    let unknown = "3:2: subsystems[0].config[0].method: unknown method (did you mean \
                   \"bdev_null_create\"?)";
    wrong(text.replace("bdev_null_create", "bdev_nul_create"), &[unknown]);
    let call = "subsystems[0].config[0].params";
    wrong(
        text.replace("\"name\": \"N\", ", "").replace("8", "\"8\""),
        &[
            &format!("4:2: {call}.name: the parameter is missing"),
            &format!("4:13: {call}.num_blocks: invalid type: string \"8\", expected u64"),
        ],
    );
}

#[test]
fn the_printed_command_is_ready_for_a_shell_and_creates_nothing() {
    let target = tempfile::tempdir().unwrap();
    let arguments = [
        "--print-command",
        "--accel",
        "tcg",
        "--cpus",
        "4",
        "--qemu-arg=-name",
        "--qemu-arg",
        "a b",
    ];
    let output = runner(target.path(), &arguments);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1);
    for word in ["qemu-system-x86_64 ", "-smp 4,maxcpus=4", "-name 'a b'", "hostfwd=", "disk.img"] {
        assert!(text.contains(word), "{word} is missing in: {text}");
    }
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
}

#[test]
fn help_of_the_benchmark_says_what_is_measured_and_for_how_long() {
    let target = tempfile::tempdir().unwrap();
    let output = runner(target.path(), &["bench", "--help"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["minutes", "4 KiB", "fio", "p99.9", "-icount", "--depth", "--skip-fio", "--json"] {
        assert!(text.contains(word), "{word} is missing in: {text}");
    }
}

#[test]
fn what_cannot_be_measured_is_refused() {
    assert_refused(&["bench", "--time", "0"], &["--time", "60"]);
    assert_refused(&["bench", "--depth", "0"], &["--depth", "128"]);
    assert_refused(&["bench", "--ios", "1"], &["--ios", "100"]);
    assert_refused(&["bench", "--disk", "/no/such/disk"], &["--disk", "truncate"]);
}

#[test]
fn the_printed_command_boots_by_firmware_where_asked() {
    let target = tempfile::tempdir().unwrap();
    let arguments = ["--print-command", "--accel", "tcg", "--firmware", "uefi"];
    let output = runner(target.path(), &arguments);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("if=pflash") && text.contains("basalt.img"), "{text}");
    assert!(!text.contains("-kernel"), "{text}");
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
}
