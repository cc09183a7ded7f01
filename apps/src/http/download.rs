//! What becomes of the answers: written, hashed, counted, and shown while they come.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::answer::Length;
use super::client::{Happened, Outlook};
use crate::output;
use crate::table::grouped;

/// Pause while nothing has come.
const PAUSE: Duration = Duration::from_micros(500);
/// How often progress is shown.
const SHOW: Duration = Duration::from_millis(500);

/// What is to be done with the bodies.
pub(super) struct Wishes {
    /// The first body goes there.
    pub(super) file: Option<File>,
    pub(super) hashes: bool,
    pub(super) count: u64,
    pub(super) json: bool,
}

/// How it went.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Outcome {
    pub(super) answers: u64,
    pub(super) connections: u64,
    /// Of all bodies.
    pub(super) bytes: u64,
    /// From the requests to the ends of the answers, summed up.
    pub(super) seconds: f64,
    /// From the first SYN to the first request.
    pub(super) connect_us: f64,
    pub(super) bits_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
}

/// Hashes one body after another, which should all be the same.
#[derive(Default)]
struct Hashes {
    of: u64,
    current: Sha256,
    first: Option<String>,
}

impl Hashes {
    fn take(&mut self, answer: u64, bytes: &[u8]) -> Result<(), String> {
        self.end_before(answer)?;
        self.current.update(bytes);
        Ok(())
    }

    /// Ends all answers before this one: of one with an empty body nothing has come.
    fn end_before(&mut self, answer: u64) -> Result<(), String> {
        while self.of < answer {
            self.end()?;
            self.of += 1;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        if self.of == 0 {
            return Ok(());
        }
        let digest = std::mem::take(&mut self.current).finalize();
        let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        match &self.first {
            Some(first) if *first != digest => Err(format!("answer {} differs from the first", self.of)),
            _ => {
                self.first.get_or_insert(digest);
                Ok(())
            }
        }
    }
}

/// Takes everything in until it is complete or has failed, which `stop` makes of what is not complete.
pub(super) fn collect(
    mut wishes: Wishes,
    outlook: &Arc<Outlook>,
    happened: &Receiver<Happened>,
    stop: &AtomicBool,
) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    let mut hashes = Hashes::default();
    let mut bar = Bar::new(wishes.json);
    loop {
        if stop.load(Ordering::Relaxed) && outcome.answers < wishes.count {
            bar.end();
            return Err(format!("interrupted after {} bytes", grouped(outlook.bytes.load(Ordering::Relaxed))));
        }
        let mut idle = true;
        // One at a time: what comes faster than it is hashed never ends.
        if let Some((spout, chunk)) = outlook.spout.as_ref().and_then(|spout| Some((spout, spout.next()?))) {
            idle = false;
            if let Some(file) = wishes.file.as_mut().filter(|_| chunk.answer == 1) {
                file.write_all(&chunk.bytes).map_err(|error| format!("cannot write the file: {error}"))?;
            }
            if wishes.hashes {
                hashes.take(chunk.answer, &chunk.bytes)?;
            }
            spout.recycle(chunk);
        }
        while let Ok(happened) = happened.try_recv() {
            idle = false;
            outcome.take(happened, &mut bar, &wishes)?;
        }
        if outcome.answers >= wishes.count && idle {
            break;
        }
        bar.show(outlook.bytes.load(Ordering::Relaxed));
        if idle {
            std::thread::sleep(PAUSE);
        }
    }
    bar.end();
    if wishes.hashes {
        hashes.end_before(outcome.answers + 1)?;
        outcome.sha256 = hashes.first;
    }
    outcome.bits_per_second = outcome.bytes as f64 * 8.0 / outcome.seconds.max(1e-9);
    Ok(outcome)
}

impl Outcome {
    fn take(&mut self, happened: Happened, bar: &mut Bar, wishes: &Wishes) -> Result<(), String> {
        match happened {
            Happened::Connected { connect_ns } => {
                self.connections += 1;
                if self.connections == 1 {
                    self.connect_us = connect_ns as f64 / 1e3;
                }
            }
            Happened::Begun(head) => {
                if let Length::Known(len) = head.length {
                    bar.expect(len.saturating_mul(wishes.count));
                }
            }
            Happened::Finished { bytes, took_ns } => {
                self.answers += 1;
                self.bytes += bytes;
                self.seconds += took_ns as f64 / 1e9;
            }
            Happened::Failed(why) => return Err(why),
        }
        Ok(())
    }

