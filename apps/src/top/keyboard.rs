//! Keys, and the signals that a terminal sends in place of keys.
//!
//! A thread of its own reads them: crossterm never returns from a terminal that has been hung up, and the program is to
//! end then all the same.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::Context;
use ratatui::crossterm::event::{self, Event};
use signal_hook::consts::{SIGQUIT, SIGTSTP};

/// Events that may wait; typing faster waits in the terminal.
const WAITING_MAX: usize = 64;
/// How often the thread lets others at the terminal's events.
const LOOK: Duration = Duration::from_millis(50);

/// What came from the terminal.
#[derive(Debug)]
pub(crate) enum Typed {
    Event(Event),
    /// SIGQUIT: as a key to leave.
    Quit,
    /// SIGTSTP: as Ctrl-Z.
    Suspend,
}

/// Whatever is typed. The thread behind it ends with the process.
pub(crate) struct Keyboard {
    events: Receiver<io::Result<Event>>,
    quit: Arc<AtomicBool>,
    suspend: Arc<AtomicBool>,
}

impl Keyboard {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let (quit, suspend) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        for (signal, flag) in [(SIGQUIT, &quit), (SIGTSTP, &suspend)] {
            signal_hook::flag::register(signal, Arc::clone(flag)).context("cannot listen to signals")?;
        }
        let (sender, events) = sync_channel(WAITING_MAX);
        let thread = std::thread::Builder::new().name("tailwater/keys".into());
        thread.spawn(move || read_on(&sender)).context("cannot start a thread")?;
        Ok(Self { events, quit, suspend })
    }

    /// The next key or signal, if one comes within this time.
    pub(crate) fn next(&self, at_most: Duration) -> io::Result<Option<Typed>> {
        if self.quit.swap(false, Ordering::Relaxed) {
            return Ok(Some(Typed::Quit));
        }
        if self.suspend.swap(false, Ordering::Relaxed) {
            return Ok(Some(Typed::Suspend));
        }
        match self.events.recv_timeout(at_most) {
            Ok(event) => event.map(|event| Some(Typed::Event(event))),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

fn read_on(events: &SyncSender<io::Result<Event>>) {
    loop {
        let event = match event::poll(LOOK) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        let failed = event.is_err();
        if events.send(event).is_err() || failed {
            return;
        }
    }
}
