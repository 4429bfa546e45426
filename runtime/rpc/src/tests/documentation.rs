//! The pages of `docs/configuration` tell of every method, and of each what it is.
//!
//! What is read of a page is little: a heading `### ` that names methods in code spans begins their
//! section, in which a line `When: ` says when they may be called, and a table whose first column
//! is headed `Parameter` names the parameters, those of an object within as `object.name` and
//! those of a list of objects as `list[].name`. Of methods that are there to say why they are not,
//! the page `refused.md` quotes the reason in a paragraph of its own, and names them in the next.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::Machine;
use crate::State;

/// Methods of `runtime/app`, which are on a page as well.
const OF_THE_APPLICATION: [&str; 3] = ["bench_exit", "bench_run", "env_get_mem_stats"];

/// What may stand behind `When: `, and in which states that is.
const TIMES: [(&str, &[State]); 3] = [
    ("at any time.", &[State::Startup, State::Runtime]),
    ("at start-up only.", &[State::Startup]),
    ("at run time.", &[State::Runtime]),
];

struct Section {
    page: String,
    methods: Vec<String>,
    lines: Vec<String>,
}

/// The pages by name.
fn pages() -> BTreeMap<String, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration");
    let entries = fs::read_dir(&directory).expect("there are pages");
    let read = entries.map(|entry| {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, fs::read_to_string(&path).expect("a page is text"))
    });
    read.filter(|(name, _)| name.ends_with(".md")).collect()
}

fn code_spans(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(String::from)
}

fn sections() -> Vec<Section> {
    pages().iter().flat_map(|(page, text)| sections_of(page, text)).collect()
}

fn sections_of(page: &str, text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let (mut in_code, mut in_section) = (false, false);
    for line in text.lines() {
        in_code ^= line.starts_with("```");
        if !in_code && line.starts_with('#') {
            in_section = line.starts_with("### `");
            let methods = code_spans(line).collect();
            if in_section {
                sections.push(Section { page: page.into(), methods, lines: Vec::new() });
            }
        } else if in_section && let Some(section) = sections.last_mut() {
            section.lines.push(line.into());
        }
    }
    sections
}

/// What is named in the first column of the tables that are headed `Parameter`.
fn parameters(lines: &[String]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut in_table = false;
    for line in lines {
        let first = line.split('|').nth(1).map(str::trim);
        in_table = first == Some("Parameter") || in_table && first.is_some();
        if in_table {
            names.extend(code_spans(first.unwrap_or_default()));
        }
    }
    names
}

impl Section {
    fn when(&self) -> &str {
        let said = self.lines.iter().find_map(|line| line.strip_prefix("When: "));
        said.unwrap_or_else(|| panic!("{}: {:?}: no line 'When: …'", self.page, self.methods))
    }

    /// The parameters that `method` has in an example.
    fn examples_of(&self, method: &str) -> Vec<Value> {
        let mut blocks: Vec<String> = Vec::new();
        let mut in_json = false;
        for line in &self.lines {
            if line.starts_with("```") {
                in_json = line == "```json";
                blocks.push(String::new());
            } else if in_json && let Some(block) = blocks.last_mut() {
                block.push_str(line);
            }
        }
        let mut found = Vec::new();
        for block in blocks.iter().filter(|block| !block.is_empty()) {
            let json = serde_json::from_str(block).expect("an example is JSON");
            collect_calls(&json, method, &mut found);
        }
        found
    }
}

/// The parameters of all calls of `method` somewhere in `json`.
fn collect_calls(json: &Value, method: &str, found: &mut Vec<Value>) {
    match json {
        Value::Array(list) => list.iter().for_each(|inner| collect_calls(inner, method, found)),
        Value::Object(fields) if fields.get("method").is_some_and(|name| name == method) => {
            found.extend(fields.get("params").cloned());
        }
        Value::Object(fields) => {
            fields.values().for_each(|inner| collect_calls(inner, method, found));
        }
        _ => {}
    }
}

/// `list[1].` is `list[].`.
fn without_index(parent: &str) -> String {
    let parts = parent.split('[').map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()));
    parts.collect::<Vec<_>>().join("[")
}

