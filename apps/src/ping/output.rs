//! What ping prints: lines like those of iputils' ping, or JSON.

use std::net::IpAddr;

use serde_json::json;
use tailwater_stack::Undelivered;

use super::requester::Happened;
use super::statistics::Statistics;

/// How to print.
pub(super) struct Output {
    pub(super) json: bool,
    pub(super) quiet: bool,
    pub(super) size: usize,
    pub(super) destination: IpAddr,
}

impl Output {
    pub(super) fn start(&self, name: &str) {
        let headers = if self.destination.is_ipv4() { 28 } else { 48 };
        match self.json {
            true => println!("{}", json!({ "event": "ready", "destination": self.destination, "size": self.size })),
            false => {
                println!("PING {name} ({}) {}({}) bytes of data.", self.destination, self.size, self.size + headers)
            }
        }
    }

    pub(super) fn happened(&self, happened: &Happened) {
        if self.quiet {
            return;
        }
        let line = if self.json { as_json(happened) } else { as_text(happened) };
        line.iter().for_each(|line| println!("{line}"));
    }

    pub(super) fn end(&self, name: &str, statistics: &Statistics) {
        let Statistics { sent, received, failed, duplicates, corrupted, elapsed, .. } = statistics;
        let (loss, times) = (statistics.loss_percent(), statistics.round_trip());
        if self.json {
            let times = times
                .map(|t| json!({ "min_ms": t.min_ms, "avg_ms": t.avg_ms, "max_ms": t.max_ms, "mdev_ms": t.mdev_ms }));
            let summary = json!({
                "event": "summary", "destination": self.destination, "sent": sent, "received": received,
                "errors": failed, "duplicates": duplicates, "corrupted": corrupted, "loss_percent": loss,
                "elapsed_ms": elapsed.as_millis() as u64, "round_trip": times,
            });
            println!("{summary}");
            return;
        }
        let count = |n: u64, what: &str| {
            if n > 0 { format!(", {}{n} {what}", if what == "duplicates" { "+" } else { "" }) } else { String::new() }
        };
        println!("\n--- {name} ping statistics ---");
        println!(
            "{sent} packets transmitted, {received} received{}{}{}, {loss:.4}% packet loss, time {}ms",
            count(*duplicates, "duplicates"),
            count(*corrupted, "corrupted"),
            count(*failed, "errors"),
            elapsed.as_millis(),
        );
        if let Some(t) = times {
            println!("rtt min/avg/max/mdev = {:.3}/{:.3}/{:.3}/{:.3} ms", t.min_ms, t.avg_ms, t.max_ms, t.mdev_ms);
        }
    }
}

fn as_text(happened: &Happened) -> Option<String> {
    Some(match *happened {
        Happened::Sent { .. } => return None,
        Happened::Reply { sequence, from, len, hop_limit, rtt_ns, intact } => {
            let damage = if intact { "" } else { " (the data came back CHANGED)" };
            let ms = rtt_ns as f64 * 1e-6;
            format!("{len} bytes from {from}: icmp_seq={sequence} ttl={hop_limit} time={ms:.3} ms{damage}")
        }
        Happened::Duplicate { sequence, from } => format!("from {from}: icmp_seq={sequence} (DUP!)"),
        Happened::Late { sequence, from } => format!("from {from}: icmp_seq={sequence} (late)"),
        Happened::NotSent { sequence, reason } => format!("icmp_seq={sequence} not sent: {}", reason.name()),
        Happened::Undelivered { sequence, from, why } => {
            format!("From {from} icmp_seq={sequence} {}", because(why))
        }
        Happened::NoNeighbour { address, .. } => format!("{address} does not answer: no such host on the link"),
    })
}

fn as_json(happened: &Happened) -> Option<String> {
    let value = match *happened {
        Happened::Sent { .. } => return None,
        Happened::Reply { sequence, from, len, hop_limit, rtt_ns, intact } => json!({
            "event": "reply", "sequence": sequence, "from": from, "bytes": len, "ttl": hop_limit,
            "rtt_ns": rtt_ns, "intact": intact,
        }),
        Happened::Duplicate { sequence, from } => json!({ "event": "duplicate", "sequence": sequence, "from": from }),
        Happened::Late { sequence, from } => json!({ "event": "late", "sequence": sequence, "from": from }),
        Happened::NotSent { sequence, reason } => {
            json!({ "event": "not_sent", "sequence": sequence, "reason": reason.name() })
        }
        Happened::Undelivered { sequence, from, why } => {
            json!({ "event": "undelivered", "sequence": sequence, "from": from, "why": because(why) })
        }
        Happened::NoNeighbour { address, requests } => {
            json!({ "event": "no_neighbour", "address": address, "requests": requests })
        }
    };
    Some(value.to_string())
}

fn because(why: Undelivered) -> String {
    match why {
        Undelivered::PortUnreachable => "Destination Port Unreachable".into(),
        Undelivered::HostUnreachable => "Destination Host Unreachable".into(),
        Undelivered::Prohibited => "Packet filtered".into(),
        Undelivered::TooBig { mtu } => format!("Packet too big (mtu = {mtu})"),
        Undelivered::HopLimit => "Time to live exceeded".into(),
        Undelivered::Reassembly => "Fragment reassembly time exceeded".into(),
        Undelivered::ParameterProblem => "Parameter problem".into(),
    }
}
