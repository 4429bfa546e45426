use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::RpcError;
use crate::config::nearest;

/// The parameters of a call, taken out one by one; whatever is left at the end was unknown.
///
/// 1. made from the request; 2. [`required`](Self::required), [`optional`](Self::optional) and
///    [`ignore`](Self::ignore) take parameters out; 3. [`finish`](Self::finish) refuses the rest,
///    or [`leave`](Self::leave) does not.
///
/// A method does nothing before (3). So it can be had read its parameters and no more: then (3)
/// fails, and (2) does not if a parameter is wrong, but notes that and goes on as if there were
/// another, so that all that are wrong are found.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Params {
    /// `None` when the request has no `params`.
    fields: Option<Map<String, Value>>,
    /// Path of the object they stand in, with a dot at its end; empty at the top.
    parent: String,
    /// What is found, if they are only to be read.
    report: Option<Rc<RefCell<Report>>>,
}

/// What was found of parameters that were only read.
#[derive(PartialEq, Debug, Default)]
pub(crate) struct Report {
    pub(crate) wrong: Vec<Wrong>,
    /// Whether all of them were read.
    pub(crate) is_complete: bool,
    /// What was looked for, by parent and name, and whether it was there.
    pub(crate) known: Vec<(String, String, bool)>,
}

/// A parameter that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wrong {
    /// Path of the object it stands in; empty at the top.
    pub(crate) parent: String,
    /// Its name; empty if the parameters as such are wrong.
    pub(crate) name: String,
    pub(crate) message: String,
    /// What was probably meant.
    pub(crate) nearest: Option<String>,
}

const MISSING: &str = "the parameter is missing";
const UNKNOWN: &str = "unknown parameter";

impl Report {
    fn note(&mut self, parent: &str, name: &str, message: String, nearest: Option<String>) {
        let (parent, name) = (parent.trim_end_matches('.').into(), name.into());
        self.wrong.push(Wrong { parent, name, message, nearest });
    }

