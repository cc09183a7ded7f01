//! Congestion control (RFC 5681, RFC 9743): how much may be in flight, and how fast it leaves.
//!
//! A control is told what happened to the connection's segments (`on_*`) and answers two questions:
//! [`cwnd`](CongestionControl::cwnd) and [`pacing_rate`](CongestionControl::pacing_rate). It never
//! sees a segment, a sequence number or a timer. Everything is in bytes, bytes per second and
//! nanoseconds, in integers: the stack builds for targets without floating point.
//!
//! What is the connection's, not a control's:
//! - judging segments lost (RACK-TLP, RFC 8985), and pacing out retransmissions in recovery by PRR
//!   (RFC 9937), which reads [`ssthresh`](CongestionControl::ssthresh) as its target, unless
//!   [`governs_recovery`](CongestionControl::governs_recovery);
//! - telling that an episode was spurious (RFC 5682, RFC 3708);
//! - [`RateSampler`], [`CwndUsage`] and [`Pacer`], which every connection feeds whatever its control
//!   is, so that one control can take over from another at any time ([`exchange`]).
//!
//! `bbr` is version 1, as Linux and iperf3 call it, `bbr3` the version under way.
//!
//! A new control is one file that implements [`CongestionControl`], and a line in [`CONTROLS`].

mod aggregation;
mod bbr;
mod bbr3;
mod cubic;
mod hystart;
mod paced;
pub mod pacing;
mod rate_sample;
mod reno;
mod rounds;
mod usage;
mod window;

use alloc::boxed::Box;
use core::fmt::Debug;
use core::time::Duration;

pub use bbr::Bbr;
pub use bbr3::Bbr3;
pub use cubic::Cubic;
pub use pacing::Pacer;
pub use rate_sample::{RateSample, RateSampler, SendStamp};
pub use reno::Reno;
pub use usage::CwndUsage;

use crate::time::Instant;

/// No window grows beyond: RFC 7323 §2.3 allows no larger one.
pub const CWND_MAX: u32 = 1 << 30;
/// Nanoseconds.
const PER_SECOND: u128 = 1_000_000_000;
/// Slow start threshold of a connection that has not seen congestion.
pub const SSTHRESH_INFINITE: u32 = u32::MAX;

/// Congestion control of one connection, exchangeable while it lives.
///
/// # Events in
/// In the order a connection meets them while it works on one acknowledgement:
/// [`on_lost`](Self::on_lost) for each segment it judges lost, [`on_congestion`](Self::on_congestion)
/// if that starts a recovery, [`on_spurious`](Self::on_spurious), and last
/// [`on_ack`](Self::on_ack). Besides, [`on_rto`](Self::on_rto),
/// [`on_idle_restart`](Self::on_idle_restart) and [`on_smss`](Self::on_smss) as they happen.
///
/// # Outputs
/// [`cwnd`](Self::cwnd), [`ssthresh`](Self::ssthresh), [`pacing_rate`](Self::pacing_rate), valid
/// until the next event; [`snapshot`](Self::snapshot) for people.
pub trait CongestionControl: Debug + Send {
    /// As in [`CONTROLS`].
    fn name(&self) -> &'static str;

    /// An acknowledgement that delivered something, or carried an ECN echo.
    fn on_ack(&mut self, ack: &Ack);

    /// The same, whether the window limits being told by `usage`: the connection asks nothing of the control then.
    fn on_ack_within(&mut self, ack: &mut Ack, usage: &CwndUsage) {
        ack.cwnd_limited = usage.limited(self.cwnd(), self.ssthresh());
        self.on_ack(ack);
    }

    /// A segment was judged lost. Comes for every one; reacting once per window is what
    /// [`on_congestion`](Self::on_congestion) is for.
    fn on_lost(&mut self, _lost: &Lost) {}

    /// Congestion, at most once per window of data (RFC 5681 §3.2, RFC 3168 §6.1.2).
    fn on_congestion(&mut self, congestion: &Congestion);

