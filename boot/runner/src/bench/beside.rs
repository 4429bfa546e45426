//! A measurement of Basalt beside the same of Linux, as a table and as JSON.

use std::fmt;

use serde_json::{Value, json};

use crate::accel::Accel;

/// What is measured on either side.
pub(super) trait Figures: Sized + 'static {
    /// The least that Basalt's value counts as in a ratio: below, values cannot be told apart.
    const LEAST: f64;
    /// What the table shows, in order.
    const ROWS: &'static [Row<Self>];

    /// What was measured, and on which machine.
    fn title() -> String;

    /// For programs.
    fn to_json(&self) -> Value;
}

/// A row's name with its unit, and its value; none if that side has none.
pub(super) type Row<F> = (&'static str, fn(&F) -> Option<f64>);

/// Both sides.
#[derive(Debug)]
pub(super) struct Report<F> {
    pub(super) accel: Accel,
    pub(super) basalt: F,
    pub(super) linux: Option<F>,
}

impl<F: Figures> Report<F> {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "accel": self.accel.name(),
            "basalt": self.basalt.to_json(),
            "linux": self.linux.as_ref().map(F::to_json),
        })
    }
}

impl<F: Figures> fmt::Display for Report<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, {}\n", F::title(), self.accel.name())?;
        let heads = self.linux.as_ref().map_or(("", ""), |_| ("Linux", "Basalt is better by"));
        writeln!(f, "{:<28}{:>10}{:>10}{:>21}", "", "Basalt", heads.0, heads.1)?;
        for (name, value) in F::ROWS {
            let basalt = value(&self.basalt);
            let mut line = format!("{name:<28}{:>10}", text(basalt));
            if let Some(linux) = &self.linux {
                let linux = value(linux);
                let ratio = basalt.zip(linux).map(|(basalt, linux)| linux / basalt.max(F::LEAST));
                let ratio = ratio.map(|ratio| format!("{ratio:.1}x")).unwrap_or_default();
                line.push_str(&format!("{:>10}{ratio:>21}", text(linux)));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn text(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.1}"))
}
