//! What a scenario leaves behind: every run, the tables made of them, and the files a reader opens.

pub(crate) mod files;
mod markdown;
mod plot;
mod table;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::host::Host;

pub(crate) use table::{Cell, Table};

/// Whether more is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// What is measured, and how its table is laid out.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measure {
    /// Short and unique: part of file names.
    pub name: String,
    pub title: String,
    pub unit: String,
    pub better: Better,
    /// Row that the others are divided by.
    pub reference: String,
    /// In their order.
    pub columns: Vec<String>,
    /// The offered load whose samples make the table; without one, each contender's best.
    pub load: Option<String>,
    /// Key of the value in the samples.
    pub value: String,
}

/// A row, or why there is none.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub name: String,
    pub about: String,
    /// Who spends the receive work, which sink, who polls: what the name does not say.
    pub setting: String,
    /// What was started and set.
    pub commands: Vec<String>,
    pub absent: Option<String>,
}

/// One run of one contender.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    pub contender: String,
    pub column: String,
    /// Empty where there is no offered load.
    pub load: String,
    pub run: u32,
    pub values: BTreeMap<String, f64>,
    /// Whether nothing else used the CPUs just before.
    pub quiet: bool,
}

/// Everything about one scenario.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub scenario: String,
    pub about: String,
    /// The command line that makes this report again.
    pub command: String,
    pub host: Host,
    /// What a reader must know to read the tables right.
    pub notes: Vec<String>,
    pub runs: u32,
    pub secs: f64,
    /// False if it was interrupted: the tables then hold what was finished.
    pub complete: bool,
    pub rows: Vec<Row>,
    pub measures: Vec<Measure>,
    pub samples: Vec<Sample>,
}

impl Report {
    pub(crate) fn row_mut(&mut self, name: &str) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.name == name)
    }

    /// Leaves out the notes on rows that were not measured: those that name rows, of all that there may be, in quotation
    /// marks, and none that is there.
    pub(crate) fn drop_notes_on_others(&mut self, names: &[String]) {
        let Self { notes, samples, .. } = self;
        notes.retain(|note| {
            let mut named = names.iter().filter(|name| note.contains(&format!("\"{name}\""))).peekable();
            named.peek().is_none() || named.any(|name| samples.iter().any(|sample| sample.contender == *name))
        });
    }

    pub(crate) fn tables(&self) -> Vec<Table> {
        self.measures.iter().map(|measure| Table::make(measure, &self.rows, &self.samples)).collect()
    }

    /// Share of the samples that were taken on a quiet machine.
    pub(crate) fn quiet_share(&self) -> f64 {
        let quiet = self.samples.iter().filter(|sample| sample.quiet).count();
        if self.samples.is_empty() { 0.0 } else { quiet as f64 / self.samples.len() as f64 }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn notes_on_rows_that_were_not_measured_are_left_out() {
        let mut report = super::example::report();
        let kept = ["On \"close\" and all.", "\"dpdk\" is not \"ours\".", "\"kernel\" has this."];
        report.notes = kept.iter().map(|note| (*note).to_owned()).collect();
        report.notes.insert(1, "\"dpdk\" has that.".into());
        report.drop_notes_on_others(&["kernel", "ours", "dpdk"].map(str::to_owned));
        assert_eq!(report.notes, kept);
    }
}

#[cfg(test)]
pub(crate) mod example {
    use super::*;

    fn sample(contender: &str, load: &str, run: u32, mpps: f64) -> Sample {
        let values = BTreeMap::from([("mpps".to_owned(), mpps)]);
        Sample { contender: contender.into(), column: "64 B".into(), load: load.into(), run, values, quiet: run != 2 }
    }

    /// Two contenders, two loads, three runs; "ours" is best below full load; "dpdk" is absent.
    pub(crate) fn report() -> Report {
        let mut samples = Vec::new();
        for (run, (kernel, ours_full, ours_less)) in
            [(1.0, 0.5, 1.5), (2.0, 0.9, 3.2), (1.2, 0.6, 1.8)].into_iter().enumerate()
        {
            let run = run as u32 + 1;
            samples.push(sample("kernel", "full", run, kernel));
            samples.push(sample("ours", "full", run, ours_full));
            samples.push(sample("ours", "delay 24", run, ours_less));
        }
        let measure = |name: &str, load: Option<&str>| Measure {
            name: name.into(),
            title: format!("Packet rate, {name}"),
            unit: "Mpps".into(),
            better: Better::Higher,
            reference: "kernel".into(),
            columns: vec!["64 B".into(), "1518 B".into()],
            load: load.map(str::to_owned),
            value: "mpps".into(),
        };
        let row = |name: &str, absent: Option<&str>| Row {
            name: name.into(),
            about: format!("{name} | forwarding"),
            setting: "all on CPU 0".into(),
            commands: vec![format!("run {name}")],
            absent: absent.map(str::to_owned),
        };
        Report {
            scenario: "example".into(),
            about: "An example".into(),
            command: "tailwater-bench run example".into(),
            host: Host {
                kernel: "6.18".into(),
                cpu_model: "Some CPU".into(),
                cpus: 2,
                hypervisor: "virtual machine".into(),
                dpdk: None,
                started_unix_secs: 0,
            },
            notes: vec!["A note.".into()],
            runs: 3,
            secs: 2.0,
            complete: true,
            rows: vec![row("kernel", None), row("ours", None), row("dpdk", Some("not installed"))],
            measures: vec![measure("best", None), measure("overload", Some("full"))],
            samples,
        }
    }
}
