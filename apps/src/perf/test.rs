//! One test, as the director and all workers see it. What changes are a few words that are read once a tick; each worker
//! keeps its streams' counters to itself and sends samples of them.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::protocol::Cookie;
use super::settings::{End, Settings};

/// Not yet.
const NEVER: u64 = u64::MAX;

/// Shared by reference.
pub(super) struct Test {
    /// Counts up over the tests of a process: late news of an earlier one are told apart by it.
    pub(super) number: u64,
    pub(super) end: End,
    pub(super) cookie: Cookie,
    pub(super) settings: Settings,
    /// The other end of the control connection; of the streams, too, for a client.
    pub(super) remote: SocketAddr,
    /// Streams that have been opened or accepted so far; each took the number before as its ticket.
    joined: AtomicUsize,
    /// Streams whose cookie the server has acknowledged.
    greeted: AtomicUsize,
    /// Streams that take data, or send it, by now.
    begun: AtomicUsize,
    /// Place of each stream by its ticket, once all are there.
    places: OnceLock<Vec<usize>>,
    started_ns: AtomicU64,
    ended_ns: AtomicU64,
    /// Bytes that this end has received, brought up to date once a tick.
    received: AtomicU64,
    /// Bytes sent and received, likewise.
    moved: AtomicU64,
    /// Workers that open streams in turn.
    workers: usize,
}

impl Test {
    pub(super) fn new(
        number: u64,
        end: End,
        cookie: Cookie,
        settings: Settings,
        remote: SocketAddr,
        workers: usize,
    ) -> Self {
        Self {
            number,
            end,
            cookie,
            settings,
            remote,
            joined: AtomicUsize::new(0),
            greeted: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            places: OnceLock::new(),
            started_ns: AtomicU64::new(NEVER),
            ended_ns: AtomicU64::new(NEVER),
            received: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            workers,
        }
    }

    /// A ticket for one more stream, while there is place.
    pub(super) fn join(&self) -> Option<usize> {
        let streams = self.settings.streams();
        let join = |joined: usize| (joined < streams).then_some(joined + 1);
        self.joined.fetch_update(Ordering::AcqRel, Ordering::Acquire, join).ok()
    }

    /// Whether the stream with this ticket is this worker's to open.
    pub(super) fn is_turn_of(&self, ticket: usize, worker: usize) -> bool {
        ticket % self.workers.max(1) == worker
    }

    pub(super) fn joined(&self) -> usize {
        self.joined.load(Ordering::Acquire)
    }

    /// The server knows of one more stream: the next may be opened, and will come behind it.
    pub(super) fn greet(&self) {
        self.greeted.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn greeted(&self) -> usize {
        self.greeted.load(Ordering::Acquire)
    }

    /// Data flows from now on. `places` by ticket.
    pub(super) fn start(&self, places: Vec<usize>, now_ns: u64) {
        let _ = self.places.set(places);
        self.started_ns.store(now_ns, Ordering::Release);
    }

    /// So many more streams have begun.
    pub(super) fn on_begun(&self, streams: usize) {
        self.begun.fetch_add(streams, Ordering::AcqRel);
    }

    /// All of them have: what the other end sends from now on is taken.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire) >= self.settings.streams()
    }

    /// Since when data flows.
    pub(super) fn started_ns(&self) -> Option<u64> {
        Some(self.started_ns.load(Ordering::Acquire)).filter(|&at| at != NEVER)
    }

    pub(super) fn place(&self, ticket: usize) -> usize {
        self.places.get().and_then(|places| places.get(ticket)).copied().unwrap_or(ticket)
    }

    /// The last moment that counts. The earliest of several holds.
    pub(super) fn end_at(&self, at_ns: u64) {
        self.ended_ns.fetch_min(at_ns, Ordering::AcqRel);
    }

    /// The same, [`u64::MAX`] while it is not known.
    pub(super) fn ended_ns(&self) -> u64 {
        self.ended_ns.load(Ordering::Acquire)
    }

    /// Adds to what this end has received in all, and returns that.
    pub(super) fn on_received(&self, bytes: u64) -> u64 {
        self.received.fetch_add(bytes, Ordering::AcqRel) + bytes
    }

