//! Progress of what takes longer than two seconds; anything faster leaves no trace.

use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output;

/// From here on somebody wonders whether it is alive; also the time between two lines where there is no terminal.
const PATIENCE: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(200);

/// How many of them are done: a bar on a terminal, lines elsewhere.
pub(super) struct Progress {
    title: String,
    all: usize,
    next: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new(group: &str, all: usize) -> Self {
        Self { title: format!("group {group}"), all, next: Instant::now() + PATIENCE, bar: None }
    }

    pub(super) fn show(&mut self, done: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        } else if Instant::now() < self.next {
            // Not yet.
        } else if std::io::stderr().is_terminal() {
            self.bar.insert(bar(&self.title, self.all)).set_position(done as u64);
        } else {
            self.next = Instant::now() + PATIENCE;
            output::note(format_args!("{}: {done} of {}", self.title, self.all));
        }
    }

    pub(super) fn finish(self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

fn bar(title: &str, all: usize) -> ProgressBar {
    let bar = ProgressBar::new(all as u64);
    if let Ok(style) = ProgressStyle::with_template("{prefix} [{elapsed}/{eta} left] {bar:30} {pos}/{len}") {
        bar.set_style(style);
    }
    bar.with_prefix(title.to_owned())
}

/// Does something that cannot say how far it is, a single system call, with a spinner on a terminal.
pub(super) fn while_waiting<T>(title: &str, work: impl FnOnce() -> T) -> T {
    if !std::io::stderr().is_terminal() {
        return work();
    }
    let (done, waiting) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let spinner = ProgressBar::new_spinner().with_message(title.to_owned());
                spinner.enable_steady_tick(TICK);
                let _ = waiting.recv();
                spinner.finish_and_clear();
            }
        });
        let result = work();
        drop(done);
        result
    })
}
