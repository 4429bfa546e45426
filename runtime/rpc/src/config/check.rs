//! What can be known of a configuration before anything is done.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use basalt_env::sort_few_by_key;

use super::place::Path;
use super::{Config, ConfigCall, nearest};
use crate::params::Wrong;
use crate::{Rpc, RpcError};

/// Something that is wrong in a configuration, and where.
///
/// It is displayed as `LINE:COLUMN: PATH: MESSAGE (did you mean "NEAREST"?)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Complaint {
    /// Line, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
    /// Where it stands in the JSON: `subsystems[1].config[0].params.num_blocks`. Empty if there is
    /// no JSON.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What was probably meant.
    pub nearest: Option<String>,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, path, message, nearest } = self;
        write!(f, "{line}:{column}: {path}")?;
        let colon = if path.is_empty() { "" } else { ": " };
        write!(f, "{colon}{message}")?;
        nearest.iter().try_for_each(|nearest| write!(f, " (did you mean \"{nearest}\"?)"))
    }
}

impl Config {
    /// All that is wrong with it, as far as that can be known without doing any of it: its syntax
    /// and structure, the names of subsystems and methods, and the parameters, which the methods
    /// are had read. In the order of the text.
    pub fn check(&self, rpc: &Rc<Rpc>) -> Vec<Complaint> {
        let mut complaints = self.complaints.clone();
        for call in &self.calls {
            if rpc.router().contains(&call.method) {
                let wrong = rpc.read_params(&call.method, call.params.clone()).wrong;
                complaints.extend(wrong.into_iter().map(|wrong| self.wrong_in(call, wrong)));
                continue;
            }
            let nearest = nearest(&call.method, &mut rpc.router().names(None));
            let path = call.path.key("method");
            complaints.push(self.complaint(&path, "unknown method".into(), nearest));
        }
        sort_few_by_key(&mut complaints, |complaint| (complaint.line, complaint.column));
        complaints
    }

    fn wrong_in(&self, call: &ConfigCall, wrong: Wrong) -> Complaint {
        let Wrong { parent, name, message, nearest } = wrong;
        let mut path = call.path.key("params").below(&parent);
        if !name.is_empty() {
            path = path.key(&name);
        }
        self.complaint(&path, message, nearest.as_deref())
    }

    pub(super) fn complaint(
        &self,
        path: &Path,
        message: String,
        nearest: Option<&str>,
    ) -> Complaint {
        let (line, column) = path.locate(&self.text);
        let path = alloc::format!("{path}");
        Complaint { line, column, path, message, nearest: nearest.map(String::from) }
    }
}

impl Wrong {
    /// An answer of a method that had no fault to find with the parameters one by one.
    pub(crate) fn from_answer(error: &RpcError, names: impl Fn(&str) -> bool) -> Self {
        let message = &error.message;
        let message = message.strip_prefix("Invalid parameters: ").unwrap_or(message);
        // The one that it is about stands in quotes, and first.
        let name = message.split('\'').nth(1).filter(|name| names(name));
        let name = name.unwrap_or_default().into();
        Self { parent: String::new(), name, message: message.into(), nearest: None }
    }
}
