use alloc::vec;

use serde_json::{Value, json};

use crate::{Connection, PENDING_BYTES_MAX};

fn first_reply(connection: &Connection) -> Value {
    serde_json::from_slice(connection.output()).unwrap()
}

#[test]
fn replies_go_out_in_order_on_one_line_each() {
    let mut connection = Connection::default();
    connection.send(br#"{"text":"a\nb"}"#);
    connection.send(b"[1]");
    assert_eq!(connection.output(), b"{\"text\":\"a\\nb\"}\n[1]\n");
    connection.sent(16);
    assert_eq!(connection.output(), b"[1]\n");
    connection.sent(4);
    assert!(connection.output().is_empty() && !connection.is_finished());
}

#[test]
fn garbage_is_answered_with_a_parse_error_and_then_the_connection_ends() {
    let mut connection = Connection::default();
    assert_eq!(connection.receive(b"{]{}"), (4, None));
    let reply = first_reply(&connection);
    assert_eq!((&reply["id"], &reply["error"]["code"]), (&Value::Null, &json!(-32700)));
    assert!(!connection.is_finished(), "the reply is still to be sent");
    assert_eq!(connection.receive(b"{\"more\": 1}"), (11, None));
    connection.sent(connection.output().len());
    assert!(connection.is_finished());
}

#[test]
fn a_peer_that_leaves_too_much_unread_is_dropped() {
    let mut connection = Connection::default();
    let half = vec![b'x'; PENDING_BYTES_MAX / 2];
    connection.send(&half);
    assert!(!connection.is_finished());
    connection.send(&half);
    assert!(connection.is_finished());
}
