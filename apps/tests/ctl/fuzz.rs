//! Random operations on a live process. The seed is printed; `TAILWATER_SEED=N` repeats it, `TAILWATER_FUZZ=N` sets
//! how many.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tailwater_lab::Lab;

use crate::common::{DEADLINE, RunFolder, assert_accounted, summary};
use crate::line::Line;

const OPERATIONS: u64 = 400;
const NAMES: [&str; 6] = ["route", "u", "v", "w", "x", "y"];
const ENDS: [&str; 8] = ["u", "v", "w", "route", "tx:d0", "tx:d1", "tx:*", "tx:nowhere"];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    fn node(&mut self, file: &str) -> Value {
        let (kind, parameters) = match self.below(12) {
            0 => ("capture", json!({ "file": file })),
            1 => ("filter", json!({ "expression": self.of(&["ip", "udp port 7", "", "and or"]) })),
            2 => ("impair", json!({ "delay_us": self.below(3000), "loss_percent": self.below(120) })),
            3 => ("rate-limit", json!({ "pps": self.below(10_000) })),
            4 => ("vlan", json!({ "mode": self.of(&["push", "pop", "match", "fly"]), "id": self.below(5000) })),
            5 => ("mirror", json!({ "sample_one_in": self.below(10) })),
            6 => ("ethernet", json!({ "mac": self.of(&["", "02:00:00:00:00:01", "mac"]) })),
            7 => ("ip-forward", json!({})),
            8 => ("stack", json!({})),
            9 => ("nothing", json!({})),
            10 => ("tee", json!({})),
            _ => ("counter", json!({})),
        };
        json!({ "name": self.of(&NAMES), "kind": kind, "parameters": parameters })
    }

    fn edge(&mut self, graph: &Value) -> Value {
        let edges = graph["edges"].as_array().unwrap();
        if self.below(3) > 0 && !edges.is_empty() {
            return edges[self.below(edges.len())].clone();
        }
        let output = self.of(&["", "", ".out", ".other", ".copy", ".ip4", ".nothing"]);
        let from = self.of(&["rx:d0", "rx:d1", "u", "v", "w", "x", "route"]);
        format!("{from}{output} -> {}", self.of(&ENDS)).into()
    }

    fn operation(&mut self, graph: &Value, file: &str) -> Value {
        let name = self.of(&NAMES);
        match self.below(9) {
            0 => json!({ "op": "add", "node": self.node(file) }),
            1 => json!({ "op": "rm", "name": name }),
            2 => {
                let key =
                    self.of(&["delay_us", "pps", "expression", "queue_max", "mac", "id", "icmp_rate_pps", "nothing"]);
                json!({ "op": "set", "name": name, "key": key, "value": self.below(5000) })
            }
            3 => json!({ "op": "bind", "edge": self.edge(graph) }),
            4 => json!({ "op": "unbind", "edge": self.edge(graph) }),
            5 => {
                let node = self.node(file);
                json!({ "op": "replace", "name": name, "kind": node["kind"], "parameters": node["parameters"],
                        "drop_state": self.below(2) == 0 })
            }
            6 | 7 => json!({ "op": "insert", "node": self.node(file), "edge": self.edge(graph) }),
            _ => json!({ "op": "extract", "name": name }),
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn random_operations_never_break_an_invariant() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let (seed, count) = (number("TAILWATER_SEED").unwrap_or(now), number("TAILWATER_FUZZ").unwrap_or(OPERATIONS));
    println!("TAILWATER_SEED={seed} TAILWATER_FUZZ={count}");
    let (lab, folder) = (Lab::router(1, 1500).unwrap(), RunFolder::new("ctl-fuzz"));
    let forwarder = folder.start(lab.dut(), "l3fwd -i d0 -i d1 --place user --cores 0,1 --idle sleep -j");
    let load = lab.gen_side().program("ping").args(["-q", "-i", "0.002", "-s", "500", "10.2.0.2"]).spawn().unwrap();
    let file = folder.0.join("fuzz.pcapng").display().to_string();
    let mut line = Line::to(&folder.socket(&forwarder));
    let original = line.dump()["graph"].clone();
    let mut random = Random(seed);
    let (mut done, mut refused) = (0, 0);
    for round in 0..count {
        let before = line.dump();
        let operations: Vec<Value> =
            (0..1 + random.below(3)).map(|_| random.operation(&before["graph"], &file)).collect();
        let answer = match random.below(20) {
            0 => line.ask(json!({ "op": "undo" })),
            1 => line.try_change(json!([{ "op": "apply", "graph": original }])),
            _ => line.try_change(operations.clone().into()),
        };
        let after = line.dump();
        if answer["ok"].is_object() {
            done += 1;
            assert_eq!(answer["ok"]["version"], after["version"], "seed {seed}, round {round}: {operations:?}");
        } else {
            refused += 1;
            assert_eq!(before, after, "seed {seed}, round {round}: {operations:?} refused: {answer}");
            let kind = answer["error"]["kind"].as_str().unwrap();
            assert!(!["refused", "unsettled", "unresponsive"].contains(&kind), "seed {seed}, round {round}: {answer}");
        }
        if round % 20 == 0 {
            let report = line.ask(json!({ "op": "report" }));
            assert_eq!(report["ok"]["totals"]["imbalance"], 0, "seed {seed}, round {round}: {report:#}");
            assert_eq!(report["ok"]["workers"].as_array().unwrap().len(), 2);
        }
    }
    println!("{done} done, {refused} refused");
    assert!(done > 0 && refused > 0);
    line.try_change(json!([{ "op": "apply", "graph": original }]));
    assert_eq!(line.dump()["graph"], original);
    lab.gen_side().program("ping").args(["-c3", "-i0.05", "-W5", "10.2.0.2"]).run(DEADLINE).unwrap();
    drop((load, line));
    assert_accounted(&summary(forwarder));
}
