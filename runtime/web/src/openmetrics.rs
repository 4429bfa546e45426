//! `/metrics`: a snapshot in OpenMetrics text 1.0, or in the text format 0.0.4 of Prometheus, which
//! differs in what it calls counters, and in its end.

use alloc::string::String;
use core::fmt::Write as _;

use basalt_bdev::Latency;

use crate::families::FAMILIES;
use crate::of::Of;
use crate::snapshot::Snapshot;

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// OpenMetrics.
    Open,
    /// That of Prometheus.
    Plain,
}

/// What a family of metrics is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    Info,
}

/// Metrics of one name.
pub struct Family {
    /// Its name, without `basalt_`, but with its unit.
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Unit,
    pub help: &'static str,
    /// What it is counted of.
    pub of: Of,
}

/// What a metric is counted in, and how its values are given. A name ends with its unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Things.
    One,
    Bytes,
    Celsius,
    /// Given in hundredths.
    Ratio,
    /// Given in nanoseconds.
    Seconds,
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::One => "",
            Self::Bytes => "bytes",
            Self::Celsius => "celsius",
            Self::Ratio => "ratio",
            Self::Seconds => "seconds",
        }
    }
}

/// Where the writing of metrics is: in which family, at which thing.
pub struct Metrics {
    form: Form,
    family: usize,
    at: usize,
    samples: Samples,
}

impl Metrics {
    /// At the beginning.
    pub fn new(form: Form) -> Self {
        let (kind, unit) = (Kind::Gauge, Unit::One);
        let samples = Samples { text: String::new(), name: "", kind, unit };
        Self { form, family: 0, at: 0, samples }
    }

    /// Writes a part of them; says whether there is more.
    #[inline(never)]
    pub fn step(&mut self, all: &Snapshot) -> bool {
        let Some(family) = FAMILIES.get(self.family) else {
            if self.form == Form::Open {
                self.samples.text.push_str("# EOF\n");
            }
            return false;
        };
        if self.at < family.of.count(all) {
            if self.at == 0 {
                self.samples.begin(family, self.form);
            }
            family.of.write(&mut self.samples, all, self.at);
            self.at += 1;
        } else {
            (self.family, self.at) = (self.family + 1, 0);
        }
        true
    }

    /// What has been written.
    pub fn finish(self) -> String {
        self.samples.text
    }
}

/// The samples of the family that is being written.
pub struct Samples {
    text: String,
    name: &'static str,
    kind: Kind,
    unit: Unit,
}

impl Samples {
    #[inline(never)]
    fn begin(&mut self, family: &'static Family, form: Form) {
        let Family { name, kind, unit, help, .. } = *family;
        (self.name, self.kind, self.unit) = (name, kind, unit);
        let (kind_name, suffix) = match (kind, form) {
            (Kind::Counter, Form::Open) => ("counter", ""),
            (Kind::Counter, Form::Plain) => ("counter", "_total"),
            (Kind::Gauge, _) => ("gauge", ""),
            (Kind::Histogram, _) => ("histogram", ""),
            (Kind::Info, Form::Open) => ("info", ""),
            (Kind::Info, Form::Plain) => ("gauge", "_info"),
        };
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "# TYPE basalt_{name}{suffix} {kind_name}");
        if form == Form::Open && unit != Unit::One {
            let _ = writeln!(self.text, "# UNIT basalt_{name} {}", unit.name());
        }
        let _ = writeln!(self.text, "# HELP basalt_{name}{suffix} {help}");
    }

    /// A sample of a thing with these labels.
    pub fn add(&mut self, labels: &[(&str, &str)], value: u64) {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.sample(suffix, labels, None);
        self.text.push(' ');
        match self.unit {
            Unit::Seconds => self.seconds(value),
            Unit::Ratio => self.seconds(value.saturating_mul(10_000_000)),
            _ => drop(write!(self.text, "{value}")),
        }
        self.text.push('\n');
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], upper_ns: Option<u64>) {
        let _ = write!(self.text, "basalt_{}{suffix}", self.name);
        let mut bracket = '{';
        for (name, value) in labels {
            let _ = write!(self.text, "{bracket}{name}=\"");
            value.chars().for_each(|c| self.escaped(c));
            self.text.push('"');
            bracket = ',';
        }
        if let Some(upper_ns) = upper_ns {
            let _ = write!(self.text, "{bracket}le=\"");
            match upper_ns {
                u64::MAX => self.text.push_str("+Inf"),
                ns => self.seconds(ns),
            }
            self.text.push('"');
            bracket = ',';
        }
        if bracket == ',' {
            self.text.push('}');
        }
    }

    fn escaped(&mut self, character: char) {
        match character {
            '\\' => self.text.push_str("\\\\"),
            '"' => self.text.push_str("\\\""),
            '\n' => self.text.push_str("\\n"),
            other => self.text.push(other),
        }
    }

    /// A time in seconds: exactly, and as a floating-point number has it, whose text has a point.
    fn seconds(&mut self, ns: u64) {
        let (whole, part) = (ns / 1_000_000_000, ns % 1_000_000_000);
        let _ = write!(self.text, "{whole}.{part:09}");
        while self.text.ends_with('0') && !self.text.ends_with(".0") {
            self.text.pop();
        }
    }

    /// The buckets of a histogram, one for each power of two, and what they sum up to.
    #[inline(never)]
    pub fn histogram(&mut self, labels: &[(&str, &str)], latency: &Latency, total_ns: u64) {
        let mut count = 0;
        for (at, (upper_ns, ios)) in (1..).zip(latency.buckets()) {
            count += ios;
            let is_shown = upper_ns == u64::MAX || (at > FIRST && at % STEP == 0 && at < LAST);
            if is_shown {
                self.sample("_bucket", labels, Some(upper_ns));
                let _ = writeln!(self.text, " {count}");
            }
        }
        self.sample("_count", labels, None);
        let _ = writeln!(self.text, " {count}");
        self.sample("_sum", labels, None);
        self.text.push(' ');
        self.seconds(total_ns);
        self.text.push('\n');
    }
}

/// Of the buckets, four for each power of two, every so many are shown, from 1 µs to 17 s: more
/// tell little and take room in who collects them.
const STEP: usize = 4;
const FIRST: usize = 9 * STEP;
const LAST: usize = 35 * STEP;
