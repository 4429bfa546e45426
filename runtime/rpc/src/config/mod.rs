mod check;
mod interface;
mod nearest;
mod place;

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::pin::Pin;

use serde_json::{Map, Value};

pub use self::check::Complaint;
pub use self::interface::InterfaceSetting;
pub(crate) use self::nearest::nearest;
use self::place::Path;
use crate::gate::Entrance;
use crate::methods::{NVME_SET_OPTIONS, NvmeOptions};
use crate::{Access, Door, Params, Rpc, RpcError};

/// Subsystems that a configuration may have: SPDK's, of which some have no methods here, and our
/// own.
const SUBSYSTEMS: [&str; 20] = [
    "accel",
    "bdev",
    "bench",
    "fsdev",
    "iobuf",
    "iscsi",
    "keyring",
    "log",
    "nbd",
    "net",
    "nvmf",
    "rpc",
    "scheduler",
    "scsi",
    "sock",
    "ublk",
    "vhost_blk",
    "vhost_scsi",
    "vmd",
    "web",
];

/// A configuration in SPDK's JSON form: calls to make at boot, in order.
///
/// `{"subsystems": [{"subsystem": "bdev", "config": [{"method": …, "params": …}]}]}`, where
/// `config` may be `null` and an entry may be an array of calls. Other keys are ignored, unless
/// they look like one of these.
///
/// ```text
///  bytes --parse--> Config --check--> nothing is wrong --apply--> every call is made
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Config {
    /// As it came, to find places in.
    text: Vec<u8>,
    calls: Vec<ConfigCall>,
    /// What is wrong with its syntax and structure.
    complaints: Vec<Complaint>,
    /// Whether it says all that is to be exported.
    is_whole: bool,
}

#[derive(Clone, PartialEq, Debug)]
struct ConfigCall {
    path: Path,
    subsystem: String,
    /// The entry within the subsystem.
    index: usize,
    method: String,
    params: Option<Value>,
}

/// A configuration on its way.
pub type Applying<'a> = Pin<Box<dyn Future<Output = Result<(), ConfigError>> + 'a>>;

/// Why a configuration was refused.
#[derive(Clone, PartialEq, Debug)]
pub enum ConfigError {
    /// It is wrong, of which nothing was done.
    Wrong(Vec<Complaint>),
    /// A call could not be carried out; those before it were.
    Call {
        /// The subsystem that holds the call.
        subsystem: String,
        /// The entry within that subsystem, from 0.
        index: usize,
        /// The method.
        method: String,
        /// Why not.
        error: RpcError,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(complaints) => {
                for (at, complaint) in complaints.iter().enumerate() {
                    let end = if at == 0 { "" } else { "\n" };
                    write!(f, "{end}configuration:{complaint}")?;
                }
                Ok(())
            }
            Self::Call { subsystem, index, method, error } => write!(
                f,
                "configuration, subsystem \"{subsystem}\", entry {index}, {method}: {error}"
            ),
        }
    }
}

impl core::error::Error for ConfigError {}

impl Config {
    /// Reads a configuration file. Zero bytes at the end (padding of a boot module) are ignored,
    /// and a file of nothing but white space is an empty configuration. What cannot be read is told
    /// by [`Self::check`], and keeps everything from being done.
    pub fn parse(bytes: &[u8]) -> Self {
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let text = bytes.get(..end).unwrap_or_default().trim_ascii_end();
        let mut config = Self { text: text.into(), ..Self::default() };
        if text.is_empty() {
            return config;
        }
        match serde_json::from_slice(text) {
            Ok(root) => config.read_root(root),
            Err(error) => {
                let (line, column, text) = (error.line(), error.column(), error.to_string());
                // It has the place at its end, which is said already.
                let place = format!(" at line {line} column {column}");
                let message = text.strip_suffix(&place).unwrap_or(&text).into();
                let path = String::new();
                config.complaints.push(Complaint { line, column, path, message, nearest: None });
            }
        }
        config
    }

