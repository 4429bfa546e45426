//! Tables of text.

use std::cmp::Ordering;

/// What stands in a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Words, on the left.
    Text(String),
    /// A number with so many decimals, on the right.
    Number(f64, usize),
}

impl Cell {
    /// Words.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A whole number.
    pub const fn whole(number: f64) -> Self {
        Self::Number(number, 0)
    }

    fn print(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number, decimals) => grouped(*number, *decimals),
        }
    }

    /// Numbers from the largest down, words from A to Z.
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a, _), Self::Number(b, _)) => b.total_cmp(a),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Number(..), Self::Text(_)) => Ordering::Less,
            (Self::Text(_), Self::Number(..)) => Ordering::Greater,
        }
    }
}

/// A number as people read it: 1,234,567.
fn grouped(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    let whole = text.split('.').next().unwrap_or_default().len();
    let mut grouped = String::new();
    for (at, letter) in text.chars().enumerate() {
        let is_digit = at > 0 && at < whole && text.as_bytes()[at - 1].is_ascii_digit();
        if is_digit && (whole - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(letter);
    }
    grouped
}

/// How rows are put in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sorting {
    /// By which column; as they come if none.
    pub column: Option<usize>,
    /// The other way round.
    pub reversed: bool,
}

/// Rows under a heading.
#[derive(Debug)]
pub struct Table {
    /// The names of the columns.
    pub columns: &'static [&'static str],
    /// The rows, each with as many cells.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Puts the rows in order.
    pub fn sort(&mut self, sorting: Sorting) {
        if let Some(column) = sorting.column {
            self.rows.sort_by(|a, b| match (a.get(column), b.get(column)) {
                (Some(a), Some(b)) => a.compare(b),
                _ => Ordering::Equal,
            });
        }
        if sorting.reversed {
            self.rows.reverse();
        }
    }

    /// The heading and the rows as lines of at most `width` letters, with the mark of `sorting` in
    /// the heading. Where there is not room for all, texts are shortened, and of what is still too
    /// wide the last columns are left out: no number is ever cut.
    pub fn lines(&self, width: usize, sorting: Sorting) -> Vec<String> {
        let head = self.heading(sorting);
        let body: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(Cell::print).collect()).collect();
        let widths = self.widths(&head, &body, width);
        let line = |cells: &[String]| {
            let mut line = String::new();
            for (at, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                let cell = shortened(cell, *width);
                let space = " ".repeat(width.saturating_sub(letters(&cell)));
                let (before, after) =
                    if self.is_number(at) { (&*space, "") } else { ("", &*space) };
                line.push_str(&format!("{before}{cell}{after}  "));
            }
            line.trim_end().to_owned()
        };
        [line(&head)].into_iter().chain(body.iter().map(|cells| line(cells))).collect()
    }

    fn heading(&self, sorting: Sorting) -> Vec<String> {
        let mark = if sorting.reversed { "^" } else { "v" };
        let named = self.columns.iter().enumerate().map(|(at, name)| match sorting.column {
            Some(column) if column == at => format!("{name} {mark}"),
            _ => (*name).to_owned(),
        });
        named.collect()
    }

    fn is_number(&self, at: usize) -> bool {
        let cell = self.rows.first().and_then(|row| row.get(at));
        matches!(cell, Some(Cell::Number(..)))
    }

    /// How wide each column is that there is room for.
    fn widths(&self, head: &[String], body: &[Vec<String>], width: usize) -> Vec<usize> {
        let widest = |at: usize| {
            let cells = body.iter().filter_map(|row| row.get(at)).chain(head.get(at));
            cells.map(|cell| letters(cell)).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..head.len()).map(widest).collect();
        let total = |widths: &[usize]| (widths.len() * GAP + widths.iter().sum::<usize>()) - GAP;
        let least = |widths: &[usize]| {
            let least = widths.iter().enumerate().map(|(at, width)| match self.is_number(at) {
                true => *width,
                false => TEXT_MIN.min(*width),
            });
            total(&least.collect::<Vec<_>>())
        };
        while widths.len() > 1 && least(&widths) > width {
            widths.pop();
        }
        while total(&widths) > width {
            let is_long = |at: &usize| !self.is_number(*at) && widths[*at] > TEXT_MIN;
            let longest = (0..widths.len()).filter(is_long).max_by_key(|at| widths[*at]);
            let Some(longest) = longest else { break };
            widths[longest] -= 1;
        }
        if let [only] = &mut widths[..] {
            *only = width.min(*only);
        }
        widths
    }
}

