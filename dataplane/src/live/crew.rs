//! The workers, as those who perform a change together or not at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::graph::Plan;
use crate::worker::Control;

use super::error::ChangeError;

/// First and longest pause between two looks for answers. Workers are never made to wake us.
const LOOK: [Duration; 2] = [Duration::from_micros(20), Duration::from_millis(2)];

/// The workers of one graph, in order of their numbers.
pub(super) struct Crew {
    controls: Vec<Arc<Control>>,
    /// How long a worker may take to begin, and again to finish.
    patience: Duration,
    /// Workers that have a plan in hand which they did not give back in time.
    late: Vec<usize>,
}

/// A change that did not happen, with its plans, those apart that a worker keeps.
pub(crate) struct Undone<P> {
    pub(crate) error: Box<ChangeError>,
    pub(crate) plans: Vec<P>,
}

impl Crew {
    pub(super) fn new(controls: Vec<Arc<Control>>, patience: Duration) -> Self {
        Self { controls, patience, late: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.controls.len()
    }

    /// Performs one plan per worker, and returns them performed. On any refusal the others are undone.
    pub(super) fn perform(&mut self, plans: impl Iterator<Item = Box<Plan>>) -> Result<Vec<Plan>, Undone<Plan>> {
        let plans = plans.enumerate().collect();
        let (returned, mut failure) = self.hand_out(plans);
        let refused = returned.iter().find_map(|(worker, plan)| Some((*worker, plan.refusal.as_ref()?.to_string())));
        if let Some((worker, why)) = refused {
            failure.get_or_insert(ChangeError::Refused { worker, why });
        }
        let Some(failure) = failure else { return Ok(returned.into_iter().map(|(_, plan)| *plan).collect()) };
        let (undo, untouched): (Vec<_>, Vec<_>) = returned.into_iter().partition(|(_, plan)| plan.done);
        let (undone, unsettled) = self.take_back(undo);
        let plans = untouched.into_iter().chain(undone).map(|(_, plan)| *plan).collect();
        Err(Undone { error: Box::new(unsettled.unwrap_or(failure)), plans })
    }

    /// Refuses as long as a worker has not given back a plan; takes back what it did when it has.
    pub(super) fn settle(&mut self) -> Result<(), ChangeError> {
        let mut undo = Vec::new();
        let Self { controls, late, .. } = self;
        late.retain(|&worker| match controls[worker].finished() {
            Some(plan) => {
                undo.extend(Some((worker, plan)).filter(|(_, plan)| plan.done));
                false
            }
            None => true,
        });
        match self.take_back(undo).1 {
            Some(failure) => Err(failure),
            None => self.late.first().map_or(Ok(()), |&worker| Err(ChangeError::Unsettled { worker })),
        }
    }

    /// Undoes performed plans. Those that are, and what went wrong, if anything.
    fn take_back(&mut self, plans: Vec<(usize, Box<Plan>)>) -> (Vec<(usize, Box<Plan>)>, Option<ChangeError>) {
        let (returned, failure) = self.hand_out(plans);
        let (stuck, undone): (Vec<_>, Vec<_>) = returned.into_iter().partition(|(_, plan)| plan.done);
        for (worker, plan) in stuck {
            // Not begun, or refused: it is tried again with the next change.
            tracing::error!(worker, refusal = ?plan.refusal, "a change could not be taken back yet");
            self.keep_for_later(worker, plan);
        }
        let unsettled = self.late.first().map(|&worker| ChangeError::Unsettled { worker });
        (undone, unsettled.or(failure.filter(|failure| matches!(failure, ChangeError::Unsettled { .. }))))
    }

    fn keep_for_later(&mut self, worker: usize, plan: Box<Plan>) {
        self.late.push(worker);
        if self.controls[worker].propose(plan).is_err() {
            tracing::error!(worker, "a worker's requests are full; it keeps the new graph");
        }
    }

    /// Proposes plans to workers and waits for them to come back. Those that a worker did not begin with in time come
    /// back as they were; a worker that began and did not finish is noted as late.
    fn hand_out(&mut self, plans: Vec<(usize, Box<Plan>)>) -> (Vec<(usize, Box<Plan>)>, Option<ChangeError>) {
        let (mut returned, mut waiting, mut failure) = (Vec::new(), Vec::new(), None);
        for (worker, plan) in plans {
            match self.controls[worker].propose(plan) {
                Ok(()) => waiting.push(worker),
                Err(plan) => {
                    failure.get_or_insert(ChangeError::Unresponsive { worker });
                    returned.push((worker, plan));
                }
            }
        }
        self.collect(&mut waiting, &mut returned);
        for &worker in &waiting {
            if let Some(plan) = self.controls[worker].withdraw() {
                failure.get_or_insert(ChangeError::Unresponsive { worker });
                returned.push((worker, plan));
            }
        }
        waiting.retain(|worker| returned.iter().all(|(other, _)| other != worker));
        self.collect(&mut waiting, &mut returned);
        if let Some(&worker) = waiting.first() {
            failure = Some(ChangeError::Unsettled { worker });
            self.late.extend(waiting);
        }
        returned.sort_by_key(|(worker, _)| *worker);
        (returned, failure)
    }

    /// Takes finished plans in until none is waited for, for a bounded time.
    fn collect(&self, waiting: &mut Vec<usize>, returned: &mut Vec<(usize, Box<Plan>)>) {
        let end = Instant::now() + self.patience;
        let [mut pause, pause_max] = LOOK;
        loop {
            waiting.retain(|&worker| match self.controls[worker].finished() {
                Some(plan) => {
                    returned.push((worker, plan));
                    false
                }
                None => true,
            });
            if waiting.is_empty() || Instant::now() >= end {
                return;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(pause_max);
        }
    }
}
