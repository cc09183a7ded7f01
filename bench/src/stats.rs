//! The little statistics that the reports stand on: medians, spreads, and ratios of runs made side by side.

use serde::Serialize;

/// Median, least and greatest of some runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub runs: usize,
}

impl Spread {
    /// None without a single finite value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Self { median: (lower + upper) / 2.0, min, max, runs: sorted.len() })
    }
}

/// Ratios of `ours` to `reference`, run by run: run `n` of both was made within seconds, so that what the machine
/// did to one it did to the other. Runs which only one of them has are left out.
pub fn pairwise_ratio(ours: &[(u32, f64)], reference: &[(u32, f64)]) -> Option<Spread> {
    Spread::of(ours.iter().filter_map(|(run, value)| {
        let (_, against) = reference.iter().find(|(other, _)| other == run)?;
        (*against != 0.0).then(|| value / against)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_an_even_number_of_runs_lies_between_the_middle_two() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.5, min: 1.0, max: 4.0, runs: 4 });
    }

    #[test]
    fn median_of_an_odd_number_of_runs_is_one_of_them() {
        assert_eq!(Spread::of([9.0, 1.0, 3.0]).map(|spread| spread.median), Some(3.0));
        assert_eq!(Spread::of([7.0]).map(|spread| (spread.median, spread.runs)), Some((7.0, 1)));
    }

    #[test]
    fn values_that_are_no_numbers_do_not_count() {
        assert_eq!(Spread::of([f64::NAN, 2.0, f64::INFINITY]).map(|spread| spread.runs), Some(1));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratio_compares_runs_made_together_and_not_medians() {
        // The machine was twice as slow in run 2, for both: every ratio is 2 although the medians' ratio is not.
        let ours = [(1, 8.0), (2, 4.0), (3, 6.0)];
        let reference = [(1, 4.0), (2, 2.0), (3, 3.0)];
        let ratio = pairwise_ratio(&ours, &reference).unwrap();
        assert_eq!((ratio.min, ratio.median, ratio.max), (2.0, 2.0, 2.0));
    }

    #[test]
    fn ratio_leaves_out_runs_without_a_partner_and_division_by_zero() {
        let ratio = pairwise_ratio(&[(1, 5.0), (2, 6.0), (4, 1.0)], &[(2, 3.0), (3, 1.0), (4, 0.0)]).unwrap();
        assert_eq!((ratio.median, ratio.runs), (2.0, 1));
        assert_eq!(pairwise_ratio(&[(1, 5.0)], &[(2, 3.0)]), None);
    }
}
