//! Single changes, one claim each.

use std::collections::BTreeMap;

use tailwater_dataplane::block::{Kind, Registry, Value};
use tailwater_dataplane::graph::GraphSpec;
use tailwater_dataplane::live::{Inheritance, Operation, Transaction, What};

use crate::plant::{DEADLINE, Outside, Plant, edge, extract, insert, node, replace, wire};

fn run(outside: &mut Outside, steps: usize) {
    (0..steps).for_each(|_| outside.step(true));
    outside.settle();
    assert!(outside.astray.is_empty(), "{:?}", outside.astray);
}

fn set(name: &str, key: &str, value: i64) -> Operation {
    Operation::Set { name: name.into(), key: key.into(), value: Value::Integer(value) }
}

#[test]
fn block_is_inserted_into_a_running_edge_and_taken_out_again() {
    let (mut plant, mut outsides) = Plant::start(wire(), 1);
    let before = plant.dump();
    let change = plant.change([insert("count", "counter", &[], "rx:a -> tx:b")]).unwrap();
    assert_eq!((change.version, change.diff.added.len(), change.stalls.len()), (2, 1, 1));
    run(&mut outsides[0], 100);
    assert_eq!(plant.counter("count", "packets"), outsides[0].sent);
    plant.change([extract("count")]).unwrap();
    assert_eq!(plant.dump(), before);
    run(&mut outsides[0], 10);
    plant.stop(outsides);
}

#[test]
fn replaced_block_keeps_its_counters_and_its_places_or_drops_the_former() {
    let spec = GraphSpec::default().node("count", "counter", &[]).edge("rx:a", "count").edge("count", "tx:b");
    let (mut plant, mut outsides) = Plant::start(spec, 2);
    outsides.iter_mut().for_each(|outside| run(outside, 50));
    let sent: u64 = outsides.iter().map(|outside| outside.sent).sum();
    let change = plant.change([replace("count", None, false)]).unwrap();
    assert_eq!(change.diff.replaced[0].state, Inheritance::Kept);
    assert_eq!(plant.counter("count", "packets"), sent);
    let change = plant.change([replace("count", None, true)]).unwrap();
    assert_eq!(change.diff.replaced[0].state, Inheritance::Dropped);
    assert_eq!(plant.counter("count", "packets"), 0);
    let places: u64 = (0..2).map(|worker| plant.report(worker).blocks[0].work.packets).sum();
    assert_eq!(places, sent, "what came past the place is another matter");
    plant.stop(outsides);
}

#[test]
fn packets_that_a_removed_block_holds_go_on_ahead_of_later_ones() {
    let (mut plant, mut outsides) = Plant::start(wire(), 1);
    // A minute: whatever arrives was let go, not due.
    let delay = [("delay_us", 60_000_000)];
    plant.change([insert("slow", "impair", &delay, "rx:a -> tx:b")]).unwrap();
    (0..50).for_each(|_| outsides[0].step(true));
    assert_eq!(outsides[0].received, 0);
    plant.change([extract("slow")]).unwrap();
    run(&mut outsides[0], 50);
    // Two in a row, and one of them replaced by a block that does not want what it holds.
    plant
        .change([insert("one", "impair", &delay, "rx:a -> tx:b"), insert("two", "impair", &[], "one -> tx:b")])
        .unwrap();
    (0..50).for_each(|_| outsides[0].step(true));
    plant.change([set("two", "delay_us", 60_000_000), set("one", "delay_us", 0)]).unwrap();
    plant.change([replace("one", Some("counter"), true), extract("two")]).unwrap();
    run(&mut outsides[0], 50);
    plant.stop(outsides);
}

#[test]
fn packets_that_a_replaced_block_holds_are_its_successors() {
    let spec = GraphSpec::default()
        .node("slow", "impair", &[("delay_us", Value::Integer(60_000_000)), ("queue_max", Value::Integer(500))])
        .edge("rx:a", "slow")
        .edge("slow", "tx:b");
    let (mut plant, mut outsides) = Plant::start(spec, 1);
    (0..50).for_each(|_| outsides[0].step(true));
    let held = || plant.report(0).held;
    while held() < outsides[0].sent {
        std::thread::yield_now();
    }
    for queue_max in [2000, 300, 1000] {
        let parameters = BTreeMap::from([("queue_max".to_owned(), Value::Integer(queue_max))]);
        plant.change([Operation::Replace { name: "slow".into(), kind: None, parameters, drop_state: false }]).unwrap();
        assert_eq!(plant.report(0).held, outsides[0].sent, "queue of {queue_max}");
    }
    plant.change([set("slow", "queue_max", 4000), set("slow", "delay_us", 0)]).unwrap();
    assert_eq!(plant.report(0).held, outsides[0].sent);
    plant.change([extract("slow")]).unwrap();
    run(&mut outsides[0], 50);
    plant.stop(outsides);
}

