//! Curves over virtual time, as SVG: goodput, delay, congestion window.

use std::path::{Path, PathBuf};

use tailwater_sim::{Point, Recorder};

use crate::chart::{Chart, Curve};

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
    let mut files = Vec::new();
    for picture in &PICTURES {
        let lines: Vec<Curve<'_>> = recorder.points().iter().filter_map(|flow| line(picture, flow)).collect();
        if lines.is_empty() {
            continue;
        }
        let path = folder.join(format!("{}.svg", picture.stem));
        let chart = Chart { title: picture.title, x_title: "virtual time, s", x_names: None };
        chart.draw(&path, &lines)?;
        files.push(path);
    }
    Ok(files)
}

/// The curve of a flow, if it has one in this picture.
fn line<'a>(picture: &Curves, (name, points): (&'a String, &Vec<Point>)) -> Option<Curve<'a>> {
    let curve: Vec<(f64, f64)> =
        points.iter().filter_map(|point| Some((point.at.as_secs_f64(), (picture.value)(point)?))).collect();
    (!curve.is_empty()).then_some((name, curve))
}
