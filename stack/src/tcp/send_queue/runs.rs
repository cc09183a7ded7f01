//! Runs of SACKed segments: who looks for what is missing passes each of them in one step, so that an acknowledgement costs
//! by how many holes there are, and not by how much has arrived above the first.
//!
//! ```text
//!   |   | S | S | S | S |   | S |   |   |      S: SACKed
//!         4   2   2   4       1                `run`
//! ```
//! The first and the last of a run tell its length. What lies between tells of how many segments from there on it is known that
//! they are SACKed: two at least, and all of them once somebody has passed there. Blocks may begin in the middle of a run, as
//! receivers remember but a few (RFC 2018 §4).

use super::{Segment, SendQueue};
use crate::buffer::Buffer;

impl<B: Buffer> SendQueue<B> {
    /// The first segment from `at` on that is not SACKed; behind the last if there is none.
    pub(in crate::tcp) fn skip_sacked(&self, at: usize) -> usize {
        let mut at = at;
        while let Some(step) = self.step(at) {
            at += step;
        }
        at
    }

    /// The same, for somebody who begins anywhere: whoever comes this way again gets there in one step.
    pub(in crate::tcp) fn pass_sacked(&mut self, at: usize) -> usize {
        let behind = self.skip_sacked(at);
        let mut here = at;
        // The last one tells how far it is back.
        while here + 1 < behind
            && let Some(step) = self.step(here)
        {
            self.set_run(here, (behind - here) as u32);
            here += step;
        }
        behind
    }

    /// How many segments are SACKed from `at` on, as far as is known there.
    fn step(&self, at: usize) -> Option<usize> {
        let segment = self.sent_at(at).filter(|segment| segment.sacked)?;
        let is_last = !self.sent_at(at + 1).is_some_and(|next| next.sacked);
        Some(if is_last { 1 } else { segment.run.max(1) as usize })
    }

    /// Segments that were sent and not SACKed, with their places, from `at` on.
    pub(in crate::tcp) fn missing_from(&self, at: usize) -> impl Iterator<Item = (usize, &Segment<B>)> {
        let mut next = at;
        core::iter::from_fn(move || {
            let here = self.skip_sacked(next);
            next = here + 1;
            self.sent_at(here).map(|segment| (here, segment))
        })
    }

    /// Puts a segment that is SACKed from now on into the run that it touches, or joins the two. Returns the place behind it.
    pub(super) fn join_run(&mut self, at: usize) -> usize {
        let before = at.checked_sub(1).map_or(0, |before| self.run_at(before));
        let after = self.run_at(at + 1);
        let run = before + 1 + after;
        if let Some(last_before) = at.checked_sub(1).filter(|_| before > 0) {
            self.set_run(last_before, 2 + after);
        }
        self.set_run(at, 1 + after);
        self.set_run(at - before as usize, run);
        self.set_run(at + after as usize, run);
        at + after as usize + 1
    }

    /// The first segment has left the queue, from a run of `run`.
    pub(super) fn shorten_run(&mut self, run: u32) {
        if let Some(rest) = run.checked_sub(1).filter(|&rest| rest > 0) {
            self.set_run(0, rest);
            self.set_run(rest as usize - 1, rest);
        }
    }

    /// Length of the run that the segment begins or ends; 0: it is not SACKed.
    fn run_at(&self, at: usize) -> u32 {
        self.sent_at(at).filter(|segment| segment.sacked).map_or(0, |segment| segment.run)
    }

    fn set_run(&mut self, at: usize, run: u32) {
        if let Some(segment) = self.segments.get_mut(at) {
            segment.run = run;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;
    use core::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::tcp::congestion::RateSampler;
    use crate::tcp::seq::SeqNum;
    use crate::testing::VecBuffer;
    use crate::time::Instant;

    const LEN: u32 = 10;
    const START: SeqNum = SeqNum(u32::MAX - 200);

    fn sent(count: usize) -> SendQueue<VecBuffer> {
        let mut queue = SendQueue::new(START);
        let stamp = RateSampler::default().on_send(Instant::ZERO + Duration::from_millis(1), 0, LEN);
        for _ in 0..count {
            queue.push(VecBuffer::from_bytes(&[0; LEN as usize]), None);
            let at = queue.take_unsent();
            queue.note_sent(at, stamp);
        }
        queue
    }

    fn by_looking_at_each(queue: &SendQueue<VecBuffer>, from: usize) -> Vec<usize> {
        (from..queue.sent_count()).filter(|&at| !queue.get(at).is_some_and(|segment| segment.sacked)).collect()
    }

    proptest! {
        #[test]
        fn passing_runs_finds_what_looking_at_each_segment_finds(
            count in 1_usize..60,
            marks in prop::collection::vec((0_usize..60, 0_u32..8), 0..80),
        ) {
            let mut queue = sent(count);
            let mut una = START;
            for (place, acknowledged) in marks {
                if queue.sent_at(place).is_some_and(|segment| !segment.sacked) {
                    let behind = queue.mark_sacked(place);
                    prop_assert_eq!(behind, queue.skip_sacked(place));
                }
                if place % 3 == 0 {
                    prop_assert_eq!(queue.pass_sacked(place), queue.skip_sacked(place));
                }
                // Now and then what is there at the front leaves, SACKed or not.
                for _ in 0..acknowledged.saturating_sub(4) {
                    una += LEN;
                    queue.pop_acknowledged(una);
                }
                for from in 0..=queue.sent_count() {
                    let found: Vec<_> = queue.missing_from(from).map(|(at, _)| at).collect();
                    prop_assert_eq!(found, by_looking_at_each(&queue, from));
                }
            }
        }
    }

    #[test]
    fn a_hole_that_is_filled_joins_both_runs() {
        let mut queue = sent(1_000);
        for at in (1..1_000).filter(|&at| at != 500) {
            queue.mark_sacked(at);
        }
        assert_eq!(queue.missing_from(0).map(|(at, _)| at).collect::<Vec<_>>(), [0, 500]);
        assert_eq!(queue.mark_sacked(500), 1_000, "who goes on there looks at none of them");
        assert_eq!(queue.skip_sacked(1), 1_000);
        assert_eq!((queue.run_at(1), queue.run_at(999)), (999, 999));
    }

    #[test]
    fn from_the_middle_of_a_run_the_way_is_long_once() {
        let mut queue = sent(1_000);
        for at in 1..1_000 {
            queue.mark_sacked(at);
        }
        assert_eq!(queue.step(500), Some(2));
        assert_eq!(queue.pass_sacked(500), 1_000);
        assert_eq!([500, 502, 998, 999].map(|at| queue.step(at)), [Some(500), Some(498), Some(2), Some(1)]);
        assert_eq!(queue.pass_sacked(501), 1_000);
        assert_eq!([501, 503].map(|at| queue.step(at)), [Some(499), Some(497)]);
    }

    #[test]
    fn a_run_that_was_taken_back_is_none() {
        let mut queue = sent(10);
        for at in 2..8 {
            queue.mark_sacked(at);
        }
        assert_eq!(queue.pass_sacked(3), 8);
        queue.forget_sacks();
        assert_eq!(queue.missing_from(0).count(), 10);
        queue.mark_sacked(4);
        assert_eq!(queue.missing_from(0).count(), 9);
    }
}
