//! The director's end of a control connection: it may wait, and everything it waits for has a time limit.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tailwater_stack::tcp::CloseReason;

use super::book::{Book, Row};
use super::desk::{Desk, Event, Met, Opened, Order};
use super::protocol::{RESULTS_MAX, State, describe_fault, framed};
use super::report::Reporter;
use super::rr::Tally;
use super::test::Test;
use super::worker::told;

/// How often it is checked whether the command is to end.
const LOOK: Duration = Duration::from_millis(20);

/// Rows that a document has at most, a stream's for a day and a half at a second each: how long a test lasts, and of how many
/// streams, a server lets its clients choose.
const ROWS_MAX: usize = 1 << 17;

/// How long a test without a fixed time may go without a byte that moves.
pub(super) const STALL: Duration = Duration::from_secs(60);

/// Waits for so long at a time, and again as long as bytes move, but not beyond `until`.
pub(super) fn while_moving<T>(
    test: &Test,
    stall: Duration,
    until: Option<Instant>,
    mut wait: impl FnMut(Duration) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    loop {
        let before = test.moved();
        let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
        match wait(stall.min(left)) {
            Err(Trouble::Silent(_)) if test.moved() > before && stall < left => {}
            outcome => return outcome,
        }
    }
}

/// The intervals of a test, as far as they are kept.
#[derive(Default)]
pub(super) struct Intervals {
    kept: Vec<Vec<Row>>,
    rows: usize,
}

impl Intervals {
    fn keep(&mut self, rows: Vec<Row>) {
        if self.rows > ROWS_MAX {
            return;
        }
        self.rows += rows.len();
        if self.rows > ROWS_MAX {
            tracing::warn!("more than {ROWS_MAX} rows of intervals: later ones are left out of the document");
        } else {
            self.kept.push(rows);
        }
    }

    pub(super) fn take(&mut self) -> Vec<Vec<Row>> {
        std::mem::take(&mut self.kept)
    }
}

/// Why a session ended before its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The command is to end.
    Interrupted,
    /// The control connection could not be opened, or is over.
    Gone(String),
    /// The other end said that it gives up.
    GaveUp,
    /// The server is busy.
    Busy,
    /// The server has refused, with this number.
    Fault(u32),
    /// The other end does not keep to the protocol.
    Protocol(String),
    /// It stopped saying anything.
    Silent(String),
    Stream(String),
    /// The server does not answer requests.
    OnlyBulk,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => f.write_str("interrupted"),
            Self::Gone(why) => write!(f, "control connection: {why}"),
            Self::GaveUp => f.write_str("the other end has given up"),
            Self::Busy => f.write_str("the server is busy running a test; try again later"),
            Self::Fault(number) => write!(f, "the server refused: {}", describe_fault(*number)),
            Self::Protocol(what) => write!(f, "the other end does not speak iperf3's protocol: {what}"),
            Self::Silent(what) => write!(f, "the other end has stopped: {what}"),
            Self::Stream(why) => write!(f, "a stream: {why}"),
            Self::OnlyBulk => f.write_str("the server answers no requests: it is an iperf3"),
        }
    }
}

