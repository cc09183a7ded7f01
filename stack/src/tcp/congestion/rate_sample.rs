//! Delivery rate estimation (draft-ietf-ccwg-bbr §4.1, before that
//! draft-cheng-iccrg-delivery-rate-estimation): how fast the path delivers, measured from one
//! segment's sending to its acknowledgement.
//!
//! ```text
//!   delivered_at   first_send_at ------ send_elapsed -----> sent_at
//!        |                                                    |  segment under way
//!        '------------------ ack_elapsed ---------------------+----------> now
//! ```
//! A sample is what was delivered since [`SendStamp::delivered_at`], over the longer of the two: a
//! burst of acknowledgements does not look fast, nor does a burst of sending.

use core::time::Duration;

use super::Lost;
use crate::time::Instant;

/// What the connection had delivered when a segment left. Kept with each segment in flight; a
/// retransmission gets a new one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendStamp {
    /// When it was sent.
    pub sent_at: Instant,
    /// When the segment was sent that was the last to be delivered by then.
    pub first_send_at: Instant,
    /// When the last delivery before had been learnt of.
    pub delivered_at: Instant,
    /// Bytes delivered by then.
    pub delivered: u64,
    /// Bytes judged lost by then.
    pub lost: u64,
    /// Bytes in flight with this segment.
    pub in_flight: u32,
    /// The application, not the network, was what limited sending.
    pub app_limited: bool,
}

/// Delivery as seen by one acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RateSample {
    /// Bytes per second; `None` if too short an interval says nothing.
    pub rate: Option<u64>,
    /// Bytes delivered over the interval.
    pub delivered: u64,
    /// What the rate was measured over.
    pub interval: Duration,
    /// Bytes judged lost between the segment's sending and now.
    pub lost: u64,
    /// Stamp of the segment sent last among those delivered.
    pub sent: SendStamp,
    /// That segment was sent after the last acknowledgement with this flag: a round trip has gone by.
    pub round_start: bool,
}

/// One connection's side of the estimation.
///
/// On sending: [`on_send`](Self::on_send). On an acknowledgement: [`on_delivered`](Self::on_delivered)
/// for each segment newly delivered, [`on_part_delivered`](Self::on_part_delivered) where it ends within
/// one, [`on_lost`](Self::on_lost) for each newly judged lost, then
/// [`sample`](Self::sample), or [`pass`](Self::pass) for a control that wants no rate ([`pass_run`](Self::pass_run): all of it
/// at once). Before all of these, and whenever the application writes or a timer fires:
/// [`mark_app_limited`](Self::mark_app_limited), if the application has nothing to send.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateSampler {
    delivered: u64,
    lost: u64,
    delivered_at: Instant,
    first_send_at: Instant,
    /// Until more than this is delivered, samples are limited by the application; 0: they are not.
    app_limited_until: u64,
    /// `delivered` when the present round began.
    round_began_at: u64,
    /// The newest segment of the acknowledgement being worked on.
    newest: Option<SendStamp>,
}

