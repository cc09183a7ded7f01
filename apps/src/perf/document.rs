//! Everything about one test, as iperf3's JSON has it.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::book::{Row, Side, Total};
use super::cpu::CpuUse;
use super::desk::{Met, Opened};
use super::origin::{system, timestamp};
use super::protocol::{Cookie, Results, stream_id};
use super::rr::{Beat, Measured};
use super::settings::{Direction, End, Settings, Transport, VERSION, shown};

pub(super) struct Document {
    pub(super) end: End,
    pub(super) control: Met,
    pub(super) cookie: Option<Cookie>,
    begun: (String, u64),
    pub(super) settings: Option<Settings>,
    /// By place.
    pub(super) streams: Vec<Opened>,
    pub(super) intervals: Vec<Vec<Row>>,
    pub(super) ending: Option<Ending>,
    /// Of requests and responses.
    pub(super) beats: Vec<Beat>,
    pub(super) measured: Option<Measured>,
    /// Why it ended before its end.
    pub(super) trouble: Option<String>,
}

/// What both ends found.
pub(super) struct Ending {
    pub(super) totals: Vec<Total>,
    pub(super) host: CpuUse,
    pub(super) ours: Results,
    /// `None`: they did not come.
    pub(super) theirs: Option<Results>,
}

impl Document {
    pub(super) fn new(end: End, control: &Met) -> Self {
        Self {
            end,
            control: control.clone(),
            cookie: control.cookie,
            begun: timestamp(),
            settings: None,
            streams: Vec::new(),
            intervals: Vec::new(),
            ending: None,
            beats: Vec::new(),
            measured: None,
            trouble: None,
        }
    }

    pub(super) fn is_udp(&self) -> bool {
        self.settings.as_ref().is_some_and(|settings| settings.transport == Transport::Udp)
    }

    pub(super) fn is_bidirectional(&self) -> bool {
        self.settings.as_ref().is_some_and(|settings| settings.direction == Direction::Both)
    }

    pub(super) fn to_json(&self) -> Value {
        let rows = self.intervals.iter().map(|rows| self.interval(rows));
        let beats = self.beats.iter().map(|beat| beat.to_json());
        let mut whole = json!({
            "start": self.start(),
            "intervals": rows.chain(beats).collect::<Vec<_>>(),
            "end": self.ending.as_ref().map_or_else(|| json!({}), |ending| self.ending_json(ending)),
        });
        if let Some(title) = self.settings.as_ref().and_then(|settings| settings.title.as_ref()) {
            whole["title"] = json!(title);
        }
        if let Some(theirs) = self.ending.as_ref().and_then(|ending| ending.theirs.as_ref()) {
            whole.as_object_mut().into_iter().for_each(|whole| take_output(theirs, whole));
        }
        if let Some(trouble) = &self.trouble {
            whole["error"] = json!(trouble);
        }
        whole
    }

    fn start(&self) -> Value {
        let connected = |(place, stream): (usize, &Opened)| {
            let (local, remote) = (stream.local, stream.remote);
            json!({
                "socket": stream_id(place),
                "local_host": shown(local), "local_port": local.port(),
                "remote_host": shown(remote), "remote_port": remote.port(),
            })
        };
        let peer = if self.end == End::Client { "connecting_to" } else { "accepted_connection" };
        let at: SocketAddr = self.control.remote;
        let mut start = json!({
            "connected": self.streams.iter().enumerate().map(connected).collect::<Vec<_>>(),
            "version": format!("tailwater {} (iperf {VERSION})", env!("CARGO_PKG_VERSION")),
            "system_info": system(),
            "timestamp": { "time": self.begun.0, "timesecs": self.begun.1 },
            peer: { "host": shown(at), "port": at.port() },
            "cookie": self.cookie.map(|cookie| cookie.to_string()).unwrap_or_default(),
        });
        let Some(settings) = &self.settings else { return start };
        if settings.transport == Transport::Tcp {
            start["tcp_mss_default"] = json!(self.control.smss);
        }
        start["sock_bufsize"] = json!(settings.window);
        start["target_bitrate"] = json!(settings.rate);
        start["test_start"] = json!({
            "protocol": if settings.transport == Transport::Tcp { "TCP" } else { "UDP" },
            "num_streams": settings.parallel,
            "blksize": settings.len,
            "omit": settings.omit.as_secs(),
            "duration": settings.time.as_secs(),
            "bytes": settings.bytes,
            "blocks": settings.blocks,
            "reverse": u8::from(settings.direction == Direction::Reverse),
            "tos": settings.tos,
            "target_bitrate": settings.rate,
            "bidir": u8::from(settings.direction == Direction::Both),
        });
        start
    }

