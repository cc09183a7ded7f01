//! One flow over one bottleneck, on a virtual clock: the least a control needs around it.
//!
//! ```text
//!   sender --paced, window--> [ queue, bytes ] --rate--> receiver, acks each segment --delay--> sender
//! ```
//! A segment is judged lost when three sent after it have arrived. What is lost is made up by new
//! segments, since a control never sees the difference; recovery lasts until as many have arrived.

use std::collections::VecDeque;
use std::time::Duration;

use tailwater_stack::Instant;
use tailwater_stack::tcp::congestion::pacing::window_rate;
use tailwater_stack::tcp::congestion::{
    Ack, Cause, Congestion, CongestionControl, CwndUsage, Pacer, RateSampler, SendStamp,
};

use crate::events::SMSS;

const REORDERING_SEGMENTS: u64 = 3;

/// 20 Mbit/s, 50 ms.
pub const PATH: Path = Path { rate: 2_500_000, rtt: Duration::from_millis(50), queue: 250_000, lose_nth: 0 };
/// Its bandwidth-delay product: 125 segments.
pub const BDP: u64 = 125_000;

#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Bytes per second.
    pub rate: u64,
    /// There and back, without the queue.
    pub rtt: Duration,
    /// Bytes the queue holds.
    pub queue: u64,
    /// Every nth segment is lost on the way; 0: none.
    pub lose_nth: u64,
}

struct InFlight {
    number: u64,
    stamp: SendStamp,
    /// `None`: lost.
    arrives: Option<Instant>,
}

pub struct Flow {
    pub control: Box<dyn CongestionControl>,
    pub path: Path,
    pub now: Instant,
    /// Bytes per second that the application offers; `None`: no bound.
    pub offered: Option<u64>,
    pub delivered: u64,
    pub queue_max: u64,
    pub losses: u64,
    /// Phases in order, as the control names them.
    pub phases: Vec<&'static str>,
    sampler: RateSampler,
    usage: CwndUsage,
    pacer: Pacer,
    in_flight: VecDeque<InFlight>,
    number: u64,
    bottleneck_free_at: Instant,
    recover: Option<u64>,
    /// Lost, and not judged so yet.
    lost_unnoticed: usize,
    srtt: Option<Duration>,
    min_rtt: Option<Duration>,
    last_lost: Option<u64>,
    offered_from: Instant,
    sent_of_offered: u64,
}

impl Flow {
    /// What the control believes that the path carries.
    pub fn bandwidth(&self) -> u64 {
        self.control.snapshot().bandwidth.unwrap()
    }

    pub fn new(control: Box<dyn CongestionControl>, path: Path) -> Self {
        Self {
            control,
            path,
            now: Instant::ZERO,
            offered: None,
            delivered: 0,
            queue_max: 0,
            losses: 0,
            phases: Vec::new(),
            sampler: RateSampler::default(),
            usage: CwndUsage::default(),
            pacer: Pacer::default(),
            in_flight: VecDeque::new(),
            number: 0,
            bottleneck_free_at: Instant::ZERO,
            recover: None,
            lost_unnoticed: 0,
            srtt: None,
            min_rtt: None,
            last_lost: None,
            offered_from: Instant::ZERO,
            sent_of_offered: 0,
        }
    }

    pub fn limit_application(&mut self, bytes_per_second: Option<u64>) {
        self.offered = bytes_per_second;
        self.offered_from = self.now;
        self.sent_of_offered = 0;
    }

    pub fn in_flight_bytes(&self) -> u32 {
        self.in_flight.len() as u32 * SMSS
    }

    pub fn run_until(&mut self, end: Instant) {
        while self.now < end {
            self.send();
            let next = [self.next_ack(), self.next_send()].into_iter().flatten().min().unwrap_or(end);
            self.now = next.min(end).max(self.now);
            self.receive();
        }
    }

    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Runs until the control is in this phase; panics after a minute.
    pub fn run_until_phase(&mut self, phase: &str) {
        let end = self.now + Duration::from_secs(60);
        while self.control.snapshot().phase != phase {
            assert!(self.now < end, "never in {phase}: {:?}", self.phases);
            self.run_for(Duration::from_micros(20));
        }
    }

    /// Bytes per second delivered over `time`.
    pub fn goodput(&mut self, time: Duration) -> u64 {
        let before = self.delivered;
        self.run_for(time);
        (self.delivered - before) * 1_000 / time.as_millis() as u64
    }

    fn next_ack(&self) -> Option<Instant> {
        self.in_flight.iter().find_map(|segment| segment.arrives)
    }

    fn has_room(&self) -> bool {
        self.in_flight_bytes() + SMSS <= self.control.cwnd()
    }

    /// When the application has its next segment.
    fn application_at(&self) -> Instant {
        let Some(rate) = self.offered else { return Instant::ZERO };
        let nanos = u128::from(self.sent_of_offered + u64::from(SMSS)) * 1_000_000_000 / u128::from(rate);
        self.offered_from + Duration::from_nanos(nanos as u64)
    }

