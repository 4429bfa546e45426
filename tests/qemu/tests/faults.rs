//! Whatever goes wrong inside the image is reported so that it can be found, and ends the machine
//! with a status that tells of it. The image fails on purpose where a fw_cfg file asks it to.

use std::time::Duration;

use basalt_qemu_tests::initiator::Initiator;
use basalt_qemu_tests::{BasaltGuest, Guest};
use basalt_runner::DebugExit;

const LIMIT: Duration = Duration::from_secs(60);
/// What the image writes to its exit port when it failed.
const FAILED: DebugExit = DebugExit::Value(1);

/// Boots an image that fails in the way `drill` names, and waits for its end.
fn failed(drill: &str) -> Guest {
    let mut guest = BasaltGuest::new(drill).firmware_file("opt/basalt/fault", drill).start();
    assert_eq!(guest.wait_for_exit(LIMIT), FAILED);
    guest
}

fn assert_says(guest: &Guest, words: &[&str]) {
    let text = guest.lines().join("\n");
    for word in words {
        assert!(text.contains(word), "the console does not say {word:?}");
    }
}

/// A backtrace has lines such as `   0: 0x20e230 basalt_bare::drill::read+0x10`.
fn assert_backtrace_names(guest: &Guest, function: &str) {
    let lines = guest.lines();
    let trace = lines.iter().skip_while(|line| !line.contains("backtrace"));
    let frame = |line: &&String| line.contains(": 0x") && line.contains(function);
    assert!(trace.clone().any(|line| frame(&line)), "{function} is not in the backtrace");
}

#[test]
fn a_panic_prints_its_message_core_and_callers() {
    let guest = failed("panic");
    assert_says(&guest, &["PANIC on core 1: a drill", "drill.rs:"]);
    assert_backtrace_names(&guest, "basalt_bare::drill::provoke");
    assert_backtrace_names(&guest, "basalt_image::core_main");
}

#[test]
fn a_null_pointer_is_told_with_registers_and_callers() {
    let guest = failed("null");
    assert_says(&guest, &["page fault", "null pointer", "address 0x8", "rip ", "rsp ", "r15 "]);
    assert_backtrace_names(&guest, "basalt_bare::drill::provoke");
}

#[test]
fn a_wild_pointer_is_told_with_its_address() {
    let guest = failed("page-fault");
    assert_says(&guest, &["page fault", "address 0x700000000000", "nothing is mapped", "rip "]);
    assert_backtrace_names(&guest, "basalt_bare::drill::provoke");
}

#[test]
fn a_stack_overflow_is_told_from_other_faults() {
    let guest = failed("stack-overflow");
    assert_says(&guest, &["the stack overflowed into its guard page", "rsp "]);
    assert_backtrace_names(&guest, "basalt_bare::drill::recurse");
}

#[test]
fn a_write_to_the_code_is_caught() {
    let guest = failed("write-code");
    assert_says(&guest, &["page fault", "that memory is read-only", "rip "]);
    assert_backtrace_names(&guest, "basalt_bare::drill::provoke");
}

#[test]
fn data_is_not_executed() {
    let guest = failed("execute-data");
    assert_says(&guest, &["page fault", "execute of address", "not executable", "rip "]);
    assert_backtrace_names(&guest, "basalt_bare::drill::provoke");
}

/// Boots, tells QEMU's monitor `command`, and waits for the end.
fn failed_by_monitor(command: &str) -> Guest {
    let (guest, socket) = BasaltGuest::new("basalt").monitor();
    let mut guest = guest.start();
    guest.wait_for_line("core 1: all 2 cores answer it", LIMIT);
    socket.connect().end_by(command);
    assert_eq!(guest.wait_for_exit(LIMIT), FAILED);
    guest
}

#[test]
fn a_non_maskable_interrupt_is_told_with_registers_and_callers() {
    let guest = failed_by_monitor("nmi");
    assert_says(&guest, &["non-maskable interrupt", "rip ", "stopped"]);
    assert_backtrace_names(&guest, "basalt");
}

