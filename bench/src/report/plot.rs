//! A table as a picture, as SVG and as PNG.

use std::path::Path;
use std::sync::Once;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

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

/// One group of bars a column, one bar a contender, a line from the least to the greatest run on it.
fn bars<B: DrawingBackend>(area: DrawingArea<B, Shift>, table: &Table) -> Result<(), String> {
    let text = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
    let measure = &table.measure;
    let rows: Vec<&String> =
        table.rows.iter().filter(|row| table.cells.iter().any(|cell| cell.contender == **row)).collect();
    let width = 0.85 / rows.len() as f64;
    let top = table.cells.iter().map(|cell| cell.value.max).fold(0.0, f64::max) * 1.05;
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
        .build_cartesian_2d(-0.5..columns as f64 - 0.5, 0.0..top.max(f64::MIN_POSITIVE))
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
        .y_desc(measure.unit.as_str())
        .label_style((FONT, 14))
        .draw()
        .map_err(text)?;
    for (position, row) in rows.iter().enumerate() {
        let colour = COLOURS[position % COLOURS.len()];
        let cells = measure.columns.iter().enumerate().filter_map(|(at, column)| Some((at, table.cell(row, column)?)));
        let left = |at: usize| at as f64 - 0.425 + position as f64 * width;
        let boxes = cells.clone().map(|(at, cell)| {
            let corners = [(left(at), 0.0), (left(at) + width * 0.92, cell.value.median)];
            Rectangle::new(corners, colour.filled())
        });
        chart.draw_series(boxes).map_err(text)?;
        let spreads = cells.map(|(at, cell)| {
            let middle = left(at) + width * 0.46;
            PathElement::new(
                vec![(middle, cell.value.min), (middle, cell.value.max)],
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
    fn table_without_a_figure_draws_nothing() {
        let mut table = example::report().tables().remove(0);
        table.cells.clear();
        assert!(draw(&table, Path::new("/nonexistent"), "x").unwrap().is_empty());
    }
}
