//! What the screen shows and what keys do to it. Knows no terminal.

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::history::History;
use super::sampler::Sample;
use super::sheet::Sheet;
use super::sheets;
use crate::snapshot::Snapshot;
use crate::window::Window;

/// Shortest and longest time between samples.
pub(crate) const INTERVAL_MIN: Duration = Duration::from_millis(100);
pub(crate) const INTERVAL_MAX: Duration = Duration::from_secs(60);
/// Longest filter text, in characters.
const FILTER_MAX: usize = 64;
/// Rows that a page key moves by.
const PAGE: usize = 10;

/// The panes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tab {
    Overview,
    Workers,
    Ports,
    Queues,
    Blocks,
    Drops,
    Xdp,
}

impl Tab {
    pub(crate) const ALL: [Self; 7] =
        [Self::Overview, Self::Workers, Self::Ports, Self::Queues, Self::Blocks, Self::Drops, Self::Xdp];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Workers => "Workers",
            Self::Ports => "Ports",
            Self::Queues => "Queues",
            Self::Blocks => "Blocks",
            Self::Drops => "Drops",
            Self::Xdp => "XDP",
        }
    }

    /// The pane's sheet; the overview has several.
    fn sheet(self, window: &Window) -> Option<Sheet> {
        match self {
            Self::Overview => None,
            Self::Workers => Some(sheets::workers(window)),
            Self::Ports => Some(sheets::ports(window, true)),
            Self::Queues => Some(sheets::queues(window)),
            Self::Blocks => Some(sheets::blocks(window, true)),
            Self::Drops => Some(sheets::drops(window)),
            Self::Xdp => Some(sheets::verdicts(window)),
        }
    }
}

/// The order of a pane's rows; without a column the order in which things come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sort {
    pub(crate) column: Option<usize>,
    pub(crate) ascending: bool,
}

/// What a key asks the program to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Nothing,
    Quit,
    /// Give the terminal back to the shell until we are called to the foreground.
    Suspend,
    /// Samples are to come at another pace.
    Pace(Duration),
}

/// All that the screen depends on.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) tab: Tab,
    sorts: [Sort; Tab::ALL.len()],
    pub(crate) filter: String,
    /// Whether keys go into the filter.
    pub(crate) typing: bool,
    pub(crate) help: bool,
    pub(crate) paused: bool,
    pub(crate) hides_idle: bool,
    pub(crate) selected: usize,
    pub(crate) interval: Duration,
    pub(crate) window: Option<Window>,
    /// Why there is nothing new.
    pub(crate) trouble: Option<String>,
    /// The process is gone.
    pub(crate) ended: bool,
    pub(crate) history: History,
    last: Option<Snapshot>,
}

