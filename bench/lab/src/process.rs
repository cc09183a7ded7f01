//! A running program which ends with its value.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::LabError;

/// Lines kept of each of a program's two outputs; older ones are forgotten. Enough for a log that runs for minutes.
const LINES_MAX: usize = 1 << 20;
/// Bytes taken of one line; a program that prints without line ends cannot fill memory.
const LINE_LENGTH_MAX: u64 = 1 << 20;
/// Time a program gets between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// How often a waiting call looks whether the program has ended.
const POLL: Duration = Duration::from_millis(2);
/// Lines of output quoted in an error.
const QUOTED_LINES: usize = 30;

/// What a finished program left.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    /// The program did not end on the signal and was killed.
    pub was_killed: bool,
}

/// A running program. Dropping it ends it: SIGTERM, and SIGKILL after five seconds.
#[derive(Debug)]
pub struct Process {
    child: Child,
    command: String,
    stdout: Lines,
    stderr: Lines,
}

impl Process {
    pub(crate) fn spawn(mut command: Command, shown: String) -> Result<Self, LabError> {
        let mut child = command.spawn().map_err(|source| LabError::Start {
            program: command.get_program().to_string_lossy().into_owned(),
            source,
        })?;
        let stdout = Lines::follow(child.stdout.take());
        let stderr = Lines::follow(child.stderr.take());
        Ok(Self { child, command: shown, stdout, stderr })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it has printed a line on its standard output that starts with `start`, and returns that line.
    pub fn wait_for_line(&mut self, start: &str, deadline: Duration) -> Result<String, LabError> {
        self.wait_for(&format!("starts with {start:?}"), |line| line.starts_with(start), deadline)
    }

    /// Waits until it has printed a line on its standard output that `matches`; `wanted` says in an error which.
    pub fn wait_for(
        &mut self,
        wanted: &str,
        matches: impl Fn(&str) -> bool,
        deadline: Duration,
    ) -> Result<String, LabError> {
        let end = Instant::now() + deadline;
        loop {
            let ended = !self.is_running();
            if let Some(line) = self.stdout.find(&matches, if ended { GRACE } else { POLL * 10 }) {
                return Ok(line);
            }
            if ended {
                let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                let (command, wanted, output) = (self.command.clone(), wanted.to_owned(), self.last_output());
                return Err(LabError::EndedEarly { command, wanted, status, output });
            }
            if Instant::now() >= end {
                let (command, wanted, output) = (self.command.clone(), wanted.to_owned(), self.last_output());
                return Err(LabError::NoLine { command, wanted, deadline, output });
            }
        }
    }

    /// Everything printed on standard output up to now.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    fn last_output(&self) -> String {
        let all = self.stdout.text() + &self.stderr.text();
        let lines: Vec<&str> = all.lines().collect();
        lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
    }

    /// Sends a signal; a program that has ended already is not an error.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running()
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            // It can only fail because the process ended in between; we have not reaped it, so the id is still ours.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for it to end by itself; at the deadline it is killed, and that is an error.
    pub fn wait(mut self, deadline: Duration) -> Result<Finished, LabError> {
        match self.wait_until(Instant::now() + deadline) {
            Some(status) => Ok(self.finish(status, false)),
            None => Err(LabError::Deadline { command: self.command.clone(), deadline }),
        }
    }

    /// Ends it as a user would (SIGINT), and returns what it printed.
    pub fn interrupt(self) -> Option<Finished> {
        self.end_with(Signal::INT)
    }

    /// Ends it (SIGTERM), and returns what it printed.
    pub fn stop(self) -> Option<Finished> {
        self.end_with(Signal::TERM)
    }

    /// Ends it without giving it a chance to clean up (SIGKILL).
    pub fn kill(self) -> Option<Finished> {
        self.end_with(Signal::KILL)
    }

    fn end_with(mut self, signal: Signal) -> Option<Finished> {
        self.signal(signal);
        if let Some(status) = self.wait_until(Instant::now() + GRACE) {
            return Some(self.finish(status, false));
        }
        self.child.kill().ok()?;
        let status = self.child.wait().ok()?;
        Some(self.finish(status, true))
    }

