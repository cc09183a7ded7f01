//! Pictures of fixed figures, and every size of screen.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;

use super::sampler::Sample;
use super::view::View;
use super::{as_json, as_text, draw, interval};
use crate::snapshot::sample;

/// A view that has seen half a minute of rising and falling load.
fn view() -> View {
    let mut view = View::new(Duration::from_secs(1));
    let mut at_ms = 70_000;
    for second in 0..32u64 {
        // The sample's counters are proportional to its clock; bending the clock bends the rates.
        let mut snapshot = sample::snapshot(at_ms);
        snapshot.uptime_ms = 70_000 + second * 1000;
        view.take(Sample::Snapshot(Box::new(snapshot)));
        at_ms += 100 + 60 * (second % 16);
    }
    view
}

fn press(view: &mut View, keys: &str) {
    keys.chars().for_each(|key| {
        view.key(KeyCode::Char(key).into());
    });
}

fn draw_at(view: &View, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::draw(frame, view)).unwrap();
    terminal
}

fn picture(view: &View, width: u16, height: u16) -> String {
    draw_at(view, width, height).backend().to_string()
}

#[test]
fn overview_fits_80_by_24() {
    insta::assert_snapshot!(picture(&view(), 80, 24));
}

#[test]
fn overview_has_two_columns_on_a_wide_screen() {
    insta::assert_snapshot!(picture(&view(), 180, 30));
}

#[test]
fn each_pane_fits_80_by_24() {
    let mut view = view();
    for pane in ["2", "3", "4", "5", "6", "7"] {
        press(&mut view, pane);
        insta::assert_snapshot!(format!("pane_{pane}"), picture(&view, 80, 24));
    }
}

#[test]
fn sorted_and_filtered_pane_says_so() {
    let mut view = view();
    press(&mut view, "5sssssss/route");
    view.key(KeyCode::Enter.into());
    press(&mut view, "jz");
    insta::assert_snapshot!(picture(&view, 100, 20));
}

#[test]
fn help_and_the_end_of_the_process_are_shown() {
    let mut view = view();
    view.take(Sample::Ended);
    press(&mut view, "?");
    insta::assert_snapshot!(picture(&view, 80, 24));
}

#[test]
fn small_screens_keep_what_matters() {
    insta::assert_snapshot!(picture(&view(), 40, 10));
}

#[test]
fn no_size_is_too_small_or_too_large() {
    let mut view = view();
    for keys in ["1", "2", "3", "4", "5", "6j", "7", "?", "q/x"] {
        press(&mut view, keys);
        for width in [0, 1, 2, 5, 9, 20, 39, 80, 150, 260] {
            for height in [0, 1, 2, 3, 4, 5, 6, 9, 13, 14, 24, 60] {
                draw_at(&view, width, height);
            }
        }
    }
    draw_at(&View::new(Duration::from_secs(1)), 80, 24);
}

#[test]
fn one_screen_of_text_has_all_sheets() {
    insta::assert_snapshot!(as_text(&sample::window()));
}

#[test]
fn json_has_the_same_sheets_with_names_for_programs() {
    let json = as_json(&sample::window());
    assert_eq!(json["workers"][1]["in_pps"], 1.2e6);
    assert_eq!(json["blocks"][0]["cycles_per_packet"], 82.0);
    assert_eq!(json["queues"].as_array().unwrap().len(), 8);
    assert_eq!(json["drops"][0]["reason"], "no_route");
    assert_eq!(json["secs"], 1.0);
}

#[test]
fn interval_has_bounds() {
    assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
    assert!(["0.05", "61", "0", "soon"].iter().all(|text| interval(text).is_err()));
}
