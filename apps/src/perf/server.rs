//! The server: one session after the other, whatever becomes of each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tailwater_dataplane::clock;

use super::book::Book;
use super::conversation::{Conversation, STALL, Trouble, while_moving};
use super::cpu::CpuTime;
use super::desk::{Desk, Event, Met};
use super::document::{Document, Ending};
use super::protocol::{Fault, PARAMETERS_MAX, Parameters, RESULTS_MAX, Results, State};
use super::report::Reporter;
use super::settings::{End, Settings};
use super::test::Test;

/// How long each step of a handshake may take.
const STEP: Duration = Duration::from_secs(15);
/// How long a test of a fixed time may go without a byte that moves, as with iperf3.
const QUIET: Duration = Duration::from_secs(120);
/// Longest that a test may last beyond what was agreed on.
const GRACE: Duration = Duration::from_secs(15);
/// Longest that a test whose end is a number of requests may last.
const UNTIMED_MAX: Duration = Duration::from_secs(86_400);
/// How long what is on its way may take to arrive behind the word that it was all.
const DRAIN: Duration = Duration::from_secs(2);
/// How long the client may take to say good-bye; it has everything by then.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long the workers may take for their last samples: some ticks, on a busy machine.
const BOOKS: Duration = Duration::from_secs(10);

pub(super) struct Server {
    pub(super) desk: Arc<Desk>,
    pub(super) events: Receiver<Event>,
    pub(super) listener: SocketAddr,
    pub(super) one_off: bool,
    pub(super) reporter: Reporter,
}

impl Server {
    /// Until the command is to end, or after one test.
    pub(super) fn run(mut self) -> anyhow::Result<()> {
        for number in 1.. {
            self.reporter.listening(self.listener, number);
            let Some((session, worker, met)) = self.next_client() else { break };
            self.serve(session, worker, &met);
            if self.one_off {
                break;
            }
        }
        Ok(())
    }

