//! Whose turn it is: a tournament over everybody who waits for something.
//!
//! ```text
//!              0              each node names the leaf with the earlier deadline below it; a leaf that
//!          0       3          changes replays the matches on its way up: log2(n) comparisons
//!        0   1   2   3
//! ```
//! Everybody has one deadline, so the schedule is as large as the network, whatever is under way in it. Ties go to the
//! lower number. There is one over the nodes that may meet, and one in each node over what it waits for.

/// Nobody waits, or this one does not.
const NEVER: u64 = u64::MAX;

#[derive(Debug, Default)]
pub(crate) struct Schedule {
    due_ns: Vec<u64>,
    /// Winner of each match; the root is at 1, leaves would begin at `leaves`.
    winners: Vec<u32>,
    leaves: usize,
}

impl Schedule {
    /// One more; returns its number, counted from 0.
    pub(crate) fn add(&mut self) -> usize {
        let number = self.due_ns.len();
        self.due_ns.push(NEVER);
        if number >= self.leaves {
            self.leaves = (number + 1).next_power_of_two();
            self.rebuild();
        }
        number
    }

    /// So many, none of whom waits.
    pub(crate) fn reset(&mut self, count: usize) {
        self.due_ns.clear();
        self.due_ns.resize(count, NEVER);
        self.leaves = count.next_power_of_two();
        self.rebuild();
    }

    fn rebuild(&mut self) {
        self.winners.clear();
        self.winners.resize(self.leaves.max(2), 0);
        for node in (1..self.leaves).rev() {
            let winner = self.play(node);
            if let Some(place) = self.winners.get_mut(node) {
                *place = winner;
            }
        }
    }

    /// Sets a deadline; `None`: waits for nothing. Whether it was another one.
    pub(crate) fn set(&mut self, number: usize, due_ns: Option<u64>) -> bool {
        let due_ns = due_ns.unwrap_or(NEVER);
        let Some(place) = self.due_ns.get_mut(number) else { return false };
        if *place == due_ns {
            return false;
        }
        *place = due_ns;
        let mut node = (self.leaves + number) / 2;
        while node >= 1 {
            let winner = self.play(node);
            let Some(place) = self.winners.get_mut(node) else { break };
            let before = std::mem::replace(place, winner);
            // Another one wins, as before: nothing changes above.
            if before == winner && winner as usize != number {
                break;
            }
            node /= 2;
        }
        true
    }

    /// Who is next, and when.
    pub(crate) fn next(&self) -> Option<(usize, u64)> {
        let number = self.winner(1) as usize;
        let due_ns = self.due(number);
        (due_ns != NEVER).then_some((number, due_ns))
    }

    /// The winner among the two below `node`.
    fn play(&self, node: usize) -> u32 {
        let (left, right) = (self.winner(2 * node), self.winner(2 * node + 1));
        if self.due(right as usize) < self.due(left as usize) { right } else { left }
    }

    fn winner(&self, node: usize) -> u32 {
        if node >= self.leaves { (node - self.leaves) as u32 } else { self.winners.get(node).copied().unwrap_or(0) }
    }

    fn due(&self, number: usize) -> u64 {
        self.due_ns.get(number).copied().unwrap_or(NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn next_is_the_earliest_and_among_equals_the_first(
            steps in proptest::collection::vec((0..20_usize, proptest::option::of(0..50_u64)), 1..200),
        ) {
            let mut schedule = Schedule::default();
            let mut known: Vec<Option<u64>> = Vec::new();
            for (number, due_ns) in steps {
                while known.len() <= number {
                    prop_assert_eq!(schedule.add(), known.len());
                    known.push(None);
                }
                schedule.set(number, due_ns);
                known[number] = due_ns;
                let expected = (0..).zip(&known).filter_map(|(n, due)| Some((due.as_ref()?, n))).min();
                prop_assert_eq!(schedule.next(), expected.map(|(due, n)| (n, *due)));
            }
        }
    }

    #[test]
    fn an_empty_schedule_has_nobody() {
        assert_eq!(Schedule::default().next(), None);
    }

    #[test]
    fn nobody_waits_after_a_reset_to_more_or_fewer() {
        let mut schedule = Schedule::default();
        for count in [9, 2, 0, 1, 17] {
            schedule.reset(count);
            assert_eq!(schedule.next(), None);
            (0..count).for_each(|number| _ = schedule.set(number, Some(100 - number as u64)));
            assert_eq!(schedule.next(), count.checked_sub(1).map(|last| (last, 100 - last as u64)));
        }
    }
}
