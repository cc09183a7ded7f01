//! A pane with the chosen row's counters, or the overview's sections.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use super::grid::{self, Look};
use super::{FAINT, STRONG};
use crate::top::sheet::{Row, Sheet, scaled};
use crate::top::sheets;
use crate::top::view::{Sort, View};
use crate::window::Window;

/// From this width on the overview has two columns.
const WIDE: u16 = 150;
/// From this height on a pane shows the chosen row's counters below.
const TALL: u16 = 12;
/// Width of one counter among the chosen row's.
const DETAIL_WIDTH: u16 = 39;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, view: &View, window: &Window) {
    match view.sheet() {
        Some(sheet) => draw_pane(frame, area, view, &sheet),
        None => draw_overview(frame, area, view, window),
    }
}

fn draw_pane(frame: &mut Frame<'_>, area: Rect, view: &View, sheet: &Sheet) {
    let chosen = sheet.rows.get(view.selected.min(sheet.rows.len().saturating_sub(1)));
    let details = chosen.map_or(0, |row| row.details.len()) as u16;
    let detail_rows = details.div_ceil((area.width / DETAIL_WIDTH).max(1)) + 1;
    // At least half is the table's.
    let below = if area.height < TALL || chosen.is_none() { 0 } else { detail_rows.min(area.height / 2) };
    let [table, rest] = Layout::vertical([Constraint::Fill(1), Constraint::Length(below)]).areas(area);
    let selected = (!sheet.rows.is_empty()).then(|| view.selected.min(sheet.rows.len() - 1));
    grid::draw(frame, table, sheet, &Look { history: &view.history, sort: view.sort(), selected });
    if let Some(row) = chosen.filter(|_| below > 0) {
        draw_details(frame, rest, row);
    }
}

fn draw_details(frame: &mut Frame<'_>, area: Rect, row: &Row) {
    let [title, area] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let name = Span::styled(format!(" {} ", row.name()), STRONG);
    let columns = if row.details.is_empty() { "" } else { " counter, per second, in all" };
    frame.render_widget(Line::from(vec![name, Span::styled(columns, FAINT)]), title);
    let columns = (area.width / DETAIL_WIDTH).max(1);
    for (at, detail) in (0..).zip(&row.details) {
        let (x, y) = (area.x + at % columns * DETAIL_WIDTH, area.y + at / columns);
        if y >= area.bottom() {
            break;
        }
        let line = Line::from(vec![
            Span::raw(format!(" {:<20.20} ", detail.name)),
            Span::raw(format!("{:>7} ", scaled(detail.rate))),
            Span::styled(format!("{:>7}", scaled(detail.total as f64)), FAINT),
        ]);
        let width = DETAIL_WIDTH.min(area.right().saturating_sub(x));
        frame.render_widget(line, Rect { x, y, width, height: 1 });
    }
}

fn draw_overview(frame: &mut Frame<'_>, area: Rect, view: &View, window: &Window) {
    let mut all = [
        sheets::workers(window),
        sheets::ports(window, false),
        sheets::blocks(window, false),
        sheets::drops(window),
        sheets::queues(window),
    ];
    all.iter_mut().for_each(|sheet| view.narrow(sheet));
    let [workers, ports, blocks, drops, queues] = all;
    if area.width >= WIDE {
        let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).spacing(1).areas(area);
        draw_sections(frame, left, view, &[workers, ports, queues]);
        draw_sections(frame, right, view, &[blocks, drops]);
    } else {
        draw_sections(frame, area, view, &[workers, ports, blocks, drops, queues]);
    }
}

/// One below the other, with a blank line in between while there is room. What is empty is left out, but that there are
/// no drops is worth a line.
fn draw_sections(frame: &mut Frame<'_>, area: Rect, view: &View, sections: &[Sheet]) {
    let worth = |sheet: &&Sheet| !sheet.rows.is_empty() || (sheet.title == "drops" && view.filter.is_empty());
    let sections: Vec<&Sheet> = sections.iter().filter(worth).collect();
    let wanted: Vec<usize> = sections.iter().map(|sheet| sheet.rows.len().max(1) + 1).collect();
    let mut y = area.y;
    for (&sheet, height) in sections.iter().zip(share(&wanted, usize::from(area.height))) {
        let height = height as u16;
        let part = Rect { y, height, ..area };
        grid::draw(frame, part, sheet, &Look { history: &view.history, sort: Sort::default(), selected: None });
        y += height + u16::from(wanted.iter().sum::<usize>() + wanted.len() <= usize::from(area.height));
    }
}

/// Lines for each section: the largest give way first, and where not even two lines are left for each, the last go.
fn share(wanted: &[usize], room: usize) -> Vec<usize> {
    let mut given = wanted.to_vec();
    while given.iter().sum::<usize>() > room {
        let Some(largest) = given.iter().copied().max().filter(|&largest| largest > 2) else { break };
        // The last of the largest: what comes first in the overview matters most.
        if let Some(at) = given.iter().rposition(|&lines| lines == largest) {
            given[at] -= 1;
        }
    }
    let mut left = room;
    for lines in &mut given {
        *lines = if *lines <= left { *lines } else { 0 };
        left -= *lines;
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_get_what_they_want_where_there_is_room() {
        assert_eq!(share(&[3, 3, 4], 10), [3, 3, 4]);
    }

    #[test]
    fn the_largest_section_gives_way_first_and_the_last_ones_go() {
        assert_eq!(share(&[3, 9, 4], 10), [3, 4, 3]);
        assert_eq!(share(&[3, 3, 4], 5), [2, 2, 0]);
        assert_eq!(share(&[3, 3], 1), [0, 0]);
    }
}