    fn next_client(&mut self) -> Option<(u64, usize, Met)> {
        loop {
            match self.events.recv_timeout(Duration::from_millis(20)) {
                Ok(Event::Control { session, worker, control }) => return Some((session, worker, control)),
                // News of the session before.
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) if self.desk.stopping() => return None,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn serve(&mut self, session: u64, worker: usize, met: &Met) {
        let Self { desk, events, reporter, .. } = self;
        let mut document = Document::new(End::Server, met);
        reporter.accepted(met.remote);
        let mut talk = Conversation::new(desk, events, session, worker, reporter);
        let outcome = hold(&mut talk, met, &mut document, reporter);
        desk.set_test(None);
        if let Err(trouble) = &outcome {
            farewell(&talk, trouble);
        }
        talk.leave(matches!(outcome, Err(Trouble::Gone(_))), true);
        document.intervals.append(&mut talk.intervals.take());
        document.trouble = outcome.err().map(|trouble| trouble.to_string());
        reporter.end(&document);
        reporter.turned_away(desk.take_turned_away());
    }
}

/// The last word to a client with whom it did not go well.
fn farewell(talk: &Conversation<'_>, trouble: &Trouble) {
    match trouble {
        Trouble::Interrupted => talk.say_state(State::ServerTerminate),
        Trouble::Stream(_) | Trouble::Silent(_) => talk.say(Fault::Stream.message()),
        _ => {}
    }
}

/// One session, from the cookie to the good-bye.
fn hold(talk: &mut Conversation<'_>, met: &Met, document: &mut Document, reporter: &Reporter) -> Result<(), Trouble> {
    talk.say_state(State::ParamExchange);
    let settings = parameters(talk)?;
    let cookie = met.cookie.ok_or_else(|| Trouble::Protocol("no cookie".into()))?;
    let test = Arc::new(Test::new(talk.session, End::Server, cookie, settings, met.remote, talk.desk.workers()));
    document.settings = Some(test.settings.clone());
    talk.keeps_intervals |= test.settings.server_output;
    talk.desk.set_test(Some(Arc::clone(&test)));
    let answers = test.settings.transactions.is_some();
    talk.say_state(if answers { State::AnswerRequests } else { State::CreateStreams });
    let places = talk.gather(&test, STEP)?;
    talk.say_state(State::TestStart);
    let before = CpuTime::now();
    begin(talk, &test, places)?;
    document.streams = talk.opened.clone();
    reporter.connected(document);
    talk.say_state(State::TestRunning);
    run(talk, &test)?;
    let used = before.until(&CpuTime::now());
    talk.say_state(State::ExchangeResults);
    let theirs = talk.json(RESULTS_MAX, STEP, "the results did not come")?;
    let theirs: Results = serde_json::from_slice(&theirs).map_err(|error| {
        talk.say(Fault::Results.message());
        Trouble::Protocol(format!("results: {error}"))
    })?;
    let Some(book) = &talk.book else { return Err(Trouble::Stream("no books".into())) };
    let mut ours = book.results().with_cpu(used);
    let totals = book.totals(Some(&theirs));
    document.intervals = talk.intervals.take();
    document.ending = Some(Ending { totals, host: used, ours: ours.clone(), theirs: Some(theirs) });
    if test.settings.server_output {
        reporter.attach(document, &mut ours);
    }
    talk.say_json(&ours)?;
    talk.say_state(State::DisplayResults);
    // The client has all it wants: how it leaves is its own affair.
    let _ = talk.state(FAREWELL, "");
    Ok(())
}

fn parameters(talk: &mut Conversation<'_>) -> Result<Settings, Trouble> {
    let text = talk.json(PARAMETERS_MAX, STEP, "the parameters did not come");
    let text = text.inspect_err(|trouble| {
        if matches!(trouble, Trouble::Protocol(_)) {
            talk.say(Fault::Parameters.message());
        }
    })?;
    let asked: Result<Parameters, _> = serde_json::from_slice(&text);
    let asked = asked.map_err(|error| {
        talk.say(Fault::Parameters.message());
        Trouble::Protocol(format!("parameters: {error}"))
    })?;
    Settings::of(&asked).map_err(|refusal| {
        talk.say(refusal.fault.message());
        Trouble::Protocol(format!("parameters: {}", refusal.message))
    })
}

/// All streams take what comes, or send.
fn begin(talk: &mut Conversation<'_>, test: &Test, places: Vec<usize>) -> Result<(), Trouble> {
    let now_ns = clock::now_ns();
    let (desk, opened) = (talk.desk, talk.opened.clone());
    talk.book = Some(Book::new(End::Server, &test.settings, desk.interval_ns, now_ns, opened));
    test.start(places, now_ns);
    talk.wait(STEP, "a worker does not begin; this is a bug", |_| test.has_begun().then_some(()))
}

/// Until the client says that it was all.
fn run(talk: &mut Conversation<'_>, test: &Test) -> Result<(), Trouble> {
    let settings = &test.settings;
    // With requests, only the client knows whether it goes on.
    let alone = settings.transactions.is_none();
    let (late, quiet) = ("the test was to end long ago", "nothing moves any more");
    let state = match test.lasts() {
        Some(lasts) if alone => while_moving(test, QUIET, Some(Instant::now() + lasts + GRACE), |patience| {
            talk.state(patience, if patience < QUIET { late } else { quiet })
        }),
        None if alone => while_moving(test, STALL, None, |stall| talk.state(stall, quiet)),
        lasts => talk.state(lasts.map_or(UNTIMED_MAX, |lasts| lasts + GRACE), late),
    };
    match state? {
        State::TestEnd => {}
        state => return Err(Trouble::Protocol(format!("{state:?} came in the midst of a test"))),
    }
    // What was sent before the word arrives behind it, on other connections.
    if let Some(volume) =
        settings.volume().filter(|_| (0..settings.streams()).any(|at| !settings.sends(End::Server, at)))
    {
        let until = Instant::now() + DRAIN;
        let _ = talk.wait(DRAIN, "", |_| (test.received() >= volume || Instant::now() >= until).then_some(()));
    }
    test.end_at(clock::now_ns());
    talk.close_books(BOOKS)
}
