//! A report as text.

use tailwater_sim::report::{DelayReport, FlowReport, LinkReport, Report};

use crate::table::{Table, grouped, short};

pub(super) fn lines(report: &Report) -> Vec<String> {
    let mut lines = vec!["flows:".to_owned()];
    lines.extend(flows(&report.flows).lines());
    lines.push("links, each way:".to_owned());
    lines.extend(links(&report.links).lines());
    lines
}

fn flows(flows: &[FlowReport]) -> Table {
    let mut table = Table::new(&[
        "flow",
        "sent",
        "received",
        "missing",
        "copies",
        "reordered",
        "failed",
        "goodput bit/s",
        "delay ms: min",
        "median",
        "p99",
        "max",
    ]);
    for flow in flows {
        let delay = flow.rtt.or(flow.one_way);
        let millis =
            |of: fn(&DelayReport) -> f64| delay.map_or("-".to_owned(), |delay| format!("{:.2}", of(&delay) / 1e3));
        table.row(vec![
            flow.flow.clone(),
            grouped(flow.sent_packets),
            grouped(flow.received_packets),
            grouped(flow.missing_packets),
            grouped(flow.duplicates),
            grouped(flow.reordered),
            grouped(flow.failed),
            short(flow.goodput_bps),
            millis(|delay| delay.min_us),
            millis(|delay| delay.median_us),
            millis(|delay| delay.p99_us),
            millis(|delay| delay.max_us),
        ]);
    }
    table
}

fn links(links: &[LinkReport]) -> Table {
    let mut table =
        Table::new(&["link", "offered", "delivered", "queue full", "early", "marked", "lost", "queue max B"]);
    for link in links {
        table.row(vec![
            format!("{} > {}", link.from, link.to),
            grouped(link.offered),
            grouped(link.delivered),
            grouped(link.queue_full),
            grouped(link.early_dropped),
            grouped(link.marked),
            grouped(link.lost),
            grouped(link.queue_bytes_max),
        ]);
    }
    table
}
