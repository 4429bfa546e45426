use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{DEPTH_MAX, Framer, FramingError, MESSAGE_BYTES_MAX, VALUES_MAX};

/// Feeds `bytes` in chunks of the given sizes, over and over.
fn frame(bytes: &[u8], chunks: &[usize]) -> Result<Vec<Value>, FramingError> {
    let mut framer = Framer::default();
    let mut values = Vec::new();
    let mut rest = bytes;
    let mut sizes = chunks.iter().cycle();
    while !rest.is_empty() {
        let size = (*sizes.next().unwrap()).clamp(1, rest.len());
        let (mut chunk, later) = rest.split_at(size);
        while !chunk.is_empty() {
            let (taken, value) = framer.feed(chunk)?;
            assert!(taken > 0, "the framer makes progress");
            values.extend(value);
            chunk = &chunk[taken..];
        }
        rest = later;
    }
    Ok(values)
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        Just(Value::from("brackets ]}[{ and \\\" in text \\")),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("\\PC{0,4}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn message() -> impl Strategy<Value = Value> {
    json_value().prop_map(|value| json!([value]))
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_values(
        messages in prop::collection::vec((message(), any::<bool>()), 0..5),
        chunks in prop::collection::vec(1_usize..40, 1..6),
    ) {
        let mut text = String::new();
        for (message, pretty) in &messages {
            text += &match pretty {
                true => serde_json::to_string_pretty(message).unwrap() + "\r\n\t ",
                false => serde_json::to_string(message).unwrap(),
            };
        }
        let expected: Vec<Value> = messages.into_iter().map(|(message, _)| message).collect();
        prop_assert_eq!(frame(text.as_bytes(), &chunks).unwrap(), expected);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = frame(&bytes, &[7]);
    }

    #[test]
    fn no_almost_json_panics(text in "[\\[\\]{}:,\"\\\\0-9a tn]{0,200}") {
        let _ = frame(text.as_bytes(), &[3]);
    }

    #[test]
    fn the_outcome_does_not_depend_on_the_chunks(text in "[\\[\\]{}:,\"\\\\0-9a]{0,60}") {
        prop_assert_eq!(frame(text.as_bytes(), &[1]), frame(text.as_bytes(), &[1000]));
    }
}

#[test]
fn a_message_is_complete_with_its_closing_bracket() {
    let mut framer = Framer::default();
    assert_eq!(framer.feed(b"  {\"a\":[1,2").unwrap(), (11, None));
    assert!(framer.is_mid_message());
    assert_eq!(framer.feed(b"]}{\"b\"").unwrap(), (2, Some(json!({"a": [1, 2]}))));
    assert!(!framer.is_mid_message());
}

#[test]
fn anything_but_a_bracket_cannot_start_a_message() {
    for start in [&b"GET / HTTP/1.1"[..], b"1", b"\"text\"", b"}", b",", b"\0"] {
        assert_eq!(frame(start, &[1]), Err(FramingError::NotAMessage(start[0])));
    }
}

#[test]
fn balanced_brackets_that_are_not_json_are_refused_with_their_place() {
    let refused = frame(b"{\n  \"a\" 1}", &[4]);
    assert_eq!(refused, Err(FramingError::Syntax { line: 2, column: 7 }));
    assert!(matches!(frame(b"[1}", &[1]), Err(FramingError::Syntax { .. })));
    assert!(matches!(frame(b"{\"a\xff\": 1}", &[1]), Err(FramingError::Syntax { .. })));
}

#[test]
fn a_message_may_be_as_long_as_the_limit_and_no_longer() {
    let text = |len: usize| format!("[\"{}\"]", "x".repeat(len - 4));
    assert_eq!(frame(text(MESSAGE_BYTES_MAX).as_bytes(), &[4096]).unwrap().len(), 1);
    let longer = text(MESSAGE_BYTES_MAX + 1);
    assert_eq!(frame(longer.as_bytes(), &[4096]), Err(FramingError::TooLong));
    assert_eq!(frame(longer.as_bytes(), &[longer.len()]), Err(FramingError::TooLong));
}

#[test]
fn nesting_and_number_of_values_are_limited() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(frame(nested(DEPTH_MAX).as_bytes(), &[9]).is_ok());
    assert_eq!(frame(nested(DEPTH_MAX + 1).as_bytes(), &[9]), Err(FramingError::TooDeep));
    let many = serde_json::to_vec(&vec![0; VALUES_MAX + 1]).unwrap();
    assert_eq!(frame(&many, &[999]), Err(FramingError::TooMany));
}
