//! What people see: lines like iperf3's, or its JSON.

use std::cell::Cell;
use std::net::SocketAddr;

use super::book::{Row, Side};
use super::document::{Document, Ending};
use super::protocol::{Results, stream_id};
use super::rr::Beat;
use super::settings::{Direction, End, Settings, Transport, shown};
use crate::output;

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Style {
    Text,
    /// iperf3's JSON, for people and programs that know it.
    Iperf,
    /// The same as one of this command's events.
    Events,
}

pub(super) struct Reporter {
    style: Style,
    /// The columns of the test under way, and whether they have their headings.
    columns: Cell<Option<Columns>>,
    headed: Cell<bool>,
}

const RULE: &str = "- - - - - - - - - - - - - - - - - - - - - - - - -";

impl Reporter {
    pub(super) fn new(style: Style) -> Self {
        Self { style, columns: Cell::new(None), headed: Cell::new(false) }
    }

    /// Whether the end of a test is told with all that came before.
    pub(super) fn has_documents(&self) -> bool {
        self.style != Style::Text
    }

    fn line(&self, text: impl std::fmt::Display) {
        if self.style == Style::Text {
            output::line(text);
        }
    }

    pub(super) fn listening(&self, at: SocketAddr, number: u64) {
        self.line(format_args!("Server listening on {at} (test #{number})"));
    }

    pub(super) fn accepted(&self, from: SocketAddr) {
        self.line(format_args!("Accepted connection from {}, port {}", shown(from), from.port()));
    }

    pub(super) fn connecting(&self, to: SocketAddr) {
        self.line(format_args!("Connecting to host {}, port {}", shown(to), to.port()));
    }

    /// All streams are there.
    pub(super) fn connected(&self, document: &Document) {
        let Some(settings) = &document.settings else { return };
        self.columns.set(Some(Columns::of(settings, document.end)));
        self.headed.set(false);
        for (place, stream) in document.streams.iter().enumerate() {
            let (local, remote) = (stream.local, stream.remote);
            let (id, here, there) = (stream_id(place), shown(local), shown(remote));
            self.line(format_args!(
                "[{id:3}] local {here} port {} connected to {there} port {}",
                local.port(),
                remote.port()
            ));
        }
    }

    pub(super) fn interval(&self, rows: &[Row]) {
        let Some(columns) = self.columns.get() else { return };
        if !self.headed.replace(true) {
            self.line(columns.heading(true));
        }
        columns.interval(rows).iter().for_each(|line| self.line(line));
    }

    /// Adds this end's output to what the other end is told.
    pub(super) fn attach(&self, document: &Document, to: &mut Results) {
        match self.style {
            Style::Text => to.server_output_text = Some(whole(document)),
            Style::Iperf | Style::Events => to.server_output_json = Some(document.to_json()),
        }
    }

    pub(super) fn beat(&self, beat: &Beat) {
        self.line(beat.line());
    }

    /// So many came while the test was under way.
    pub(super) fn turned_away(&self, connections: u64) {
        if connections > 0 {
            self.line(format_args!("Turned away {connections} that came while this test was under way"));
        }
    }

    pub(super) fn end(&self, document: &Document) {
        match self.style {
            Style::Iperf => output::line(format_args!("{:#}", document.to_json())),
            Style::Events => {
                output::line(serde_json::json!({ "event": "test", "result": document.to_json() }));
            }
            Style::Text => summary(document).iter().for_each(output::line),
        }
    }
}

/// The totals, line by line; or why there are none.
fn summary(document: &Document) -> Vec<String> {
    let mut lines = Vec::new();
    if let (Some(measured), Some(settings)) = (&document.measured, &document.settings) {
        lines.push(RULE.to_owned());
        lines.extend(measured.lines(settings));
    }
    if let (Some(ending), Some(settings)) = (&document.ending, &document.settings) {
        lines.extend(totals(ending, settings, document.end));
    }
    match &document.trouble {
        Some(trouble) if document.end == End::Server => lines.push(format!("This test failed: {trouble}")),
        // The client ends with its error.
        Some(_) => {}
        None => lines.push(String::from(if document.end == End::Client { "\niperf Done." } else { "" })),
    }
    lines
}

