//! Changes under load: nothing is lost, nothing overtakes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use tailwater_dataplane::block::Value;
use tailwater_dataplane::graph::GraphSpec;
use tailwater_dataplane::live::{Change, Operation};

use crate::plant::{Outside, Plant, extract, insert, replace};

const WORKERS: usize = 2;
const REPLACES: usize = 1000;
const INSERTS: usize = 1000;
const APPLIES: usize = 100;

fn chain() -> GraphSpec {
    GraphSpec::default()
        .node("count", "counter", &[])
        .node("slow", "impair", &[("delay_us", Value::Integer(200))])
        .edge("rx:a", "count")
        .edge("count", "slow")
        .edge("slow", "tx:b")
}

/// Another graph that keeps the order of packets as well.
fn other() -> GraphSpec {
    GraphSpec::default()
        .node("count", "tee", &[])
        .node("limit", "rate-limit", &[])
        .node("slow", "impair", &[("delay_us", Value::Integer(50)), ("queue_max", Value::Integer(3000))])
        .edge("rx:a", "slow")
        .edge("slow", "limit")
        .edge("limit", "count")
        .edge("count", "tx:b")
}

/// Makes changes while every outside sends, and returns the stalls in ns, in order.
fn under_load(plant: &mut Plant, outsides: &mut [Outside], change: impl FnOnce(&mut Plant) -> Vec<Change>) -> Vec<u64> {
    let stop = AtomicBool::new(false);
    let changes = std::thread::scope(|scope| {
        for outside in outsides.iter_mut() {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    outside.step(true);
                }
            });
        }
        let changes = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| change(plant)));
        stop.store(true, Ordering::Relaxed);
        changes.unwrap()
    });
    for outside in outsides {
        outside.settle();
        assert!(outside.astray.is_empty(), "out of turn: {:?}", outside.astray);
        assert!(outside.sent > 0);
    }
    let mut stalls: Vec<u64> = changes.iter().flat_map(|change| &change.stalls).map(|stall| stall.stall_ns).collect();
    stalls.sort_unstable();
    stalls
}

fn tell(what: &str, stalls: &[u64], outsides: &[Outside]) {
    let at = |per_mille: usize| stalls[(stalls.len() - 1) * per_mille / 1000];
    let sent: u64 = outsides.iter().map(|outside| outside.sent).sum();
    println!(
        "{what}: {sent} packets, 0 lost, 0 out of turn; stall of a worker in ns: median {}, p99 {}, max {}",
        at(500),
        at(990),
        at(1000)
    );
}

#[test]
fn a_thousand_replaces_of_stateful_blocks_lose_and_reorder_nothing() {
    let (mut plant, mut outsides) = Plant::start(chain(), WORKERS);
    let stalls = under_load(&mut plant, &mut outsides, |plant| {
        (0..REPLACES)
            .map(|n| plant.change([replace(if n % 2 == 0 { "count" } else { "slow" }, None, false)]).unwrap())
            .collect()
    });
    tell("1000 replaces", &stalls, &outsides);
    let sent: u64 = outsides.iter().map(|outside| outside.sent).sum();
    assert_eq!((plant.counter("count", "packets"), plant.counter("slow", "passed")), (sent, sent));
    plant.stop(outsides);
}

#[test]
fn a_thousand_inserts_and_extracts_lose_and_reorder_nothing() {
    let (mut plant, mut outsides) = Plant::start(chain(), WORKERS);
    let kinds: [(&str, &[(&str, i64)]); 5] = [
        ("counter", &[]),
        ("impair", &[("delay_us", 300)]),
        ("rate-limit", &[]),
        ("mirror", &[("sample_one_in", 1000)]),
        ("forward", &[]),
    ];
    let edges = ["rx:a -> count", "count -> slow", "slow -> tx:b"];
    let stalls = under_load(&mut plant, &mut outsides, |plant| {
        let pair = |n: usize| {
            let (kind, parameters) = kinds[n % kinds.len()];
            let operation = insert("new", kind, parameters, edges[n % edges.len()]);
            [plant.change([operation]).unwrap(), plant.change([extract("new")]).unwrap()]
        };
        (0..INSERTS).flat_map(pair).collect()
    });
    tell("1000 inserts and extracts", &stalls, &outsides);
    plant.stop(outsides);
}

#[test]
fn a_hundred_whole_graphs_lose_and_reorder_nothing() {
    let (mut plant, mut outsides) = Plant::start(chain(), WORKERS);
    let stalls = under_load(&mut plant, &mut outsides, |plant| {
        let graphs = [other(), chain()];
        let apply = |n: usize| Operation::Apply { graph: graphs[n % 2].clone() };
        (0..APPLIES).map(|n| plant.change([apply(n)]).unwrap()).collect()
    });
    tell("100 applies", &stalls, &outsides);
    plant.stop(outsides);
}

#[test]
fn parameters_change_under_load_and_lose_nothing() {
    let (mut plant, mut outsides) = Plant::start(chain(), WORKERS);
    let filter = BTreeMap::from([("expression".to_owned(), Value::Text(String::new()))]);
    let mut node = crate::plant::node("all", "filter", &[]);
    node.parameters = filter;
    plant.change([Operation::Insert { node, edge: crate::plant::edge("rx:a -> count") }]).unwrap();
    let set = |name: &str, key: &str, value: Value| Operation::Set { name: name.into(), key: key.into(), value };
    let stalls = under_load(&mut plant, &mut outsides, |plant| {
        let mut change = |n: usize| {
            let expression = format!("ether[12] = 0x88 or greater {n}");
            plant.change([
                set("slow", "delay_us", Value::Integer((n % 7) as i64 * 50)),
                set("slow", "queue_max", Value::Integer(1000 + (n % 3) as i64 * 1000)),
                set("all", "expression", Value::Text(expression)),
            ])
        };
        (0..200).map(|n| change(n).unwrap()).collect()
    });
    tell("200 settings", &stalls, &outsides);
    plant.stop(outsides);
}
