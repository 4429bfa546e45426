use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Map, Value, json};

use crate::{RpcError, text};

/// Longest `id` in bytes, as in SPDK.
pub const ID_BYTES_MAX: usize = 128;

/// The `id` of a call, echoed exactly in its reply.
#[derive(Clone, PartialEq, Debug)]
pub enum Id {
    /// None: a notification, which is carried out but not answered.
    Notification,
    /// An integer, a string or `null`.
    Call(Value),
}

/// One call of a method (JSON-RPC 2.0 §4).
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// Its identifier.
    pub id: Id,
    /// The method.
    pub method: String,
    /// Its parameters, not yet looked at.
    pub params: Option<Value>,
}

/// Why a value is not a request, and the `id` to answer with.
#[derive(Clone, PartialEq, Debug)]
pub struct BadRequest {
    /// The request's own identifier where it could be read, else `null`.
    pub id: Value,
    /// What is wrong.
    pub error: RpcError,
}

/// What one framed JSON value asks for.
#[derive(Clone, PartialEq, Debug)]
pub enum Message {
    /// One call, answered with an object.
    Single(Result<Request, BadRequest>),
    /// Several, answered with an array (JSON-RPC 2.0 §6).
    Batch(Vec<Result<Request, BadRequest>>),
}

impl Message {
    /// Reads a framed value.
    pub fn from_value(value: Value) -> Self {
        match value {
            Value::Array(calls) if calls.is_empty() => {
                let error = RpcError::invalid_request("the batch is empty");
                Self::Single(Err(BadRequest { id: Value::Null, error }))
            }
            Value::Array(calls) => Self::Batch(calls.into_iter().map(Request::read).collect()),
            single => Self::Single(Request::read(single)),
        }
    }
}

impl Request {
    fn read(value: Value) -> Result<Self, BadRequest> {
        let Value::Object(mut fields) = value else {
            let error = RpcError::invalid_request("a call is an object");
            return Err(BadRequest { id: Value::Null, error });
        };
        let id = match Id::take(&mut fields) {
            Ok(id) => id,
            Err(error) => return Err(BadRequest { id: Value::Null, error }),
        };
        Self::read_rest(id.clone(), fields).map_err(|error| {
            let id = match id {
                Id::Call(id) => id,
                Id::Notification => Value::Null,
            };
            BadRequest { id, error }
        })
    }

    fn read_rest(id: Id, mut fields: Map<String, Value>) -> Result<Self, RpcError> {
        if fields.get("jsonrpc").is_some_and(|version| version != "2.0") {
            return Err(RpcError::invalid_request("'jsonrpc' is not \"2.0\""));
        }
        let Some(Value::String(method)) = fields.remove("method") else {
            return Err(RpcError::invalid_request("'method' is missing or not a string"));
        };
        let params = fields.remove("params");
        if params.as_ref().is_some_and(|params| !params.is_object() && !params.is_array()) {
            return Err(RpcError::params("'params' is neither object nor array"));
        }
        Ok(Self { id, method, params })
    }
}

impl Id {
    fn take(fields: &mut Map<String, Value>) -> Result<Self, RpcError> {
        let Some(id) = fields.remove("id") else { return Ok(Self::Notification) };
        let valid = match &id {
            Value::Null => true,
            Value::Number(number) => number.is_i64() || number.is_u64(),
            Value::String(text) => text.len() <= ID_BYTES_MAX,
            _ => false,
        };
        if !valid {
            return Err(RpcError::invalid_request(
                "'id' is an integer, null, or a string of up to 128 bytes",
            ));
        }
        Ok(Self::Call(id))
    }
}

/// The reply to one call (JSON-RPC 2.0 §5).
fn reply_value(id: Value, outcome: Result<Value, RpcError>) -> Value {
    let (member, value) = match outcome {
        Ok(result) => ("result", result),
        Err(error) => ("error", error.to_json()),
    };
    let mut reply = json!({"jsonrpc": "2.0", "id": id});
    reply[member] = value;
    reply
}

/// The reply to one call, as text on one line.
pub(crate) fn reply(id: Value, outcome: Result<Value, RpcError>) -> Vec<u8> {
    // Writing a `Value` to memory cannot fail: its keys are strings.
    serde_json::to_vec(&reply_value(id, outcome)).unwrap_or_default()
}

/// The same, between whose parts the core does other work.
pub(crate) async fn reply_in_parts(id: Value, outcome: Result<Value, RpcError>) -> Vec<u8> {
    text::in_parts(reply_value(id, outcome)).await
}
