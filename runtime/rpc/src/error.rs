use alloc::format;
use alloc::string::String;
use core::fmt;

use serde_json::{Value, json};

/// Linux errno values that SPDK's methods answer with, negated.
pub mod errno {
    /// No such entry.
    pub const ENOENT: i64 = 2;
    /// Operation not permitted.
    pub const EPERM: i64 = 1;
    /// Input/output error.
    pub const EIO: i64 = 5;
    /// Out of memory.
    pub const ENOMEM: i64 = 12;
    /// Busy: open or claimed.
    pub const EBUSY: i64 = 16;
    /// Exists already.
    pub const EEXIST: i64 = 17;
    /// No such device.
    pub const ENODEV: i64 = 19;
    /// Invalid argument.
    pub const EINVAL: i64 = 22;
    /// No space.
    pub const ENOSPC: i64 = 28;
    /// Not supported.
    pub const EOPNOTSUPP: i64 = 95;
    /// The address is in use.
    pub const EADDRINUSE: i64 = 98;
    /// The address is not one of ours.
    pub const EADDRNOTAVAIL: i64 = 99;
    /// Result too large.
    pub const ERANGE: i64 = 34;
    /// Timed out.
    pub const ETIMEDOUT: i64 = 110;
    /// It is so already.
    pub const EALREADY: i64 = 114;
}

/// The error object of a reply (JSON-RPC 2.0 §5.1, with SPDK's codes).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RpcError {
    /// One of the `RpcError` constants, or a negative errno for an operation that failed.
    pub code: i64,
    /// What went wrong, for a person.
    pub message: String,
}

impl RpcError {
    /// The bytes are not JSON; the connection closes.
    pub const PARSE: i64 = -32700;
    /// JSON, but not a request.
    pub const INVALID_REQUEST: i64 = -32600;
    /// No method of that name.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// A parameter is missing, unknown or of the wrong type.
    pub const INVALID_PARAMS: i64 = -32602;
    /// The request could not be carried out for a reason of the server's own.
    pub const INTERNAL: i64 = -32603;
    /// The method may not be called in this state.
    pub const INVALID_STATE: i64 = -1;

    /// An error with any code.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// An operation failed with `errno` (positive, see [`errno`]).
    pub fn errno(errno: i64, message: impl fmt::Display) -> Self {
        Self::new(-errno, format!("{message}"))
    }

    /// A parameter is wrong.
    pub fn params(message: impl fmt::Display) -> Self {
        Self::new(Self::INVALID_PARAMS, format!("Invalid parameters: {message}"))
    }

    /// Not a request.
    pub fn invalid_request(message: impl fmt::Display) -> Self {
        Self::new(Self::INVALID_REQUEST, format!("Invalid request: {message}"))
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({"code": self.code, "message": self.message})
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl core::error::Error for RpcError {}