#[test]
fn every_refusal_has_its_code_and_leaves_the_graph_as_it_was() {
    let spec = GraphSpec::default()
        .node("count", "counter", &[])
        .node("slow", "impair", &[])
        .node("split", "filter", &[("expression", Value::Text("ip".into()))])
        .edge("rx:a", "count")
        .edge("count", "slow")
        .edge("slow", "tx:b");
    let (mut plant, mut outsides) = Plant::start(spec, 1);
    let before = plant.dump();
    let bind = |text: &str| Operation::Bind { edge: edge(text) };
    let unbind = |text: &str| Operation::Unbind { edge: edge(text) };
    let text = |name: &str, key: &str, value: &str| Operation::Set {
        name: name.into(),
        key: key.into(),
        value: Value::Text(value.into()),
    };
    let add =
        |name: &str, kind: &str, parameters: &[(&str, i64)]| Operation::Add { node: node(name, kind, parameters) };
    let rm = |name: &str| Operation::Rm { name: name.into() };
    let refusals: Vec<(&str, Vec<Operation>)> = vec![
        ("unknown_block", vec![rm("cuont")]),
        ("unknown_block", vec![set("nobody", "x", 1)]),
        ("in_use", vec![rm("count")]),
        ("name_taken", vec![add("count", "counter", &[])]),
        ("unknown_kind", vec![add("new", "conter", &[])]),
        ("graph", vec![add("no.name", "counter", &[])]),
        ("parameter", vec![add("new", "impair", &[("dealy_us", 1)])]),
        ("parameter", vec![add("new", "impair", &[("queue_max", 0)])]),
        ("parameter", vec![add("new", "filter", &[])]),
        ("parameter", vec![set("slow", "delay_us", -1)]),
        ("parameter", vec![text("split", "expression", "this is no filter")]),
        ("parameter", vec![add("v", "vlan", &[])]),
        ("edge_exists", vec![bind("count.out -> slow")]),
        ("graph", vec![bind("rx:a -> slow")]),
        ("dangling", vec![bind("split -> nobody")]),
        ("graph", vec![bind("split.third -> slow")]),
        ("graph", vec![bind("split -> tx:c")]),
        ("graph", vec![bind("split.match -> split")]),
        ("graph", vec![unbind("slow -> tx:b"), bind("slow -> count")]),
        ("unknown_edge", vec![unbind("count -> tx:b")]),
        ("unknown_edge", vec![insert("new", "counter", &[], "rx:b -> tx:a")]),
        ("name_taken", vec![insert("slow", "counter", &[], "rx:a -> count")]),
        ("not_in_line", vec![extract("split")]),
        ("not_in_line", vec![bind("split.other -> tx:b"), extract("split")]),
        ("state_unfit", vec![replace("count", Some("impair"), false)]),
        ("unknown_kind", vec![replace("count", Some("nothing"), true)]),
        ("lasting", vec![add("host", "stack", &[])]),
        // The last of several spoils them all.
        ("unknown_block", vec![set("slow", "delay_us", 7), extract("slow"), extract("slow")]),
        ("too_many", vec![set("slow", "delay_us", 7); 1025]),
        ("dangling", vec![Operation::Apply { graph: GraphSpec::default().edge("rx:a", "nobody") }]),
    ];
    let events = plant.live.events();
    for (code, operations) in refusals {
        let error = plant.change(operations.clone()).unwrap_err();
        assert_eq!(error.code(), code, "{operations:?}: {error}");
        let newest = events.wait(events.newest(), std::time::Duration::ZERO).unwrap().remove(0);
        assert!(matches!(newest.what, What::Refused { code: noted, .. } if noted == code));
        assert_eq!((plant.live.graph().0, plant.dump()), (1, before.clone()), "{operations:?}");
    }
    run(&mut outsides[0], 20);
    let names: Vec<String> = plant.report(0).blocks.into_iter().map(|block| block.name).collect();
    assert_eq!(names.len(), 3);
    plant.stop(outsides);
}

#[test]
fn a_block_that_lasts_keeps_its_state_and_neither_begins_nor_ends_in_a_running_graph() {
    let mut registry = Registry::builtin();
    let counter = *registry.find("counter").unwrap();
    registry.add(Kind { name: "host", lasts: true, ..counter });
    let spec = GraphSpec::default().node("host", "host", &[]).edge("rx:a", "host").edge("host", "tx:b");
    let (mut plant, mut outsides) = Plant::start_with(spec, 1, registry, DEADLINE);
    run(&mut outsides[0], 50);
    let (sent, before) = (outsides[0].sent, plant.dump());
    let refusals = [
        vec![replace("host", None, true)],
        vec![replace("host", Some("impair"), true)],
        vec![extract("host")],
        vec![insert("other", "host", &[], "rx:a -> host")],
        vec![extract("host"), insert("host", "host", &[], "rx:a -> tx:b")],
        vec![Operation::Apply { graph: wire() }],
    ];
    for operations in refusals {
        let error = plant.change(operations.clone()).unwrap_err();
        assert_eq!((error.code(), plant.dump()), ("lasting", before.clone()), "{operations:?}: {error}");
        assert!(error.hint().is_some());
    }
    for kind in [None, Some("counter")] {
        // The latter counts on, and does not last.
        let replaced = plant.change([replace("host", kind, false)]);
        assert_eq!(replaced.unwrap().diff.replaced[0].state, Inheritance::Kept);
        assert_eq!(plant.counter("host", "packets"), sent);
    }
    plant.change([replace("host", None, true)]).unwrap();
    plant.stop(outsides);
}

