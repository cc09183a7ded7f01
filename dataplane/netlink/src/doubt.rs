//! Routes which are listed again to be sure of them: soon, but for a bounded share of the time. No I/O.

use std::time::{Duration, Instant};

use crate::stale::Stale;

/// A listing for doubt begins no sooner than this many times the last listing's duration after its end: however often
/// routes come into doubt, a tenth of the time goes into them at most.
const REST: u32 = 10;

#[derive(Default)]
pub(crate) struct Doubt {
    ipv4_routes: bool,
    ipv6_routes: bool,
    rests_until: Option<Instant>,
}

impl Doubt {
    /// The mirrored routes of a family may differ from the kernel's.
    pub(crate) fn cast(&mut self, ipv4: bool) {
        self.ipv4_routes |= ipv4;
        self.ipv6_routes |= !ipv4;
    }

    /// The routes of a family are about to be listed, for whatever reason.
    pub(crate) fn settle(&mut self, ipv4: bool) {
        self.ipv4_routes &= !ipv4;
        self.ipv6_routes &= ipv4;
    }

    /// A listing, for whatever reason, is over.
    pub(crate) fn rest(&mut self, started: Instant, ended: Instant) {
        let until = ended + ended.saturating_duration_since(started) * REST;
        self.rests_until = self.rests_until.max(Some(until));
    }

    /// How long until what is in doubt shall be listed; `None` when nothing is.
    pub(crate) fn due_in(&self, now: Instant) -> Option<Duration> {
        let rest = self.rests_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        (self.ipv4_routes || self.ipv6_routes).then_some(rest)
    }

    /// What is in doubt and shall be listed now.
    pub(crate) fn due(&self, now: Instant) -> Stale {
        match self.due_in(now) {
            Some(Duration::ZERO) => {
                Stale { ipv4_routes: self.ipv4_routes, ipv6_routes: self.ipv6_routes, ..Stale::NOTHING }
            }
            _ => Stale::NOTHING,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_for_doubt_rests_ten_times_as_long_as_the_last_listing_took() {
        let mut doubt = Doubt::default();
        let started = Instant::now();
        let ended = started + Duration::from_secs(2);
        doubt.cast(false);
        assert!(doubt.due(started).ipv6_routes, "nothing was listed yet");
        doubt.settle(false);
        doubt.rest(started, ended);
        assert_eq!(doubt.due_in(ended), None);
        doubt.cast(false);
        assert_eq!(doubt.due_in(ended), Some(Duration::from_secs(20)));
        assert_eq!(doubt.due(ended + Duration::from_millis(19_999)), Stale::NOTHING);
        assert_eq!(doubt.due(ended + Duration::from_secs(20)), Stale { ipv6_routes: true, ..Stale::NOTHING });
    }

    #[test]
    fn a_short_listing_does_not_shorten_the_rest_after_a_long_one() {
        let mut doubt = Doubt::default();
        let started = Instant::now();
        let ended = started + Duration::from_secs(2);
        doubt.rest(started, ended);
        doubt.rest(ended, ended);
        doubt.cast(true);
        assert_eq!(doubt.due_in(ended), Some(Duration::from_secs(20)));
    }

    #[test]
    fn a_listing_settles_the_doubt_about_its_family_alone() {
        let mut doubt = Doubt::default();
        doubt.cast(true);
        doubt.cast(false);
        doubt.settle(true);
        assert_eq!(doubt.due(Instant::now()), Stale { ipv6_routes: true, ..Stale::NOTHING });
    }
}
