//! What has been measured: intervals as they end, and the totals, of all streams.

use std::collections::VecDeque;

use super::desk::Opened;
use super::meter::{Counts, Path, Sample};
use super::protocol::{Results, StreamResults, stream_id};
use super::settings::{End, Settings};
use super::test::Mark;

/// The last piece of a test is an interval of its own if it has at least this part of one.
const TAIL_MIN: f64 = 0.1;

/// One stream in one interval; times in seconds, since the test began or its omission ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) id: u64,
    pub(super) start: f64,
    pub(super) end: f64,
    pub(super) sends: bool,
    pub(super) omitted: bool,
    pub(super) counts: Counts,
    /// Seconds.
    pub(super) jitter: f64,
    pub(super) path: Option<Path>,
}

impl Row {
    pub(super) fn seconds(&self) -> f64 {
        (self.end - self.start).max(1e-9)
    }
}

/// Extremes of a sender's connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extremes {
    pub(super) max_cwnd: u32,
    pub(super) max_snd_wnd: u32,
    pub(super) max_rtt_us: u32,
    pub(super) min_rtt_us: u32,
    sum_rtt_us: u64,
    looks: u64,
}

impl Extremes {
    fn note(&mut self, path: &Path) {
        self.max_cwnd = self.max_cwnd.max(path.cwnd);
        self.max_snd_wnd = self.max_snd_wnd.max(path.snd_wnd);
        self.max_rtt_us = self.max_rtt_us.max(path.rtt_us);
        self.min_rtt_us = if self.looks == 0 { path.rtt_us } else { self.min_rtt_us.min(path.rtt_us) };
        self.sum_rtt_us += u64::from(path.rtt_us);
        self.looks += 1;
    }

    pub(super) fn mean_rtt_us(&self) -> u64 {
        self.sum_rtt_us / self.looks.max(1)
    }
}

/// One stream.
struct Entry {
    opened: Opened,
    /// Rows whose interval is not complete.
    rows: VecDeque<Row>,
    base_ns: u64,
    last: (u64, Counts),
    omitting: bool,
    /// What does not count: up to the end of the omission.
    omitted: Counts,
    extremes: Extremes,
    total: Option<Sample>,
}

/// What one end found on a stream, or on all in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Side {
    pub(super) seconds: f64,
    pub(super) bytes: u64,
    pub(super) packets: u64,
    pub(super) lost: u64,
    pub(super) out_of_order: u64,
    /// Seconds.
    pub(super) jitter: f64,
    /// `None`: not counted.
    pub(super) retransmits: Option<u64>,
}

impl Side {
    pub(super) fn bits_per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.bytes as f64 * 8.0 / self.seconds } else { 0.0 }
    }

    /// Streams beside each other.
    pub(super) fn sum(sides: impl Iterator<Item = Self>) -> Self {
        let mut n = 0.0;
        let mut sum = sides.fold(Self::default(), |sum, side| {
            n += 1.0;
            Self {
                seconds: sum.seconds.max(side.seconds),
                bytes: sum.bytes + side.bytes,
                packets: sum.packets + side.packets,
                lost: sum.lost + side.lost,
                out_of_order: sum.out_of_order + side.out_of_order,
                jitter: sum.jitter + side.jitter,
                retransmits: match (sum.retransmits, side.retransmits) {
                    (None, None) => None,
                    (a, b) => Some(a.unwrap_or(0) + b.unwrap_or(0)),
                },
            }
        });
        sum.jitter /= f64::max(n, 1.0);
        sum
    }
}

/// A stream at the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Total {
    pub(super) id: u64,
    /// This end sends on it.
    pub(super) sends: bool,
    pub(super) sender: Side,
    pub(super) receiver: Side,
    pub(super) extremes: Extremes,
}

/// Of one test.
pub(super) struct Book {
    end: End,
    settings: Settings,
    interval_s: f64,
    streams: Vec<Entry>,
}

