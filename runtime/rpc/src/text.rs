//! The text of a value, written in parts: that of a long list takes long, and the core has other
//! work.

use alloc::string::String;
use alloc::vec::{self, Vec};
use core::fmt::Write as _;

use basalt_reactor::yield_now;
use serde_json::{Value, map};

/// Bytes of a part.
const PART_BYTES: usize = 512;

/// An array or an object, as far as it is not written yet.
enum Open {
    Array(vec::IntoIter<Value>),
    Object(map::IntoIter),
}

/// A value that is being written. What is written of it is freed.
struct Writer {
    text: String,
    open: Vec<Open>,
    /// Whether nothing is written of the innermost array or object.
    is_at_first: bool,
}

/// The text of `value` on one line, as `serde_json` writes it. Everything else on the core has its
/// turn after each part.
pub async fn in_parts(value: Value) -> Vec<u8> {
    let mut writer = Writer { text: String::new(), open: Vec::new(), is_at_first: true };
    writer.begin(value);
    while writer.go_on() {
        yield_now().await;
    }
    writer.text.into_bytes()
}

impl Writer {
    /// Writes a part; says whether there is more.
    fn go_on(&mut self) -> bool {
        let end = self.text.len() + PART_BYTES;
        while self.text.len() < end {
            let next = match self.open.last_mut() {
                None => return false,
                Some(Open::Array(items)) => items.next().map(|item| (None, item)).ok_or(']'),
                Some(Open::Object(fields)) => {
                    fields.next().map(|(name, field)| (Some(name), field)).ok_or('}')
                }
            };
            match next {
                Ok((name, value)) => self.member(name, value),
                Err(end) => {
                    self.text.push(end);
                    self.open.pop();
                    self.is_at_first = false;
                }
            }
        }
        true
    }

    fn member(&mut self, name: Option<String>, value: Value) {
        if !self.is_at_first {
            self.text.push(',');
        }
        if let Some(name) = name {
            self.begin(Value::String(name));
            self.text.push(':');
        }
        self.begin(value);
    }

    /// Writes a value, or the bracket that opens it.
    fn begin(&mut self, value: Value) {
        self.is_at_first = matches!(value, Value::Array(_) | Value::Object(_));
        match value {
            Value::Array(items) => {
                self.text.push('[');
                self.open.push(Open::Array(items.into_iter()));
            }
            Value::Object(fields) => {
                self.text.push('{');
                self.open.push(Open::Object(fields.into_iter()));
            }
            // Writing to a string does not fail.
            plain => _ = write!(self.text, "{plain}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use core::task::{Context, Poll, Waker};

    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    /// The text, and in how many parts it was written.
    fn write(value: Value) -> (Vec<u8>, usize) {
        let mut writing = core::pin::pin!(in_parts(value));
        let mut context = Context::from_waker(Waker::noop());
        for parts in 1.. {
            if let Poll::Ready(text) = writing.as_mut().poll(&mut context) {
                return (text, parts);
            }
        }
        unreachable!()
    }

    fn values() -> impl Strategy<Value = Value> {
        let plain = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        plain.prop_recursive(5, 200, 8, |inner| {
            let fields = prop::collection::vec((any::<String>(), inner.clone()), 0..8);
            prop_oneof![
                prop::collection::vec(inner, 0..8).prop_map(Value::from),
                fields.prop_map(|fields| Value::Object(Map::from_iter(fields))),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_text_is_that_of_serde_json(value in values()) {
            let whole = serde_json::to_vec(&value).unwrap();
            prop_assert_eq!(write(value).0, whole);
        }
    }

    #[test]
    fn a_long_list_is_written_in_parts_and_a_short_one_at_once() {
        let item = json!({"name": "x".repeat(100), "blocks": 1});
        let list = Value::from(alloc::vec![item.clone(); 100]);
        let len = serde_json::to_vec(&list).unwrap().len();
        let (text, parts) = write(list);
        assert_eq!(text.len(), len);
        assert!(parts > len / (PART_BYTES + 120), "{parts} parts of {len} bytes");
        assert_eq!(write(item).1, 1);
    }
}