    /// Every segment sent when recovery began is acknowledged.
    fn on_recovered(&mut self, _now: Instant) {}

    /// The retransmission timer expired (RFC 5681 §3.1, RFC 6298 §5).
    fn on_rto(&mut self, timeout: &Timeout);

    /// The last [`on_congestion`](Self::on_congestion) or [`on_rto`](Self::on_rto) was a mistake:
    /// nothing had been lost. Takes it back.
    fn on_spurious(&mut self, now: Instant);

    /// Data is about to be sent after nothing was in flight (RFC 5681 §4.1). One that wants no rate is not always told of less
    /// than the least RTO of 200 ms.
    fn on_idle_restart(&mut self, restart: &Restart);

    /// The largest segment has another size now: the path MTU changed.
    fn on_smss(&mut self, smss: u32);

    /// Whether it looks at [`Ack::rate`]. A sample costs copies and a division with each acknowledgement.
    fn wants_rate(&self) -> bool {
        true
    }

    /// Bytes that may be in flight, at least one segment, at most [`CWND_MAX`].
    fn cwnd(&self) -> u32;

    /// Where slow start ends, in bytes; [`SSTHRESH_INFINITE`] before any congestion.
    fn ssthresh(&self) -> u32;

    /// Bytes per second at which to send, never 0; `None`: as the window and the round-trip time
    /// suggest.
    fn pacing_rate(&self) -> Option<u64> {
        None
    }

    /// Whether the control itself keeps the flight small for now, so that what is delivered does not
    /// show what the path can do: the connection calls [`RateSampler::mark_app_limited`].
    fn holds_back(&self) -> bool {
        false
    }

    /// Whether [`cwnd`](Self::cwnd) holds in recovery as it does otherwise, instead of PRR.
    fn governs_recovery(&self) -> bool {
        false
    }

    /// For `TCP_INFO` and traces.
    fn snapshot(&self) -> Snapshot;
}

/// One acknowledgement.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    pub now: Instant,
    /// Bytes by which `snd_una` moved.
    pub acked: u32,
    /// Bytes newly known to have arrived, by `snd_una` or by SACK.
    pub delivered: u32,
    /// All bytes delivered so far ([`RateSampler::delivered`]).
    pub delivered_total: u64,
    /// Round-trip time that this acknowledgement measured (RFC 6298 §3: never of a retransmission); 0: none.
    pub rtt_ns: u64,
    /// RFC 6298 §2; 0 before it is measured.
    pub srtt_ns: u64,
    /// Bytes in flight before this acknowledgement took effect.
    pub in_flight_before: u32,
    /// Bytes in flight after: sent, neither acknowledged nor judged lost (`pipe`, RFC 6675 §4).
    pub in_flight: u32,
    /// The window is what held the sender lately ([`CwndUsage::limited`]), so that its growth makes
    /// sense.
    pub cwnd_limited: bool,
    /// Carries an ECN echo (RFC 3168 §6.1.2).
    pub ecn_echo: bool,
    /// Fast recovery is under way. Not after a time-out, where slow start begins at once.
    pub in_recovery: bool,
    /// Delivered is data sent after the last acknowledgement of which this was true: a round trip
    /// has gone by.
    pub round_start: bool,
    /// [`RateSampler::sample`], for a control that [`wants_rate`](CongestionControl::wants_rate).
    pub rate: Option<RateSample>,
}

impl Ack {
    /// `rtt_ns`, if there is one.
    pub fn rtt(&self) -> Option<Duration> {
        (self.rtt_ns != 0).then(|| Duration::from_nanos(self.rtt_ns))
    }

    /// `srtt_ns`, once measured.
    pub fn srtt(&self) -> Option<Duration> {
        (self.srtt_ns != 0).then(|| Duration::from_nanos(self.srtt_ns))
    }
}

/// A segment judged lost; [`RateSampler::on_lost`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct Lost {
    pub now: Instant,
    /// Bytes of it.
    pub len: u32,
    /// Bytes judged lost between its sending and now, itself included.
    pub lost_since_send: u64,
    /// All bytes delivered so far.
    pub delivered_total: u64,
    /// Does not follow directly on the segment judged lost before it.
    pub range_start: bool,
    /// Its last sending.
    pub sent: SendStamp,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    Loss,
    Ecn,
}