impl Book {
    /// `streams` by place.
    pub(super) fn new(end: End, settings: &Settings, interval_ns: u64, started_ns: u64, streams: Vec<Opened>) -> Self {
        let entry = |opened| Entry {
            opened,
            rows: VecDeque::new(),
            base_ns: started_ns,
            last: (started_ns, Counts::default()),
            omitting: !settings.omit.is_zero(),
            omitted: Counts::default(),
            extremes: Extremes::default(),
            total: None,
        };
        let streams = streams.into_iter().map(entry).collect();
        Self { end, settings: settings.clone(), interval_s: interval_ns as f64 * 1e-9, streams }
    }

    pub(super) fn note(&mut self, sample: &Sample) {
        let (interval_s, id) = (self.interval_s, stream_id(sample.place));
        let Some(entry) = self.streams.get_mut(sample.place) else { return };
        if let Some(path) = &sample.path {
            entry.extremes.note(path);
        }
        let row = entry.row(id, sample);
        let is_first = entry.last.0 == entry.base_ns;
        let is_tail = sample.mark == Mark::Final && row.end - row.start < interval_s * TAIL_MIN && !is_first;
        if interval_s > 0.0 && !is_tail {
            entry.rows.push_back(row);
        }
        entry.last = (sample.at_ns, sample.counts);
        match sample.mark {
            Mark::Interval => {}
            Mark::OmitEnd => {
                (entry.base_ns, entry.last, entry.omitting) = (sample.at_ns, (sample.at_ns, Counts::default()), false);
                (entry.omitted, entry.extremes) = (sample.counts, Extremes::default());
            }
            Mark::Final => entry.total = Some(*sample),
        }
    }

    /// The next interval that all streams have ended.
    pub(super) fn next_interval(&mut self) -> Option<Vec<Row>> {
        if self.streams.is_empty() || self.streams.iter().any(|entry| entry.rows.is_empty()) {
            return None;
        }
        Some(self.streams.iter_mut().filter_map(|entry| entry.rows.pop_front()).collect())
    }

    /// Whether every stream has sent its last sample.
    pub(super) fn is_complete(&self) -> bool {
        self.streams.iter().all(|entry| entry.total.is_some())
    }

    /// What this end found.
    fn side(&self, place: usize, entry: &Entry) -> Side {
        let (at_ns, counts) = entry.total.map_or(entry.last, |total| (total.at_ns, total.counts));
        let sends = self.settings.sends(self.end, place);
        Side {
            seconds: at_ns.saturating_sub(entry.base_ns) as f64 * 1e-9,
            bytes: counts.bytes,
            packets: counts.packets,
            lost: counts.lost,
            out_of_order: counts.out_of_order,
            jitter: entry.total.map_or(0.0, |total| total.jitter_s),
            retransmits: (sends && entry.opened.congestion.is_some()).then_some(counts.retransmits),
        }
    }

    /// Both ends of each stream; without the other end's results, only this one's.
    pub(super) fn totals(&self, theirs: Option<&Results>) -> Vec<Total> {
        let total = |(place, entry): (usize, &Entry)| {
            let (id, sends) = (stream_id(place), self.settings.sends(self.end, place));
            let ours = self.side(place, entry);
            let found = theirs.and_then(|theirs| theirs.streams.iter().find(|stream| stream.id == id));
            let theirs = found.map(|found| side_of(found, &entry.omitted)).unwrap_or_default();
            let (sender, receiver) = if sends { (ours, theirs) } else { (theirs, ours) };
            Total { id, sends, sender, receiver, extremes: entry.extremes }
        };
        self.streams.iter().enumerate().map(total).collect()
    }