pub(super) struct Conversation<'a> {
    pub(super) desk: &'a Arc<Desk>,
    events: &'a Receiver<Event>,
    pub(super) session: u64,
    worker: usize,
    heard: VecDeque<u8>,
    /// Bytes of the longest that the other end may say.
    pub(super) heard_max: usize,
    gone: Option<String>,
    /// What ends the session, once nothing else is there to be taken.
    trouble: Option<Trouble>,
    /// By ticket, or as they came.
    pub(super) opened: Vec<Opened>,
    /// Streams that have sent all they had to.
    pub(super) sent: usize,
    pub(super) met: Option<Met>,
    /// That the command is to end is known.
    pub(super) leaving: bool,
    pub(super) book: Option<Book>,
    pub(super) tally: Option<Tally>,
    /// Those that somebody will read once more.
    pub(super) intervals: Intervals,
    pub(super) keeps_intervals: bool,
    /// Shows intervals as they end.
    reporter: &'a Reporter,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(
        desk: &'a Arc<Desk>,
        events: &'a Receiver<Event>,
        session: u64,
        worker: usize,
        reporter: &'a Reporter,
    ) -> Self {
        Self {
            desk,
            events,
            session,
            worker,
            heard: VecDeque::new(),
            heard_max: RESULTS_MAX,
            gone: None,
            trouble: None,
            opened: Vec::new(),
            sent: 0,
            met: None,
            leaving: false,
            book: None,
            tally: None,
            intervals: Intervals::default(),
            keeps_intervals: reporter.has_documents(),
            reporter,
        }
    }

    // ---- saying -----------------------------------------------------------------------------

    pub(super) fn say(&self, bytes: Vec<u8>) {
        // A dozen orders are never too many for the queue; a worker that does not look is gone, which will be noticed.
        let _ = self.desk.order(self.worker, Order::Say(self.session, bytes));
    }

    pub(super) fn say_state(&self, state: State) {
        self.say(vec![state.byte()]);
    }

    pub(super) fn say_json(&self, value: &impl serde::Serialize) -> Result<(), Trouble> {
        let json = serde_json::to_vec(value).map_err(|error| Trouble::Protocol(error.to_string()))?;
        self.say(framed(&json));
        Ok(())
    }

    /// Leaves. `reset`: without a last word.
    pub(super) fn leave(&self, reset: bool, release: bool) {
        for worker in 0..self.desk.workers() {
            let release = release && worker == self.worker;
            let _ = self.desk.order(worker, Order::Disband { session: self.session, reset, release });
        }
    }

    // ---- hearing ----------------------------------------------------------------------------

    /// The next state that the other end goes into.
    pub(super) fn state(&mut self, patience: Duration, what: &str) -> Result<State, Trouble> {
        self.wait(patience, what, Self::next_state)?
    }

    /// Waits for this very state.
    pub(super) fn expect(&mut self, state: State, patience: Duration) -> Result<(), Trouble> {
        match self.state(patience, &format!("{state:?} did not come"))? {
            got if got == state => Ok(()),
            got => Err(Trouble::Protocol(format!("{got:?} came in place of {state:?}"))),
        }
    }

    /// A state, if one has come; those that end everything are troubles.
    pub(super) fn next_state(&mut self) -> Option<Result<State, Trouble>> {
        let byte = *self.heard.front()?;
        Some(match State::of(byte) {
            Some(State::AccessDenied) => Err(Trouble::Busy),
            Some(State::ServerTerminate | State::ClientTerminate) => Err(Trouble::GaveUp),
            Some(State::ServerError) => {
                let number = self.heard.iter().skip(1).take(4).fold(0, |number, &byte| number << 8 | u32::from(byte));
                if self.heard.len() < 5 && self.gone.is_none() {
                    return None;
                }
                Err(Trouble::Fault(number))
            }
            Some(state) => {
                self.heard.pop_front();
                Ok(state)
            }
            None => Err(Trouble::Protocol(format!("{byte} is no state"))),
        })
    }

    /// JSON with its length in front, of `max` bytes at most.
    pub(super) fn json(&mut self, max: usize, patience: Duration, what: &str) -> Result<Vec<u8>, Trouble> {
        self.wait(patience, what, |this| {
            let len = this.heard.iter().take(4).fold(0, |len, &byte| len << 8 | usize::from(byte));
            if this.heard.len() < 4 {
                return None;
            }
            if len > max {
                return Some(Err(Trouble::Protocol(format!("{what}: {len} bytes are more than {max}"))));
            }
            if this.heard.len() < 4 + len {
                return None;
            }
            this.heard.drain(..4);
            Some(Ok(this.heard.drain(..len).collect()))
        })?
    }

    /// Waits until `ready` has something, or it cannot have any more.
    pub(super) fn wait<T>(
        &mut self,
        patience: Duration,
        what: &str,
        mut ready: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, Trouble> {
        let until = Instant::now() + patience;
        loop {
            if let Some(value) = ready(self) {
                return Ok(value);
            }
            if let Some(why) = &self.gone {
                return Err(Trouble::Gone(why.clone()));
            }
            if let Some(trouble) = self.trouble.take() {
                return Err(trouble);
            }
            if self.desk.stopping() && !self.leaving {
                return Err(Trouble::Interrupted);
            }
            if Instant::now() >= until {
                return Err(Trouble::Silent(what.to_owned()));
            }
            self.take_one(until);
        }
    }

    /// The next event, if one comes soon.
    fn take_one(&mut self, until: Instant) {
        let at_most = until.saturating_duration_since(Instant::now()).min(LOOK);
        match self.events.recv_timeout(at_most) {
            Ok(event) => self.take(event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.gone = Some("the dataplane has ended".into()),
        }
    }

    fn take(&mut self, event: Event) {
        let ours = self.session;
        match event {
            Event::Heard { session, bytes } if session == ours => self.hear(&bytes),
            Event::HungUp { session, reason } if session == ours => self.gone = Some(ended(reason)),
            Event::NotConnected { session, why } if session == ours => self.gone = Some(why),
            Event::Control { session, control, .. } if session == ours => self.met = Some(control),
            Event::Opened { session, stream } if session == ours => self.opened.push(stream),
            Event::StreamLost { session, why } if session == ours => self.trouble = Some(Trouble::Stream(why)),
            Event::Sent { session } if session == ours => self.sent += 1,
            Event::Sample { session, sample } if session == ours => {
                let Some(book) = &mut self.book else { return };
                book.note(&sample);
                while let Some(rows) = book.next_interval() {
                    self.reporter.interval(&rows);
                    if self.keeps_intervals {
                        self.intervals.keep(rows);
                    }
                }
            }
            Event::Transacted { session, news } if session == ours => {
                if let Some(beat) = self.tally.as_mut().and_then(|tally| tally.note(news)) {
                    self.reporter.beat(&beat);
                }
            }
            // News of a session before, and what only wakes.
            _ => {}
        }
    }

    /// Keeps what has come, until somebody waits for it.
    fn hear(&mut self, bytes: &[u8]) {
        // With its length in front.
        if self.heard.len() + bytes.len() <= 4 + self.heard_max {
            self.heard.extend(bytes);
        } else {
            let what = format!("more than {} bytes came unasked", self.heard_max);
            self.trouble = Some(Trouble::Protocol(what));
        }
    }

    // ---- a test -----------------------------------------------------------------------------

    /// Waits until all streams are there, and sorts them into their places, in the order in which the client opened them.
    pub(super) fn gather(&mut self, test: &Test, patience: Duration) -> Result<Vec<usize>, Trouble> {
        let streams = test.settings.streams();
        let what = format!("not all of {streams} streams came");
        self.wait(patience, &what, |this| (this.opened.len() >= streams).then_some(()))?;
        // A connection's first packet came before the client opened the next one, whichever workers they came to.
        if test.end == super::settings::End::Server {
            self.opened.sort_by_key(|stream| stream.opened_ns);
        } else {
            self.opened.sort_by_key(|stream| stream.ticket);
        }
        let mut places = vec![0; streams];
        for (place, stream) in self.opened.iter().enumerate() {
            if let Some(at) = places.get_mut(stream.ticket) {
                *at = place;
            }
        }
        Ok(places)
    }

    /// Waits until every worker has sent its last samples.
    pub(super) fn close_books(&mut self, patience: Duration) -> Result<(), Trouble> {
        // What happens to the connections meanwhile changes nothing.
        let complete = |this: &mut Self| {
            let tallied = this.tally.as_ref().is_none_or(Tally::is_complete);
            (tallied && this.book.as_ref().is_none_or(Book::is_complete)).then_some(())
        };
        match self.wait(patience, "", complete) {
            Err(Trouble::Silent(_)) => Err(Trouble::Stream("a worker has sent no last sample; this is a bug".into())),
            outcome => outcome,
        }
    }
}

fn ended(reason: CloseReason) -> String {
    told(reason).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::meter::{Counts, Sample};
    use super::super::protocol::{COOKIE_LEN, Cookie, Parameters};
    use super::super::report::Style;
    use super::super::settings::{End, Settings};
    use super::super::test::Mark;
    use super::*;

    #[test]
    fn intervals_are_kept_for_those_who_read_them_again() {
        let settings = Settings::of(&Parameters { time: 1, ..Parameters::default() }).unwrap();
        let at = "192.0.2.1:5201".parse().unwrap();
        let opened = Opened { ticket: 0, opened_ns: 0, local: at, remote: at, congestion: None };
        for (style, kept) in [(Style::Text, 0), (Style::Iperf, 1), (Style::Events, 1)] {
            let (desk, events) = Desk::new(End::Server, 1, 100_000_000);
            let reporter = Reporter::new(style);
            let mut talk = Conversation::new(&desk, &events, 1, 0, &reporter);
            talk.book = Some(Book::new(End::Server, &settings, desk.interval_ns, 0, vec![opened]));
            let (mark, at_ns, counts) = (Mark::Final, 100_000_000, Counts::default());
            let sample = Sample { place: 0, mark, at_ns, sends: false, counts, jitter_s: 0.0, path: None };
            desk.tell(Event::Sample { session: 1, sample });
            talk.close_books(LOOK).unwrap();
            assert_eq!(talk.intervals.take().len(), kept, "{style:?}");
        }
    }

    #[test]
    fn a_long_test_keeps_its_first_intervals() {
        let mut intervals = Intervals::default();
        let (counts, jitter, path) = (Counts::default(), 0.0, None);
        let row = Row { id: 5, start: 0.0, end: 1.0, sends: true, omitted: false, counts, jitter, path };
        let fit = ROWS_MAX / 100;
        (0..fit + 2).for_each(|_| intervals.keep(vec![row; 100]));
        // No gap, though some of the room is left.
        intervals.keep(vec![row]);
        assert_eq!(intervals.take().len(), fit);
    }

    #[test]
    fn a_test_is_waited_for_while_bytes_move_and_no_longer_than_it_may_last() {
        let settings = Settings::of(&Parameters { time: 600, ..Parameters::default() }).unwrap();
        let remote = "192.0.2.1:40000".parse().unwrap();
        let test = Test::new(1, End::Server, Cookie([0; COOKIE_LEN]), settings, remote, 1);
        let (minute, silent) = (Duration::from_secs(60), || Trouble::Silent(String::new()));
        let mut waits = 0;
        let moves_twice = |patience: Duration| -> Result<(), Trouble> {
            assert_eq!(patience, minute);
            waits += 1;
            test.on_moved(u64::from(waits <= 2));
            Err(silent())
        };
        let hour = Instant::now() + 60 * minute;
        assert_eq!(while_moving(&test, minute, Some(hour), moves_twice), Err(silent()));
        assert_eq!(waits, 3);
        let always_moves = |patience: Duration| -> Result<(), Trouble> {
            assert!(patience < minute);
            test.on_moved(1);
            Err(silent())
        };
        assert_eq!(while_moving(&test, minute, Some(Instant::now() + minute / 2), always_moves), Err(silent()));
        assert_eq!(while_moving(&test, minute, None, |_| Ok(7)), Ok(7));
    }
}
