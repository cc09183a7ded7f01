//! A table as a picture, as SVG and as PNG.

use std::path::Path;
use std::sync::Once;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use crate::report::markdown::digits;
use crate::report::{Better, Table};

const SIZE: (u32, u32) = (1000, 560);
/// On the right, in pixels.
const LEGEND_WIDTH: u32 = 190;
const FONT: &str = "sans-serif";
/// Colours that stay apart for those who see no red and green (Okabe and Ito), then darker ones.
const COLOURS: [RGBColor; 12] = [
    RGBColor(0, 0, 0),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(150, 140, 30),
    RGBColor(110, 110, 110),
    RGBColor(120, 60, 160),
    RGBColor(160, 90, 60),
    RGBColor(20, 90, 60),
];

/// Draws `<stem>.svg` and `<stem>.png` into `folder`; a table without a figure draws nothing.
pub(super) fn draw(table: &Table, folder: &Path, stem: &str) -> Result<Vec<std::path::PathBuf>> {
    static FONTS: Once = Once::new();
    let mut registered = true;
    FONTS.call_once(|| registered = register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).is_ok());
    if !registered {
        return Err(anyhow!("the built-in font cannot be read"));
    }
    if table.cells.is_empty() {
        return Ok(Vec::new());
    }
    let (svg, png) = (folder.join(format!("{stem}.svg")), folder.join(format!("{stem}.png")));
    let failed = |error: String| anyhow!("drawing {stem}: {error}");
    bars(SVGBackend::new(&svg, SIZE).into_drawing_area(), table).map_err(failed)?;
    bars(BitMapBackend::new(&png, SIZE).into_drawing_area(), table).map_err(failed)?;
    Ok(vec![svg, png])
}

/// How high a value stands: in proportion, or by its logarithm where the least would vanish beside the greatest.
struct Axis {
    bottom: f64,
    top: f64,
    logarithmic: bool,
}

/// Medians further apart than this do not share a linear axis.
const LINEAR_RATIO_MAX: f64 = 40.0;

impl Axis {
    fn of(table: &Table) -> Self {
        let greatest = table.cells.iter().map(|cell| cell.value.max).fold(0.0, f64::max);
        let least = table.cells.iter().map(|cell| cell.value.min).fold(f64::INFINITY, f64::min);
        if least > 0.0 && greatest / least > LINEAR_RATIO_MAX {
            return Self { bottom: least.log10().floor(), top: greatest.log10().ceil(), logarithmic: true };
        }
        Self { bottom: 0.0, top: (greatest * 1.05).max(f64::MIN_POSITIVE), logarithmic: false }
    }

    fn place(&self, value: f64) -> f64 {
        if self.logarithmic { value.log10() } else { value }
    }

    fn label(&self, at: f64) -> String {
        digits(if self.logarithmic { 10f64.powf(at) } else { at })
    }
}

/// One group of bars a column, one bar a contender, a line from the least to the greatest run on it.
fn bars<B: DrawingBackend>(area: DrawingArea<B, Shift>, table: &Table) -> Result<(), String> {
    let text = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
    let measure = &table.measure;
    let rows: Vec<&String> =
        table.rows.iter().filter(|row| table.cells.iter().any(|cell| cell.contender == **row)).collect();
    let width = 0.85 / rows.len() as f64;
    let axis = Axis::of(table);
    let columns = measure.columns.len();
    area.fill(&WHITE).map_err(text)?;
    let (picture, legend) = area.split_horizontally(SIZE.0 - LEGEND_WIDTH);
    let better = match measure.better {
        Better::Higher => "more is better",
        Better::Lower => "less is better",
    };
    let mut chart = ChartBuilder::on(&picture)
        .caption(format!("{} ({}, {better})", measure.title, measure.unit), (FONT, 20))
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(56)
        .build_cartesian_2d(-0.5..columns as f64 - 0.5, axis.bottom..axis.top)
        .map_err(text)?;
    let label = |at: &f64| {
        let whole = at.round();
        let column = measure.columns.get(whole.max(0.0) as usize).filter(|_| (at - whole).abs() < 0.01 && whole >= 0.0);
        column.cloned().unwrap_or_default()
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(220, 220, 220))
        .x_labels(columns * 2 + 1)
        .x_label_formatter(&label)
        .y_label_formatter(&|at| axis.label(*at))
        .y_desc(measure.unit.as_str())
        .label_style((FONT, 14))
        .draw()
        .map_err(text)?;
    for (position, row) in rows.iter().enumerate() {
        let colour = COLOURS[position % COLOURS.len()];
        let cells = measure.columns.iter().enumerate().filter_map(|(at, column)| Some((at, table.cell(row, column)?)));
        let left = |at: usize| at as f64 - 0.425 + position as f64 * width;
        let boxes = cells.clone().map(|(at, cell)| {
            let corners = [(left(at), axis.bottom), (left(at) + width * 0.92, axis.place(cell.value.median))];
            Rectangle::new(corners, colour.filled())
        });
        chart.draw_series(boxes).map_err(text)?;
        let spreads = cells.map(|(at, cell)| {
            let middle = left(at) + width * 0.46;
            PathElement::new(
                vec![(middle, axis.place(cell.value.min)), (middle, axis.place(cell.value.max))],
                RGBColor(90, 90, 90).stroke_width(1),
            )
        });
        chart.draw_series(spreads).map_err(text)?;
    }
    for (position, row) in rows.iter().enumerate() {
        let (x, y) = (4, 60 + 22 * position as i32);
        let square = Rectangle::new([(x, y), (x + 12, y + 12)], COLOURS[position % COLOURS.len()].filled());
        legend.draw(&square).map_err(text)?;
        legend.draw(&Text::new((*row).clone(), (x + 18, y), (FONT, 14))).map_err(text)?;
    }
    area.present().map_err(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn pictures_are_written_and_the_svg_names_every_row() {
        let folder = std::env::temp_dir().join(format!("tailwater-bench-plot-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let files = draw(&example::report().tables()[0], &folder, "x").unwrap();
        let svg = std::fs::read_to_string(&files[0]).unwrap();
        let png = std::fs::read(&files[1]).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(svg.contains("kernel") && svg.contains("ours") && svg.contains("64 B"), "{svg}");
        assert!(!svg.contains("dpdk"));
        assert_eq!(png.get(1..4), Some(&b"PNG"[..]));
    }

    #[test]
    fn values_far_apart_stand_by_their_logarithm_and_near_ones_in_proportion() {
        let mut table = example::report().tables().remove(0);
        let near = Axis::of(&table);
        assert_eq!((near.place(1.5), near.bottom), (1.5, 0.0));
        table.cells[0].value.max = 1000.0;
        let far = Axis::of(&table);
        assert_eq!((far.place(100.0), far.label(2.0).as_str(), far.top), (2.0, "100", 3.0));
    }

    #[test]
    fn table_without_a_figure_draws_nothing() {
        let mut table = example::report().tables().remove(0);
        table.cells.clear();
        assert!(draw(&table, Path::new("/nonexistent"), "x").unwrap().is_empty());
    }
}
