//! What became of each interface.

use serde::Serialize;
use tailwater_netlink::Result as Verdict;

use super::Target;
use crate::failure::Failure;
use crate::output;

/// How it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Way {
    /// One request for all members.
    GroupRequest,
    /// One request a member, many in a system call.
    Batch,
    /// Not at all.
    DryRun,
}

#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    group: u32,
    #[serde(skip)]
    shown: String,
    action: String,
    way: Way,
    /// Interfaces that were changed, or would be.
    done: Vec<String>,
    refused: Vec<Refused>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Refused {
    interface: String,
    reason: String,
}

impl Outcome {
    pub(super) fn done(target: &Target, action: String, way: Way, done: impl IntoIterator<Item = String>) -> Self {
        let done = done.into_iter().collect();
        Self { group: target.number, shown: target.shown.clone(), action, way, done, refused: Vec::new() }
    }

    pub(super) fn dry_run(target: &Target, action: String, names: impl IntoIterator<Item = String>) -> Self {
        Self::done(target, action, Way::DryRun, names)
    }

    /// From the kernel's verdict on each interface.
    pub(super) fn of(
        target: &Target,
        action: String,
        verdicts: impl IntoIterator<Item = (String, Verdict<()>)>,
    ) -> Self {
        let mut outcome = Self::done(target, action, Way::Batch, []);
        for (interface, verdict) in verdicts {
            match verdict {
                Ok(()) => outcome.done.push(interface),
                Err(error) => outcome.refused.push(Refused { interface, reason: error.reason() }),
            }
        }
        outcome
    }

    /// Says it, and fails if anybody refused.
    pub(super) fn print(self, json: bool) -> anyhow::Result<()> {
        if json {
            output::line(serde_json::to_string(&self)?);
        } else {
            self.text().iter().for_each(output::line);
        }
        for Refused { interface, reason } in &self.refused {
            output::note(format_args!("  {interface}: {reason}"));
        }
        match self.refused.len() {
            0 => Ok(()),
            refused => {
                let all = refused + self.done.len();
                let message = format!("group {}: {}: {refused} of {all} refused", self.shown, self.action);
                Err(Failure::new(message, "the others are changed; it is safe to give the same command again").into())
            }
        }
    }

    fn text(&self) -> Vec<String> {
        let Self { shown, action, done, .. } = self;
        let interfaces = match done.len() {
            1 => "1 interface".to_owned(),
            n => format!("{n} interfaces"),
        };
        match self.way {
            Way::GroupRequest => vec![format!("group {shown}: {action}, all members")],
            Way::Batch => vec![format!("group {shown}: {action}, {interfaces}")],
            Way::DryRun => {
                let first = format!("group {shown}: {action}, would change {interfaces}:");
                std::iter::once(first).chain(done.iter().map(|name| format!("  {name}"))).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(way: Way, done: &[&str], refused: &[&str]) -> Outcome {
        let refused = refused.iter().map(|name| Refused { interface: (*name).into(), reason: "no".into() }).collect();
        let done = done.iter().map(|name| (*name).to_owned()).collect();
        Outcome { group: 7, shown: "7".into(), action: "up".into(), way, done, refused }
    }

    #[test]
    fn text_says_what_was_done_and_to_how_many() {
        assert_eq!(outcome(Way::GroupRequest, &[], &[]).text(), ["group 7: up, all members"]);
        assert_eq!(outcome(Way::Batch, &["a"], &["b"]).text(), ["group 7: up, 1 interface"]);
        assert_eq!(
            outcome(Way::DryRun, &["a", "b"], &[]).text(),
            ["group 7: up, would change 2 interfaces:", "  a", "  b"]
        );
    }

    #[test]
    fn one_that_refuses_makes_the_command_fail_and_is_counted() {
        let error = outcome(Way::Batch, &["a", "c"], &["b"]).print(true).unwrap_err();
        assert_eq!(error.to_string(), "group 7: up: 1 of 3 refused");
        assert!(outcome(Way::Batch, &["a"], &[]).print(true).is_ok());
    }
}
