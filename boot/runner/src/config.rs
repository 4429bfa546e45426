//! Checks a configuration file before it is handed to the image, so that a slip shows at once and
//! not as a line on the guest's console.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// Checks that `path` holds JSON with a `subsystems` array, the form SPDK saves and loads.
///
/// # Errors
/// A file that cannot be read, is no JSON, or has no such array.
pub fn check(path: &Path) -> anyhow::Result<()> {
    read(path).map(drop)
}

/// The `subsystems` array in `path`.
///
/// # Errors
/// As [`check`].
pub fn read(path: &Path) -> anyhow::Result<Vec<Value>> {
    let shown = path.display();
    if path.is_dir() {
        bail!("--config {shown}: this is a directory; name a JSON file");
    }
    let text = fs::read(path).with_context(|| {
        format!("--config {shown}: cannot read the configuration; check the path")
    })?;
    let mut value: Value = serde_json::from_slice(&text)
        .with_context(|| format!("--config {shown}: not valid JSON; correct it there"))?;
    if let Some(Value::Array(subsystems)) = value.get_mut("subsystems").map(Value::take) {
        return Ok(subsystems);
    }
    bail!(
        "--config {shown}: has no \"subsystems\" array; the form is \
         {{\"subsystems\":[{{\"subsystem\":\"bdev\",\"config\":[{{\"method\":…,\"params\":…}}]}}]}}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        format!("{:#}", check(file.path()).unwrap_err())
    }

    #[test]
    fn a_configuration_needs_a_subsystems_array() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), r#"{"subsystems":[]}"#).unwrap();
        check(file.path()).unwrap();
        assert!(refusal("{}").contains("subsystems"));
        assert!(refusal(r#"{"subsystems":{}}"#).contains("subsystems"));
        assert!(refusal("[1]").contains("subsystems"));
    }

    #[test]
    fn broken_json_is_reported_with_its_place() {
        assert!(refusal("{\"subsystems\": [\n}").contains("line 2"));
        assert!(refusal("").contains("not valid JSON"));
    }

    #[test]
    fn a_directory_is_no_configuration() {
        let error = check(Path::new("/")).unwrap_err().to_string();
        assert!(error.contains("directory"), "{error}");
    }
}
