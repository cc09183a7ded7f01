//! Networks in which something would go on for ever without time passing.

use super::error::ScenarioError;
use super::{NodeKind, Scenario};
use crate::routing::Segments;

impl Scenario {
    pub(super) fn check_that_time_passes(&self) -> Result<(), ScenarioError> {
        self.check_switches()?;
        self.check_pauses()
    }

    /// A switch sends what it does not know to everybody: in a ring of them, for ever.
    fn check_switches(&self) -> Result<(), ScenarioError> {
        let mut joined = Segments::new(self.nodes.len());
        for (link, [a, b]) in self.links_and_ends() {
            let switches = [a, b].iter().all(|&node| self.kind(node) == Some(NodeKind::Switch));
            if switches && !joined.join(a, b) {
                let message = "this link closes a ring of switches, in which broadcasts would go round for ever";
                let hint = "switches have no spanning tree here: leave a link out, or put a router into the ring";
                return Err(ScenarioError::at(&self.text, link.span.clone(), message).hint(hint));
            }
        }
        Ok(())
    }

    /// Who sends again as soon as there is an answer must not have it at once.
    fn check_pauses(&self) -> Result<(), ScenarioError> {
        let mut joined = Segments::new(self.nodes.len());
        for (link, [a, b]) in self.links_and_ends() {
            if link.there.takes_no_time() && link.back.takes_no_time() {
                joined.join(a, b);
            }
        }
        for flow in self.flows.iter().filter(|flow| flow.hurries()) {
            let [from, to] = [self.find(&flow.from)?, self.find(&flow.to)?];
            if joined.find(from) == joined.find(to) {
                let (from, to) = (&flow.from.value, &flow.to.value);
                let message =
                    format!("nothing on the way from '{from}' to '{to}' takes time, and this flow never waits");
                let hint =
                    "give a link on the way a delay or a rate; requests may have a pause such as \"1 ms\" instead";
                return Err(ScenarioError::at(&self.text, flow.span.clone(), message).hint(hint));
            }
        }
        Ok(())
    }

    /// Links whose ends are known, with these.
    fn links_and_ends(&self) -> impl Iterator<Item = (&super::LinkSpec, [usize; 2])> {
        self.links.iter().filter_map(|link| {
            let [a, b] = link.ends.as_slice() else { return None };
            Some((link, [self.find(&a.node).ok()?, self.find(&b.node).ok()?]))
        })
    }
}
