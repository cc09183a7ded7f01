//! What the page must hold for a report in JSON, worked out without the program's own code: each number of the JSON
//! becomes a sample. A number that nobody has thought of is an error.

use serde_json::Value;

use crate::scrape::{Key, Samples};

type Labels<'a> = Vec<(&'a str, String)>;

/// Numbers on the right of the JSON's names; names of metrics without prefix.
const TOTALS: [(&str, &str); 13] = [
    ("received", "packets_received_total"),
    ("originated", "packets_originated_total"),
    ("sent", "packets_sent_total"),
    ("delivered", "packets_delivered_total"),
    ("dropped", "packets_dropped_total"),
    ("held", "packets_held"),
    ("imbalance", "packets_imbalance"),
    ("sent_by_kernel", "packets_sent_by_kernel_total"),
    ("shed", "packets_shed_total"),
    ("transmit_calls", "transmit_calls_total"),
    ("system_calls", "system_calls_total"),
    ("packets_per_transmit_call", "packets_per_transmit_call"),
    ("packets_per_system_call", "packets_per_system_call"),
];
const WORKER: [(&str, &str); 12] = [
    ("turns", "worker_turns_total"),
    ("empty_turns", "worker_empty_turns_total"),
    ("sleeps", "worker_sleeps_total"),
    ("busy_polls", "worker_busy_polls_total"),
    ("yields", "worker_yields_total"),
    ("system_calls", "worker_system_calls_total"),
    ("kept_back", "worker_kept_back_packets_total"),
    ("originated", "worker_packets_originated_total"),
    ("delivered", "worker_packets_delivered_total"),
    ("held", "worker_packets_held"),
    ("imbalance", "worker_packets_imbalance"),
    ("free_frames", "worker_free_frames"),
];
const BLOCK: [(&str, &str); 5] = [
    ("packets", "block_packets_total"),
    ("batches", "block_batches_total"),
    ("cycles", "block_cycles_total"),
    ("packets_per_batch", "block_packets_per_batch"),
    ("cycles_per_packet", "block_cycles_per_packet"),
];

/// The samples of a page that tells the same.
#[derive(Default)]
pub(crate) struct Expected {
    pub(crate) samples: Samples,
    /// Numbers of the JSON that have become samples.
    used: usize,
}

