//! The client: one test, as its protocol goes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tailwater_dataplane::clock;

use super::book::Book;
use super::conversation::{Conversation, STALL, Trouble, while_moving};
use super::cpu::CpuTime;
use super::desk::{Desk, Event, Met, Order};
use super::document::{Document, Ending};
use super::protocol::{Cookie, RESULTS_MAX, Results, State};
use super::report::Reporter;
use super::rr::Tally;
use super::settings::{End, Settings};
use super::test::Test;
use crate::failure::Failure;

/// How long the server may take to answer at all; SYNs go out again meanwhile.
const CONNECT: Duration = Duration::from_secs(20);
/// How long each step of a handshake may take.
const STEP: Duration = Duration::from_secs(30);
/// How long the workers may take for their last samples.
const BOOKS: Duration = Duration::from_secs(10);
/// The same when the command is to end at once.
const LAST_BOOKS: Duration = Duration::from_millis(500);
/// Shortest interval between a server's reports, and the bytes at most of one stream's line or object in it.
const REPORTS: Duration = Duration::from_millis(100);
const ROW_MAX: usize = 512;
/// Longest output of a server that is read, in bytes, whatever its test was.
const OUTPUT_MAX: usize = 256 << 20;
/// The session: there is one.
const SESSION: u64 = 1;

pub(super) struct Client {
    pub(super) desk: Arc<Desk>,
    pub(super) events: Receiver<Event>,
    pub(super) remote: SocketAddr,
    pub(super) settings: Settings,
    pub(super) cookie: Cookie,
    pub(super) reporter: Reporter,
}

impl Client {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self { desk, events, remote, settings, cookie, reporter } = self;
        reporter.connecting(remote);
        let mut talk = Conversation::new(&desk, &events, SESSION, 0, &reporter);
        let mut document = Document::new(End::Client, &Met { remote, cookie: Some(cookie), smss: 0 });
        document.settings = Some(settings.clone());
        let outcome = hold(&mut talk, remote, settings, cookie, &mut document, &reporter);
        if matches!(outcome, Err(Trouble::Interrupted | Trouble::Stream(_) | Trouble::Silent(_))) {
            talk.say_state(State::ClientTerminate);
        }
        talk.leave(matches!(outcome, Err(Trouble::Gone(_))), false);
        document.intervals = talk.intervals.take();
        document.beats = talk.tally.as_mut().map(|tally| std::mem::take(&mut tally.beats)).unwrap_or_default();
        document.trouble = outcome.as_ref().err().map(Trouble::to_string);
        reporter.end(&document);
        if desk.events_lost() > 0 {
            tracing::warn!(lost = desk.events_lost(), "samples were lost: intervals are incomplete");
        }
        outcome.map_err(|trouble| explain(trouble, remote))
    }
}

/// One session, from the connection to the good-bye. With an echo server there is nothing to agree on.
fn hold(
    talk: &mut Conversation<'_>,
    remote: SocketAddr,
    settings: Settings,
    cookie: Cookie,
    document: &mut Document,
    reporter: &Reporter,
) -> Result<(), Trouble> {
    let echo = settings.echo;
    if !echo {
        document.control = agree(talk, remote, &settings, cookie)?;
        document.cookie = Some(cookie);
    }
    let test = Arc::new(Test::new(SESSION, End::Client, cookie, settings, remote, talk.desk.workers()));
    for worker in 0..talk.desk.workers() {
        let _ = talk.desk.order(worker, Order::Begin(Arc::clone(&test)));
    }
    let places = talk.gather(&test, STEP)?;
    document.streams = talk.opened.clone();
    if !echo {
        talk.expect(State::TestStart, STEP)?;
        talk.expect(State::TestRunning, STEP)?;
    }
    let before = CpuTime::now();
    begin(talk, &test, places);
    reporter.connected(document);
    let ran = run(talk, &test);
    if ran == Err(Trouble::Interrupted) {
        // What there is by now is worth showing.
        test.end_at(clock::now_ns());
        talk.leaving = true;
        let _ = talk.close_books(LAST_BOOKS);
    }
    let used = before.until(&CpuTime::now());
    document.measured = talk.tally.as_ref().and_then(Tally::total);
    let Some(book) = &talk.book else { return Err(Trouble::Stream("no books".into())) };
    let ours = book.results().with_cpu(used);
    document.ending = Some(Ending { totals: book.totals(None), host: used, ours: ours.clone(), theirs: None });
    match ran {
        Ok(()) if !echo => {
            let lasted_ns = test.started_ns().map_or(0, |started_ns| clock::now_ns() - started_ns);
            talk.heard_max = results_max(&test.settings, Duration::from_nanos(lasted_ns));
            compare(talk, &ours, document)
        }
        ran => ran,
    }
}

/// The control connection, and the parameters.
fn agree(talk: &mut Conversation<'_>, remote: SocketAddr, settings: &Settings, cookie: Cookie) -> Result<Met, Trouble> {
    let _ = talk.desk.order(0, Order::Call(SESSION, remote));
    let met = talk.wait(CONNECT, "no answer to our SYN", |talk| talk.met.take())?;
    talk.say(cookie.0.to_vec());
    talk.expect(State::ParamExchange, STEP)?;
    talk.say_json(&settings.to_parameters())?;
    let answers = settings.transactions.is_some();
    match talk.state(STEP, "it did not take the parameters")? {
        State::CreateStreams if !answers => Ok(met),
        State::AnswerRequests if answers => Ok(met),
        State::CreateStreams => Err(Trouble::OnlyBulk),
        state => Err(Trouble::Protocol(format!("{state:?} came in place of CreateStreams"))),
    }
}