/// What a method looks for, in parameters of every shape that may have it look for more.
fn looked_for(machine: &Machine, method: &str, examples: Vec<Value>) -> BTreeSet<String> {
    let read = |params: Value| {
        let known = machine.rpc.read_params(method, Some(params)).known;
        known.into_iter().map(|(parent, name, _)| format!("{}{name}", without_index(&parent)))
    };
    let mut names: BTreeSet<String> = read(json!({})).collect();
    let known = names.clone();
    let shaped = |name: &String, inner: Value| {
        let mut params = Map::new();
        params.insert(name.clone(), inner);
        Value::Object(params)
    };
    let objects =
        known.iter().flat_map(|name| [shaped(name, json!({})), shaped(name, json!([{}]))]);
    names.extend(objects.chain(examples).flat_map(read));
    names
}

/// Why a method is refused that reads no parameters, but says at once that it is not to be had.
fn refusal(machine: &Machine, method: &str) -> Option<String> {
    let report = machine.rpc.read_params(method, Some(json!({})));
    let is_refused = !report.is_complete && report.known.is_empty();
    let message = report.wrong.into_iter().next().map(|wrong| wrong.message);
    message.filter(|message| is_refused && message != "the method takes no parameters")
}

/// What the page of refused methods names, and the reason it gives.
fn refused() -> Vec<(String, String)> {
    let page = pages().remove("refused.md").expect("there is a page of what is refused");
    let mut refused = Vec::new();
    let mut reason = String::new();
    for paragraph in page.split("\n\n") {
        if let Some(quoted) = paragraph.strip_prefix("> ") {
            reason = quoted.replace("\n> ", " ");
            continue;
        }
        if !reason.is_empty() {
            refused.extend(code_spans(paragraph).map(|method| (method, reason.clone())));
        }
        reason.clear();
    }
    refused
}

#[test]
fn every_method_is_told_of_in_one_place() {
    let machine = Machine::new();
    let mut told: Vec<String> = sections()
        .into_iter()
        .flat_map(|section| section.methods)
        .chain(refused().into_iter().map(|(method, _)| method))
        .collect();
    told.sort();
    let twice: Vec<_> = told.windows(2).filter(|two| two[0] == two[1]).collect();
    assert!(twice.is_empty(), "told of twice: {twice:?}");
    let names = machine.rpc.router().names(None).chain(OF_THE_APPLICATION);
    let mut names: Vec<String> = names.map(String::from).collect();
    names.sort();
    let missing: Vec<_> = names.iter().filter(|name| !told.contains(name)).collect();
    let unheard_of: Vec<_> = told.iter().filter(|name| !names.contains(name)).collect();
    assert!(missing.is_empty(), "on no page of docs/configuration: {missing:#?}");
    assert!(unheard_of.is_empty(), "not methods: {unheard_of:?}");
}

#[test]
fn the_parameters_of_a_method_are_those_that_it_looks_for() {
    let machine = Machine::new();
    let mut wrong: Vec<String> = Vec::new();
    for section in sections() {
        let told = parameters(&section.lines);
        for method in &section.methods {
            if !machine.rpc.router().contains(method) {
                continue;
            }
            let known = looked_for(&machine, method, section.examples_of(method));
            let page = &section.page;
            let untold: Vec<_> = known.difference(&told).collect();
            if !untold.is_empty() {
                wrong.push(format!("{page}: {method}: not told of {untold:?}"));
            }
            let unknown: Vec<_> = told.difference(&known).collect();
            if !unknown.is_empty() {
                wrong.push(format!("{page}: {method}: does not look for {unknown:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_section_says_when_its_methods_may_be_called() {
    let machine = Machine::new();
    let in_state =
        |method: &str, state| machine.rpc.router().names(Some(state)).any(|m| m == method);
    for section in sections() {
        let when = section.when();
        let (_, states) = TIMES.iter().find(|(words, _)| *words == when).expect(when);
        let known = section.methods.iter().filter(|name| machine.rpc.router().contains(name));
        for method in known {
            for state in [State::Startup, State::Runtime] {
                let is_told = states.contains(&state);
                assert_eq!(
                    in_state(method, state),
                    is_told,
                    "{}: {method}: {state:?}",
                    section.page
                );
            }
        }
    }
}

#[test]
fn what_is_refused_is_told_with_its_reason() {
    let machine = Machine::new();
    let told: BTreeMap<String, String> = refused().into_iter().collect();
    for method in machine.rpc.router().names(None) {
        let reason = refusal(&machine, method);
        assert_eq!(told.get(method), reason.as_ref(), "{method}");
    }
}

#[test]
fn every_page_is_in_the_table_of_pages() {
    let mut pages = pages();
    let index = pages.remove("README.md").expect("there is an index");
    for name in pages.keys() {
        assert!(index.contains(&format!("]({name})")), "{name}");
    }
}
