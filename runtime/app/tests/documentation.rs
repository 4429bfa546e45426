//! Examples in the documentation are configurations that pass the check.
//!
//! A block of JSON is a whole configuration (`subsystems`), one subsystem of it, or one call. Lines
//! that begin with `$ spdk-rpc` call methods that there are.

use std::path::{Path, PathBuf};
use std::{fs, io};

use basalt_app::configuration::check;
use serde_json::{Value, json};

/// Commands of SPDK's client that are no methods.
const OF_THE_CLIENT: [&str; 2] = ["save_config", "load_config"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn find_pages(directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            find_pages(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    Ok(())
}

/// Every page, with its name.
fn pages() -> io::Result<Vec<(String, String)>> {
    let mut found = vec![root().join("README.md")];
    find_pages(&root().join("docs"), &mut found)?;
    let read = |path: PathBuf| Ok((path.display().to_string(), fs::read_to_string(&path)?));
    found.into_iter().map(read).collect()
}

/// The blocks of JSON of a page, with the number of their first line.
fn blocks(page: &str) -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let mut in_json = false;
    for (number, line) in (1..).zip(page.lines()) {
        if line.starts_with("```") {
            in_json = line == "```json";
            blocks.push((number + 1, String::new()));
        } else if in_json && let Some((_, block)) = blocks.last_mut() {
            block.push_str(line);
            block.push('\n');
        }
    }
    blocks.into_iter().filter(|(_, block)| !block.is_empty()).collect()
}

/// As a file that the machine would be given.
fn whole(example: Value) -> Value {
    if example.get("subsystems").is_some() {
        return example;
    }
    let subsystem = match example.get("subsystem") {
        Some(_) => example,
        None => json!({"subsystem": "bdev", "config": [example]}),
    };
    json!({"subsystems": [subsystem]})
}

/// What is wrong with a configuration, without the places, which are not those of the page.
fn wrong_with(configuration: &Value) -> Vec<String> {
    let checked = check(configuration.to_string().as_bytes());
    assert!(checked.calls > 0 || !checked.complaints.is_empty(), "no calls: {configuration}");
    let said =
        |complaint: &basalt_rpc::Complaint| format!("{}: {}", complaint.path, complaint.message);
    checked.complaints.iter().map(said).collect()
}

#[test]
fn every_example_passes_the_check_of_the_machine() {
    let mut examples = 0;
    let mut wrong: Vec<String> = Vec::new();
    for (page, text) in pages().expect("the pages can be read") {
        for (line, block) in blocks(&text) {
            examples += 1;
            match serde_json::from_str(&block) {
                Ok(example) => {
                    let said = wrong_with(&whole(example));
                    wrong.extend(said.iter().map(|said| format!("{page}:{line}: {said}")));
                }
                Err(error) => wrong.push(format!("{page}:{line}: {error}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(examples > 3, "hardly any examples were found");
}

/// The command of a line `$ spdk-rpc -s ADDRESS -p PORT COMMAND …`.
fn command(line: &str) -> Option<&str> {
    let mut words = line.trim_start().strip_prefix("$ spdk-rpc ")?.split_whitespace();
    loop {
        match words.next()? {
            "-s" | "-p" => drop(words.next()),
            command => return Some(command),
        }
    }
}

#[test]
fn every_command_line_calls_a_method_that_there_is() {
    for (page, text) in pages().expect("the pages can be read") {
        let commands = text.lines().filter_map(command);
        for command in commands.filter(|command| !OF_THE_CLIENT.contains(command)) {
            let call = json!({"method": command, "params": {"?": 0}});
            let said = wrong_with(&whole(call));
            let is_unknown = said.iter().any(|said| said.ends_with("unknown method"));
            assert!(!is_unknown, "{page}: there is no method {command}");
        }
    }
}

/// `runtime/rpc` has a test that says more, of its own methods.
#[test]
fn the_parameters_that_are_told_of_the_benchmark_are_known() {
    let page = fs::read_to_string(root().join("docs/configuration/bench.md")).expect("a page");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let rows: Vec<&str> = rows.collect();
    assert!(rows.contains(&"bdev"), "{rows:?}");
    for name in rows {
        let call = json!({"method": "bench_run", "params": {name: null}});
        let said = wrong_with(&whole(call));
        assert!(!said.iter().any(|said| said.ends_with("unknown parameter")), "{name}: {said:?}");
    }
}