    /// Rows of one interval, and their sums in each direction.
    fn interval(&self, rows: &[Row]) -> Value {
        let mut interval = json!({ "streams": rows.iter().map(|row| self.row(row)).collect::<Vec<_>>() });
        // As in iperf3, `sum` is the client's direction where there are two.
        let first = if self.is_bidirectional() { self.end == End::Client } else { rows.iter().any(|row| row.sends) };
        interval["sum"] = self.sum_of(rows, first);
        if self.is_bidirectional() {
            interval["sum_bidir_reverse"] = self.sum_of(rows, !first);
        }
        interval
    }

    fn row(&self, row: &Row) -> Value {
        let mut object = json!({
            "socket": row.id, "start": row.start, "end": row.end, "seconds": row.seconds(),
            "bytes": row.counts.bytes, "bits_per_second": row.counts.bytes as f64 * 8.0 / row.seconds(),
        });
        if let Some(path) = &row.path {
            object["retransmits"] = json!(row.counts.retransmits);
            object["snd_cwnd"] = json!(path.cwnd);
            object["snd_wnd"] = json!(path.snd_wnd);
            object["rtt"] = json!(path.rtt_us);
            object["rttvar"] = json!(path.rttvar_us);
            object["pmtu"] = json!(path.pmtu);
        }
        if self.is_udp() {
            datagrams(&mut object, &Side::of(row), row.sends);
        }
        object["omitted"] = json!(row.omitted);
        object["sender"] = json!(row.sends);
        object
    }

    fn sum_of(&self, rows: &[Row], sends: bool) -> Value {
        let of = || rows.iter().filter(move |row| row.sends == sends);
        let Some(first) = of().next() else { return json!({}) };
        let sum = Side::sum(of().map(Side::of));
        let (start, end) = (first.start, first.end);
        let mut object = json!({
            "start": start, "end": end, "seconds": end - start,
            "bytes": sum.bytes, "bits_per_second": sum.bytes as f64 * 8.0 / first.seconds(),
        });
        if let Some(retransmits) = sum.retransmits {
            object["retransmits"] = json!(retransmits);
        }
        if self.is_udp() {
            datagrams(&mut object, &sum, sends);
        }
        object["omitted"] = json!(first.omitted);
        object["sender"] = json!(sends);
        object
    }

    fn ending_json(&self, ending: &Ending) -> Value {
        let stream = |total: &Total| match self.is_udp() {
            true => json!({ "udp": self.udp_total(total) }),
            false => json!({ "sender": tcp_sender(total), "receiver": side(total, &total.receiver) }),
        };
        let mut end = json!({ "streams": ending.totals.iter().map(stream).collect::<Vec<_>>() });
        self.sums(ending, &mut end);
        let theirs = ending.theirs.clone().unwrap_or_default();
        end["cpu_utilization_percent"] = json!({
            "host_total": ending.host.total, "host_user": ending.host.user, "host_system": ending.host.system,
            "remote_total": theirs.cpu_util_total,
            "remote_user": theirs.cpu_util_user,
            "remote_system": theirs.cpu_util_system,
        });
        if let (Some(measured), Some(settings)) = (&self.measured, &self.settings) {
            end["transactions"] = measured.to_json(settings);
        }
        let sends = ending.totals.iter().any(|total| total.sends);
        let (sender, receiver) = if sends { (&ending.ours, &theirs) } else { (&theirs, &ending.ours) };
        let named = [("sender_tcp_congestion", sender), ("receiver_tcp_congestion", receiver)];
        for (name, results) in named {
            if let Some(congestion) = &results.congestion_used {
                end[name] = json!(congestion);
            }
        }
        end
    }