    /// For people.
    pub(super) fn text(&self, url: &str) -> String {
        let Self { answers, connections, bytes, seconds, connect_us, bits_per_second, sha256 } = self;
        let each = match answers {
            0 | 1 => String::new(),
            n => format!("; {:.0} answers a second", *n as f64 / seconds.max(1e-9)),
        };
        let hash = sha256.as_ref().map(|sha256| format!("\nsha256 {sha256}")).unwrap_or_default();
        format!(
            "{url}: {} bytes in {answers} answer{} over {connections} connection{}\n\
             {seconds:.3} s, {:.1} Mbit/s{each}; connected in {connect_us:.0} us{hash}",
            grouped(*bytes),
            plural(*answers),
            plural(*connections),
            bits_per_second / 1e6,
        )
    }
}

fn plural(n: u64) -> &'static str {
    if n == 1 { "" } else { "s" }
}

/// The line that moves on a terminal, and lines elsewhere.
struct Bar {
    bar: Option<ProgressBar>,
    json: bool,
    expected: u64,
    began: Instant,
    shown: Instant,
}

impl Bar {
    fn new(json: bool) -> Self {
        let now = Instant::now();
        let bar = (!json && std::io::stderr().is_terminal()).then(|| {
            let template = "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} to go";
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style)
        });
        Self { bar, json, expected: 0, began: now, shown: now }
    }

    fn expect(&mut self, bytes: u64) {
        self.expected = bytes;
        self.bar.iter().for_each(|bar| bar.set_length(bytes));
    }

    fn show(&mut self, bytes: u64) {
        if self.shown.elapsed() < SHOW {
            return;
        }
        self.shown = Instant::now();
        let secs = self.began.elapsed().as_secs_f64();
        match &self.bar {
            Some(bar) => bar.set_position(bytes),
            None if self.json => output::line(serde_json::json!({
                "event": "progress", "secs": secs, "bytes": bytes, "expected": self.expected
            })),
            None => output::note(format_args!("{secs:.1} s: {} of {} bytes", grouped(bytes), grouped(self.expected))),
        }
    }

    fn end(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::answer::Head;
    use crate::http::spout::Spout;
    use std::sync::mpsc::channel;

    fn run(bodies: &[&[u8]], then: Option<Happened>) -> Result<Outcome, String> {
        let outlook = Arc::new(Outlook { bytes: 0.into(), spout: Some(Spout::new()) });
        let (sender, receiver) = channel();
        sender.send(Happened::Connected { connect_ns: 5_000 }).unwrap();
        for (at, body) in bodies.iter().enumerate() {
            let length = Length::Known(body.len() as u64);
            sender.send(Happened::Begun(Head { code: 200, length, closes: false })).unwrap();
            if let (Some(spout), false) = (&outlook.spout, body.is_empty()) {
                let mut chunk = spout.empty(at as u64 + 1).unwrap();
                chunk.bytes.extend_from_slice(body);
                spout.push(chunk);
            }
            sender.send(Happened::Finished { bytes: body.len() as u64, took_ns: 1_000_000 }).unwrap();
        }
        then.into_iter().for_each(|then| sender.send(then).unwrap());
        let wishes = Wishes { file: None, hashes: true, count: bodies.len() as u64, json: true };
        collect(wishes, &outlook, &receiver, &AtomicBool::new(false))
    }

    #[test]
    fn hash_is_that_of_each_body() {
        let outcome = run(&[b"abc", b"abc"], None).unwrap();
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(outcome.sha256.as_deref(), Some(sha256));
        assert_eq!((outcome.answers, outcome.bytes, outcome.connect_us), (2, 6, 5.0));
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(run(&[b""], None).unwrap().sha256.as_deref(), Some(empty));
    }

    #[test]
    fn what_is_stopped_has_failed_unless_all_is_there() {
        let outlook = Arc::new(Outlook { bytes: 70_000.into(), spout: None });
        let (sender, receiver) = channel();
        let collected = |count| {
            let wishes = Wishes { file: None, hashes: false, count, json: true };
            collect(wishes, &outlook, &receiver, &AtomicBool::new(true))
        };
        sender.send(Happened::Finished { bytes: 70_000, took_ns: 1_000_000 }).unwrap();
        assert!(collected(1).unwrap_err().starts_with("interrupted after 70"));
        assert_eq!(collected(0).map(|outcome| outcome.answers), Ok(1));
    }

    #[test]
    fn bodies_that_differ_and_failures_are_told() {
        for bodies in [[b"abc".as_slice(), b"abd"], [b"abc", b""], [b"", b"abc"]] {
            assert!(run(&bodies, None).unwrap_err().contains("answer 2 differs"), "{bodies:?}");
        }
        assert!(run(&[b"", b"", b"abc"], None).unwrap_err().contains("answer 3 differs"));
        let failed = run(&[b"abc"], Some(Happened::Failed("reset".into())));
        assert_eq!(failed.unwrap_err(), "reset");
    }
}