/// Bytes of the longest results that a server may send of a test that took so long.
fn results_max(settings: &Settings, lasted: Duration) -> usize {
    if !settings.server_output {
        return RESULTS_MAX;
    }
    // With the first and the last, and the sums in both directions.
    let reports = usize::try_from(lasted.as_nanos() / REPORTS.as_nanos()).unwrap_or(usize::MAX).saturating_add(2);
    let rows = reports.saturating_mul(settings.streams() + 2);
    RESULTS_MAX + rows.saturating_mul(ROW_MAX).min(OUTPUT_MAX)
}

/// What each end found, exchanged.
fn compare(talk: &mut Conversation<'_>, ours: &Results, document: &mut Document) -> Result<(), Trouble> {
    talk.say_state(State::TestEnd);
    talk.expect(State::ExchangeResults, STEP)?;
    talk.say_json(ours)?;
    let theirs = talk.json(talk.heard_max, STEP, "the results did not come")?;
    let theirs: Results =
        serde_json::from_slice(&theirs).map_err(|error| Trouble::Protocol(format!("results: {error}")))?;
    if let (Some(book), Some(ending)) = (&talk.book, &mut document.ending) {
        ending.totals = book.totals(Some(&theirs));
        ending.theirs = Some(theirs);
    }
    talk.expect(State::DisplayResults, STEP)?;
    talk.say_state(State::IperfDone);
    Ok(())
}

fn begin(talk: &mut Conversation<'_>, test: &Test, places: Vec<usize>) {
    let now_ns = clock::now_ns();
    let settings = &test.settings;
    talk.book = Some(Book::new(End::Client, settings, talk.desk.interval_ns, now_ns, talk.opened.clone()));
    if settings.transactions.is_some() {
        talk.tally = Some(Tally::new(talk.desk.workers(), settings, now_ns));
    }
    test.start(places, now_ns);
    if settings.volume().is_none() {
        test.end_at(now_ns + (settings.omit + settings.time).as_nanos() as u64);
    }
}

/// Until the time is over, or everything is through.
fn run(talk: &mut Conversation<'_>, test: &Test) -> Result<(), Trouble> {
    let settings = &test.settings;
    let senders = (0..settings.streams()).filter(|&place| settings.sends(End::Client, place)).count();
    let mut ended = |talk: &mut Conversation<'_>| {
        // A server has nothing to say now but that it gives up.
        if let Some(state) = talk.next_state() {
            return Some(
                state.and_then(|state| Err(Trouble::Protocol(format!("{state:?} came in the midst of a test")))),
            );
        }
        if settings.volume().is_some() && senders > 0 && talk.sent >= senders {
            test.end_at(clock::now_ns());
        }
        (clock::now_ns() >= test.ended_ns()).then_some(Ok(()))
    };
    match test.lasts() {
        Some(lasts) => talk.wait(lasts + BOOKS, "the test does not end", &mut ended),
        None => while_moving(test, STALL, None, |stall| talk.wait(stall, "nothing moves any more", &mut ended)),
    }??;
    talk.close_books(BOOKS)
}

/// With the hint that fits.
fn explain(trouble: Trouble, remote: SocketAddr) -> anyhow::Error {
    let hint = match &trouble {
        Trouble::Interrupted => return Failure::new("interrupted", "").into(),
        Trouble::Gone(why) if why.contains("nobody listens") => {
            format!("start one there: `tailwater perf -s -i IF -p {0}` or `iperf3 -s -p {0}`", remote.port())
        }
        Trouble::Gone(_) | Trouble::Silent(_) => {
            "is the server up, and on the link of -i? -v shows what was set up".to_owned()
        }
        Trouble::Busy => "a server runs one test at a time".to_owned(),
        Trouble::Fault(134) => "leave -C out, or name one that both ends have".to_owned(),
        Trouble::OnlyBulk => "run `tailwater perf -s` there, or ask an echo server: --peer echo".to_owned(),
        Trouble::GaveUp | Trouble::Fault(_) | Trouble::Protocol(_) | Trouble::Stream(_) => String::new(),
    };
    Failure::new(format!("{}: {trouble}", super::settings::shown(remote)), hint).into()
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Parameters;
    use super::super::report::Style;
    use super::*;

    #[test]
    fn output_of_a_server_is_read_as_long_as_the_test_makes_it() {
        let asked = Parameters { parallel: 128, bidirectional: true, time: 60, ..Parameters::default() };
        let plain = Settings::of(&asked).unwrap();
        let with_output = Settings { server_output: true, ..plain.clone() };
        let minute = Duration::from_secs(60);
        assert_eq!(results_max(&plain, minute), RESULTS_MAX);
        assert_eq!(results_max(&with_output, Duration::from_secs(86_400)), RESULTS_MAX + OUTPUT_MAX);
        // Sixty reports of 256 streams.
        let json = vec![b' '; 60 * 256 * 400];
        for (settings, is_read) in [(&plain, false), (&with_output, true)] {
            let (desk, events) = Desk::new(End::Client, 1, 0);
            let reporter = Reporter::new(Style::Text);
            let mut talk = Conversation::new(&desk, &events, SESSION, 0, &reporter);
            talk.heard_max = results_max(settings, minute);
            desk.tell(Event::Heard { session: SESSION, bytes: super::super::protocol::framed(&json) });
            let read = talk.json(talk.heard_max, minute, "nothing came");
            assert_eq!(read.map(|read| read.len()).ok(), is_read.then_some(json.len()));
        }
    }
}