/// What both ends found.
fn totals(ending: &Ending, settings: &Settings, end: End) -> Vec<String> {
    let mut lines = Vec::new();
    if !ending.totals.is_empty() {
        let columns = Columns::of(settings, end);
        lines.extend([RULE.to_owned(), columns.heading(false)]);
        for total in &ending.totals {
            let end = total.sender.seconds.max(total.receiver.seconds);
            lines.push(columns.total(&format!("{:3}", total.id), total.sends, &total.sender, end, true));
            lines.push(columns.total(&format!("{:3}", total.id), total.sends, &total.receiver, end, false));
        }
        let sum = |sends: bool| {
            let of = || ending.totals.iter().filter(move |total| total.sends == sends);
            if of().count() < 2 {
                return Vec::new();
            }
            let (sender, receiver) = (Side::sum(of().map(|t| t.sender)), Side::sum(of().map(|t| t.receiver)));
            let end = sender.seconds.max(receiver.seconds);
            vec![columns.total("SUM", sends, &sender, end, true), columns.total("SUM", sends, &receiver, end, false)]
        };
        lines.extend([true, false].into_iter().flat_map(sum));
    }
    let theirs = ending.theirs.as_ref().map(|theirs| format!(", there {:.1} %", theirs.cpu_util_total));
    lines.push(format!("CPU: here {:.1} %{} of one core", ending.host.total, theirs.unwrap_or_default()));
    if let Some(text) = ending.theirs.as_ref().and_then(|theirs| theirs.server_output_text.as_ref()) {
        lines.extend(["Server output:".to_owned(), text.trim_end().to_owned()]);
    }
    lines
}

/// Everything a server has to say of a test, for a client that asks for it.
fn whole(document: &Document) -> String {
    let Some(settings) = &document.settings else { return String::new() };
    let columns = Columns::of(settings, document.end);
    let mut lines = vec![columns.heading(true)];
    lines.extend(document.intervals.iter().flat_map(|rows| columns.interval(rows)));
    lines.extend(summary(document));
    lines.join("\n")
}

/// Which columns a test has.
#[derive(Clone, Copy)]
struct Columns {
    udp: bool,
    both: bool,
    /// This end sends on some stream.
    sends: bool,
    end: End,
}

impl Columns {
    fn of(settings: &Settings, end: End) -> Self {
        Self {
            udp: settings.transport == Transport::Udp,
            both: settings.direction == Direction::Both,
            sends: (0..settings.streams()).any(|place| settings.sends(end, place)),
            end,
        }
    }

    fn heading(&self, interval: bool) -> String {
        let role = if self.both { "[Role]" } else { "" };
        let rest = match (self.udp, interval, self.sends) {
            (false, true, true) => "  Retr  Cwnd",
            (false, false, _) => "  Retr",
            (false, true, false) => "",
            (true, true, true) => "  Total Datagrams",
            (true, ..) => "  Jitter    Lost/Total Datagrams",
        };
        format!("[ ID]{role} Interval           Transfer     Bitrate       {rest}")
    }

    fn role(&self, sends: bool) -> String {
        let end = if self.end == End::Client { 'C' } else { 'S' };
        match (self.both, sends) {
            (false, _) => String::new(),
            (true, true) => format!("[TX-{end}]"),
            (true, false) => format!("[RX-{end}]"),
        }
    }

    fn line(&self, id: &str, sends: bool, (start, end): (f64, f64), bytes: u64, rest: &str) -> String {
        let rate = bytes as f64 * 8.0 / (end - start).max(1e-9);
        let (role, bytes, rate) = (self.role(sends), amount(bytes), bits(rate));
        format!("[{id}]{role} {start:6.2}-{end:<6.2} sec  {bytes}  {rate}/sec  {rest}").trim_end().to_owned()
    }