impl View {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            tab: Tab::Overview,
            sorts: [Sort::default(); Tab::ALL.len()],
            filter: String::new(),
            typing: false,
            help: false,
            paused: false,
            hides_idle: false,
            selected: 0,
            interval,
            window: None,
            trouble: None,
            ended: false,
            history: History::default(),
            last: None,
        }
    }

    /// Takes in what the sampler found. While paused the figures stay, and the next ones span the pause.
    pub(crate) fn take(&mut self, sample: Sample) {
        match sample {
            Sample::Snapshot(_) if self.paused => {}
            Sample::Snapshot(snapshot) => {
                let window = Window::between(self.last.as_ref(), (*snapshot).clone());
                // Averages since the start would look like a course that never was.
                if self.last.is_some() {
                    self.history.take(figures(&window));
                }
                (self.window, self.last, self.trouble) = (Some(window), Some(*snapshot), None);
            }
            Sample::NoAnswer(why) => self.trouble = Some(why),
            Sample::Ended => self.ended = true,
        }
    }

    /// How the current pane is ordered.
    pub(crate) fn sort(&self) -> Sort {
        self.sorts[self.tab as usize]
    }

    /// The current pane's rows, filtered and ordered; `None` for the overview and before the first sample.
    pub(crate) fn sheet(&self) -> Option<Sheet> {
        let mut sheet = self.tab.sheet(self.window.as_ref()?)?;
        self.narrow(&mut sheet);
        if let Sort { column: Some(column), ascending } = self.sort() {
            sheet.sort(column, !ascending);
        }
        Some(sheet)
    }

    /// Leaves out what is not wanted.
    pub(crate) fn narrow(&self, sheet: &mut Sheet) {
        sheet.filter(&self.filter);
        if self.hides_idle {
            sheet.rows.retain(|row| !row.is_idle());
        }
    }

    /// Does what a key is for.
    pub(crate) fn key(&mut self, key: KeyEvent) -> Act {
        if key.kind == KeyEventKind::Release {
            return Act::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c' | 'd') => Act::Quit,
                KeyCode::Char('z') => Act::Suspend,
                _ => Act::Nothing,
            };
        }
        if self.typing {
            self.type_filter(key.code);
            return Act::Nothing;
        }
        if self.help {
            self.help = false;
            return if key.code == KeyCode::Char('q') { Act::Quit } else { Act::Nothing };
        }
        self.command(key.code)
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(letter) if self.filter.chars().count() < FILTER_MAX => self.filter.push(letter),
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => (self.typing, self.filter) = (false, String::new()),
            _ => {}
        }
        self.selected = 0;
    }

    fn command(&mut self, code: KeyCode) -> Act {
        match code {
            KeyCode::Char('q') => return Act::Quit,
            KeyCode::Esc if self.filter.is_empty() => return Act::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.help = true,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('z') => self.hides_idle = !self.hides_idle,
            KeyCode::Char('s') => self.sort_by_next(1),
            KeyCode::Char('S') => self.sort_by_next(-1),
            KeyCode::Char('r') => self.sorts[self.tab as usize].ascending ^= true,
            KeyCode::Char('+' | '=') => return self.pace(self.interval * 2),
            KeyCode::Char('-') => return self.pace(self.interval / 2),
            KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => self.turn_to(self.tab as usize + 1),
            KeyCode::BackTab | KeyCode::Left => self.turn_to(self.tab as usize + Tab::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='7') => self.turn_to(digit as usize - '1' as usize),
            code => self.scroll(code),
        }
        Act::Nothing
    }

    fn scroll(&mut self, code: KeyCode) {
        let last = self.sheet().map_or(0, |sheet| sheet.rows.len().saturating_sub(1));
        self.selected = match code {
            KeyCode::Down | KeyCode::Char('j') => self.selected + 1,
            KeyCode::Up | KeyCode::Char('k') => self.selected.saturating_sub(1),
            KeyCode::PageDown => self.selected + PAGE,
            KeyCode::PageUp => self.selected.saturating_sub(PAGE),
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => last,
            _ => self.selected,
        };
        self.selected = self.selected.min(last);
    }

    fn turn_to(&mut self, tab: usize) {
        self.tab = Tab::ALL[tab % Tab::ALL.len()];
        self.selected = 0;
    }

    /// On to the next column, and after the last to the order in which things come.
    fn sort_by_next(&mut self, by: isize) {
        let Some(columns) = self.sheet().map(|sheet| sheet.columns.len() as isize) else { return };
        let sort = &mut self.sorts[self.tab as usize];
        let at = sort.column.map_or(-1, |column| column as isize);
        let next = (at + 1 + by).rem_euclid(columns + 1) - 1;
        sort.column = usize::try_from(next).ok();
    }

    fn pace(&mut self, interval: Duration) -> Act {
        self.interval = interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        Act::Pace(self.interval)
    }
}

