use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Map, Value, json};

/// The calls that would bring a fresh machine to the present state, in order: what
/// `framework_get_config` answers.
///
/// Each call is filed under a key that names what it made, such as `nqn…/ns/1`. Making the same
/// thing again replaces its call, and deleting a thing drops the calls of everything below it, so
/// the list is as bounded as the things themselves.
#[derive(Default)]
pub struct Saved {
    calls: Vec<SavedCall>,
    /// How often they have changed.
    changes: u64,
}

struct SavedCall {
    subsystem: &'static str,
    key: String,
    call: Call,
}

/// A call as it is to be saved.
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) params: Option<Map<String, Value>>,
    /// Puts in what has changed since.
    pub(crate) renew: Option<Renew>,
}

/// Brings the parameters of a call up to date.
pub(crate) type Renew = Box<dyn Fn(&mut Map<String, Value>)>;

impl Saved {
    /// Files a call that made `key`.
    pub(crate) fn put(&mut self, subsystem: &'static str, key: String, call: Call) {
        self.changes += 1;
        let call = SavedCall { subsystem, key, call };
        let same = |old: &&mut SavedCall| old.subsystem == subsystem && old.key == call.key;
        match self.calls.iter_mut().find(same) {
            Some(old) => *old = call,
            None => self.calls.push(call),
        }
    }

    /// Drops the calls that made `key` and everything below it.
    pub(crate) fn forget(&mut self, subsystem: &'static str, key: &str) {
        self.changes += 1;
        self.calls.retain(|call| {
            let below = call.key.strip_prefix(key);
            call.subsystem != subsystem
                || !below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
    }

    /// Whether a call that made `key` is filed.
    pub(crate) fn has(&self, subsystem: &str, key: &str) -> bool {
        self.find(subsystem, key).is_some()
    }

    /// The parameters of the call that made `key`; none if there is no such call.
    pub(crate) fn params(&self, subsystem: &str, key: &str) -> Map<String, Value> {
        let call = self.find(subsystem, key);
        call.and_then(|call| call.call.params.clone()).unwrap_or_default()
    }

    fn find(&self, subsystem: &str, key: &str) -> Option<&SavedCall> {
        self.calls.iter().find(|call| call.subsystem == subsystem && call.key == key)
    }

    /// Drops the call that made a bdev and those that made namespaces of it, and what is below
    /// them, once it is gone.
    pub(crate) fn forget_bdev(&mut self, name: &str, uuid: &str) {
        self.forget("bdev", name);
        let is_gone =
            |call: &&SavedCall| call.bdev().is_some_and(|bdev| bdev == name || bdev == uuid);
        let gone = self.calls.iter().filter(is_gone);
        let gone: Vec<_> = gone.map(|call| (call.subsystem, call.key.clone())).collect();
        for (subsystem, key) in gone {
            self.forget(subsystem, &key);
        }
    }

    /// How often the calls have changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// One call of a subsystem, counted from 0, as [`Self::of`] has it.
    pub(crate) fn nth(&self, subsystem: &str, index: usize) -> Option<Value> {
        let mut calls = self.calls.iter().filter(|call| call.subsystem == subsystem);
        calls.nth(index).map(SavedCall::to_json)
    }

    /// The calls of one subsystem as `{"method", "params"}` objects.
    pub(crate) fn of(&self, subsystem: &str) -> Vec<Value> {
        let calls = self.calls.iter().filter(|call| call.subsystem == subsystem);
        calls.map(SavedCall::to_json).collect()
    }
}

impl SavedCall {
    /// The bdev it makes a namespace of.
    fn bdev(&self) -> Option<&str> {
        self.call.params.as_ref()?.get("namespace")?.get("bdev_name")?.as_str()
    }

    fn to_json(&self) -> Value {
        let Call { method, params, renew } = &self.call;
        let mut params = params.clone();
        if let Some(renew) = renew {
            renew(params.get_or_insert_default());
        }
        match params {
            Some(params) => json!({"method": method, "params": params}),
            None => json!({"method": method}),
        }
    }
}
