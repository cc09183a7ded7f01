//! The terminal while it is ours: raw mode and the alternate screen, given back when dropped. ratatui's panic hook gives
//! it back before a panic prints; signals end the loop that draws (see `interrupt`), and so the value.

use std::io::{self, stdout};
use std::mem::ManuallyDrop;

use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, enable_raw_mode};
use ratatui::prelude::CrosstermBackend;
use ratatui::{DefaultTerminal, Frame, Terminal};
use rustix::process::{Signal, getpid, kill_process};

/// The terminal in our hands.
pub(crate) struct Screen {
    /// Not dropped: its destructor panics where the terminal has gone away. The cursor is shown by `give_back`.
    terminal: ManuallyDrop<DefaultTerminal>,
}

impl Screen {
    pub(crate) fn open() -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self { terminal: ManuallyDrop::new(terminal) }),
            Err(error) => {
                // It may have failed half-way.
                let _ = give_back();
                Err(error)
            }
        }
    }

    pub(crate) fn draw(&mut self, show: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(show).map(drop)
    }

    /// Stops like any job at Ctrl-Z, with the terminal as the shell left it, and takes it again afterwards.
    pub(crate) fn suspend(&mut self) -> io::Result<()> {
        give_back()?;
        // SIGTSTP would only come back to us (see `keyboard`).
        kill_process(getpid(), Signal::STOP)?;
        enable_raw_mode()?;
        execute!(stdout(), EnterAlternateScreen)?;
        // A terminal that knows nothing draws everything; clearing the one there is would ask where the cursor is.
        self.terminal = ManuallyDrop::new(Terminal::new(CrosstermBackend::new(stdout()))?);
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has gone away needs nothing back.
        let _ = give_back();
    }
}

fn give_back() -> io::Result<()> {
    ratatui::try_restore()?;
    execute!(stdout(), Show)
}
