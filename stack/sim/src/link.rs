//! What a link does to packets, in words of the user.

use std::time::Duration;

use tailwater_impair::{Delay, LossModel};

use crate::red::Red;

/// Names a link of one simulation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub(crate) usize);

/// One direction of a link. The default is a perfect wire: no limit, no delay, no fault.
///
/// ```text
///  frame -> queue (bounded, RED) -> serialisation -> loss -> corruption -> duplication -> delay -> arrival
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LinkConfig {
    /// Bits per second, of frames without check sequence and preamble; 0: no limit.
    pub rate_bps: u64,
    /// After serialisation.
    pub delay: Duration,
    /// The delay varies evenly by this much either way, so that frames may overtake each other.
    pub jitter: Duration,
    pub loss: LossModel,
    /// Probabilities, from 0 to 1.
    pub duplicate: f64,
    pub reorder: f64,
    pub corrupt: f64,
    /// At most one frame in this many overtakes.
    pub reorder_gap_packets: u64,
    pub queue: Queue,
    /// Bytes an IP packet may have.
    pub mtu: usize,
}

/// What waits for the wire.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Queue {
    /// Frames that find more than this many bytes in front of them (less their own) are dropped.
    pub bytes_max: u64,
    /// Drop or mark before the queue is full.
    pub red: Option<Red>,
    /// RED marks packets whose sender understands ECN, instead of dropping them.
    pub ecn: bool,
}

impl Default for Queue {
    fn default() -> Self {
        Self { bytes_max: 1_000_000, red: None, ecn: false }
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            rate_bps: 0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: LossModel::default(),
            duplicate: 0.0,
            reorder: 0.0,
            corrupt: 0.0,
            reorder_gap_packets: 1,
            queue: Queue::default(),
            mtu: 1_500,
        }
    }
}

impl LinkConfig {
    pub(crate) fn takes_no_time(&self) -> bool {
        self.rate_bps == 0 && self.delay.is_zero()
    }

    pub(crate) fn delay_model(&self) -> Delay {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Delay {
            delay_ns: nanos(self.delay),
            jitter_ns: nanos(self.jitter),
            reorder: self.reorder,
            reorder_gap_packets: self.reorder_gap_packets,
        }
    }
}

/// What became of the frames that entered one direction of a link. At any time, with what is
/// under way: `offered + duplicated = delivered + queue_full + early_dropped + lost + pipe_full + under way`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LinkCounters {
    pub offered: u64,
    pub delivered: u64,
    pub delivered_bytes: u64,
    /// The queue had no room.
    pub queue_full: u64,
    /// RED.
    pub early_dropped: u64,
    pub marked: u64,
    pub lost: u64,
    pub corrupted: u64,
    pub duplicated: u64,
    pub reordered: u64,
    /// More frames on the way than a link holds ([`IN_TRANSIT_MAX`]).
    pub pipe_full: u64,
    /// Most bytes that ever waited.
    pub queue_bytes_max: u64,
}

/// Frames under way on one direction of a link: what 10 Gbit/s and 1 s of delay hold.
pub const IN_TRANSIT_MAX: usize = 1 << 20;
