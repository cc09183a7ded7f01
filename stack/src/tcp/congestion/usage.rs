//! Whether the window is what limits sending (RFC 9293 §3.8.2, RFC 7661 §4.1, RFC 9438 §5.8): a
//! window that is not used says nothing about the path, and must not grow.

/// Most bytes in flight over this and the last round trip.
#[derive(Clone, Copy, Debug, Default)]
pub struct CwndUsage {
    in_flight_max: u32,
    in_flight_max_before: u32,
    blocked: bool,
    blocked_before: bool,
}

impl CwndUsage {
    /// Something was sent, or could not be: `in_flight` bytes are in flight now, and the window
    /// (not the peer's, nor want of data) left no room for the next segment, or did.
    #[inline]
    pub fn on_send(&mut self, in_flight: u32, blocked: bool) {
        self.in_flight_max = self.in_flight_max.max(in_flight);
        self.blocked |= blocked;
    }

    /// A round trip has gone by ([`RateSample::round_start`](super::RateSample::round_start)).
    #[inline]
    pub fn on_round_start(&mut self, in_flight: u32) {
        self.in_flight_max_before = self.in_flight_max;
        self.blocked_before = self.blocked;
        self.in_flight_max = in_flight;
        self.blocked = false;
    }

    /// Whether the window was used up lately; in slow start, whether half of it was: sending at
    /// twice the rate of acknowledgements fills it only at the end of the round.
    #[inline]
    pub fn limited(&self, cwnd: u32, ssthresh: u32) -> bool {
        let used = self.in_flight_max.max(self.in_flight_max_before);
        self.blocked || self.blocked_before || (cwnd < ssthresh && used > cwnd / 2)
    }
}
