//! What is wrong with a file, where, and what would be right.

use std::fmt;
use std::ops::Range;

/// Names closer than this are worth suggesting.
const SIMILAR_MIN: f64 = 0.5;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScenarioError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
    /// The line itself.
    pub excerpt: String,
}

impl ScenarioError {
    /// At the first byte of `span` in `text`.
    pub(super) fn at(text: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        let excerpt = text.lines().nth(line - 1).unwrap_or("").to_owned();
        Self { line, column, message: message.into(), hint: String::new(), excerpt }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// Suggests the most similar of `known`, or lists them.
    pub(super) fn similar<'a>(
        self,
        wrong: &str,
        known: impl Iterator<Item = &'a String> + Clone,
        otherwise: &str,
    ) -> Self {
        let likeness = |name: &&String| (strsim::normalized_damerau_levenshtein(wrong, name) * 1_000.0) as u32;
        let best = known.clone().max_by_key(likeness);
        let hint = match best.filter(|name| strsim::normalized_damerau_levenshtein(wrong, name) >= SIMILAR_MIN) {
            Some(name) => format!("did you mean '{name}'?"),
            None if otherwise == "name it in" => "name it in hosts, routers or switches at the top".to_owned(),
            None => format!("{otherwise}: {}", known.map(String::as_str).collect::<Vec<_>>().join(", ")),
        };
        self.hint(hint)
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ScenarioError {}
