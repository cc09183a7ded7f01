//! A table of figures: a pane of the screen, a section of the text, an array in JSON.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use crate::table::Table;

/// One figure or name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Text(String),
    /// Events or bits per second.
    Rate(f64),
    /// How many there are.
    Count(u64),
    /// So many for each of something; nothing where there was none.
    Ratio(Option<f64>),
    /// A part of a whole, 0 to 100.
    Percent(f64),
}

/// What stands in a column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Name in JSON.
    pub(crate) key: &'static str,
    pub(crate) heading: &'static str,
    /// Where there is too little room, columns with the highest number go first; those with 0 stay.
    pub(crate) rank: u8,
}

/// Shorthand for tables of columns.
pub(crate) const fn column(key: &'static str, heading: &'static str, rank: u8) -> Column {
    Column { key, heading, rank }
}

/// A counter behind a row: what it is, how many per second, how many in all.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Detail {
    pub(crate) name: String,
    pub(crate) rate: f64,
    pub(crate) total: u64,
}

/// A line of figures about one thing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) cells: Vec<Cell>,
    /// The figure whose course is shown.
    pub(crate) trend: f64,
    pub(crate) details: Vec<Detail>,
}

/// Rows under their headings.
#[derive(Clone, Debug)]
pub(crate) struct Sheet {
    /// Plural name, also in JSON.
    pub(crate) title: &'static str,
    pub(crate) columns: &'static [Column],
    pub(crate) rows: Vec<Row>,
}

impl Cell {
    /// The figure for people, short.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Rate(rate) => scaled(*rate),
            Self::Count(n) => scaled(*n as f64),
            Self::Ratio(None) => "-".to_owned(),
            Self::Ratio(Some(ratio)) if *ratio < 100.0 => format!("{ratio:.1}"),
            Self::Ratio(Some(ratio)) => scaled(*ratio),
            Self::Percent(percent) => format!("{percent:.0}%"),
        }
    }

    /// What to sort by; `None` for text and for nothing.
    fn number(&self) -> Option<f64> {
        match self {
            Self::Text(_) => None,
            Self::Rate(n) | Self::Percent(n) => Some(*n),
            Self::Count(n) => Some(*n as f64),
            Self::Ratio(ratio) => *ratio,
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.clone()),
            Self::Rate(n) | Self::Percent(n) => Value::from((n * 1000.0).round() / 1000.0),
            Self::Count(n) => Value::from(*n),
            Self::Ratio(ratio) => ratio.map_or(Value::Null, |n| Value::from((n * 1000.0).round() / 1000.0)),
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            _ => self.number().unwrap_or(-1.0).total_cmp(&other.number().unwrap_or(-1.0)),
        }
    }
}