    pub(super) fn on_moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Acquire)
    }

    /// How long it lasts; `None`: until some number of bytes is through, or the client has had enough.
    pub(super) fn lasts(&self) -> Option<Duration> {
        let Settings { omit, time, .. } = self.settings;
        (self.settings.volume().is_none() && !time.is_zero()).then_some(omit + time)
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    /// What the stream at `place` sends in all, where the test ends by a number of bytes.
    pub(super) fn share(&self, place: usize) -> Option<u64> {
        let (volume, parallel) = (self.settings.volume()?, self.settings.parallel as u64);
        let at = place as u64 % parallel;
        Some(volume / parallel + u64::from(at < volume % parallel))
    }
}

/// When samples are due: at the ends of intervals, which begin anew where the omission ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// 0: no intervals.
    interval_ns: u64,
    base_ns: u64,
    /// Intervals since the base.
    count: u64,
    omit_end_ns: Option<u64>,
}

/// Why a sample is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mark {
    /// The end of an interval.
    Interval,
    /// The end of the omission, and of its last interval: what follows counts.
    OmitEnd,
    /// The end of the test.
    Final,
}

impl Schedule {
    pub(super) fn new(started_ns: u64, interval_ns: u64, omit_ns: u64) -> Self {
        let omit_end_ns = (omit_ns > 0).then_some(started_ns + omit_ns);
        Self { interval_ns, base_ns: started_ns, count: 0, omit_end_ns }
    }

    /// The next moment with a mark, [`u64::MAX`] if there is none.
    pub(super) fn next_ns(&self) -> u64 {
        let interval = match self.interval_ns {
            0 => u64::MAX,
            len => self.base_ns + (self.count + 1) * len,
        };
        interval.min(self.omit_end_ns.unwrap_or(u64::MAX))
    }

    /// The mark that is due, if one is; call it until there is none.
    pub(super) fn due(&mut self, now_ns: u64) -> Option<Mark> {
        if self.next_ns() > now_ns {
            return None;
        }
        if self.omit_end_ns == Some(self.next_ns()) {
            (self.base_ns, self.count) = (self.next_ns(), 0);
            self.omit_end_ns = None;
            return Some(Mark::OmitEnd);
        }
        self.count += 1;
        Some(Mark::Interval)
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::{COOKIE_LEN, Parameters};
    use super::*;

    fn test_of(parameters: Parameters) -> Test {
        let settings = Settings::of(&parameters).unwrap();
        Test::new(1, End::Client, Cookie([0; COOKIE_LEN]), settings, "192.0.2.1:5201".parse().unwrap(), 2)
    }

    #[test]
    fn no_more_streams_join_than_were_agreed_on() {
        let test = test_of(Parameters { parallel: 2, bidirectional: true, ..Parameters::default() });
        let tickets: Vec<_> = (0..6).map(|_| test.join()).collect();
        assert_eq!(tickets, [Some(0), Some(1), Some(2), Some(3), None, None]);
    }

    #[test]
    fn shares_add_up_to_the_volume() {
        let test = test_of(Parameters { parallel: 3, num: 1_000_001, ..Parameters::default() });
        assert_eq!((0..3).filter_map(|place| test.share(place)).sum::<u64>(), 1_000_001);
        assert_eq!(test_of(Parameters { time: 1, ..Parameters::default() }).share(0), None);
    }

    #[test]
    fn intervals_begin_anew_where_the_omission_ends() {
        let mut schedule = Schedule::new(100, 10, 25);
        let mut seen = Vec::new();
        for now in 100..150 {
            seen.extend(std::iter::from_fn(|| schedule.due(now)).map(|mark| (now, mark)));
        }
        use Mark::*;
        assert_eq!(seen, [(110, Interval), (120, Interval), (125, OmitEnd), (135, Interval), (145, Interval)]);
        assert_eq!(Schedule::new(0, 0, 0).next_ns(), u64::MAX);
    }

    #[test]
    fn an_omission_that_ends_with_an_interval_has_one_mark() {
        let mut schedule = Schedule::new(0, 10, 10);
        assert_eq!((schedule.due(10), schedule.due(10)), (Some(Mark::OmitEnd), None));
    }
}