    fn interval(&self, rows: &[Row]) -> Vec<String> {
        let mut lines: Vec<String> = rows
            .iter()
            .map(|row| {
                let omitted = if row.omitted { "  (omitted)" } else { "" };
                let rest = format!("{}{omitted}", self.of_row(row));
                self.line(&format!("{:3}", row.id), row.sends, (row.start, row.end), row.counts.bytes, &rest)
            })
            .collect();
        for sends in [true, false] {
            let of: Vec<&Row> = rows.iter().filter(|row| row.sends == sends).collect();
            let (true, Some(first)) = (of.len() > 1, of.first()) else { continue };
            let bytes = of.iter().map(|row| row.counts.bytes).sum();
            let packets: u64 = of.iter().map(|row| row.counts.packets).sum();
            let lost: u64 = of.iter().map(|row| row.counts.lost).sum();
            let rest = match (self.udp, sends) {
                (false, true) => format!("{:4}", of.iter().map(|row| row.counts.retransmits).sum::<u64>()),
                (false, false) => String::new(),
                (true, true) => packets.to_string(),
                (true, false) => format!("          {}", losses(lost, packets)),
            };
            lines.push(self.line("SUM", sends, (first.start, first.end), bytes, &rest));
        }
        lines
    }

    fn of_row(&self, row: &Row) -> String {
        let counts = &row.counts;
        match (self.udp, row.sends) {
            (false, true) => {
                format!("{:4}  {}", counts.retransmits, amount(row.path.map_or(0, |path| path.cwnd).into()))
            }
            (false, false) => String::new(),
            (true, true) => counts.packets.to_string(),
            (true, false) => format!("{:5.3} ms  {}", row.jitter * 1e3, losses(counts.lost, counts.packets)),
        }
    }

    fn total(&self, id: &str, sends: bool, side: &Side, end: f64, sender: bool) -> String {
        let end = if side.seconds > 0.0 { side.seconds } else { end };
        let who = if sender { "sender" } else { "receiver" };
        let rest = match self.udp {
            true => format!("{:5.3} ms  {}  {who}", side.jitter * 1e3, losses(side.lost, side.packets)),
            false => {
                let retransmits = side.retransmits.filter(|_| sender).map_or(String::new(), |n| n.to_string());
                format!("{retransmits:>4}             {who}")
            }
        };
        self.line(id, sends, (0.0, end), side.bytes, &rest)
    }
}

fn losses(lost: u64, packets: u64) -> String {
    let percent = if packets == 0 { 0.0 } else { lost as f64 * 100.0 / packets as f64 };
    format!("{lost}/{packets} ({percent:.2}%)")
}

/// Bytes, in powers of 1024: `1.25 GBytes`, `128 KBytes`.
pub(super) fn amount(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, "Bytes")
}

/// Bits, in powers of 1000: `9.41 Gbits`.
pub(super) fn bits(bits: f64) -> String {
    scaled(bits, 1000.0, "bits")
}

fn scaled(value: f64, base: f64, unit: &str) -> String {
    let (mut value, mut prefix) = (value, "");
    for next in ["K", "M", "G", "T"] {
        // What would be printed as 1000 is printed with the next prefix.
        if value < 999.5 {
            break;
        }
        (value, prefix) = (value / base, next);
    }
    let digits = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    let width = 6 + unit.len();
    format!("{value:4.digits$} {:<rest$}", format!("{prefix}{unit}"), rest = width - 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_three_digits_and_the_prefix_that_fits() {
        let shown = |n: u64| amount(n).trim_end().to_owned();
        assert_eq!(shown(0), "0.00 Bytes");
        assert_eq!(shown(131_072), " 128 KBytes");
        assert_eq!(shown(1_024_000), "1000 KBytes".replace("1000 K", "0.98 M"));
        assert_eq!(shown(5_242_880), "5.00 MBytes");
        assert_eq!(shown(13_421_772_800), "12.5 GBytes");
        assert_eq!(bits(9.41e9).trim_end(), "9.41 Gbits");
        assert_eq!(bits(999.4e6).trim_end(), " 999 Mbits");
    }
}