/// The first sign of congestion in a window.
#[derive(Clone, Copy, Debug)]
pub struct Congestion {
    pub now: Instant,
    pub cause: Cause,
    /// `FlightSize` of RFC 5681 §2, but for what left in place of SACKed segments: bytes sent and not known to have arrived.
    pub flight_size: u32,
    /// Bytes in flight, lost ones taken off.
    pub in_flight: u32,
    /// Of the same window as the last: recovery begins, but a mark has reduced the window already (RFC 3168 §6.1.2).
    pub reduced_already: bool,
}

/// Expiry of the retransmission timer.
#[derive(Clone, Copy, Debug)]
pub struct Timeout {
    pub now: Instant,
    /// `FlightSize` before the expiry, in bytes.
    pub flight_size: u32,
    /// Bytes in flight after it, when everything is judged lost.
    pub in_flight: u32,
    /// 0 for the first expiry, then 1 for the first one with nothing acknowledged since, ...
    pub backoff: u32,
}

/// Sending resumes.
#[derive(Clone, Copy, Debug)]
pub struct Restart {
    pub now: Instant,
    /// Since the last segment was sent.
    pub idle_ns: u64,
    pub rto_ns: u64,
    /// It was the application that had nothing to send ([`RateSampler::app_limited`]).
    pub app_limited: bool,
}

/// What a control starts from: the beginning of a connection, or the state that another control
/// leaves.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    pub now: Instant,
    /// Largest segment's payload in bytes, at least 1.
    pub smss: u32,
    pub cwnd: u32,
    pub ssthresh: u32,
    pub srtt: Option<Duration>,
    pub min_rtt: Option<Duration>,
    /// Bytes delivered so far ([`RateSampler::delivered`]).
    pub delivered: u64,
    /// For controls that randomize.
    pub seed: u64,
}

impl Start {
    /// A new connection's.
    pub fn new(now: Instant, smss: u32, seed: u64) -> Self {
        Self {
            now,
            smss,
            cwnd: initial_window(smss),
            ssthresh: SSTHRESH_INFINITE,
            srtt: None,
            min_rtt: None,
            delivered: 0,
            seed,
        }
    }
}

/// RFC 6928 §2: ten segments, but no more than 14600 bytes if they are large.
pub const fn initial_window(smss: u32) -> u32 {
    let (ten, two) = (smss.saturating_mul(10), smss.saturating_mul(2));
    let large = if two > 14_600 { two } else { 14_600 };
    if ten < large { ten } else { large }
}

/// What a control can tell about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snapshot {
    pub name: &'static str,
    /// Phase in the control's own words: `slow-start`, `ProbeBW_UP`, ...
    pub phase: &'static str,
    pub cwnd: u32,
    /// `None`: infinite.
    pub ssthresh: Option<u32>,
    /// Bytes per second.
    pub pacing_rate: Option<u64>,
    /// Bytes per second that the control believes the path carries.
    pub bandwidth: Option<u64>,
}

/// A control by name.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    pub name: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    pub build: fn(&Start) -> Box<dyn CongestionControl>,
}

/// Every control that comes with the stack; the first is the default.
pub static CONTROLS: &[Control] = &[cubic::CUBIC, reno::RENO, bbr::BBR, bbr3::BBR3];

/// The control called `name`, if there is one.
pub fn control(name: &str) -> Option<&'static Control> {
    CONTROLS.iter().find(|control| control.name == name)
}

/// Puts `to` in place of the control of a live connection. `path` is what the connection knows; the
/// window and the threshold are the old control's.
pub fn exchange(current: &mut Box<dyn CongestionControl>, to: &Control, path: &Start) {
    let start = Start { cwnd: current.cwnd(), ssthresh: current.ssthresh(), ..*path };
    *current = (to.build)(&start);
}
