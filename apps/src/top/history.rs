//! The course of figures over the last samples.

use std::collections::{BTreeMap, VecDeque};

/// Samples kept of each figure: as many as a very wide screen has columns.
const SAMPLES_MAX: usize = 512;
/// Figures followed; rows beyond that have no course.
const SERIES_MAX: usize = 8192;

/// Eighths of a character cell's height.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Series of figures by name.
#[derive(Debug, Default)]
pub(crate) struct History {
    series: BTreeMap<String, VecDeque<f64>>,
    /// Counts the samples taken, to find series that have ended.
    taken: BTreeMap<String, u64>,
    samples: u64,
}

impl History {
    /// Adds one sample of every figure. Figures that are not among them any more are forgotten.
    pub(crate) fn take(&mut self, figures: impl IntoIterator<Item = (String, f64)>) {
        self.samples += 1;
        for (name, figure) in figures {
            if self.series.len() >= SERIES_MAX && !self.series.contains_key(&name) {
                continue;
            }
            let series = self.series.entry(name.clone()).or_default();
            if series.len() == SAMPLES_MAX {
                series.pop_front();
            }
            series.push_back(figure);
            self.taken.insert(name, self.samples);
        }
        let Self { series, taken, samples } = self;
        taken.retain(|_, last| last == samples);
        series.retain(|name, _| taken.contains_key(name));
    }

    /// The newest samples of a figure, at most `n`, the oldest first.
    pub(crate) fn last(&self, name: &str, n: usize) -> Vec<f64> {
        let Some(series) = self.series.get(name) else { return Vec::new() };
        series.iter().skip(series.len().saturating_sub(n)).copied().collect()
    }

    /// The same as bars, `width` characters in one line, the newest to the right; the highest bar is the largest sample.
    pub(crate) fn bars(&self, name: &str, width: usize) -> String {
        let samples = self.last(name, width);
        let largest = samples.iter().copied().fold(0.0, f64::max);
        let bars = samples.iter().map(|&sample| BARS[eighths(sample, largest, 1)]);
        std::iter::repeat_n(' ', width.saturating_sub(samples.len())).chain(bars).collect()
    }
}

/// Height of a bar in eighths of a line, where the largest is `lines` high. What is not nothing is seen.
pub(crate) fn eighths(sample: f64, largest: f64, lines: usize) -> usize {
    if sample <= 0.0 || largest <= 0.0 {
        return 0;
    }
    let full = 8 * lines;
    ((sample / largest * full as f64).round() as usize).clamp(1, full)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(history: &mut History, figure: f64) {
        history.take([("a".to_owned(), figure)]);
    }

    #[test]
    fn bars_end_with_the_newest_sample_and_scale_with_the_largest() {
        let mut history = History::default();
        [0.0, 1.0, 4.0, 8.0].into_iter().for_each(|figure| one(&mut history, figure));
        assert_eq!(history.bars("a", 6), "   ▁▄█");
        assert_eq!(history.bars("a", 2), "▄█");
        assert_eq!(history.bars("b", 2), "  ");
    }

    #[test]
    fn little_is_not_nothing() {
        assert_eq!(
            [eighths(0.0, 9.0, 1), eighths(1e-9, 9.0, 1), eighths(9.0, 9.0, 2), eighths(1.0, 0.0, 1)],
            [0, 1, 16, 0]
        );
    }

    #[test]
    fn memory_is_bounded_and_what_is_gone_is_forgotten() {
        let mut history = History::default();
        (0..2 * SAMPLES_MAX).for_each(|n| one(&mut history, n as f64));
        assert_eq!(history.last("a", usize::MAX).len(), SAMPLES_MAX);
        history.take((0..2 * SERIES_MAX).map(|n| (n.to_string(), 1.0)));
        assert_eq!((history.series.len() <= SERIES_MAX, history.last("a", 1).len()), (true, 0));
    }
}