#[test]
fn dry_run_tells_the_difference_and_does_nothing() {
    let (mut plant, outsides) = Plant::start(wire(), 1);
    let (before, events) = (plant.dump(), plant.live.events().newest());
    let operations = vec![insert("count", "counter", &[], "rx:a -> tx:b")];
    let transaction = Transaction { operations, dry_run: true, ..Transaction::default() };
    let change = plant.live.change(&transaction).unwrap();
    assert!(change.dry_run && change.version == 1 && change.stalls.is_empty());
    assert_eq!((change.diff.added.len(), change.diff.bound.len(), change.diff.unbound.len()), (1, 2, 1));
    assert_eq!((plant.dump(), plant.live.events().newest()), (before, events));
    plant.stop(outsides);
}

#[test]
fn of_two_with_the_same_base_the_second_is_told_the_newer_version() {
    let (mut plant, outsides) = Plant::start(wire(), 1);
    let operations = |name: &str| vec![Operation::Add { node: node(name, "counter", &[]) }];
    let based = |name: &str| Transaction { operations: operations(name), base: Some(1), ..Transaction::default() };
    assert_eq!(plant.live.change(&based("first")).unwrap().version, 2);
    let error = plant.live.change(&based("second")).unwrap_err();
    assert_eq!(error.code(), "conflict");
    assert!(error.to_string().contains('2'), "{error}");
    assert_eq!(plant.live.graph().1.nodes.len(), 1);
    plant.stop(outsides);
}

#[test]
fn undo_goes_back_step_by_step_and_each_step_is_a_new_version() {
    let (mut plant, outsides) = Plant::start(wire(), 1);
    let mut dumps = vec![plant.dump()];
    for (name, into) in [("one", "rx:a -> tx:b"), ("two", "one -> tx:b"), ("three", "two -> tx:b")] {
        plant.change([insert(name, "impair", &[("delay_us", 5)], into)]).unwrap();
        dumps.push(plant.dump());
    }
    dumps.pop();
    while let Some(dump) = dumps.pop() {
        plant.live.undo(None, false, "test").unwrap();
        assert_eq!(plant.dump(), dump);
    }
    assert_eq!(plant.live.graph().0, 7);
    assert_eq!(plant.live.undo(Some(3), false, "test").unwrap_err().code(), "conflict");
    assert_eq!(plant.live.undo(None, false, "test").unwrap_err().code(), "nothing_to_undo");
    plant.stop(outsides);
}

#[test]
fn applying_a_graph_keeps_what_it_can() {
    let spec = GraphSpec::default()
        .node("count", "counter", &[])
        .node("slow", "impair", &[("delay_us", Value::Integer(1))])
        .node("tag", "vlan", &[("mode", Value::Text("match".into()))])
        .edge("rx:a", "count")
        .edge("count", "slow")
        .edge("slow", "tx:b");
    let (mut plant, mut outsides) = Plant::start(spec, 1);
    run(&mut outsides[0], 20);
    let graph = GraphSpec::default()
        .node("tag", "vlan", &[("mode", Value::Text("pop".into()))])
        .node("slow", "impair", &[("delay_us", Value::Integer(2))])
        .node("count", "counter", &[])
        .node("more", "tee", &[])
        .edge("rx:a", "slow")
        .edge("slow.out", "more")
        .edge("more", "count")
        .edge("count", "tx:b");
    let change = plant.change([Operation::Apply { graph: graph.clone() }]).unwrap();
    let diff = change.diff;
    assert_eq!(diff.added.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["more"]);
    assert_eq!(
        diff.replaced.iter().map(|new| (new.name.as_str(), new.state)).collect::<Vec<_>>(),
        [("tag", Inheritance::Kept)]
    );
    assert_eq!(
        diff.set.iter().map(|set| (set.name.as_str(), set.key.as_str())).collect::<Vec<_>>(),
        [("slow", "delay_us")]
    );
    assert_eq!((diff.removed.len(), diff.bound.len(), diff.unbound.len()), (0, 4, 3));
    assert_eq!(plant.counter("count", "packets"), outsides[0].sent, "it is the same block");
    assert_eq!(plant.live.graph().1, &graph);
    run(&mut outsides[0], 20);
    let none = plant.change([Operation::Apply { graph }]).unwrap();
    assert!(none.diff.is_empty() && none.version == change.version);
    plant.stop(outsides);
}