    fn wait_until(&mut self, end: Instant) -> Option<ExitStatus> {
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            if Instant::now() >= end {
                return None;
            }
            thread::sleep(POLL);
        }
    }

    fn finish(&mut self, status: ExitStatus, was_killed: bool) -> Finished {
        self.stdout.wait_for_end();
        self.stderr.wait_for_end();
        Finished { status, stdout: self.stdout.text(), stderr: self.stderr.text(), was_killed }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        if self.wait_until(Instant::now() + GRACE).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The lines of one output of a program, read by a thread of its own so that the program never blocks on a full pipe.
#[derive(Debug)]
struct Lines {
    shared: Arc<(Mutex<Collected>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Collected {
    lines: VecDeque<String>,
    /// Lines that `find` has already looked at.
    seen: usize,
    ended: bool,
}

impl Lines {
    fn follow(source: Option<impl Read + Send + 'static>) -> Self {
        let shared =
            Arc::new((Mutex::new(Collected { ended: source.is_none(), ..Collected::default() }), Condvar::new()));
        let reader = source.map(|source| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || read_lines(source, &shared))
        });
        Self { shared, reader }
    }

    fn collected(&self) -> MutexGuard<'_, Collected> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first line not looked at before that `matches`, waiting up to `wait` for more lines.
    fn find(&self, matches: impl Fn(&str) -> bool, wait: Duration) -> Option<String> {
        let end = Instant::now() + wait;
        let mut collected = self.collected();
        loop {
            while let Some(line) = collected.lines.get(collected.seen) {
                let found = matches(line).then(|| line.clone());
                collected.seen += 1;
                if found.is_some() {
                    return found;
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if collected.ended || left.is_zero() {
                return None;
            }
            collected = self.shared.1.wait_timeout(collected, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn text(&self) -> String {
        let collected = self.collected();
        let mut text = String::with_capacity(collected.lines.iter().map(|line| line.len() + 1).sum());
        for line in &collected.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Waits for the reader; a grandchild that keeps the pipe open is not waited for longer than the grace time.
    fn wait_for_end(&mut self) {
        let end = Instant::now() + GRACE;
        while self.reader.as_ref().is_some_and(|reader| !reader.is_finished()) && Instant::now() < end {
            thread::sleep(POLL);
        }
        self.reader.take_if(|reader| reader.is_finished()).map(JoinHandle::join);
    }
}

fn read_lines(source: impl Read, shared: &(Mutex<Collected>, Condvar)) {
    let mut source = BufReader::new(source);
    let mut line = Vec::new();
    loop {
        line.clear();
        let got = (&mut source).take(LINE_LENGTH_MAX).read_until(b'\n', &mut line);
        let mut collected = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(got, Ok(1..)) {
            collected.ended = true;
            shared.1.notify_all();
            return;
        }
        if collected.lines.len() == LINES_MAX {
            collected.lines.pop_front();
            collected.seen = collected.seen.saturating_sub(1);
        }
        collected.lines.push_back(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned());
        shared.1.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use crate::{LabError, Program};
    use std::time::Duration;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Program {
        Program::new("sh").args(["-c", script])
    }

    #[test]
    fn waiting_for_a_line_returns_the_line_and_leaves_the_program_running() {
        let mut process = shell("echo noise; echo ready port 7; exec sleep 600").spawn().unwrap();
        assert_eq!(process.wait_for_line("ready", DEADLINE).unwrap(), "ready port 7");
        assert!(process.is_running());
    }

    #[test]
    fn program_that_ends_before_its_ready_line_is_an_error_with_its_output() {
        let mut process = shell("echo no such device >&2; exit 2").spawn().unwrap();
        let error = process.wait_for_line("ready", DEADLINE).unwrap_err();
        assert!(matches!(&error, LabError::EndedEarly { .. }), "{error}");
    }

    #[test]
    fn dropped_process_is_gone() {
        let process = Program::new("sleep").arg("600").spawn().unwrap();
        let path = format!("/proc/{}", process.pid());
        assert!(std::path::Path::new(&path).exists());
        drop(process);
        assert!(!std::path::Path::new(&path).exists());
    }

    #[test]
    fn interrupted_program_can_print_its_summary() {
        let mut process =
            shell("trap 'echo summary; exit 0' INT; echo ready; while :; do sleep 0.01; done").spawn().unwrap();
        process.wait_for_line("ready", DEADLINE).unwrap();
        let finished = process.interrupt().unwrap();
        assert!(
            finished.status.success() && finished.stdout.ends_with("summary\n") && !finished.was_killed,
            "{finished:?}"
        );
    }
}