#[test]
fn an_error_of_the_hardware_is_told_with_its_bank_and_address() {
    // Core 1, bank 4: valid, not corrected, reported, with an address, state lost; a bus error.
    let guest = failed_by_monitor("mce 1 4 0xb600000000000e0b 5 0x123456000 0");
    let bank =
        "bank 4: uncorrected error 0x0e0b, status 0xb600000000000e0b, at address 0x123456000";
    assert_says(&guest, &["FAULT on core 1: machine check", bank, "rip "]);
    assert_backtrace_names(&guest, "basalt");
}

/// What happened before, on every core.
fn assert_traces(guest: &Guest) {
    for core in ["core 0 was in ", "core 1 was in "] {
        let lines = guest.lines();
        let at = lines.iter().position(|line| line.starts_with(core));
        let at = at.unwrap_or_else(|| panic!("nothing is told of {core}"));
        let told = lines[at + 1..].iter().take_while(|line| line.starts_with("  [")).count();
        assert!(told > 0, "{core} did nothing before");
    }
}

#[test]
fn any_failure_tells_what_every_core_did_last() {
    for drill in ["panic", "page-fault", "stack-overflow"] {
        assert_traces(&failed(&format!("{drill} late")));
    }
    let guest = failed_by_monitor("nmi");
    assert_traces(&guest);
}

#[test]
fn a_failure_is_reported_from_the_boot_core_as_well() {
    for drill in ["panic", "null", "stack-overflow", "double-fault"] {
        let guest = failed(&format!("{drill} boot"));
        assert_says(&guest, &["on core 0", "backtrace", "core 1 was in ", "stopped"]);
    }
}

#[test]
fn a_core_that_does_not_start_is_told_of_and_left_out() {
    let guest =
        BasaltGuest::new("silent").cpus(4).firmware_file("opt/basalt/fault", "silent-core").start();
    guest.wait_for_line("the core with APIC 1 is left out: it does not start", LIMIT);
    guest.wait_for_line("core 2: all 3 cores answer it", LIMIT);
}

#[test]
fn a_poller_that_takes_a_core_for_long_is_named_by_another_core() {
    let guest = BasaltGuest::new("stall").firmware_file("opt/basalt/fault", "stall").start();
    guest.wait_for_line("core 1 has been in stall_drill for ", LIMIT);
    guest.wait_for_line("core 1 is back from stall_drill after ", LIMIT);
}

#[test]
fn a_core_that_is_alone_is_looked_at_by_the_clock() {
    let machine = BasaltGuest::new("alone").cpus(1);
    let (machine, port) = machine.firmware_file("opt/basalt/fault", "stall").user_network(4420);
    let guest = machine.start();
    guest.wait_for_line("core 0 has been in stall_drill for ", LIMIT);
    guest.wait_for_line("core 0 is back from stall_drill after ", LIMIT);
    // It was interrupted several times, and goes on.
    guest.wait_for_line("basalt: ready", LIMIT);
    assert!(Initiator::connect(port).is_ok());
}

#[test]
fn an_interrupt_that_is_not_the_clocks_still_ends_a_core_that_is_alone() {
    let (machine, socket) = BasaltGuest::new("alone").cpus(1).monitor();
    let mut guest = machine.start();
    guest.wait_for_line("core 0 polls ", LIMIT);
    socket.connect().end_by("nmi");
    assert_eq!(guest.wait_for_exit(LIMIT), FAILED);
    assert_says(&guest, &["FAULT on core 0: non-maskable interrupt", "rip ", "stopped"]);
}

#[test]
fn every_core_has_a_guard_page_below_its_stack() {
    for last in 0..4 {
        let drill = BasaltGuest::new("overflow").cpus(last + 1);
        let mut guest = drill.firmware_file("opt/basalt/fault", "stack-overflow").start();
        assert_eq!(guest.wait_for_exit(LIMIT), FAILED);
        let core = format!("FAULT on core {last}: ");
        assert_says(&guest, &[&core, "the stack overflowed into its guard page"]);
    }
}

#[test]
fn a_double_fault_is_survived_long_enough_to_report_it() {
    let guest = failed("double-fault");
    assert_says(&guest, &["double fault", "rip "]);
    assert_backtrace_names(&guest, "basalt_bare::drill::provoke");
}

#[test]
fn running_out_of_memory_says_how_much_was_asked_for() {
    let guest = failed("heap");
    assert_says(&guest, &["heap exhausted", "free", "PANIC on core 1"]);
    assert_backtrace_names(&guest, "basalt_bare::drill::provoke");
}
