//! In, out and dropped: three figures with their course, or one line where there is little room.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};

use super::{FAINT, STRONG};
use crate::top::history::eighths;
use crate::top::sheet::scaled;
use crate::top::view::View;

/// Name of the series, and its colour.
const SERIES: [(&str, Color); 3] = [("in", Color::Green), ("out", Color::Blue), ("dropped", Color::Red)];
const BARS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let Some(window) = &view.window else { return };
    let totals = &window.delta.totals;
    let counts =
        [totals.received + totals.sent_by_kernel, totals.sent + totals.sent_by_kernel, totals.dropped + totals.shed];
    let rates = counts.map(|n| window.rate(n));
    if area.height < 3 {
        let figure = |((name, color), rate): (&(&'static str, Color), f64)| {
            [Span::styled(format!(" {name} "), FAINT), Span::styled(scaled(rate), Style::new().fg(*color))]
        };
        frame.render_widget(Line::from_iter(SERIES.iter().zip(rates).flat_map(figure)), area);
        return;
    }
    let columns: [Rect; 3] = Layout::horizontal([Constraint::Fill(1); 3]).spacing(1).areas(area);
    for (((name, color), rate), area) in SERIES.into_iter().zip(rates).zip(columns) {
        let [title, graph] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
        let unit = if *name == *"in" && totals.sent_by_kernel > 0 { " pps, kernel's too" } else { " pps" };
        let title_line = Line::from(vec![
            Span::styled(format!(" {name} "), FAINT),
            Span::styled(scaled(rate), STRONG.fg(color)),
            Span::styled(unit, FAINT),
        ]);
        frame.render_widget(title_line, title);
        draw_course(frame, graph, &view.history.last(name, usize::from(graph.width)), color);
    }
}

/// Bars from the bottom of an area, the newest to the right.
fn draw_course(frame: &mut Frame<'_>, area: Rect, samples: &[f64], color: Color) {
    let largest = samples.iter().copied().fold(0.0, f64::max);
    let first = area.right().saturating_sub(samples.len() as u16);
    for (x, &sample) in (first..area.right()).zip(samples) {
        let mut left = eighths(sample, largest, usize::from(area.height));
        for y in area.rows().rev().map(|row| row.y) {
            let part = left.min(8);
            left -= part;
            if let Some(cell) = frame.buffer_mut().cell_mut((x, y)) {
                cell.set_symbol(BARS[part]).set_fg(color);
            }
        }
    }
}
