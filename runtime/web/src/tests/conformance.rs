//! Whether the metrics are OpenMetrics 1.0, by its rules.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::Machine;

/// A sample as it is read: its name, its labels and its value.
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

fn read_sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            let (value, after) = read_text(after);
            labels.push((label.to_string(), value));
            if let Some(after) = after.strip_prefix('}') {
                rest = after;
                break;
            }
            rest = after.strip_prefix(',').unwrap();
        }
    }
    let value = rest.strip_prefix(' ').unwrap();
    assert!(!value.contains(' '), "{line} has a time");
    Sample { name: name.into(), labels, value: value.parse().unwrap() }
}

/// A quoted text, whose opening quote is read, and what comes after it.
fn read_text(text: &str) -> (String, &str) {
    let (mut value, mut characters) = (String::new(), text.char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => match characters.next().unwrap().1 {
                'n' => value.push('\n'),
                other @ ('\\' | '"') => value.push(other),
                other => panic!("\\{other} means nothing"),
            },
            other => value.push(other),
        }
    }
    panic!("{text} does not end");
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Checks all of it; gives the samples.
fn check(text: &str) -> Vec<Sample> {
    let body = text.strip_suffix("# EOF\n").expect("the end is missing");
    let (mut families, mut all, mut series) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
    let (mut family, mut kind, mut unit) = (String::new(), "", "");
    for line in body.lines() {
        if let Some(told) = line.strip_prefix("# TYPE ") {
            let (name, told) = told.split_once(' ').unwrap();
            assert!(families.insert(name.to_string()), "{name} comes twice");
            assert!(name.starts_with("basalt_") && is_name(name), "{name}");
            assert!(!name.ends_with("_total") && !name.ends_with("_info"), "{name}");
            (family, kind, unit) = (name.into(), told, "");
        } else if let Some(told) = line.strip_prefix("# UNIT ") {
            let (name, told) = told.split_once(' ').unwrap();
            assert!(name == family && name.ends_with(&alloc::format!("_{told}")), "{line}");
            unit = told;
        } else if let Some(told) = line.strip_prefix("# HELP ") {
            assert_eq!(told.split_once(' ').unwrap().0, family);
        } else {
            let sample = read_sample(line);
            check_sample(&sample, &family, kind);
            assert!(series.insert((sample.name.clone(), sample.labels.clone())), "twice: {line}");
            all.push(sample);
        }
        assert!(unit.is_empty() || kind != "info", "{line}");
    }
    all
}

fn check_sample(sample: &Sample, family: &str, kind: &str) {
    let suffix = sample.name.strip_prefix(family).expect("a sample of another family");
    let suits = match kind {
        "counter" => suffix == "_total",
        "gauge" => suffix.is_empty(),
        "info" => suffix == "_info" && sample.value == 1.0,
        "histogram" => ["_bucket", "_count", "_sum"].contains(&suffix),
        _ => false,
    };
    assert!(suits, "{} is no {kind}", sample.name);
    assert!(kind == "gauge" || (sample.value >= 0.0 && sample.value.is_finite()));
    let names: BTreeSet<_> = sample.labels.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), sample.labels.len(), "a label comes twice");
    assert!(names.iter().all(|name| is_name(name)));
}

/// Names and values.
type Labels = Vec<(String, String)>;

/// The buckets of each histogram, by its labels but `le`.
fn histograms(samples: &[Sample]) -> BTreeMap<Labels, Vec<(f64, f64)>> {
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for sample in samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
        let (le, labels): (Vec<_>, Vec<_>) =
            sample.labels.iter().cloned().partition(|(name, _)| name == "le");
        found.entry(labels).or_default().push((le[0].1.parse().unwrap(), sample.value));
    }
    found
}

#[test]
fn the_metrics_are_openmetrics() {
    let mut machine = Machine::new().with_subsystem();
    let (head, text) = machine.get("/metrics");
    let media = "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    assert!(head.contains(media), "{head}");
    let samples = check(&text);
    let find = |name: &str, label: &str| {
        let of = |sample: &&Sample| {
            sample.name == name && sample.labels.iter().any(|(_, value)| value == label)
        };
        samples.iter().find(of).map(|sample| sample.value)
    };
    assert_eq!(find("basalt_bdev_size_bytes", "odd \"na\\me\""), Some(32768.0));
    assert_eq!(find("basalt_subsystem_namespaces", "nqn.2026-11.io.basalt:web"), Some(1.0));
    assert!(find("basalt_core_rounds_total", "1").is_some_and(|rounds| rounds > 0.0));
    assert_eq!(find("basalt_bdev_errors_total", "nvme_media"), Some(0.0));
    let histograms = histograms(&samples);
    assert_eq!(histograms.len(), 4, "two bdevs, read and written");
    for buckets in histograms.values() {
        assert!(buckets.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1));
        assert_eq!(buckets.last().unwrap().0, f64::INFINITY);
    }
}

#[test]
fn the_text_format_has_counters_by_their_whole_names_and_no_end() {
    let mut machine = Machine::new();
    let (head, content) =
        machine.ask("GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: text/plain\r\n\r\n");
    assert!(head.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    let text = String::from_utf8(content).unwrap();
    assert!(text.contains("\n# TYPE basalt_core_rounds_total counter\n"));
    assert!(text.contains("# TYPE basalt_build_info gauge\n"));
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
}
