//! What comes by the other ports, or to no port at all.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use basalt_qemu_tests::initiator::pattern;

use crate::siege::{json_rpc, on_both, tcp};

const VERSION: &str = r#"{"jsonrpc":"2.0","id":7,"method":"spdk_get_version"}"#;

#[test]
fn hostile_json_rpc_is_refused_and_the_next_client_is_served() {
    on_both(|siege| {
        let deep = "[".repeat(100_000);
        let long = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{}"}}"#, "x".repeat(1 << 20));
        let messages: [&[u8]; 12] = [
            b"garbage\n",
            b"{",
            b"{}",
            b"[]",
            b"[1,2,3]",
            b"\"text\"",
            b"{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":1}",
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"spdk_get_version\",\"params\":[[[1]]]}",
            b"\xff\xfe\x00\x00{\"jsonrpc\"",
            deep.as_bytes(),
            long.as_bytes(),
            b"GET / HTTP/1.1\r\nHost: basalt\r\n\r\n",
        ];
        for message in messages {
            let mut stream = tcp(siege.rpc).unwrap();
            // It may be closed before all is sent, with or without an answer.
            let _ = stream.write_all(message);
            stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let _ = stream.read(&mut [0; 4096]);
            assert!(json_rpc(siege.rpc, VERSION).unwrap().contains("\"id\":7"));
        }
        for seed in 0..50 {
            let mut stream = tcp(siege.rpc).unwrap();
            let _ = stream.write_all(&pattern(seed, 700));
        }
        slowly(siege.rpc);
        // Unfinished requests, all at once.
        let mut waiting: Vec<_> = (0..40).map(|_| tcp(siege.rpc).unwrap()).collect();
        for stream in &mut waiting {
            stream.write_all(&VERSION.as_bytes()[..20]).unwrap();
        }
        assert!(json_rpc(siege.rpc, VERSION).unwrap().contains("\"id\":7"));
        drop(waiting);
    });
}

/// A request a byte at a time, then many that nobody reads the answers of.
fn slowly(port: u16) {
    let mut stream = tcp(port).unwrap();
    for byte in VERSION.as_bytes() {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut reply = [0; 4096];
    let len = stream.read(&mut reply).unwrap();
    assert!(String::from_utf8_lossy(&reply[..len]).contains("\"id\":7"));
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    for _ in 0..2000 {
        if stream.write_all(br#"{"jsonrpc":"2.0","id":8,"method":"rpc_get_methods"}"#).is_err() {
            break;
        }
    }
}

#[test]
fn a_port_scan_finds_open_ports_open_and_closed_ones_closed() {
    on_both(|siege| {
        for _ in 0..30 {
            for port in [siege.nvmf, siege.discovery, siege.rpc] {
                drop(tcp(port).unwrap());
            }
        }
        for _ in 0..5 {
            let begin = Instant::now();
            // The forwarder accepts first and passes the refusal on.
            let refused = tcp(siege.closed).and_then(|mut stream| stream.read(&mut [0; 16]));
            assert!(matches!(refused, Ok(0) | Err(_)), "{refused:?}");
            assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
        }
    });
}
