//! Families as text, in one of the two formats that scrapers ask for.

use std::fmt;
use std::sync::Mutex;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit as WireUnit};

use super::families::{self, Family, Unit, Value};
use crate::snapshot::Snapshot;

/// In front of every name.
const PREFIX: &str = "tailwater";

/// Text formats of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's text format 0.0.4, which everybody reads.
    Prometheus,
}

impl Format {
    /// What a scraper's `Accept` header asks for.
    pub(super) fn accepted(header: &str) -> Self {
        if header.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// The page of a snapshot.
pub(super) fn write(snapshot: &Snapshot, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Families(Mutex::new(families::of(snapshot)))));
    let mut page = String::new();
    match format {
        Format::OpenMetrics => text::encode(&mut page, &registry)?,
        Format::Prometheus => prometheus_text::encode(&mut page, &registry)?,
    }
    Ok(page)
}

/// The families, as the registry wants them. The lock is never contended: it makes them shareable, as the trait asks.
#[derive(Debug)]
struct Families(Mutex<Vec<Family>>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let families = self.0.lock().map_err(|_| fmt::Error)?;
        families.iter().try_for_each(|family| encode_family(&mut encoder, family))
    }
}

fn encode_family(encoder: &mut DescriptorEncoder<'_>, family: &Family) -> Result<(), fmt::Error> {
    let Some((_, first)) = family.samples.first() else { return Ok(()) };
    let unit = family.unit.map(|unit| match unit {
        Unit::Bytes => WireUnit::Bytes,
        Unit::Seconds => WireUnit::Seconds,
    });
    let kind = match first {
        Value::Counter(_) | Value::Seconds(_) => MetricType::Counter,
        Value::Gauge(_) => MetricType::Gauge,
        Value::Info => MetricType::Info,
        Value::Sizes { .. } => MetricType::Histogram,
    };
    let mut encoder = encoder.encode_descriptor(&family.name, family.help, unit.as_ref(), kind)?;
    for (labels, value) in &family.samples {
        match value {
            Value::Info => encoder.encode_info(labels)?,
            value => encode_value(encoder.encode_family(labels)?, value)?,
        }
    }
    Ok(())
}

fn encode_value(mut encoder: MetricEncoder<'_>, value: &Value) -> Result<(), fmt::Error> {
    match value {
        Value::Counter(n) => encoder.encode_counter(n, None::<&Exemplar<NoLabelSet, f64>>),
        Value::Seconds(secs) => encoder.encode_counter(secs, None::<&Exemplar<NoLabelSet, f64>>),
        Value::Gauge(n) => encoder.encode_gauge(n),
        Value::Sizes { sum, counts } => {
            let count = counts.iter().map(|(_, n)| n).sum();
            encoder.encode_histogram::<NoLabelSet>(*sum as f64, count, counts, None)
        }
        Value::Info => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::sample;

    fn page(format: Format) -> String {
        let mut snapshot = sample::snapshot(10_000);
        snapshot.workers.truncate(1);
        snapshot.interfaces[0].description = "a \"quoted\" \\ name".into();
        write(&snapshot, format).unwrap()
    }

    #[test]
    fn page_in_either_format_is_as_recorded() {
        insta::assert_snapshot!("openmetrics", page(Format::OpenMetrics));
        insta::assert_snapshot!("prometheus", page(Format::Prometheus));
    }

    /// What `promtool check metrics` asks for.
    #[test]
    fn names_helps_and_types_are_as_the_linter_wants_them() {
        let page = page(Format::Prometheus);
        let meta = |kind: &str| -> Vec<(String, String)> {
            let lines = page.lines().filter_map(|line| line.strip_prefix(kind)?.trim().split_once(' '));
            lines.map(|(name, rest)| (name.to_owned(), rest.to_owned())).collect()
        };
        let (helps, types) = (meta("# HELP "), meta("# TYPE "));
        assert!(types.len() > 50, "{}", types.len());
        let names = |list: &[(String, String)]| list.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&helps), names(&types), "each family has both, once");
        let mut unique = names(&types);
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), types.len(), "a family is split");
        for (name, kind) in &types {
            assert!(name.starts_with("tailwater_"), "{name}");
            assert!(name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'), "{name}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name} {kind}");
            let words: Vec<&str> = name.split('_').collect();
            let kinds = ["counter", "gauge", "histogram", "summary"];
            let small = ["ms", "ns", "us", "milliseconds", "nanoseconds", "microseconds", "kb", "mb", "kilobytes"];
            assert!(!words.iter().any(|word| kinds.contains(word) || small.contains(word)), "{name}");
            let suffix = words.last().unwrap();
            assert!(kind == "histogram" || !["count", "sum", "bucket"].contains(suffix), "{name}");
        }
        assert!(helps.iter().all(|(_, help)| help.len() > 5), "{helps:?}");
    }

    #[test]
    fn format_is_what_the_scraper_asks_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        assert_eq!(Format::accepted("*/*"), Format::Prometheus);
        assert_eq!(Format::accepted(""), Format::Prometheus);
    }
}
