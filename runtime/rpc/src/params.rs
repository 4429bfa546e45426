use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::RpcError;

/// The parameters of a call, taken out one by one; whatever is left at the end was unknown.
///
/// 1. made from the request; 2. [`required`](Self::required), [`optional`](Self::optional) and
///    [`ignore`](Self::ignore) take parameters out; 3. [`finish`](Self::finish) refuses the rest.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Params {
    /// `None` when the request has no `params`.
    fields: Option<Map<String, Value>>,
    /// Path of the object they stand in, with a dot at its end; empty at the top.
    parent: String,
}

impl Params {
    /// The parameters of a request. Only named ones are supported, as in SPDK.
    pub fn new(params: Option<Value>) -> Result<Self, RpcError> {
        let fields = match params {
            None => None,
            Some(Value::Object(fields)) => Some(fields),
            Some(Value::Array(_)) => {
                return Err(RpcError::params("parameters are given by name, not by position"));
            }
            Some(_) => return Err(RpcError::params("params is not an object")),
        };
        Ok(Self { fields, parent: String::new() })
    }

    /// Takes no parameters at all: as in SPDK not even an empty object.
    pub fn none(self) -> Result<(), RpcError> {
        match self.fields {
            None => Ok(()),
            Some(_) => Err(RpcError::params("the method takes no parameters")),
        }
    }

    /// Takes a parameter that must be there.
    pub fn required<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, RpcError> {
        self.optional(name)?.ok_or_else(|| {
            RpcError::params(format_args!("parameter '{}' is missing", self.path(name)))
        })
    }

    /// Takes a parameter that may be missing or `null`.
    pub fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, RpcError> {
        match self.take(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value).map(Some).map_err(|error| {
                RpcError::params(format_args!("parameter '{}': {error}", self.path(name)))
            }),
        }
    }

    /// Takes a copy of a parameter that may be missing or `null`.
    pub fn peek<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, RpcError> {
        let value = self.fields.as_ref().and_then(|fields| fields.get(name)).cloned();
        let read = self.optional(name);
        if let (Some(fields), Some(value)) = (&mut self.fields, value) {
            fields.insert(name.into(), value);
        }
        read
    }

    /// Takes a parameter that is itself an object of parameters; finish it too.
    pub fn object(&mut self, name: &str) -> Result<Self, RpcError> {
        let fields = self.required::<Map<String, Value>>(name)?;
        Ok(Self { fields: Some(fields), parent: format!("{}.", self.path(name)) })
    }

    /// Takes such an object, which may be missing or `null`.
    pub fn optional_object(&mut self, name: &str) -> Result<Option<Self>, RpcError> {
        let fields = self.optional::<Map<String, Value>>(name)?;
        let parent = format!("{}.", self.path(name));
        Ok(fields.map(|fields| Self { fields: Some(fields), parent }))
    }

    /// Takes a list of such objects, which may be missing or `null`; finish each.
    pub fn objects(&mut self, name: &str) -> Result<Option<Vec<Self>>, RpcError> {
        let Some(list) = self.optional::<Vec<Map<String, Value>>>(name)? else { return Ok(None) };
        let object = |(index, fields)| {
            let parent = format!("{}[{index}].", self.path(name));
            Self { fields: Some(fields), parent }
        };
        Ok(Some(list.into_iter().enumerate().map(object).collect()))
    }

    /// Drops parameters that mean nothing here but that SPDK's client always sends.
    pub fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.take(name);
        }
    }

    /// Refuses parameters that were not taken, naming them.
    pub fn finish(self) -> Result<(), RpcError> {
        let Some(fields) = &self.fields else { return Ok(()) };
        if fields.is_empty() {
            return Ok(());
        }
        let names: Vec<String> =
            fields.keys().map(|name| format!("'{}'", self.path(name))).collect();
        Err(RpcError::params(format_args!("unknown parameter {}", names.join(", "))))
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.as_mut()?.remove(name)
    }

    fn path(&self, name: &str) -> String {
        format!("{}{name}", self.parent)
    }
}