    /// What the other end is told, but for the CPU. Datagrams are told with those of the omission, which it takes off.
    pub(super) fn results(&self) -> Results {
        let stream = |(place, entry): (usize, &Entry)| {
            let side = self.side(place, entry);
            StreamResults {
                id: stream_id(place),
                bytes: side.bytes,
                retransmits: side.retransmits.map_or(-1, |n| n as i64),
                jitter: side.jitter,
                errors: (side.lost + entry.omitted.lost) as i64,
                omitted_errors: Some(entry.omitted.lost as i64),
                packets: side.packets + entry.omitted.packets,
                omitted_packets: Some(entry.omitted.packets as i64),
                start_time: 0.0,
                end_time: side.seconds,
            }
        };
        let sends = (0..self.streams.len()).any(|place| self.settings.sends(self.end, place));
        let tcp = self.streams.iter().find_map(|entry| entry.opened.congestion);
        Results {
            sender_has_retransmits: if sends { i64::from(tcp.is_some()) } else { -1 },
            congestion_used: tcp.map(str::to_owned),
            streams: self.streams.iter().enumerate().map(stream).collect(),
            ..Results::default()
        }
    }
}

impl Entry {
    fn row(&self, id: u64, sample: &Sample) -> Row {
        let seconds = |at_ns: u64| at_ns.saturating_sub(self.base_ns) as f64 * 1e-9;
        Row {
            id,
            start: seconds(self.last.0),
            end: seconds(sample.at_ns),
            sends: sample.sends,
            omitted: self.omitting,
            counts: sample.counts.since(&self.last.1),
            jitter: sample.jitter_s,
            path: sample.path,
        }
    }
}

/// What the other end found, without its omission; where it does not tell that, without ours.
fn side_of(theirs: &StreamResults, omitted: &Counts) -> Side {
    let counted =
        |all: u64, told: Option<i64>, ours: u64| all.saturating_sub(told.map_or(ours, |told| told.max(0) as u64));
    Side {
        seconds: (theirs.end_time - theirs.start_time).max(0.0),
        bytes: theirs.bytes,
        packets: counted(theirs.packets, theirs.omitted_packets, omitted.packets),
        lost: counted(theirs.errors.max(0) as u64, theirs.omitted_errors, omitted.lost),
        out_of_order: 0,
        jitter: theirs.jitter,
        retransmits: u64::try_from(theirs.retransmits).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Parameters;
    use super::*;

    /// A UDP test with an omission, of which one end counted 100 datagrams and then 900, two and then three of them lost.
    fn book(end: End) -> Book {
        let asked = Parameters { udp: true, len: 1_000, omit: 1, time: 1, ..Parameters::default() };
        let at = "192.0.2.1:5201".parse().unwrap();
        let opened = Opened { ticket: 0, opened_ns: 0, local: at, remote: at, congestion: None };
        let mut book = Book::new(end, &Settings::of(&asked).unwrap(), 0, 0, vec![opened]);
        for (mark, at_ns, packets, lost) in
            [(Mark::OmitEnd, 1_000_000_000, 100, 2), (Mark::Final, 2_000_000_000, 900, 3)]
        {
            let counts = Counts { packets, lost, ..Counts::default() };
            book.note(&Sample { place: 0, mark, at_ns, sends: end == End::Client, counts, jitter_s: 0.0, path: None });
        }
        book
    }

    #[test]
    fn datagrams_are_told_with_the_omission_and_read_without_it() {
        let theirs = book(End::Server).results();
        let StreamResults { errors, omitted_errors, packets, omitted_packets, .. } = theirs.streams[0];
        assert_eq!((errors, omitted_errors, packets, omitted_packets), (5, Some(2), 1_000, Some(100)));
        let total = book(End::Client).totals(Some(&theirs)).remove(0);
        assert_eq!((total.sender.packets, total.receiver.packets, total.receiver.lost), (900, 900, 3));
    }

    #[test]
    fn an_end_that_does_not_tell_its_omission_has_ours() {
        let mut theirs = book(End::Server).results();
        (theirs.streams[0].omitted_errors, theirs.streams[0].omitted_packets) = (None, None);
        let total = book(End::Client).totals(Some(&theirs)).remove(0);
        assert_eq!((total.receiver.packets, total.receiver.lost), (900, 3));
    }
}