impl RateSampler {
    /// Bytes delivered so far.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Bytes judged lost so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    pub fn app_limited(&self) -> bool {
        self.app_limited_until != 0
    }

    /// A segment of `len` bytes leaves at `now`; `in_flight` bytes are in flight without it.
    #[inline]
    pub fn on_send(&mut self, now: Instant, in_flight: u32, len: u32) -> SendStamp {
        // Not read again where they were just written: the CPU would wait for both to be one.
        let times = if in_flight == 0 { (now, now) } else { (self.first_send_at, self.delivered_at) };
        let (first_send_at, delivered_at) = times;
        (self.first_send_at, self.delivered_at) = times;
        SendStamp {
            sent_at: now,
            first_send_at,
            delivered_at,
            delivered: self.delivered,
            lost: self.lost,
            in_flight: in_flight.saturating_add(len),
            app_limited: self.app_limited(),
        }
    }

    /// A segment of `len` bytes was acknowledged, cumulatively or selectively, for the first time.
    #[inline]
    pub fn on_delivered(&mut self, now: Instant, sent: &SendStamp, len: u32) {
        self.delivered = self.delivered.saturating_add(u64::from(len));
        self.delivered_at = now;
        // Among segments sent at the same instant, the last had the most in flight.
        let newer = |old: &SendStamp| (sent.sent_at, sent.in_flight) > (old.sent_at, old.in_flight);
        if self.newest.as_ref().is_none_or(newer) {
            self.newest = Some(*sent);
            self.first_send_at = self.first_send_at.max(sent.sent_at);
        }
    }

    /// `len` bytes of a segment were acknowledged that is still under way: it is sampled when the rest is.
    pub fn on_part_delivered(&mut self, now: Instant, len: u32) {
        self.delivered = self.delivered.saturating_add(u64::from(len));
        self.delivered_at = now;
    }

    /// A segment of `len` bytes was judged lost. `range_start`: it does not follow directly on the
    /// one judged lost before it. Returns what the control wants to know.
    pub fn on_lost(&mut self, now: Instant, sent: &SendStamp, len: u32, range_start: bool) -> Lost {
        self.lost = self.lost.saturating_add(u64::from(len));
        let lost_since_send = self.lost.saturating_sub(sent.lost);
        Lost { now, len, lost_since_send, delivered_total: self.delivered, range_start, sent: *sent }
    }

    /// The application has nothing to send, nothing waits to be sent again, and `in_flight` is below
    /// the window: what is delivered until all that has arrived does not show what the path can do.
    pub fn mark_app_limited(&mut self, in_flight: u32) {
        self.app_limited_until = self.delivered.saturating_add(u64::from(in_flight)).max(1);
    }

    /// Goes on without a sample; whether a round trip has gone by ([`RateSample::round_start`]).
    #[inline]
    pub fn pass(&mut self) -> bool {
        let round_start = self.begins_round();
        self.newest = None;
        round_start
    }

    /// [`on_delivered`](Self::on_delivered) and [`pass`](Self::pass) at once, of all that an acknowledgement delivered: `len`
    /// bytes, of which the last were sent at `sent_at`, when [`delivered`](SendStamp::delivered) bytes had been delivered.
    #[inline]
    pub fn pass_run(&mut self, now: Instant, sent_at: Instant, delivered: u64, len: u32) -> bool {
        self.delivered = self.delivered.saturating_add(u64::from(len));
        self.delivered_at = now;
        self.first_send_at = self.first_send_at.max(sent_at);
        self.enters_round(Some(delivered))
    }

    #[inline]
    fn begins_round(&mut self) -> bool {
        let newest_delivered = self.newest.as_ref().map(|sent| sent.delivered);
        self.enters_round(newest_delivered)
    }

    /// `newest_delivered`: bytes that had been delivered when the newest of what now was, was sent.
    #[inline]
    fn enters_round(&mut self, newest_delivered: Option<u64>) -> bool {
        if self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        let round_start = newest_delivered.is_some_and(|delivered| delivered >= self.round_began_at);
        if round_start {
            self.round_began_at = self.delivered;
        }
        round_start
    }

    /// The sample of the acknowledgement that the last calls described; `None` if it delivered
    /// nothing. `min_rtt`: least round-trip time of the connection so far.
    pub fn sample(&mut self, min_rtt: Option<Duration>) -> Option<RateSample> {
        let round_start = self.begins_round();
        let sent = self.newest.take()?;
        let send_elapsed = sent.sent_at.nanos_since(sent.first_send_at);
        let ack_elapsed = self.delivered_at.nanos_since(sent.delivered_at);
        let interval = Duration::from_nanos(send_elapsed.max(ack_elapsed));
        let delivered = self.delivered.saturating_sub(sent.delivered);
        // A shorter interval comes from a segment that was not lost and sent again: the
        // acknowledgement belongs to the first copy.
        let reliable = min_rtt.is_none_or(|min_rtt| interval >= min_rtt);
        Some(RateSample {
            rate: if reliable { rate(delivered, interval) } else { None },
            delivered,
            interval,
            lost: self.lost.saturating_sub(sent.lost),
            sent,
            round_start,
        })
    }
}

/// Bytes per second, rounded down; `None` over no time.
#[inline]
fn rate(bytes: u64, over: Duration) -> Option<u64> {
    let (product, nanos) = (bytes.checked_mul(1_000_000_000), u64::try_from(over.as_nanos()));
    // Up to 18 gigabytes in an interval; dividing 128 bits takes much longer.
    if let (Some(product), Ok(nanos)) = (product, nanos) {
        return product.checked_div(nanos);
    }
    let rate = (u128::from(bytes) * 1_000_000_000).checked_div(over.as_nanos())?;
    Some(u64::try_from(rate).unwrap_or(u64::MAX))
}