    /// Of the client's direction, and where there are two of the other one.
    fn sums(&self, ending: &Ending, end: &mut Value) {
        let both = self.is_bidirectional();
        let client = self.end == End::Client;
        let first = |total: &&Total| !both || total.sends == client;
        for (suffix, wanted) in [("", true), ("_bidir_reverse", false)] {
            let of = || ending.totals.iter().filter(move |total| first(total) == wanted);
            let Some(some) = of().next() else { continue };
            let sender = Side::sum(of().map(|total| total.sender));
            let receiver = Side::sum(of().map(|total| total.receiver));
            let mut sent = side(some, &sender);
            let mut received = side(some, &receiver);
            if let Some(retransmits) = sender.retransmits {
                sent["retransmits"] = json!(retransmits);
            }
            if self.is_udp() {
                let whole = Side { packets: sender.packets.max(receiver.packets), ..receiver };
                let mut sum = side(some, &sender);
                datagrams(&mut sum, &whole, false);
                end[format!("sum{suffix}")] = sum;
                datagrams(&mut sent, &sender, false);
                datagrams(&mut received, &receiver, false);
            }
            end[format!("sum_sent{suffix}")] = sent;
            end[format!("sum_received{suffix}")] = received;
        }
    }

    /// The sender's bytes, and what the receiver missed of them.
    fn udp_total(&self, total: &Total) -> Value {
        let Total { sender, receiver, .. } = total;
        let mut object = side(total, sender);
        let whole = Side { packets: sender.packets.max(receiver.packets), ..*receiver };
        datagrams(&mut object, &whole, false);
        object["out_of_order"] = json!(receiver.out_of_order);
        object
    }
}

impl Side {
    fn of(row: &Row) -> Self {
        Self {
            seconds: row.seconds(),
            bytes: row.counts.bytes,
            packets: row.counts.packets,
            lost: row.counts.lost,
            out_of_order: row.counts.out_of_order,
            jitter: row.jitter,
            retransmits: row.path.map(|_| row.counts.retransmits),
        }
    }

    pub(super) fn lost_percent(&self) -> f64 {
        if self.packets == 0 { 0.0 } else { self.lost as f64 * 100.0 / self.packets as f64 }
    }
}

/// What is said of one side of a stream, or of several.
fn side(total: &Total, side: &Side) -> Value {
    json!({
        "socket": total.id, "start": 0.0, "end": side.seconds, "seconds": side.seconds,
        "bytes": side.bytes, "bits_per_second": side.bits_per_second(), "sender": total.sends,
    })
}

fn tcp_sender(total: &Total) -> Value {
    let mut object = side(total, &total.sender);
    if let Some(retransmits) = total.sender.retransmits {
        object["retransmits"] = json!(retransmits);
    }
    if total.sends {
        object["max_snd_cwnd"] = json!(total.extremes.max_cwnd);
        object["max_snd_wnd"] = json!(total.extremes.max_snd_wnd);
        object["max_rtt"] = json!(total.extremes.max_rtt_us);
        object["min_rtt"] = json!(total.extremes.min_rtt_us);
        object["mean_rtt"] = json!(total.extremes.mean_rtt_us());
    }
    object
}

fn datagrams(object: &mut Value, side: &Side, sends: bool) {
    if !sends {
        object["jitter_ms"] = json!(side.jitter * 1e3);
        object["lost_packets"] = json!(side.lost);
        object["lost_percent"] = json!(side.lost_percent());
    }
    object["packets"] = json!(side.packets);
}

/// The server's own output, if it was asked for.
fn take_output(theirs: &Results, whole: &mut Map<String, Value>) {
    if let Some(text) = &theirs.server_output_text {
        whole.insert("server_output_text".into(), json!(text));
    }
    if let Some(output) = &theirs.server_output_json {
        whole.insert("server_output_json".into(), output.clone());
    }
}
