//! The log on its way to a syslog server.

use std::time::Duration;

use basalt_qemu_tests::rpc_client::Raw;
use basalt_qemu_tests::rsyslog::Rsyslogd;
use basalt_qemu_tests::syslog::{SyslogMessage, SyslogServer};
use basalt_qemu_tests::{BasaltGuest, Guest, HostedTwin};
use serde_json::{Value, json};

const BOOT: Duration = Duration::from_secs(120);
const START: Duration = Duration::from_secs(60);
const SETTLED: Duration = Duration::from_secs(30);
const DAEMON: u8 = 3;

fn setting(server: &str, port: u16) -> Value {
    json!({"address": server, "port": port, "facility": "daemon", "hostname": "storage-1"})
}

fn config(server: &str, port: u16) -> String {
    let call = json!({"method": "log_set_syslog", "params": setting(server, port)});
    json!({"subsystems": [{"subsystem": "log", "config": [call]}]}).to_string()
}

/// Calls a method; with `null` without parameters.
fn call(port: u16, method: &str, params: Value) -> Value {
    let mut client = Raw::connect(port);
    let mut call = json!({"jsonrpc": "2.0", "id": 1, "method": method});
    if !params.is_null() {
        call["params"] = params;
    }
    client.send(call.to_string().as_bytes());
    let mut reply = client.receive();
    assert_eq!(reply["error"], Value::Null, "{method}");
    reply["result"].take()
}

/// Severity, part of the program and text of a line of the console.
fn read_line(line: &str) -> Option<(u8, &str, &str)> {
    let (time, rest) = line.split_once("] ")?;
    time.strip_prefix('[')?;
    let (level, rest) = rest.split_once(' ')?;
    let severity = match level {
        "ERROR" => 3,
        "WARN" => 4,
        "INFO" => 6,
        _ => 7,
    };
    let (target, text) = rest.split_once(": ")?;
    Some((severity, target, text))
}

/// Every line of the console up to `last` came as a message, in order, and nothing else did.
fn assert_all_came(guest: &Guest, messages: &[SyslogMessage], last: &str) {
    let lines = guest.lines();
    let lines = lines.iter().filter_map(|line| read_line(line));
    let mut expected: Vec<_> = lines.filter(|(_, target, _)| *target != "syslog").collect();
    let end = expected.iter().position(|(_, _, text)| text.contains(last));
    expected.truncate(end.map_or(0, |end| end + 1));
    assert!(expected.len() > 5, "{expected:?}");
    let told = messages.iter().map(|message| {
        let target = message.msgid.as_deref().unwrap_or_default();
        (message.severity, target, message.text.as_str())
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told, expected);
    for (number, message) in (1..).zip(messages) {
        assert_eq!(message.datum("meta", "sequenceId"), Some(format!("{number}").as_str()));
        assert_eq!(message.facility, DAEMON);
        assert_eq!(message.hostname.as_deref(), Some("storage-1"));
        assert_eq!(message.app_name.as_deref(), Some("basalt"));
        assert!(message.timestamp.as_deref().is_some_and(|time| time > "2024"), "{message:?}");
    }
}

#[test]
fn the_image_sends_its_whole_log_and_goes_on_until_it_is_told_to_stop() {
    let server = SyslogServer::start();
    let guest = BasaltGuest::new("basalt").config(&config("10.0.2.2", server.port()));
    let (guest, rpc) = guest.user_network(5260);
    let guest = guest.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let messages = server.until("ready", SETTLED);
    assert_all_came(&guest, &messages, "ready");
    let state = call(rpc, "log_get_syslog", json!(null));
    assert_eq!((&state["lines_sent"], &state["lines_lost"]), (&json!(messages.len()), &json!(0)));
    let saved = call(rpc, "framework_get_config", json!({"name": "log"}));
    assert_eq!(saved[0]["params"], setting("10.0.2.2", server.port()));
    // Another server from now on.
    let other = SyslogServer::start();
    let params = json!({"address": "10.0.2.2", "port": other.port()});
    assert_eq!(call(rpc, "log_set_syslog", params), true);
    call(rpc, "log_set_level", json!({"level": "INFO"}));
    let mut client = Raw::connect(rpc);
    assert!(client.call("bdev_levitate")["error"].is_object());
    let messages = other.until("bdev_levitate failed", SETTLED);
    let last = &messages[messages.len() - 1];
    assert_eq!((last.facility, last.severity, last.msgid.as_deref()), (23, 7, Some("rpc")));
    assert!(last.hostname.as_deref().is_some_and(|own| own.starts_with("10.0.2.")), "{last:?}");
    // And none.
    assert_eq!(call(rpc, "log_set_syslog", json!({"enabled": false})), true);
    while other.next(Duration::from_millis(500)).is_some() {}
    assert!(client.call("bdev_levitate")["error"].is_object());
    assert_eq!(other.next(Duration::from_secs(2)), None);
    assert_eq!(server.next(Duration::from_millis(1)), None);
}

#[test]
fn the_hosted_twin_sends_its_log_too() {
    let server = SyslogServer::start();
    let twin = HostedTwin::new("twin").config(&config("127.0.0.1", server.port()));
    let rpc = twin.rpc;
    let guest = twin.start();
    guest.wait_for_line("basalt: ready", START);
    assert_all_came(&guest, &server.until("ready", SETTLED), "ready");
    // A server that is gone keeps nothing waiting.
    drop(server);
    let mut client = Raw::connect(rpc);
    call(rpc, "log_set_level", json!({"level": "INFO"}));
    for _ in 0..20 {
        assert!(client.call("bdev_levitate")["error"].is_object());
    }
    let state = call(rpc, "log_get_syslog", json!(null));
    assert_eq!((&state["enabled"], &state["lines_lost"]), (&json!(true), &json!(0)));
}

#[test]
fn rsyslogd_reads_every_field_of_what_the_hosted_twin_sends() {
    let fields = "%pri-text%|%hostname%|%app-name%|%msgid%|%timereported:::date-rfc3339%|%msg%";
    let server = Rsyslogd::start(fields).unwrap();
    let twin = HostedTwin::new("twin");
    let rpc = twin.rpc;
    let guest = twin.start();
    guest.wait_for_line("basalt: ready", START);
    let mut client = Raw::connect(rpc);
    call(rpc, "log_set_level", json!({"level": "INFO"}));
    call(rpc, "log_set_syslog", setting("127.0.0.1", server.port()));
    // It does not say when it listens, and what comes before that is lost.
    let mut lines = Vec::new();
    for _ in 0..30 {
        assert!(client.call("bdev_levitate")["error"].is_object());
        lines = server.until("bdev_levitate failed", Duration::from_secs(1));
        if !lines.is_empty() {
            break;
        }
    }
    let line = lines.iter().find(|line| line.contains("bdev_levitate failed"));
    let line = line.unwrap_or_else(|| panic!("rsyslogd has heard nothing of it: {lines:?}"));
    let fields: Vec<_> = line.split('|').collect();
    assert_eq!(fields[..4], ["daemon.debug", "storage-1", "basalt", "rpc"], "{line}");
    assert!(fields[4] > "2024" && fields[4].contains('T'), "{line}");
    assert!(fields[5].contains("bdev_levitate"), "{line}");
}
