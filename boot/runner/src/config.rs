//! Checks a configuration file as the image does, so that a slip shows at once and not as a line on
//! the guest's console.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use basalt_app::configuration::{self, Checked};
use serde_json::Value;

/// `cargo run -- check FILE`: says what is wrong with a configuration, line by line, on standard
/// error, or that nothing is.
///
/// # Errors
/// A file that cannot be read.
pub fn report(path: &Path) -> anyhow::Result<ExitCode> {
    let shown = path.display();
    let Checked { calls, complaints } = configuration::check(&text(path)?);
    if complaints.is_empty() {
        println!("{shown}: {calls} calls, nothing is wrong with them");
        return Ok(ExitCode::SUCCESS);
    }
    for complaint in &complaints {
        eprintln!("{shown}:{complaint}");
    }
    Ok(ExitCode::FAILURE)
}

/// Checks the configuration in `path`, which `--config` names.
///
/// # Errors
/// A file that cannot be read, or with anything wrong in it, of which all is told.
pub fn check(path: &Path) -> anyhow::Result<()> {
    checked(path).map(drop)
}

/// The subsystems of the configuration in `path`, which `--config` names.
///
/// # Errors
/// As [`check`].
pub fn read(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = checked(path)?;
    // What is empty but for white space is a configuration as well, without any.
    let mut value: Value = serde_json::from_slice(&text).unwrap_or_default();
    match value.get_mut("subsystems").map(Value::take) {
        Some(Value::Array(subsystems)) => Ok(subsystems),
        _ => Ok(Vec::new()),
    }
}

/// The text, with which nothing is wrong.
fn checked(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let text = text(path).context("--config")?;
    let complaints = configuration::check(&text).complaints;
    if complaints.is_empty() {
        return Ok(text);
    }
    let lines: Vec<_> =
        complaints.iter().map(|complaint| format!("\n  {shown}:{complaint}")).collect();
    bail!("--config {shown}: correct this:{}", lines.concat());
}

fn text(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    if path.is_dir() {
        bail!("{shown}: this is a directory; name a JSON file");
    }
    fs::read(path)
        .with_context(|| format!("{shown}: cannot read the configuration; check the path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    fn refusal(text: &str) -> String {
        format!("{:#}", check(file(text).path()).unwrap_err())
    }

    #[test]
    fn what_the_image_takes_is_taken() {
        let subsystems = |text: &str| read(file(text).path()).unwrap();
        let bdev = serde_json::json!({"subsystem": "bdev", "config": null});
        assert_eq!(subsystems(&format!("{{\"subsystems\": [{bdev}]}}")), [bdev]);
        for text in ["", "{}", r#"{"subsystems": []}"#, r#"{"subsystems": null}"#] {
            assert_eq!(subsystems(text), Vec::<Value>::new(), "{text}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_with_its_place() {
        assert!(refusal("{\"subsystems\": [\n}").contains(":2:1: expected value"));
        assert!(refusal(r#"{"subsystems":{}}"#).contains(":1:2: subsystems: this is not an array"));
        let two = refusal(r#"{"subsystems": [1, {"subsystem": "moon"}]}"#);
        assert!(two.contains("subsystems[0]") && two.contains("unknown subsystem"), "{two}");
    }

    #[test]
    fn a_directory_is_no_configuration() {
        let error = format!("{:#}", check(Path::new("/")).unwrap_err());
        assert!(error.contains("directory"), "{error}");
    }
}
