//! A sheet as lines, in whatever room there is.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::{ACCENT, CHOSEN, FAINT, STRONG};
use crate::top::history::History;
use crate::top::sheet::{Cell, Row, Sheet};
use crate::top::view::Sort;

/// Widest course behind a row, and the least that tells anything.
const TREND_MAX: usize = 40;
const TREND_MIN: usize = 6;
/// Blanks between columns.
const GAP: usize = 2;

/// What a grid shows besides the sheet itself.
pub(super) struct Look<'a> {
    pub(super) history: &'a History,
    pub(super) sort: Sort,
    pub(super) selected: Option<usize>,
}

/// Draws headings and as many rows as fit, the selected one among them.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, sheet: &Sheet, look: &Look<'_>) {
    if area.is_empty() {
        return;
    }
    let columns = fit(sheet, usize::from(area.width));
    let used: usize = columns.iter().map(|(_, width)| width + GAP).sum();
    let trend = usize::from(area.width).saturating_sub(used).min(TREND_MAX);
    let trend = if trend < TREND_MIN { 0 } else { trend };
    let room = usize::from(area.height) - 1;
    let skipped = look.selected.map_or(0, |selected| (selected + 1).saturating_sub(room));
    let mut lines = vec![headings(sheet, &columns, look.sort)];
    for (at, row) in sheet.rows.iter().enumerate().skip(skipped).take(room) {
        let course = look.history.bars(&format!("{}/{}", sheet.title, row.name()), trend);
        let mut line = cells(row, sheet, &columns);
        line.push_span(Span::styled(course, Style::new().fg(Color::Blue)));
        if look.selected == Some(at) {
            line = line.patch_style(Style::new().add_modifier(Modifier::REVERSED));
        }
        lines.push(line);
    }
    if sheet.rows.is_empty() {
        lines.push(Line::styled(format!("  no {}", sheet.title), FAINT));
    }
    let cut = sheet.rows.len().saturating_sub(skipped + room);
    if cut > 0 && look.selected.is_none() && room > 1 {
        lines.pop();
        lines.push(Line::styled(format!("  ... and {} more", cut + 1), FAINT));
    }
    for (line, row) in lines.into_iter().zip(area.rows()) {
        frame.render_widget(line, row);
    }
}

/// The columns for which there is room, with their widths. Names that are too long are cut in the end.
fn fit(sheet: &Sheet, room: usize) -> Vec<(usize, usize)> {
    let width = |at: usize| {
        let cells = sheet.rows.iter().filter_map(|row| row.cells.get(at)).map(|cell| cell.text().chars().count());
        cells.max().unwrap_or(0).max(sheet.columns[at].heading.len())
    };
    let mut columns: Vec<(usize, usize)> = (0..sheet.columns.len()).map(|at| (at, width(at))).collect();
    while columns.iter().map(|(_, width)| width + GAP).sum::<usize>() > room {
        let dispensable = columns.iter().enumerate().filter(|(_, (at, _))| sheet.columns[*at].rank > 0);
        match dispensable.max_by_key(|(_, (at, _))| sheet.columns[*at].rank).map(|(place, _)| place) {
            Some(place) => drop(columns.remove(place)),
            None => break,
        }
    }
    columns
}

fn headings(sheet: &Sheet, columns: &[(usize, usize)], sort: Sort) -> Line<'static> {
    let heading = |&(at, width): &(usize, usize)| {
        let mark = match sort {
            Sort { column: Some(column), ascending: false } if column == at => "▼",
            Sort { column: Some(column), ascending: true } if column == at => "▲",
            _ => "",
        };
        let style = if mark.is_empty() { STRONG.fg(Color::Cyan) } else { CHOSEN };
        let text = pad(sheet.columns[at].heading, width, is_text(sheet, at));
        [Span::styled(text, style), Span::styled(format!("{mark:<GAP$}"), STRONG)]
    };
    Line::from_iter(std::iter::once(Span::raw(" ")).chain(columns.iter().flat_map(heading)))
}

fn cells(row: &Row, sheet: &Sheet, columns: &[(usize, usize)]) -> Line<'static> {
    let cell = |&(at, width): &(usize, usize)| {
        let cell = row.cells.get(at);
        let text = cell.map(Cell::text).unwrap_or_default();
        [Span::styled(pad(&text, width, is_text(sheet, at)), style(sheet, at, cell)), Span::raw(" ".repeat(GAP))]
    };
    Line::from_iter(std::iter::once(Span::raw(" ")).chain(columns.iter().flat_map(cell)))
}

/// Losses stand out, nothing stands back.
fn style(sheet: &Sheet, at: usize, cell: Option<&Cell>) -> Style {
    let is_loss =
        sheet.title == "drops" || matches!(sheet.columns[at].heading, "DROP" | "LOST" | "NO FRAME" | "RING FULL");
    match cell {
        Some(Cell::Rate(rate)) if *rate > 0.0 && is_loss => Style::new().fg(Color::Red),
        Some(Cell::Rate(0.0) | Cell::Ratio(None) | Cell::Count(0)) => FAINT,
        Some(Cell::Percent(percent)) if sheet.columns[at].heading == "BUSY" && *percent >= 90.0 => {
            Style::new().fg(Color::Yellow)
        }
        Some(Cell::Text(_)) if at == 0 => ACCENT,
        _ => Style::new(),
    }
}

fn is_text(sheet: &Sheet, at: usize) -> bool {
    at == 0 || sheet.rows.iter().any(|row| matches!(row.cells.get(at), Some(Cell::Text(text)) if text.len() > 4))
}

fn pad(text: &str, width: usize, left: bool) -> String {
    if left { format!("{text:<width$}") } else { format!("{text:>width$}") }
}