/// Spaces between columns.
const GAP: usize = 2;
/// What is left of a text that has to be shortened, letters.
const TEXT_MIN: usize = 12;

fn letters(text: &str) -> usize {
    text.chars().count()
}

/// A text of at most `width` letters, whose last says that there were more.
fn shortened(text: &str, width: usize) -> String {
    if letters(text) <= width {
        return text.to_owned();
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain("…".chars().take(width)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let row = |name: &str, rate: f64| vec![Cell::text(name), Cell::whole(rate)];
        Table { columns: &["NAME", "RATE"], rows: vec![row("b", 7.0), row("a", 1_234_567.4)] }
    }

    fn lines(table: &Table, width: usize) -> Vec<String> {
        table.lines(width, Sorting::default())
    }

    #[test]
    fn words_stand_left_and_numbers_right_and_nothing_beyond_the_width() {
        let all = ["NAME       RATE", "b             7", "a     1,234,567"];
        assert_eq!(lines(&table(), 80), all);
        assert_eq!(lines(&table(), 15), all);
        assert_eq!(lines(&table(), 14), ["NAME", "b", "a"], "a number is there or is not");
        assert_eq!(lines(&table(), 3), ["NA…", "b", "a"]);
        assert_eq!(lines(&table(), 0), [""; 3]);
    }

    #[test]
    fn texts_are_shortened_so_that_numbers_stay() {
        let name = "nqn.2026-11.io.basalt:storage";
        let row = vec![Cell::text(name), Cell::whole(7.0), Cell::text("short")];
        let table = Table { columns: &["SUBSYSTEM", "QID", "HOST"], rows: vec![row] };
        assert_eq!(lines(&table, 41)[1], "nqn.2026-11.io.basalt:storage    7  short");
        assert_eq!(lines(&table, 30)[1], "nqn.2026-11.io.ba…    7  short");
        assert_eq!(lines(&table, 24)[1], "nqn.2026-11…    7  short");
        assert_eq!(lines(&table, 23)[1], "nqn.2026-11.io.ba…    7");
        assert_eq!(lines(&table, 17)[1], "nqn.2026-11…    7");
    }

    #[test]
    fn the_column_that_rows_are_sorted_by_is_marked() {
        let head = |column, reversed| table().lines(80, Sorting { column, reversed })[0].clone();
        assert_eq!(head(None, true), "NAME       RATE");
        assert_eq!(head(Some(0), false), "NAME v       RATE");
        assert_eq!(head(Some(1), true), "NAME     RATE ^");
    }

    #[test]
    fn rows_are_sorted_by_any_column_and_either_way() {
        let first = |column, reversed| {
            let mut table = table();
            table.sort(Sorting { column, reversed });
            table.rows[0][0].clone()
        };
        assert_eq!(first(None, false), Cell::text("b"));
        assert_eq!(first(Some(0), false), Cell::text("a"));
        assert_eq!(first(Some(1), false), Cell::text("a"));
        assert_eq!(first(Some(1), true), Cell::text("b"));
        assert_eq!(first(Some(9), false), Cell::text("b"));
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let printed = [(0.0, 0), (999.0, 0), (1000.0, 0), (12_345.678, 2), (-1234.0, 0)];
        let printed = printed.map(|(number, decimals)| grouped(number, decimals));
        assert_eq!(printed, ["0", "999", "1,000", "12,345.68", "-1,234"]);
    }
}