    /// The same, which says all that is to be exported, as what the machine itself has saved does.
    pub(crate) fn whole(self) -> Self {
        Self { is_whole: true, ..self }
    }

    /// One that cannot be read at all, for that reason.
    pub(crate) fn unreadable(message: String) -> Self {
        let complaint =
            Complaint { line: 1, column: 1, path: String::new(), message, nearest: None };
        Self { complaints: [complaint].into(), ..Self::default() }.whole()
    }

    /// The text, without what is ignored at its end.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether it says all that is to be exported, even if that is nothing.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// How many calls it holds.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether it holds no call, and nothing that is wrong.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.complaints.is_empty()
    }

    /// Whether it holds a call for `subsystem`.
    pub fn has_subsystem(&self, subsystem: &str) -> bool {
        self.calls.iter().any(|call| call.subsystem == subsystem)
    }

    /// Whether it calls `method` for something of that name.
    pub fn makes(&self, method: &str, name: &str) -> bool {
        let is_it = |call: &ConfigCall| {
            let named = call.params.as_ref().and_then(|params| params.get("name"));
            call.method == method && named.and_then(Value::as_str) == Some(name)
        };
        self.calls.iter().any(is_it)
    }

    /// The interfaces it sets, which must be known before the network starts. Those that it sets
    /// wrongly are left out: the machine can be reached by the others.
    pub fn interfaces(&self) -> Vec<InterfaceSetting> {
        let calls = self.calls.iter().filter(|call| call.method == "net_set_interface");
        let read = |call: &ConfigCall| {
            InterfaceSetting::from_params(Params::new(call.params.clone()).ok()?).ok()
        };
        calls.filter_map(read).collect()
    }

    /// What it sets of how NVMe controllers choose among queues, which must be known before they
    /// are attached, on a machine of so many cores. `None` if it sets nothing of the kind; what it
    /// sets wrongly is left out.
    pub fn nvme_options(&self, cores: usize) -> Option<NvmeOptions> {
        let mut options: Option<NvmeOptions> = None;
        for call in self.calls.iter().filter(|call| call.method == NVME_SET_OPTIONS) {
            let Ok(mut params) = Params::new(call.params.clone()) else { continue };
            let before = options.clone().unwrap_or_default();
            let changed = before.with(&mut params).and_then(|options| options.fit(cores));
            options = changed.ok().or(options);
        }
        options
    }

    /// Makes the calls in order; stops at the first that fails. Nothing is done if anything is
    /// wrong, which is all told; but in either case nobody is let in who is not to be. Boxed, to be
    /// compiled with this crate.
    pub fn apply<'a>(&'a self, rpc: &'a Rc<Rpc>) -> Applying<'a> {
        Box::pin(async move {
            let complaints = self.check(rpc);
            if !complaints.is_empty() {
                self.limit_access(rpc).await;
                return Err(ConfigError::Wrong(complaints));
            }
            for call in &self.calls {
                let outcome = rpc.call_at_boot(&call.method, call.params.clone()).await;
                if let Err(error) = outcome {
                    self.limit_access(rpc).await;
                    return Err(call.failed(error));
                }
            }
            Ok(())
        })
    }

    /// Lets in those who are to be, though the rest of it was not carried out: a slip elsewhere
    /// does not open the control plane. If it is wrong about that, nobody is let in.
    async fn limit_access(&self, rpc: &Rc<Rpc>) {
        for call in &self.calls {
            let door = Door::ALL.into_iter().find(|door| door.method() == call.method);
            let Some(door) = door else { continue };
            let set = rpc.call_at_boot(&call.method, call.params.clone()).await;
            if let Err(error) = set {
                log::error!(target: "rpc", "{}: {error}; so nobody is let in", call.method);
                let closed = Entrance { access: Access::Closed, port: None };
                let _ = rpc.set_entrance(door, closed).await;
            }
        }
    }

    fn complain(&mut self, path: &Path, message: &str) {
        self.complain_of(path, message, None);
    }

    fn complain_of(&mut self, path: &Path, message: &str, nearest: Option<&str>) {
        let complaint = self.complaint(path, message.into(), nearest);
        self.complaints.push(complaint);
    }

    fn read_root(&mut self, root: Value) {
        let path = Path::default();
        let Value::Object(mut root) = root else {
            return self.complain(&path, "the root is not an object");
        };
        let subsystems = root.remove("subsystems");
        self.look_for_slips(&path, &root, &["subsystems"]);
        let path = path.key("subsystems");
        match subsystems {
            None | Some(Value::Null) => {}
            Some(Value::Array(subsystems)) => {
                for (index, subsystem) in subsystems.into_iter().enumerate() {
                    self.read_subsystem(&path.index(index), subsystem);
                }
            }
            Some(_) => self.complain(&path, "this is not an array"),
        }
    }

    fn read_subsystem(&mut self, path: &Path, subsystem: Value) {
        let Value::Object(mut fields) = subsystem else {
            return self.complain(path, "this is not an object");
        };
        let (name, entries) = (fields.remove("subsystem"), fields.remove("config"));
        self.look_for_slips(path, &fields, &["subsystem", "config"]);
        let name = match name {
            Some(Value::String(name)) => name,
            Some(_) => return self.complain(&path.key("subsystem"), "this is not a name"),
            None => return self.complain(path, "\"subsystem\" is missing, the name"),
        };
        if !SUBSYSTEMS.contains(&name.as_str()) {
            let nearest = nearest(&name, &mut SUBSYSTEMS.iter().copied());
            self.complain_of(&path.key("subsystem"), "unknown subsystem", nearest);
        }
        let path = path.key("config");
        match entries {
            None | Some(Value::Null) => {}
            Some(Value::Array(entries)) => {
                for (index, entry) in entries.into_iter().enumerate() {
                    self.read_entry(&path.index(index), (&name, index), entry);
                }
            }
            Some(_) => self.complain(&path, "this is not an array"),
        }
    }

    fn read_entry(&mut self, path: &Path, place: (&str, usize), entry: Value) {
        match entry {
            Value::Object(call) => self.read_call(path, place, call),
            Value::Array(batch) => {
                for (index, call) in batch.into_iter().enumerate() {
                    let path = path.index(index);
                    match call {
                        Value::Object(call) => self.read_call(&path, place, call),
                        _ => self.complain(&path, "this is not a call"),
                    }
                }
            }
            _ => self.complain(path, "this is neither a call nor an array of calls"),
        }
    }

    fn read_call(
        &mut self,
        path: &Path,
        (subsystem, index): (&str, usize),
        mut call: Map<String, Value>,
    ) {
        let (method, params) = (call.remove("method"), call.remove("params"));
        self.look_for_slips(path, &call, &["method", "params"]);
        let method = match method {
            Some(Value::String(method)) => method,
            Some(_) => return self.complain(&path.key("method"), "this is not a name"),
            None => return self.complain(path, "\"method\" is missing"),
        };
        let (path, subsystem) = (path.clone(), subsystem.into());
        self.calls.push(ConfigCall { path, subsystem, index, method, params });
    }

    /// Other keys than `known` mean nothing, but may be misspelt.
    fn look_for_slips(&mut self, path: &Path, fields: &Map<String, Value>, known: &[&str]) {
        for key in fields.keys() {
            if let Some(nearest) = nearest(key, &mut known.iter().copied()) {
                self.complain_of(&path.key(key), "unknown key", Some(nearest));
            }
        }
    }
}

impl ConfigCall {
    fn failed(&self, error: RpcError) -> ConfigError {
        let (subsystem, method) = (self.subsystem.clone(), self.method.clone());
        ConfigError::Call { subsystem, index: self.index, method, error }
    }
}
