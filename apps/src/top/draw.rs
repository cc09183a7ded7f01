//! The picture of a view, at any size: what does not fit is left out, the least important first.
//!
//! ```text
//!  header     whose figures these are                              from 1 line on
//!  totals     in, out, dropped, with their course                  3 lines, from 14 on; 1 line, from 2 on
//!  tabs                                                            from 6 lines on
//!  body       a pane with details, or the overview's sections
//!  footer     keys, or the filter being typed                      from 5 lines on
//! ```

mod body;
mod grid;
mod totals;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::view::{Tab, View};

/// Emphasis for headings.
const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
const FAINT: Style = Style::new().fg(Color::DarkGray);
const GOOD: Style = Style::new().fg(Color::Green);
const BAD: Style = Style::new().fg(Color::Red);
const ACCENT: Style = Style::new().fg(Color::Cyan);
const CHOSEN: Style = Style::new().fg(Color::Black).bg(Color::Cyan);

const HELP: &[(&str, &str)] = &[
    ("Tab, Right / Left", "next, previous pane"),
    ("1 ... 7", "a pane by its number"),
    ("Up, Down, PgUp, PgDn, Home, End", "choose a row; its counters are below"),
    ("s / S", "order by the next, previous column"),
    ("r", "reverse the order"),
    ("/", "show only rows with this text; Esc shows all"),
    ("z", "hide, show rows where nothing happens"),
    ("p, Space", "hold the figures"),
    ("+ / -", "sample half, twice as often"),
    ("Ctrl-Z", "to the shell; fg comes back"),
    ("q, Esc, Ctrl-C", "leave"),
    ("", ""),
    ("PKT/BATCH", "packets handled at once: more is cheaper"),
    ("CYC/PKT", "CPU cycles for each packet"),
    ("PKT/CALL, PKT/SEND", "packets for each system call, to send"),
    ("BUSY, EMPTY", "time in turns that moved packets; turns that did not"),
    ("LOST", "packets the kernel lost before a worker saw them"),
    ("WAITING", "packets in the ring at this moment"),
];

/// Draws all of it.
pub(crate) fn draw(frame: &mut Frame<'_>, view: &View) {
    let height = frame.area().height;
    let totals_height = match height {
        0 | 1 => 0,
        2..14 => 1,
        _ => 3,
    };
    let tabs_height = u16::from(height >= 6);
    let footer_height = u16::from(height >= 5);
    let [header, totals, tabs, body, footer] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(totals_height),
        Constraint::Length(tabs_height),
        Constraint::Fill(1),
        Constraint::Length(footer_height),
    ])
    .areas(frame.area());
    draw_header(frame, header, view);
    totals::draw(frame, totals, view);
    draw_tabs(frame, tabs, view);
    match &view.window {
        Some(window) => body::draw(frame, body, view, window),
        None => frame.render_widget(Paragraph::new("  asking ...").style(FAINT), body),
    }
    draw_footer(frame, footer, view);
    if view.help {
        draw_help(frame);
    }
}

/// Whose figures, and whether they are fresh.
fn draw_header(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let (state, style) = match view {
        View { ended: true, .. } => ("ended; these are its last figures".to_owned(), BAD),
        View { trouble: Some(why), .. } => (format!("no answer: {why}"), BAD),
        View { paused: true, .. } => ("held; p goes on".to_owned(), Style::new().fg(Color::Yellow)),
        _ => (format!("every {} s", view.interval.as_secs_f64()), GOOD),
    };
    let state = Line::styled(format!(" {state} "), style).alignment(Alignment::Right);
    if let Some(window) = &view.window {
        let now = &window.now;
        let names: Vec<&str> = now.interfaces.iter().map(|interface| interface.name.as_str()).collect();
        let room = area.width.saturating_sub(state.width() as u16);
        let who = Line::from(vec![
            Span::styled(format!(" tailwater {}", now.command), STRONG),
            Span::raw(format!("  pid {}  up {}  {}", now.pid, uptime(now.uptime_ms / 1000), names.join(" "))),
        ]);
        frame.render_widget(who, Rect { width: room, ..area });
    }
    frame.render_widget(state, area);
}

/// `59 s`, `12:34`, `1:02:03`, `3 d 1:02:03`.
fn uptime(secs: u64) -> String {
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, minutes) => format!("{minutes}:{:02}", secs % 60),
        (0, hours, minutes) => format!("{hours}:{minutes:02}:{:02}", secs % 60),
        (days, hours, minutes) => format!("{days} d {hours}:{minutes:02}:{:02}", secs % 60),
    }
}

fn draw_tabs(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let full: usize = Tab::ALL.iter().map(|tab| tab.title().len() + 4).sum();
    let short = full > usize::from(area.width);
    let tab = |(at, tab): (usize, &Tab)| {
        let title = if short { tab.title().get(..2).unwrap_or_default() } else { tab.title() };
        let text = if short { format!("{}{title} ", at + 1) } else { format!(" {} {title} ", at + 1) };
        Span::styled(text, if *tab == view.tab { CHOSEN } else { Style::new() })
    };
    frame.render_widget(Line::from_iter(Tab::ALL.iter().enumerate().map(tab)), area);
}

fn draw_footer(frame: &mut Frame<'_>, area: Rect, view: &View) {
    if view.typing {
        let line = Line::from(vec![Span::styled(" / ", ACCENT), Span::raw(&view.filter), Span::styled("_", STRONG)]);
        frame.render_widget(line, area);
        return;
    }
    let keys =
        [("q", "quit"), ("?", "help"), ("Tab", "pane"), ("s", "sort"), ("/", "filter"), ("z", "idle"), ("p", "hold")];
    let key = |(key, what): &(&'static str, &'static str)| {
        [Span::styled(format!(" {key} "), ACCENT), Span::styled(format!("{what} "), FAINT)]
    };
    let mut spans: Vec<Span<'_>> = keys.iter().flat_map(key).collect();
    if !view.filter.is_empty() {
        spans.push(Span::styled(format!(" only {:?} ", view.filter), CHOSEN));
    }
    if view.hides_idle {
        spans.push(Span::styled(" idle hidden ", CHOSEN));
    }
    frame.render_widget(Line::from(spans), area);
}

fn draw_help(frame: &mut Frame<'_>) {
    let column = HELP.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    let line = |(key, what): &(&'static str, &'static str)| {
        Line::from(vec![Span::styled(format!(" {key:<column$}  "), ACCENT), Span::raw(format!("{what} "))])
    };
    let lines: Vec<Line<'_>> = HELP.iter().map(line).collect();
    let width = lines.iter().map(Line::width).max().unwrap_or(0) as u16 + 2;
    let area = frame.area().centered(Constraint::Max(width), Constraint::Max(lines.len() as u16 + 2));
    let block = Block::bordered().title(" help: any key closes it ").border_style(ACCENT);
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}
