//! From runs to a table: per row and column the median, the spread, and the ratio to the reference row.

use serde::Serialize;

use crate::report::{Better, Measure, Row, Sample};
use tailwater_bench::stats::{Spread, pairwise_ratio};

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cell {
    pub contender: String,
    pub column: String,
    /// The offered load the figure was found at.
    pub load: String,
    pub value: Spread,
    /// Run by run against the reference row; None in that row itself and where it has no partner.
    pub ratio: Option<Spread>,
}

/// One table of a report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Table {
    pub measure: Measure,
    pub rows: Vec<String>,
    pub cells: Vec<Cell>,
}

impl Table {
    pub(crate) fn make(measure: &Measure, rows: &[Row], samples: &[Sample]) -> Self {
        let mut cells = Vec::new();
        for column in &measure.columns {
            let reference = chosen(measure, samples, &measure.reference, column);
            for row in rows {
                let Some((load, runs)) = chosen(measure, samples, &row.name, column) else { continue };
                let Some(value) = Spread::of(runs.iter().map(|(_, value)| *value)) else { continue };
                let against = reference.as_ref().filter(|_| row.name != measure.reference);
                let ratio = against.and_then(|(_, reference)| pairwise_ratio(&runs, reference));
                cells.push(Cell { contender: row.name.clone(), column: column.clone(), load, value, ratio });
            }
        }
        Self { measure: measure.clone(), rows: rows.iter().map(|row| row.name.clone()).collect(), cells }
    }

    pub(crate) fn cell(&self, contender: &str, column: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.contender == contender && cell.column == column)
    }
}

/// Runs by number.
type Runs = Vec<(u32, f64)>;

/// The runs that make a cell: those of the measure's load, or of the load whose median is best.
fn chosen(measure: &Measure, samples: &[Sample], contender: &str, column: &str) -> Option<(String, Runs)> {
    let mut by_load: Vec<(String, Runs)> = Vec::new();
    for sample in samples.iter().filter(|sample| sample.contender == contender && sample.column == column) {
        if measure.load.as_ref().is_some_and(|load| *load != sample.load) {
            continue;
        }
        let Some(&value) = sample.values.get(&measure.value) else { continue };
        match by_load.iter_mut().find(|(load, _)| *load == sample.load) {
            Some((_, runs)) => runs.push((sample.run, value)),
            None => by_load.push((sample.load.clone(), vec![(sample.run, value)])),
        }
    }
    let median =
        |runs: &Runs| Spread::of(runs.iter().map(|(_, value)| *value)).map_or(f64::NAN, |spread| spread.median);
    by_load.into_iter().reduce(|best, other| {
        let (a, b) = (median(&best.1), median(&other.1));
        let other_is_better = match measure.better {
            Better::Higher => b > a,
            Better::Lower => b < a,
        };
        if other_is_better { other } else { best }
    })
}

#[cfg(test)]
mod tests {
    use crate::report::example;

    #[test]
    fn best_takes_each_contender_at_the_load_where_its_median_is_best() {
        let tables = example::report().tables();
        let cell = tables[0].cell("ours", "64 B").unwrap();
        assert_eq!((cell.load.as_str(), cell.value.median), ("delay 24", 1.8));
        // 1.5/1.0, 3.2/2.0, 1.8/1.2
        assert_eq!(cell.ratio.unwrap().median, 1.5);
    }

    #[test]
    fn a_named_load_takes_only_its_own_samples() {
        let tables = example::report().tables();
        let cell = tables[1].cell("ours", "64 B").unwrap();
        assert_eq!((cell.load.as_str(), cell.value.median, cell.ratio.unwrap().median), ("full", 0.6, 0.5));
    }

    #[test]
    fn the_reference_has_no_ratio_and_what_was_not_measured_no_cell() {
        let tables = example::report().tables();
        assert!(tables[0].cell("kernel", "64 B").unwrap().ratio.is_none());
        assert!(tables[0].cell("kernel", "1518 B").is_none());
        assert!(tables[0].cell("dpdk", "64 B").is_none());
    }

    #[test]
    fn lower_is_better_where_the_measure_says_so() {
        let mut report = example::report();
        report.measures[0].better = crate::report::Better::Lower;
        assert_eq!(report.tables()[0].cell("ours", "64 B").unwrap().load, "full");
    }
}
