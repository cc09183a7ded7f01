//! A report as a page to read.

use std::fmt::Write as _;

use crate::report::{Better, Cell, Report, Table};

pub(super) fn render(report: &Report) -> String {
    let mut page = String::new();
    // Writing into a String cannot fail.
    let _ = write(report, &mut page);
    page
}

fn write(report: &Report, page: &mut String) -> std::fmt::Result {
    let host = &report.host;
    writeln!(page, "# {}: {}\n", report.scenario, report.about)?;
    if !report.complete {
        writeln!(page, "**Interrupted: only what was finished is here.**\n")?;
    }
    writeln!(page, "    {}\n", report.command)?;
    let dpdk = host.dpdk.as_deref().unwrap_or("not installed");
    writeln!(
        page,
        "{}, {} CPUs ({}), Linux {}, DPDK {dpdk}.",
        host.cpu_model, host.cpus, host.hypervisor, host.kernel
    )?;
    writeln!(
        page,
        "{} runs of {} s each, contenders taking turns; {:.0} % of the samples on a quiet machine.",
        report.runs,
        report.secs,
        100.0 * report.quiet_share()
    )?;
    writeln!(page, "Each figure: median (least - greatest), x median of the run-by-run ratios to the first row.\n")?;
    for note in &report.notes {
        writeln!(page, "* {note}")?;
    }
    for table in report.tables() {
        write_table(&table, page)?;
        writeln!(page, "\n![{}]({}-{}.svg)", table.measure.title, report.scenario, table.measure.name)?;
    }
    writeln!(page, "\n## What was run\n")?;
    for row in &report.rows {
        match &row.absent {
            Some(reason) => writeln!(page, "* **{}**: {}. *Absent: {reason}.*", row.name, row.about)?,
            None => writeln!(page, "* **{}**: {}; {}.", row.name, row.about, row.setting)?,
        }
        for command in &row.commands {
            writeln!(page, "\n        {command}")?;
        }
    }
    Ok(())
}

fn write_table(table: &Table, page: &mut String) -> std::fmt::Result {
    let measure = &table.measure;
    let better = match measure.better {
        Better::Higher => "more is better",
        Better::Lower => "less is better",
    };
    writeln!(page, "\n## {} ({}, {better})\n", measure.title, measure.unit)?;
    let first = table.rows.iter().find(|row| table.cells.iter().any(|cell| cell.contender == **row));
    if first.is_some_and(|first| *first != measure.reference) && table.cells.iter().any(|cell| cell.ratio.is_some()) {
        writeln!(page, "Ratios are to {}.\n", measure.reference)?;
    }
    writeln!(page, "| | {} |", measure.columns.join(" | "))?;
    writeln!(page, "|---|{}", "---|".repeat(measure.columns.len()))?;
    for row in &table.rows {
        if !table.cells.iter().any(|cell| cell.contender == *row) {
            continue;
        }
        write!(page, "| {row} |")?;
        for column in &measure.columns {
            match table.cell(row, column) {
                Some(cell) => write!(page, " {} |", figure(cell))?,
                None => write!(page, " - |")?,
            }
        }
        writeln!(page)?;
    }
    Ok(())
}

fn figure(cell: &Cell) -> String {
    let value = &cell.value;
    let mut text = format!("{} ({} - {})", digits(value.median), digits(value.min), digits(value.max));
    if let Some(ratio) = &cell.ratio {
        let _ = write!(text, " x {:.2}", ratio.median);
    }
    text
}

/// Three significant digits, without an exponent.
pub(super) fn digits(value: f64) -> String {
    let magnitude = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    let decimals = usize::try_from(2 - magnitude).unwrap_or(0);
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn figures_have_three_significant_digits() {
        for (value, text) in
            [(0.0, "0.00"), (1.234567, "1.23"), (0.012345, "0.0123"), (1234.5, "1234"), (99.96, "100.0")]
        {
            assert_eq!(digits(value), text);
        }
    }

    #[test]
    fn page_shows_medians_spreads_and_ratios() {
        let page = render(&example::report());
        assert!(page.contains("| kernel | 1.20 (1.00 - 2.00) | - |"), "{page}");
        assert!(page.contains("| ours | 1.80 (1.50 - 3.20) x 1.50 | - |"), "{page}");
        assert!(page.contains("| ours | 0.600 (0.500 - 0.900) x 0.50 | - |"), "{page}");
    }

    #[test]
    fn ratios_to_another_row_than_the_first_are_said_to_be() {
        let mut report = example::report();
        assert!(!render(&report).contains("Ratios are to"));
        report.measures[0].reference = "ours".into();
        let page = render(&report);
        assert!(page.contains("Ratios are to ours.\n\n| | 64 B |"), "{page}");
        assert!(page.contains("| kernel | 1.20 (1.00 - 2.00) x 0.67 | - |"), "{page}");
    }

    #[test]
    fn page_names_the_absent_and_says_why() {
        let page = render(&example::report());
        assert!(page.contains("*Absent: not installed.*"), "{page}");
        assert!(!page.contains("| dpdk |"), "{page}");
    }

    #[test]
    fn page_says_how_many_samples_were_disturbed() {
        let page = render(&example::report());
        assert!(page.contains("67 % of the samples on a quiet machine"), "{page}");
    }

    #[test]
    fn interrupted_report_says_so() {
        let mut report = example::report();
        assert!(!render(&report).contains("Interrupted"));
        report.complete = false;
        assert!(render(&report).contains("Interrupted"));
    }
}
