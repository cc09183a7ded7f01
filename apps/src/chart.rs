//! Curves as SVG pictures, with a legend.

use std::path::Path;
use std::sync::Once;

use anyhow::anyhow;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

const SIZE: (u32, u32) = (1100, 560);
/// On the right, in pixels.
const LEGEND_WIDTH: u32 = 190;
const FONT: &str = "sans-serif";
/// Curves that the legend names; all are drawn.
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

/// A curve with its name.
pub(crate) type Curve<'a> = (&'a str, Vec<(f64, f64)>);

/// One picture; both axes begin at 0.
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    pub(crate) x_title: &'a str,
    /// What stands at 0, 1, 2 ... in place of these numbers.
    pub(crate) x_names: Option<&'a [String]>,
}

impl Chart<'_> {
    /// Draws the curves into a file.
    pub(crate) fn draw(&self, path: &Path, curves: &[Curve<'_>]) -> anyhow::Result<()> {
        static FONTS: Once = Once::new();
        let mut registered = true;
        FONTS.call_once(|| {
            registered = register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).is_ok();
        });
        if !registered {
            return Err(anyhow!("the built-in font cannot be read"));
        }
        self.draw_all(path, curves).map_err(|error| anyhow!("drawing {}: {error}", path.display()))
    }

    fn draw_all(&self, path: &Path, curves: &[Curve<'_>]) -> Result<(), Box<dyn std::error::Error>> {
        let points = || curves.iter().flat_map(|(_, curve)| curve);
        let end = points().map(|point| point.0).fold(0.0, f64::max).max(1e-9);
        let top = points().map(|point| point.1).fold(0.0, f64::max) * 1.05;
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let (picture, legend) = area.split_horizontally(SIZE.0 - LEGEND_WIDTH);
        let mut chart = ChartBuilder::on(&picture)
            .caption(self.title, (FONT, 18))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..end, 0.0..top.max(1e-6))?;
        let name = |at: &f64| match self.x_names {
            None => at.to_string(),
            Some(names) => names.get(at.round() as usize).cloned().unwrap_or_default(),
        };
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(WHITE).bold_line_style(RGBColor(225, 225, 225)).x_desc(self.x_title);
        mesh.label_style((FONT, 13));
        if let Some(names) = self.x_names {
            mesh.x_labels(names.len()).x_label_formatter(&name);
        }
        mesh.draw().map_err(|error| error.to_string())?;
        for (at, (_, curve)) in curves.iter().enumerate() {
            chart.draw_series(LineSeries::new(curve.iter().copied(), COLOURS[at % COLOURS.len()].stroke_width(1)))?;
        }
        for (at, (name, _)) in curves.iter().take(NAMED_MAX).enumerate() {
            let (x, y) = (4, 40 + 20 * at as i32);
            let line = [(x, y + 6), (x + 14, y + 6)];
            legend.draw(&PathElement::new(line, COLOURS[at % COLOURS.len()].stroke_width(2)))?;
            legend.draw(&Text::new((*name).to_owned(), (x + 20, y), (FONT, 13)))?;
        }
        if curves.len() > NAMED_MAX {
            let text = format!("and {} more", curves.len() - NAMED_MAX);
            legend.draw(&Text::new(text, (4, 40 + 20 * NAMED_MAX as i32), (FONT, 13)))?;
        }
        area.present()?;
        Ok(())
    }
}
