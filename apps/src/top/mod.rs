//! `tailwater top`: what a running command does, seen live.
//!
//! ```text
//!   sampler -- Snapshot --> view: window (difference of two), history, keys --> draw --> screen
//!                                 \-- sheets: rows of figures, also as text and JSON
//! ```

mod draw;
mod history;
mod keyboard;
mod sampler;
mod screen;
mod sheet;
mod sheets;
#[cfg(test)]
mod tests;
mod view;

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Context;
use clap::Args as ClapArgs;
use ratatui::crossterm::event::Event;
use serde_json::json;

use crate::common::seconds;
use crate::control::{Choice, Peer, Request};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output;
use crate::snapshot::Snapshot;
use crate::window::Window;
use keyboard::{Keyboard, Typed};
use sampler::Sampler;
use screen::Screen;
use sheet::Sheet;
pub(crate) use sheet::scaled;
use view::{Act, INTERVAL_MAX, INTERVAL_MIN, View};

pub(crate) const AFTER_HELP: &str = "\
Examples:
  tailwater top                          the only process there is, or a list to choose from
  tailwater top --name l3fwd --interval 0.5
  tailwater top --once                   one screen of text, for a log or a pipe
  tailwater top --once -j | jq .blocks   the same figures for programs

? shows the keys. Figures are per second, from two looks at the process's counters; cycles are those of the CPU's time
stamp counter. Without a terminal, --once is understood.";

/// How often keys, signals and samples are looked for.
const LOOK: Duration = Duration::from_millis(50);

/// Options of `top`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Print one screen of text and end
    #[arg(long)]
    once: bool,
    /// Seconds between two looks at the counters, 0.1 to 60
    #[arg(long, value_name = "SECS", default_value = "1", value_parser = interval)]
    interval: Duration,
    /// Print JSON, once
    #[arg(short, long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let peer = args.choice.find()?;
    let interrupt = Interrupt::listen()?;
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    if args.once || args.json || dumb || !std::io::stdout().is_terminal() {
        return once(&peer, &args, &interrupt);
    }
    watch(peer, args.interval, &interrupt)
}

/// Two looks, one screen of text.
fn once(peer: &Peer, args: &Args, interrupt: &Interrupt) -> anyhow::Result<()> {
    let earlier: Snapshot = peer.ask(Request::Report)?;
    if interrupt.wait(args.interval) {
        return Err(Failure::new("interrupted before the second look", "").into());
    }
    let window = Window::between(Some(&earlier), peer.ask(Request::Report)?);
    output::line(if args.json { as_json(&window).to_string() } else { as_text(&window) });
    Ok(())
}

fn all_sheets(window: &Window) -> [Sheet; 6] {
    [
        sheets::workers(window),
        sheets::ports(window, true),
        sheets::queues(window),
        sheets::blocks(window, true),
        sheets::drops(window),
        sheets::verdicts(window),
    ]
}

fn as_json(window: &Window) -> serde_json::Value {
    let Window { now, secs, .. } = window;
    let mut all = json!({ "command": now.command, "pid": now.pid, "uptime_ms": now.uptime_ms, "secs": secs });
    all_sheets(window).iter().for_each(|sheet| all[sheet.title] = sheet.json());
    all
}

fn as_text(window: &Window) -> String {
    let Window { now, delta, secs } = window;
    let rate = |n: u64| scaled(window.rate(n));
    let totals = &delta.totals;
    let mut lines = vec![
        format!("{} (pid {}), {:.1} s after {:.1} s", now.command, now.pid, secs, now.uptime_ms as f64 / 1000.0 - secs),
        format!(
            "  in {} pps, out {} pps, in the kernel {} pps, dropped {} pps",
            rate(totals.received),
            rate(totals.sent),
            rate(totals.sent_by_kernel),
            rate(totals.dropped + totals.shed)
        ),
    ];
    for sheet in all_sheets(window).iter().filter(|sheet| !sheet.rows.is_empty()) {
        lines.push(format!("{}:", sheet.title));
        lines.extend(sheet.table().lines());
    }
    lines.join("\n")
}

/// Until the user has seen enough. The terminal comes back on every way out.
fn watch(peer: Peer, interval: Duration, interrupt: &Interrupt) -> anyhow::Result<()> {
    let sampler = Sampler::start(peer, interval)?;
    let keyboard = Keyboard::start()?;
    let mut screen = Screen::open().context("cannot take over the terminal; --once needs none")?;
    let mut view = View::new(interval);
    let mut stale = true;
    while !interrupt.wait(Duration::ZERO) {
        if std::mem::take(&mut stale) {
            screen.draw(|frame| draw::draw(frame, &view))?;
        }
        let typed = keyboard.next(LOOK)?;
        stale |= typed.is_some();
        match typed.map_or(Act::Nothing, |typed| act(&mut view, typed)) {
            Act::Quit => break,
            Act::Suspend => screen.suspend()?,
            Act::Pace(interval) => sampler.set_pace(interval),
            Act::Nothing => {}
        }
        while let Some(sample) = sampler.next() {
            view.take(sample);
            stale = true;
        }
    }
    Ok(())
}

fn act(view: &mut View, typed: Typed) -> Act {
    match typed {
        Typed::Event(Event::Key(key)) => view.key(key),
        // What has been resized is drawn anew, like everything.
        Typed::Event(_) => Act::Nothing,
        Typed::Quit => Act::Quit,
        Typed::Suspend => Act::Suspend,
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    match seconds(text) {
        Ok(interval) if (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) => Ok(interval),
        _ => Err("wanted seconds from 0.1 to 60".to_owned()),
    }
}
