//! What was done, for people and programs.

use serde::Serialize;

use super::super::print::{lines, stall_words};
use super::end::End;
use crate::control::Changed;
use crate::output;

/// The steps so far. People read each as it is done, programs get them all at the end.
#[derive(Serialize)]
pub(super) struct Account {
    steps: Vec<Step>,
    /// What else is worth knowing.
    notes: Vec<String>,
    #[serde(skip)]
    json: bool,
}

#[derive(Serialize)]
struct Step {
    /// `from` or `to`.
    end: &'static str,
    what: String,
    #[serde(flatten)]
    changed: Changed,
}

impl Account {
    pub(super) fn new(json: bool) -> Self {
        Self { steps: Vec::new(), notes: Vec::new(), json }
    }

    /// A step has been done.
    pub(super) fn step(&mut self, end: &End, what: &str, changed: Changed) {
        if !self.json {
            let change = &changed.change;
            let done = if change.dry_run { "nothing was done".to_owned() } else { stall_words(&change.stalls) };
            output::line(format_args!("{}: {what}; version {}; {done}", end.title(), change.version));
            lines(&change.diff).into_iter().for_each(|line| output::line(format_args!("  {line}")));
        }
        if let Some(note) = &changed.note {
            self.note(note.clone());
        }
        self.steps.push(Step { end: end.side, what: what.to_owned(), changed });
    }

    /// Something worth knowing.
    pub(super) fn note(&mut self, note: String) {
        if !self.json {
            output::note(format_args!("note: {note}"));
        }
        self.notes.push(note);
    }

    /// All of it, for programs.
    pub(super) fn close(&self) -> anyhow::Result<()> {
        if self.json {
            output::line(serde_json::to_string(self)?);
        }
        Ok(())
    }
}