    /// A parameter that nobody has looked for. If it is another one misspelt, that is not said to
    /// be missing as well.
    fn note_unknown(&mut self, parent: &str, name: &str) {
        let absent = self.known.iter().filter(|(at, _, given)| at == parent && !given);
        let nearest = nearest(name, &mut absent.map(|(_, known, _)| known.as_str()));
        let nearest = nearest.map(String::from);
        if let Some(meant) = &nearest {
            let at = parent.trim_end_matches('.');
            self.wrong.retain(|wrong| {
                wrong.message != MISSING || wrong.parent != at || wrong.name != *meant
            });
        }
        self.note(parent, name, UNKNOWN.into(), nearest);
    }
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
        Ok(Self { fields, parent: String::new(), report: None })
    }

    /// Takes no parameters at all: as in SPDK not even an empty object.
    pub fn none(self) -> Result<(), RpcError> {
        if self.fields.is_some() {
            let words = "the method takes no parameters";
            self.wrong("", &words, format_args!("{words}"))?;
        }
        self.end()
    }

    /// Takes a parameter that must be there.
    pub fn required<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, RpcError> {
        let (mut value, mut wrong) = self.take_required(name)?;
        loop {
            match serde_json::from_value(value) {
                Ok(value) => return Ok(value),
                Err(error) => value = self.instead(name, &error, wrong)?,
            }
            wrong += 1;
        }
    }

    /// Takes a parameter that may be missing or `null`.
    pub fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, RpcError> {
        let Some(value) = self.take(name).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        match serde_json::from_value(value) {
            Ok(value) => Ok(Some(value)),
            Err(error) => self.is_of_wrong_type(name, &error).map(|()| None),
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
        let is_given = self.fields.as_ref().is_some_and(|fields| fields.contains_key(name));
        let fields = self.required::<Map<String, Value>>(name)?;
        let mut object = self.inner(fields, format_args!("{name}."));
        if !is_given {
            // What is missing in what is missing need not be told.
            object.report = object.report.map(|_| Rc::default());
        }
        Ok(object)
    }

    /// Takes such an object, which may be missing or `null`.
    pub fn optional_object(&mut self, name: &str) -> Result<Option<Self>, RpcError> {
        let fields = self.optional::<Map<String, Value>>(name)?;
        Ok(fields.map(|fields| self.inner(fields, format_args!("{name}."))))
    }

    /// Takes a list of such objects, which may be missing or `null`; finish each.
    pub fn objects(&mut self, name: &str) -> Result<Option<Vec<Self>>, RpcError> {
        let Some(list) = self.optional::<Vec<Map<String, Value>>>(name)? else { return Ok(None) };
        let object = |(index, fields)| self.inner(fields, format_args!("{name}[{index}]."));
        Ok(Some(list.into_iter().enumerate().map(object).collect()))
    }

    fn inner(&self, fields: Map<String, Value>, path: fmt::Arguments<'_>) -> Self {
        let parent = format!("{}{path}", self.parent);
        Self { fields: Some(fields), parent, report: self.report.clone() }
    }

    /// Refuses the value at `path` of the parameters, `name` or `list[1]`, for that reason. Where
    /// they are only read, that is noted, and the rest is read as well.
    pub fn refuse(
        &self,
        path: fmt::Arguments<'_>,
        reason: fmt::Arguments<'_>,
    ) -> Result<(), RpcError> {
        let path = format!("{}{path}", self.parent);
        let Some(report) = &self.report else {
            return Err(RpcError::params(format_args!("'{path}': {reason}")));
        };
        report.borrow_mut().note(&path, "", reason.to_string(), None);
        Ok(())
    }

    /// Drops parameters that mean nothing here but that SPDK's client always sends.
    pub fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.take(name);
        }
    }

    /// Refuses parameters that were not taken, naming them.
    pub fn finish(self) -> Result<(), RpcError> {
        let names: Vec<&String> = self.fields.iter().flat_map(Map::keys).collect();
        if let Some(report) = &self.report {
            names.iter().for_each(|name| report.borrow_mut().note_unknown(&self.parent, name));
        } else if !names.is_empty() {
            let names: Vec<String> =
                names.into_iter().map(|name| format!("'{}'", self.path(name))).collect();
            return Err(RpcError::params(format_args!("{UNKNOWN} {}", names.join(", "))));
        }
        self.end()
    }

    /// Takes whatever else there is.
    pub fn leave(self) -> Result<(), RpcError> {
        self.end()
    }

    /// The same parameters, only to be read; what is found goes to `report`.
    pub(crate) fn only_read(self, report: &Rc<RefCell<Report>>) -> Self {
        Self { report: Some(Rc::clone(report)), ..self }
    }

    /// The last parameter has been read.
    fn end(self) -> Result<(), RpcError> {
        let Some(report) = self.report.filter(|_| self.parent.is_empty()) else { return Ok(()) };
        report.borrow_mut().is_complete = true;
        Err(only_read())
    }

    /// The value of a parameter, and 0; or what stands in for one that is missing, and 1.
    fn take_required(&mut self, name: &str) -> Result<(Value, usize), RpcError> {
        if let Some(value) = self.take(name).filter(|value| !value.is_null()) {
            return Ok((value, 0));
        }
        self.wrong(name, &MISSING, format_args!("parameter '{}' is missing", self.path(name)))?;
        Ok((json!(""), 1))
    }

    /// What to try where `wrong` values were of the wrong type: one of each type in turn. Only the
    /// first of them was given, if any was.
    fn instead(
        &self,
        name: &str,
        error: &serde_json::Error,
        wrong: usize,
    ) -> Result<Value, RpcError> {
        if wrong == 0 {
            self.is_of_wrong_type(name, error)?;
        }
        let all = [json!(""), json!(0), json!(false), json!([]), json!({})];
        all.into_iter().nth(wrong).ok_or_else(only_read)
    }

    fn is_of_wrong_type(&self, name: &str, error: &serde_json::Error) -> Result<(), RpcError> {
        self.wrong(name, error, format_args!("parameter '{}': {error}", self.path(name)))
    }

    /// Notes what is wrong in few `words`, or refuses it with an `answer`.
    fn wrong(
        &self,
        name: &str,
        words: &dyn fmt::Display,
        answer: fmt::Arguments<'_>,
    ) -> Result<(), RpcError> {
        let Some(report) = &self.report else { return Err(RpcError::params(answer)) };
        report.borrow_mut().note(&self.parent, name, words.to_string(), None);
        Ok(())
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let value = self.fields.as_mut().and_then(|fields| fields.remove(name));
        if let Some(report) = &self.report {
            let known = (self.parent.clone(), name.into(), value.is_some());
            report.borrow_mut().known.push(known);
        }
        value
    }

    fn path(&self, name: &str) -> String {
        format!("{}{name}", self.parent)
    }
}

/// What a method answers that was only to read its parameters; nobody gets it.
fn only_read() -> RpcError {
    RpcError::new(RpcError::INTERNAL, "the parameters were only read")
}
