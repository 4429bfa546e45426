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

    /// The heading and the rows as lines of at most `width` letters.
    pub fn lines(&self, width: usize) -> Vec<String> {
        let body: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(Cell::print).collect()).collect();
        let letters = |text: &str| text.chars().count();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| {
                let cells = body.iter().filter_map(|row| row.get(at)).map(|cell| letters(cell));
                cells.chain([letters(self.columns[at])]).max().unwrap_or(0)
            })
            .collect();
        let is_number = |at: usize| {
            let cells = self.rows.first().and_then(|row| row.get(at));
            matches!(cells, Some(Cell::Number(..)))
        };
        let line = |cells: &[String]| {
            let mut line = String::new();
            for (at, cell) in cells.iter().enumerate() {
                let space = " ".repeat(widths[at] - letters(cell));
                let (before, after) = if is_number(at) { (&*space, "") } else { ("", &*space) };
                line.push_str(&format!("{before}{cell}{after}  "));
            }
            let cut: String = line.chars().take(width).collect();
            cut.trim_end().to_owned()
        };
        let head: Vec<String> = self.columns.iter().map(|name| (*name).to_owned()).collect();
        [line(&head)].into_iter().chain(body.iter().map(|cells| line(cells))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let row = |name: &str, rate: f64| vec![Cell::text(name), Cell::whole(rate)];
        Table { columns: &["NAME", "RATE"], rows: vec![row("b", 7.0), row("a", 1_234_567.4)] }
    }

    #[test]
    fn words_stand_left_and_numbers_right_and_nothing_beyond_the_width() {
        assert_eq!(table().lines(80), ["NAME       RATE", "b             7", "a     1,234,567"]);
        assert_eq!(table().lines(6), ["NAME", "b", "a"]);
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
