//! Curves over virtual time, as SVG: goodput, delay, congestion window.

use std::path::{Path, PathBuf};
use std::sync::Once;

use anyhow::anyhow;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};
use tailwater_sim::{Point, Recorder};

const SIZE: (u32, u32) = (1100, 560);
/// On the right, in pixels.
const LEGEND_WIDTH: u32 = 190;
const FONT: &str = "sans-serif";
/// Flows that the legend names; all are drawn.
const NAMED_MAX: usize = 20;
/// Colours that stay apart for those who see no red and green (Okabe and Ito).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(150, 140, 30),
];

/// One picture.
struct Curves {
    stem: &'static str,
    title: &'static str,
    value: fn(&Point) -> Option<f64>,
}

const PICTURES: [Curves; 3] = [
    Curves { stem: "goodput", title: "goodput, Mbit/s", value: |point| Some(point.goodput_bps / 1e6) },
    Curves {
        stem: "delay",
        title: "delay, ms (round trip, or one way where there is none)",
        value: |point| Some(point.delay?.as_secs_f64() * 1e3),
    },
    Curves { stem: "cwnd", title: "congestion window, kB", value: |point| Some(f64::from(point.cwnd?) / 1e3) },
];

/// Draws what there is to draw, and says which files it made.
pub(super) fn draw(recorder: &Recorder, folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    static FONTS: Once = Once::new();
    let mut registered = true;
    FONTS.call_once(|| registered = register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).is_ok());
    if !registered {
        return Err(anyhow!("the built-in font cannot be read"));
    }
    let mut files = Vec::new();
    for picture in &PICTURES {
        let lines: Vec<(&str, Vec<(f64, f64)>)> =
            recorder.points().iter().filter_map(|flow| line(picture, flow)).collect();
        if lines.is_empty() {
            continue;
        }
        let path = folder.join(format!("{}.svg", picture.stem));
        chart(&path, picture.title, &lines).map_err(|error| anyhow!("drawing {}: {error}", path.display()))?;
        files.push(path);
    }
    Ok(files)
}

/// The curve of a flow, if it has one in this picture.
fn line<'a>(picture: &Curves, (name, points): (&'a String, &Vec<Point>)) -> Option<(&'a str, Vec<(f64, f64)>)> {
    let curve: Vec<(f64, f64)> =
        points.iter().filter_map(|point| Some((point.at.as_secs_f64(), (picture.value)(point)?))).collect();
    (!curve.is_empty()).then_some((name, curve))
}

fn chart(path: &Path, title: &str, lines: &[(&str, Vec<(f64, f64)>)]) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.iter().flat_map(|(_, line)| line);
    let end = points().map(|point| point.0).fold(0.0, f64::max).max(1e-9);
    let top = points().map(|point| point.1).fold(0.0, f64::max) * 1.05;
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    let failed = |error: String| error;
    area.fill(&WHITE)?;
    let (picture, legend) = area.split_horizontally(SIZE.0 - LEGEND_WIDTH);
    let mut chart = ChartBuilder::on(&picture)
        .caption(title, (FONT, 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..end, 0.0..top.max(1e-6))?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_desc("virtual time, s")
        .label_style((FONT, 13))
        .draw()
        .map_err(|error| failed(error.to_string()))?;
    for (at, (_, line)) in lines.iter().enumerate() {
        chart.draw_series(LineSeries::new(line.iter().copied(), COLOURS[at % COLOURS.len()].stroke_width(1)))?;
    }
    for (at, (name, _)) in lines.iter().take(NAMED_MAX).enumerate() {
        let (x, y) = (4, 40 + 20 * at as i32);
        legend.draw(&PathElement::new([(x, y + 6), (x + 14, y + 6)], COLOURS[at % COLOURS.len()].stroke_width(2)))?;
        legend.draw(&Text::new((*name).to_owned(), (x + 20, y), (FONT, 13)))?;
    }
    if lines.len() > NAMED_MAX {
        let text = format!("and {} more", lines.len() - NAMED_MAX);
        legend.draw(&Text::new(text, (4, 40 + 20 * NAMED_MAX as i32), (FONT, 13)))?;
    }
    area.present()?;
    Ok(())
}