impl Row {
    /// Name of the thing: its texts, in one line.
    pub(crate) fn name(&self) -> String {
        let texts = self.cells.iter().filter_map(|cell| match cell {
            Cell::Text(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect::<Vec<_>>().join("  ")
    }

    /// Whether anything happened to it.
    pub(crate) fn is_idle(&self) -> bool {
        self.trend == 0.0 && self.cells.iter().all(|cell| !matches!(cell, Cell::Rate(rate) if *rate != 0.0))
    }
}

impl Sheet {
    /// Orders the rows by a column. Equal ones keep their order.
    pub(crate) fn sort(&mut self, column: usize, descending: bool) {
        let order = |one: &Row, other: &Row| match (one.cells.get(column), other.cells.get(column)) {
            (Some(one), Some(other)) if descending => other.order(one),
            (Some(one), Some(other)) => one.order(other),
            _ => Ordering::Equal,
        };
        self.rows.sort_by(order);
    }

    /// Keeps the rows whose texts contain `wanted`, in whatever case.
    pub(crate) fn filter(&mut self, wanted: &str) {
        let wanted = wanted.to_lowercase();
        self.rows.retain(|row| row.name().to_lowercase().contains(&wanted));
    }

    /// All of it as text.
    pub(crate) fn table(&self) -> Table {
        let headings: Vec<&str> = self.columns.iter().map(|column| column.heading).collect();
        let mut table = Table::new(&headings);
        self.rows.iter().for_each(|row| table.row(row.cells.iter().map(Cell::text).collect()));
        // Sentences and names of several words read badly from the right.
        let is_words = |at: &usize| {
            let mut cells = self.rows.iter().filter_map(|row| row.cells.get(*at));
            cells.any(|cell| matches!(cell, Cell::Text(text) if text.contains(|letter: char| !letter.is_ascii_digit())))
        };
        (0..self.columns.len()).filter(is_words).for_each(|at| table.left(at));
        table
    }

    /// An array of objects.
    pub(crate) fn json(&self) -> Value {
        let object = |row: &Row| -> Map<String, Value> {
            let pairs = self.columns.iter().zip(&row.cells);
            pairs.map(|(column, cell)| (column.key.to_owned(), cell.json())).collect()
        };
        self.rows.iter().map(object).collect()
    }
}

/// Three or four digits and a unit: `999`, `12.3k`, `1.23M`, `10.0G`.
pub(crate) fn scaled(n: f64) -> String {
    let (n, unit) = match n {
        n if n < 9_999.5 => (n, ""),
        n if n < 999_950.0 => (n / 1e3, "k"),
        n if n < 999_950_000.0 => (n / 1e6, "M"),
        n if n < 999_950_000_000.0 => (n / 1e9, "G"),
        n => (n / 1e12, "T"),
    };
    match (unit, n) {
        ("", n) if n > 0.0 && n < 9.95 && n.fract() != 0.0 => format!("{n:.1}"),
        ("", n) => format!("{n:.0}"),
        (unit, n) if n < 9.995 => format!("{n:.2}{unit}"),
        (unit, n) if n < 99.95 => format!("{n:.1}{unit}"),
        (unit, n) => format!("{n:.0}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet() -> Sheet {
        const COLUMNS: &[Column] = &[column("name", "NAME", 0), column("pps", "PPS", 0), column("per", "PER", 1)];
        let row = |name: &str, rate: f64, ratio| Row {
            cells: vec![Cell::Text(name.into()), Cell::Rate(rate), Cell::Ratio(ratio)],
            ..Row::default()
        };
        Sheet { title: "things", columns: COLUMNS, rows: vec![row("b", 2.0, None), row("a", 1e6, Some(3.25))] }
    }

    fn names(sheet: &Sheet) -> Vec<String> {
        sheet.rows.iter().map(Row::name).collect()
    }

    #[test]
    fn figures_are_short() {
        let figures = [0.0, 0.5, 999.0, 9999.0, 12_345.0, 999_949.0, 1_234_567.0, 9.9e9, 1.5e12];
        assert_eq!(figures.map(scaled), ["0", "0.5", "999", "9999", "12.3k", "1000k", "1.23M", "9.90G", "1.50T"]);
        assert_eq!(
            [Cell::Ratio(Some(31.94)), Cell::Ratio(None), Cell::Percent(99.6)].map(|cell| cell.text()),
            ["31.9", "-", "100%"]
        );
    }

    #[test]
    fn rows_are_sorted_by_any_column_and_nothing_comes_last() {
        let mut sheet = sheet();
        sheet.sort(0, false);
        assert_eq!(names(&sheet), ["a", "b"]);
        sheet.sort(1, false);
        assert_eq!(names(&sheet), ["b", "a"]);
        sheet.sort(2, true);
        assert_eq!(names(&sheet), ["a", "b"]);
        sheet.sort(99, true);
        assert_eq!(names(&sheet), ["a", "b"]);
    }

    #[test]
    fn filter_looks_at_names_in_any_case() {
        let mut sheet = sheet();
        sheet.filter("B");
        assert_eq!(names(&sheet), ["b"]);
    }

    #[test]
    fn text_and_json_hold_the_same_columns() {
        let sheet = sheet();
        assert_eq!(sheet.table().lines(), ["  NAME    PPS  PER", "  b         2    -", "  a     1.00M  3.2"]);
        assert_eq!(sheet.json()[1], serde_json::json!({ "name": "a", "pps": 1e6, "per": 3.25 }));
    }
}