/// Figures whose course is kept: the totals, and each row's of each sheet.
fn figures(window: &Window) -> Vec<(String, f64)> {
    let totals = &window.delta.totals;
    let total = [
        ("in", totals.received + totals.sent_by_kernel),
        ("out", totals.sent + totals.sent_by_kernel),
        ("dropped", totals.dropped + totals.shed),
    ];
    let mut figures: Vec<_> = total.iter().map(|&(name, n)| (name.to_owned(), window.rate(n))).collect();
    let mut sheets: Vec<Sheet> = Tab::ALL.iter().filter_map(|tab| tab.sheet(window)).collect();
    // The overview joins the workers.
    sheets.extend([sheets::ports(window, false), sheets::blocks(window, false)]);
    for sheet in sheets {
        figures.extend(sheet.rows.iter().map(|row| (format!("{}/{}", sheet.title, row.name()), row.trend)));
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::sample;
    use crate::top::sheet::Row;

    fn view() -> View {
        let mut view = View::new(Duration::from_secs(1));
        view.take(Sample::Snapshot(Box::new(sample::snapshot(100_000))));
        view.take(Sample::Snapshot(Box::new(sample::snapshot(101_000))));
        view
    }

    fn press(view: &mut View, keys: &str) -> Act {
        keys.chars().fold(Act::Nothing, |_, key| view.key(KeyCode::Char(key).into()))
    }

    fn names(view: &View) -> Vec<String> {
        view.sheet().unwrap().rows.iter().map(Row::name).collect()
    }

    #[test]
    fn tabs_go_round_and_have_numbers() {
        let mut view = view();
        view.key(KeyCode::BackTab.into());
        assert_eq!(view.tab, Tab::Xdp);
        view.key(KeyCode::Tab.into());
        assert_eq!(view.tab, Tab::Overview);
        press(&mut view, "5");
        assert_eq!(view.tab, Tab::Blocks);
    }

    #[test]
    fn filter_is_typed_kept_and_cleared() {
        let mut view = view();
        press(&mut view, "5/count");
        assert_eq!(names(&view), ["count  counter  0", "count  counter  1"]);
        view.key(KeyCode::Enter.into());
        assert_eq!(press(&mut view, "z"), Act::Nothing);
        assert_eq!(view.filter, "count");
        assert_eq!(view.key(KeyCode::Esc.into()), Act::Nothing);
        assert_eq!((view.filter.as_str(), names(&view).len()), ("", 4));
        assert_eq!(view.key(KeyCode::Esc.into()), Act::Quit);
    }

    #[test]
    fn each_pane_keeps_its_own_order() {
        let mut view = view();
        press(&mut view, "5ssss");
        assert_eq!(view.sort(), Sort { column: Some(3), ascending: false });
        assert_eq!(names(&view)[0], "route  ip-forward  0", "most packets first");
        press(&mut view, "r");
        assert_eq!(names(&view)[0], "count  counter  0");
        press(&mut view, "2");
        assert_eq!(view.sort(), Sort::default());
        press(&mut view, "5SSSS");
        assert_eq!(view.sort().column, None);
        press(&mut view, "S");
        assert_eq!(view.sort().column, Some(7), "before the first comes the last");
    }

    #[test]
    fn selection_stays_among_the_rows() {
        let mut view = view();
        press(&mut view, "4jjj");
        assert_eq!(view.selected, 3);
        view.key(KeyCode::PageDown.into());
        assert_eq!(view.selected, 7);
        view.key(KeyCode::Home.into());
        press(&mut view, "k");
        assert_eq!(view.selected, 0);
    }

    #[test]
    fn pause_holds_the_figures_and_the_next_window_spans_it() {
        let mut view = view();
        press(&mut view, "p");
        view.take(Sample::Snapshot(Box::new(sample::snapshot(102_000))));
        assert_eq!(view.window.as_ref().unwrap().now.uptime_ms, 101_000);
        press(&mut view, "p");
        view.take(Sample::Snapshot(Box::new(sample::snapshot(103_000))));
        assert_eq!(view.window.as_ref().unwrap().secs, 2.0);
    }

    #[test]
    fn pace_has_bounds() {
        let mut view = view();
        assert_eq!(press(&mut view, "-"), Act::Pace(Duration::from_millis(500)));
        assert_eq!(press(&mut view, "------"), Act::Pace(INTERVAL_MIN));
        assert_eq!(press(&mut view, "++++++++++++"), Act::Pace(INTERVAL_MAX));
    }

    #[test]
    fn the_process_may_end_or_not_answer_and_the_last_figures_stay() {
        let mut view = view();
        view.take(Sample::NoAnswer("busy".into()));
        assert_eq!(view.trouble.as_deref(), Some("busy"));
        view.take(Sample::Ended);
        assert!(view.ended && view.window.is_some());
    }

    #[test]
    fn control_keys_quit_and_suspend_whatever_is_open() {
        let mut view = view();
        press(&mut view, "/");
        let control = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
        assert_eq!((view.key(control('z')), view.key(control('c'))), (Act::Suspend, Act::Quit));
        assert_eq!(view.filter, "");
    }

    #[test]
    fn every_row_of_the_overview_has_a_course() {
        let view = view();
        let window = view.window.as_ref().unwrap();
        for sheet in [sheets::workers(window), sheets::ports(window, false), sheets::blocks(window, false)] {
            for row in &sheet.rows {
                assert!(!view.history.last(&format!("{}/{}", sheet.title, row.name()), 1).is_empty(), "{}", row.name());
            }
        }
    }
}
