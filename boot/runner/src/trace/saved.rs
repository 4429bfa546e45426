//! What a machine has told of its tracepoints, out of files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Deserializer, Value};

use super::capture::{Capture, CoreTrace, Piece};

/// What a file is to hold.
const REMEDY: &str = "give it what trace_get_events {\"core\": N} answers, one answer or several";

/// Reads files of answers of `trace_get_events`: as they are, as replies of JSON-RPC, or lists of
/// either, one after the other.
///
/// # Errors
/// A file cannot be read, or holds something else.
pub fn read(files: &[PathBuf]) -> anyhow::Result<Capture> {
    let mut pieces = Vec::new();
    for path in files {
        let text = fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        let before = pieces.len();
        read_text(&text, &mut pieces).with_context(|| wrong(path))?;
        if pieces.len() == before {
            bail!("{}: there is nothing in it; {REMEDY}", path.display());
        }
    }
    Ok(join(pieces))
}

fn wrong(path: &Path) -> String {
    format!("{} is no saved trace; {REMEDY}", path.display())
}

fn read_text(text: &str, pieces: &mut Vec<Piece>) -> anyhow::Result<()> {
    for (number, value) in (1..).zip(Deserializer::from_str(text).into_iter()) {
        add(value?, pieces).with_context(|| format!("value {number}"))?;
    }
    Ok(())
}

fn add(value: Value, pieces: &mut Vec<Piece>) -> anyhow::Result<()> {
    match value {
        Value::Array(list) => list.into_iter().try_for_each(|value| add(value, pieces)),
        Value::Object(mut reply) if reply.contains_key("jsonrpc") => match reply.remove("result") {
            Some(answer) => add(answer, pieces),
            None => bail!("it is a reply without a result: {}", Value::Object(reply)),
        },
        Value::Object(_) => {
            pieces.push(Piece::read(value)?);
            Ok(())
        }
        other => bail!("{other} is no answer"),
    }
}

/// Puts pieces together. What is in several of them is there once; what is in none is lost.
fn join(mut pieces: Vec<Piece>) -> Capture {
    pieces.sort_by_key(|piece| (piece.core, piece.next));
    let mut cores: BTreeMap<u64, CoreTrace> = BTreeMap::new();
    let mut fields = BTreeMap::new();
    for piece in pieces {
        let first = piece.next.saturating_sub(piece.events.len() as u64);
        fields.extend(piece.fields);
        let core = cores.entry(piece.core).or_insert_with(|| CoreTrace {
            core: piece.core,
            next: first.saturating_sub(piece.lost),
            ..CoreTrace::default()
        });
        core.lost += first.saturating_sub(core.next);
        let known = core.next.saturating_sub(first);
        core.events.extend(piece.events.into_iter().skip(known as usize));
        core.next = piece.next;
    }
    Capture { cores: cores.into_values().collect(), fields }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn piece(core: u64, numbers: std::ops::Range<u64>, lost: u64) -> Value {
        let events: Vec<Value> = numbers.clone().map(|n| json!(["SOCK_SENT", n * 10, n])).collect();
        let tpoints = json!({"SOCK_SENT": ["connection"]});
        json!({"core": core, "next": numbers.end, "written": 99, "lost": lost,
               "tpoints": tpoints, "events": events})
    }

    fn from(text: &str) -> anyhow::Result<Capture> {
        let mut pieces = Vec::new();
        read_text(text, &mut pieces)?;
        Ok(join(pieces))
    }

    fn times(capture: &Capture, core: usize) -> Vec<u64> {
        capture.cores[core].events.iter().map(|event| event.at_ns / 10).collect()
    }

    #[test]
    fn answers_in_any_form_and_order_are_one_trace() {
        let reply = json!({"jsonrpc": "2.0", "id": 1, "result": piece(1, 4..6, 0)});
        let text = format!("{reply}\n{} [{}, {}]", piece(0, 0..3, 0), piece(1, 0..4, 0), reply);
        let capture = from(&text).unwrap();
        assert_eq!(capture.cores.iter().map(|core| core.core).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(times(&capture, 0), [0, 1, 2]);
        assert_eq!(times(&capture, 1), [0, 1, 2, 3, 4, 5], "what is there twice counts once");
        assert_eq!((capture.lost(), capture.fields["SOCK_SENT"][0].as_str()), (0, "connection"));
    }

    #[test]
    fn what_is_missing_is_counted_once_and_what_overlaps_is_not_missing() {
        let text = [piece(0, 10..12, 3), piece(0, 11..15, 0), piece(0, 20..21, 5)];
        let capture = from(&json!(text).to_string()).unwrap();
        assert_eq!(times(&capture, 0), [10, 11, 12, 13, 14, 20]);
        assert_eq!(capture.lost(), 3 + 5);
    }

    #[test]
    fn what_is_no_answer_is_refused_with_what_would_be_one() {
        let error = json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -19, "message": "off"}});
        let no_event = json!({"core": 0, "next": 1, "written": 1, "lost": 0, "events": [["A"]]});
        for (text, says) in [
            ("{".into(), "EOF"),
            ("7".into(), "7 is no answer"),
            ("{}".into(), "no number \"core\""),
            (error.to_string(), "without a result"),
            (json!({"core": 0, "next": 1, "written": 1, "lost": 0}).to_string(), "\"events\""),
            (no_event.to_string(), "[\"A\"] is no event"),
        ] {
            let said = format!("{:#}", from(&text).unwrap_err());
            assert!(said.contains(says), "{text}: {said}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let said = format!("{:#}", read(&[file.path().into()]).unwrap_err());
        assert!(said.contains("nothing in it") && said.contains("trace_get_events"), "{said}");
        let said = format!("{:#}", read(&["/nowhere/x".into()]).unwrap_err());
        assert!(said.contains("cannot read /nowhere/x"), "{said}");
    }
}