impl Expected {
    pub(crate) fn of(report: &Value) -> Self {
        let mut page = Self::default();
        let none = Labels::new();
        let process = vec![
            ("command", text(&report["command"])),
            ("pid", text(&report["pid"])),
            ("pages", text(&report["pages"])),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        page.info("process_info", &process, 1);
        page.scaled("uptime_seconds", &none, &report["uptime_ms"], 1e3);
        page.fields(&TOTALS, &none, &report["totals"]);
        page.named("dropped_packets_total", &none, "reason", &report["dropped"]);
        page.named("command_events_total", &none, "event", &report["command_counters"]);
        page.number("frames", &none, &report["frames"]);
        page.number("frames_strayed_total", &none, &report["frames_strayed"]);
        page.number("frames_missing", &none, &report["frames_missing"]);
        list(&report["interfaces"]).iter().for_each(|interface| page.interface(interface));
        list(&report["workers"]).iter().for_each(|worker| page.worker(worker));
        assert_eq!(page.used, numbers(report), "a number of the JSON has no metric in this test");
        page
    }

    fn interface(&mut self, interface: &Value) {
        let labels = vec![("port", text(&interface["name"]))];
        let info = [("ifindex", text(&interface["ifindex"])), ("description", text(&interface["description"]))];
        self.info("interface_info", &[labels.clone(), info.to_vec()].concat(), 1);
        for (verdict, tally) in interface["verdicts"].as_object().unwrap() {
            let labels = with(&labels, "verdict", verdict);
            self.number("xdp_packets_total", &labels, &tally["packets"]);
            self.number("xdp_bytes_total", &labels, &tally["bytes"]);
        }
    }

    fn worker(&mut self, worker: &Value) {
        let labels = vec![("worker", text(&worker["worker"]))];
        self.info("worker_info", &with(&labels, "core", &text(&worker["core"])), 2);
        self.fields(&WORKER, &labels, worker);
        self.scaled("worker_busy_seconds_total", &labels, &worker["busy_ns"], 1e9);
        self.used += 1;
        self.sizes("worker_batch_packets", &labels, &worker["batched"], &worker["batch_sizes"]);
        self.named("worker_dropped_packets_total", &labels, "reason", &worker["dropped"]);
        for port in list(&worker["ports"]) {
            let labels = with(&labels, "port", &text(&port["name"]));
            let info = [("backend", text(&port["backend"])), ("mode", text(&port["mode"]))];
            self.info("port_info", &[labels.clone(), info.to_vec()].concat(), 0);
            self.number("port_mtu_bytes", &labels, &port["mtu"]);
            self.number("port_queues", &labels, &port["queues"]);
            self.number("port_packets_per_transmit_call", &labels, &port["packets_per_transmit_call"]);
            self.counters("port", &labels, &port["counters"]);
            for queue in list(&port["rx_queues"]) {
                let labels = with(&labels, "queue", &text(&queue["queue"]));
                self.used += 1;
                self.number("queue_waiting_packets", &labels, &queue["waiting"]);
                self.counters("queue", &labels, &queue["counters"]);
            }
        }
        for block in list(&worker["blocks"]) {
            let labels = with(&with(&labels, "block", &text(&block["name"])), "kind", &text(&block["kind"]));
            self.fields(&BLOCK, &labels, block);
            self.sizes("block_batch_packets", &labels, &block["packets"], &block["batch_sizes"]);
            self.named("block_sent_packets_total", &labels, "output", &block["sent"]);
            self.named("block_events_total", &labels, "event", &block["counters"]);
        }
    }

    /// A sample of 1 whose labels hold so many of the JSON's numbers.
    fn info(&mut self, name: &str, labels: &Labels<'_>, numbers: usize) {
        self.used += numbers;
        self.samples.insert(key(name, labels), 1.0);
    }

    fn number(&mut self, name: &str, labels: &Labels<'_>, value: &Value) {
        self.scaled(name, labels, value, 1.0);
    }

    fn scaled(&mut self, name: &str, labels: &Labels<'_>, value: &Value, divisor: f64) {
        if let Some(n) = value.as_f64() {
            self.used += 1;
            self.samples.insert(key(name, labels), n / divisor);
        }
    }

    fn fields(&mut self, fields: &[(&str, &str)], labels: &Labels<'_>, of: &Value) {
        fields.iter().for_each(|(field, name)| self.number(name, labels, &of[field]));
    }

    fn counters(&mut self, thing: &str, labels: &Labels<'_>, counters: &Value) {
        for (name, n) in counters.as_object().unwrap() {
            self.number(&format!("{thing}_{name}_total"), labels, n);
        }
    }

    fn named(&mut self, name: &str, labels: &Labels<'_>, label: &str, counts: &Value) {
        for (which, n) in counts.as_object().unwrap() {
            self.number(name, &with(labels, label, which), n);
        }
    }

    /// A histogram: classes up to 1, 2, 4, ... 128 packets, and beyond.
    fn sizes(&mut self, name: &str, labels: &Labels<'_>, sum: &Value, classes: &Value) {
        let mut count = 0.0;
        for (at, n) in list(classes).iter().enumerate() {
            self.used += 1;
            count += n.as_f64().unwrap();
            let bound = if at < 8 { (1 << at).to_string() } else { "+Inf".to_owned() };
            self.samples.insert(key(&format!("{name}_bucket"), &with(labels, "le", &bound)), count);
        }
        self.samples.insert(key(&format!("{name}_count"), labels), count);
        self.samples.insert(key(&format!("{name}_sum"), labels), sum.as_f64().unwrap());
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn with<'a>(labels: &Labels<'a>, name: &'a str, value: &str) -> Labels<'a> {
    let mut labels = labels.clone();
    labels.push((name, value.to_owned()));
    labels
}

fn key(name: &str, labels: &Labels<'_>) -> Key {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    (format!("tailwater_{name}"), labels.collect())
}

fn numbers(value: &Value) -> usize {
    match value {
        Value::Number(_) => 1,
        Value::Array(items) => items.iter().map(numbers).sum(),
        Value::Object(fields) => fields.values().map(numbers).sum(),
        _ => 0,
    }
}
