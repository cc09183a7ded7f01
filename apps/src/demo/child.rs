//! Our own commands, started in a namespace of the demo.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use super::network::Side;
use crate::failure::Failure;

/// Time to end after SIGTERM before SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);

/// A running `tailwater`, ended with this value.
pub(super) struct Child {
    process: std::process::Child,
    lines: Receiver<String>,
    /// Kept, so that the child's standard error stays open.
    errors: Receiver<String>,
    shown: String,
}

impl Child {
    /// Starts `tailwater WORDS...` and waits until it is ready.
    pub(super) fn start(side: &Side<'_>, words: &[&str], patience: Duration) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("cannot find this program's own file")?;
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        // It ends with us even if we are killed and cannot end it ourselves.
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "ip", "netns", "exec", &side.name()])
            .arg(own)
            .args(words)
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start setpriv, which is part of util-linux")?;
        let lines = follow(process.stdout.take());
        let errors = follow(process.stderr.take());
        let child = Self { process, lines, errors, shown: format!("tailwater {}", words.join(" ")) };
        match child.wait_ready(patience) {
            true => Ok(child),
            false => Err(child.ended("did not start")),
        }
    }

    /// An error if it no longer runs: figures would be somebody else's.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(self.ended("ended by itself")),
        }
    }

    fn ended(&self, how: &str) -> anyhow::Error {
        let said: Vec<String> = self.errors.try_iter().collect();
        Failure::new(format!("`{}` {how}: {}", self.shown, said.join("; ")), "").into()
    }

    fn wait_ready(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.starts_with("ready") => return true,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Ends it and returns what it printed since it was ready.
    pub(super) fn stop(mut self) -> anyhow::Result<String> {
        self.end();
        Ok(self.lines.try_iter().collect::<Vec<_>>().join("\n"))
    }

    fn end(&mut self) {
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw)
            && matches!(self.process.try_wait(), Ok(None))
        {
            // Not reaped yet, so the id is still its own.
            let _ = kill_process(pid, Signal::TERM);
        }
        let end = Instant::now() + GRACE;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(POLL);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        // What it printed last may still be on its way through the reader's thread.
        std::thread::sleep(POLL * 5);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

/// The lines of an output, read by a thread of their own so that the child never waits for us.
fn follow(source: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = channel();
    if let Some(source) = source {
        std::thread::spawn(move || {
            let lines = BufReader::new(source).lines().map_while(Result::ok);
            lines.map(|line| sender.send(line)).take_while(Result::is_ok).count();
        });
    }
    receiver
}