    fn next_send(&self) -> Option<Instant> {
        self.has_room().then(|| self.pacer.release_at().max(self.application_at()))
    }

    fn send(&mut self) {
        let rate = self.control.pacing_rate();
        let by_window = || window_rate(self.control.cwnd(), self.control.ssthresh(), self.srtt);
        self.pacer.set_rate(rate.unwrap_or_else(by_window), rate.is_some());
        while self.next_send().is_some_and(|at| at <= self.now) {
            self.send_segment();
        }
        let in_flight = self.in_flight_bytes();
        self.usage.on_send(in_flight, !self.has_room());
        if self.has_room() && self.application_at() > self.now {
            self.sampler.mark_app_limited(in_flight);
        }
    }

    fn send_segment(&mut self) {
        let stamp = self.sampler.on_send(self.now, self.in_flight_bytes(), SMSS);
        self.number += 1;
        self.sent_of_offered += u64::from(SMSS);
        self.pacer.on_send(self.now, SMSS);
        let queued = self.bottleneck_free_at.since(self.now).as_nanos() * u128::from(self.path.rate) / 1_000_000_000;
        self.queue_max = self.queue_max.max(queued as u64);
        let on_the_way = self.path.lose_nth != 0 && self.number.is_multiple_of(self.path.lose_nth);
        let lost = queued as u64 + u64::from(SMSS) > self.path.queue || on_the_way;
        self.lost_unnoticed += usize::from(lost);
        let arrives = (!lost).then(|| {
            let took = Duration::from_nanos(u64::from(SMSS) * 1_000_000_000 / self.path.rate);
            self.bottleneck_free_at = self.bottleneck_free_at.max(self.now) + took;
            self.bottleneck_free_at + self.path.rtt
        });
        self.in_flight.push_back(InFlight { number: self.number, stamp, arrives });
    }

    fn receive(&mut self) {
        while let Some(at) = self.in_flight.iter().position(|s| s.arrives.is_some_and(|arrives| arrives <= self.now)) {
            let before = self.in_flight_bytes();
            let segment = self.in_flight.remove(at).unwrap();
            self.on_ack(&segment, before);
        }
        let phase = self.control.snapshot().phase;
        if self.phases.last() != Some(&phase) {
            self.phases.push(phase);
        }
    }

    fn on_ack(&mut self, segment: &InFlight, before: u32) {
        self.delivered += u64::from(SMSS);
        self.sampler.on_delivered(self.now, &segment.stamp, SMSS);
        self.detect_losses(segment.number, before);
        let rtt = self.now.since(segment.stamp.sent_at);
        self.srtt = Some(self.srtt.map_or(rtt, |srtt| (srtt * 7 + rtt) / 8));
        self.min_rtt = Some(self.min_rtt.map_or(rtt, |min| min.min(rtt)));
        if self.recover.is_some_and(|recover| segment.number > recover) {
            self.recover = None;
            self.control.on_recovered(self.now);
        }
        let rate = self.sampler.sample(self.min_rtt);
        if rate.is_some_and(|rate| rate.round_start) {
            self.usage.on_round_start(self.in_flight_bytes());
        }
        self.control.on_ack(&Ack {
            now: self.now,
            acked: SMSS,
            delivered: SMSS,
            delivered_total: self.sampler.delivered(),
            rtt_ns: rtt.as_nanos() as u64,
            srtt_ns: self.srtt.map_or(0, |srtt| srtt.as_nanos() as u64),
            in_flight_before: before,
            in_flight: self.in_flight_bytes(),
            cwnd_limited: self.usage.limited(self.control.cwnd(), self.control.ssthresh()),
            ecn_echo: false,
            in_recovery: self.recover.is_some(),
            round_start: rate.is_some_and(|rate| rate.round_start),
            rate,
        });
        if self.control.holds_back() {
            self.sampler.mark_app_limited(self.in_flight_bytes());
        }
    }

    fn detect_losses(&mut self, arrived: u64, flight_size: u32) {
        while self.lost_unnoticed > 0
            && let Some(at) =
                self.in_flight.iter().position(|s| s.arrives.is_none() && s.number + REORDERING_SEGMENTS <= arrived)
        {
            let segment = self.in_flight.remove(at).unwrap();
            self.lost_unnoticed -= 1;
            self.losses += 1;
            let range_start = self.last_lost != Some(segment.number - 1);
            self.last_lost = Some(segment.number);
            let lost = self.sampler.on_lost(self.now, &segment.stamp, SMSS, range_start);
            self.control.on_lost(&lost);
            if let Some(recover) = &mut self.recover {
                *recover += 1;
            } else {
                self.recover = Some(self.number + 1);
                let in_flight = self.in_flight_bytes();
                let (now, cause) = (self.now, Cause::Loss);
                let congestion = Congestion { now, cause, flight_size, in_flight, reduced_already: false };
                self.control.on_congestion(&congestion);
            }
        }
    }
}

/// Within a fiftieth.
pub fn assert_within_2_percent(value: u64, of: u64) {
    assert!(value.abs_diff(of) <= of / 50, "{value} is not {of}");
}
