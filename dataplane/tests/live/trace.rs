//! Packets followed through graphs that run.

use std::time::Instant;

use tailwater_dataplane::block::Value;
use tailwater_dataplane::graph::GraphSpec;
use tailwater_dataplane::trace::{Did, Packet, Trace, TraceConfig, Tracer};

use crate::plant::{DEADLINE, Outside, Plant, insert, wire};

fn begin(plant: &Plant, count: u32, filter: &str) -> Tracer {
    let config = TraceConfig { count, filter: filter.to_owned() };
    Tracer::begin(&config, plant.controls(), &plant.live).unwrap()
}

/// Lets traffic flow until the trace is done.
fn finish(tracer: &mut Tracer, outsides: &mut [Outside]) -> Trace {
    let end = Instant::now() + DEADLINE;
    loop {
        outsides.iter_mut().for_each(|outside| outside.step(true));
        let trace = tracer.look(false);
        if trace.done {
            return trace;
        }
        assert!(Instant::now() < end, "{trace:#?}");
    }
}

/// The way of a packet in short: `a received, copies passed out, b sent`.
fn way(packet: &Packet) -> String {
    let step = |step: &tailwater_dataplane::trace::Step| {
        let did = match &step.did {
            Did::Received => "received".to_owned(),
            Did::Made { output } => format!("made {output}"),
            Did::Passed { output } => format!("passed {output}"),
            Did::Copied { output } => format!("copied {output}"),
            Did::Held => "held".to_owned(),
            Did::Delivered => "delivered".to_owned(),
            Did::Dropped { reason } => format!("dropped {reason}"),
            Did::Sent => "sent".to_owned(),
        };
        format!("{} {did}", step.at)
    };
    packet.steps.iter().map(step).collect::<Vec<_>>().join(", ")
}

/// The sequence number in a packet of the plant.
fn number(packet: &Packet) -> u64 {
    u64::from_str_radix(&packet.steps[0].bytes[0][28..44], 16).unwrap()
}

#[test]
fn a_packet_is_followed_block_by_block_and_so_is_its_copy() {
    let graph = GraphSpec::default()
        .node("copies", "tee", &[])
        .node("count", "counter", &[])
        .node("none", "filter", &[("expression", Value::Text("ether[0] = 1".into())), ("drop", Value::Bool(true))])
        .edge("rx:a", "copies")
        .edge("copies.out", "count")
        .edge("copies.copy", "none")
        .edge("none.match", "tx:a")
        .edge("count", "tx:b");
    let (plant, mut outsides) = Plant::start(graph, 1);
    let trace = finish(&mut begin(&plant, 15, ""), &mut outsides);
    assert_eq!((trace.packets.len(), trace.passed_by, trace.steps_lost), (15, 0, 0));
    for packet in &trace.packets {
        assert!(packet.complete, "{packet:#?}");
        let mut ways =
            ["copies passed out", "copies copied copy", "none dropped filtered", "count passed out", "b sent"];
        let seen = way(packet);
        assert!(seen.starts_with("a received, copies passed out, copies copied copy, "), "{seen}");
        ways.sort_unstable();
        let mut steps: Vec<&str> = seen.split(", ").skip(1).collect();
        steps.sort_unstable();
        assert_eq!(steps, ways);
        let count = packet.steps.iter().find(|step| step.at == "count").unwrap();
        assert!(count.cycles > 0 && count.kind == "counter" && count.len == [60, 60], "{count:#?}");
    }
    let numbers: Vec<u64> = trace.packets.iter().map(number).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    outsides[0].settle();
    assert!(outsides[0].astray.is_empty(), "order was lost: {:?}", outsides[0].astray);
    plant.stop(outsides);
}

#[test]
fn only_what_the_filter_wants_is_followed_and_changes_of_bytes_are_seen() {
    let graph = GraphSpec::default()
        .node("tag", "vlan", &[("mode", Value::Text("push".into())), ("id", Value::Integer(7))])
        .edge("rx:a", "tag")
        .edge("tag", "tx:b");
    let (plant, mut outsides) = Plant::start(graph, 1);
    let mut tracer = begin(&plant, 3, "ether[21] & 0x0f = 5");
    // Tagged packets are no longer those that `step` knows.
    let end = Instant::now() + DEADLINE;
    let trace = loop {
        outsides[0].send_numbered();
        let trace = tracer.look(false);
        if trace.done {
            break trace;
        }
        assert!(Instant::now() < end, "{trace:#?}");
    };
    for packet in &trace.packets {
        assert_eq!(number(packet) & 0x0f, 5);
        assert_eq!(way(packet), "a received, tag passed out, b sent");
        assert_eq!(packet.steps[1].len, [60, 64]);
        assert!(packet.steps[1].bytes[1].contains("81000007"), "{:?}", packet.steps[1]);
    }
    plant.stop(outsides);
}

#[test]
fn what_a_block_keeps_is_followed_when_it_comes_out_later() {
    let graph = GraphSpec::default()
        .node("late", "impair", &[("delay_us", Value::Integer(2000))])
        .edge("rx:a", "late")
        .edge("late", "tx:b");
    let (plant, mut outsides) = Plant::start(graph, 1);
    let trace = finish(&mut begin(&plant, 5, ""), &mut outsides);
    for packet in &trace.packets {
        assert_eq!(way(packet), "a received, late held, late passed out, b sent");
        assert!(packet.complete && packet.steps[2].at_ns >= packet.steps[0].at_ns + 2_000_000, "{packet:#?}");
    }
    outsides[0].settle();
    assert!(outsides[0].astray.is_empty());
    plant.stop(outsides);
}

#[test]
fn several_workers_share_the_number_of_packets() {
    let (plant, mut outsides) = Plant::start(wire(), 2);
    let trace = finish(&mut begin(&plant, 40, ""), &mut outsides);
    assert_eq!(trace.packets.len(), 40);
    assert!(trace.packets.iter().all(|packet| way(packet) == "a received, b sent"));
    assert!(trace.packets.is_sorted_by_key(|packet| packet.steps[0].at_ns));
    outsides.iter_mut().for_each(Outside::settle);
    plant.stop(outsides);
}

#[test]
fn more_than_can_be_followed_at_once_pass_by_and_are_counted() {
    let graph = GraphSpec::default()
        .node("late", "impair", &[("delay_us", Value::Integer(1000))])
        .edge("rx:a", "late")
        .edge("late", "tx:b");
    let (plant, mut outsides) = Plant::start(graph, 1);
    let trace = finish(&mut begin(&plant, 200, ""), &mut outsides);
    assert_eq!(trace.packets.len(), 200);
    assert!(trace.passed_by > 0 && trace.packets.iter().all(|packet| packet.complete), "{}", trace.passed_by);
    outsides[0].settle();
    plant.stop(outsides);
}

#[test]
fn a_change_of_the_graph_ends_a_trace_and_the_next_is_not_confused_by_old_marks() {
    let graph = GraphSpec::default()
        .node("late", "impair", &[("delay_us", Value::Integer(300_000))])
        .edge("rx:a", "late")
        .edge("late", "tx:b");
    let (mut plant, mut outsides) = Plant::start(graph, 1);
    let mut tracer = begin(&plant, 10, "");
    let end = Instant::now() + DEADLINE;
    // Until they are inside, where they stay for a while.
    while plant.report(0).held < 10 {
        outsides[0].step(true);
        assert!(Instant::now() < end);
    }
    plant.change([insert("count", "counter", &[], "late -> tx:b")]).unwrap();
    let trace = tracer.look(true);
    assert!(trace.done && trace.packets.iter().all(|packet| !packet.complete), "{trace:#?}");
    assert_eq!(way(&trace.packets[0]), "a received, late held");
    let trace = finish(&mut begin(&plant, 10, ""), &mut outsides);
    for packet in &trace.packets {
        assert_eq!(way(packet), "a received, late held, late passed out, count passed out, b sent");
    }
    outsides[0].settle();
    assert!(outsides[0].astray.is_empty());
    plant.stop(outsides);
}

#[test]
fn a_trace_that_is_ended_tells_what_it_has() {
    let (plant, mut outsides) = Plant::start(wire(), 1);
    let mut tracer = begin(&plant, 1000, "ether[0] = 77");
    for _ in 0..100 {
        outsides[0].step(true);
    }
    assert!(!tracer.look(false).done);
    let trace = tracer.look(true);
    assert!(trace.done && trace.packets.is_empty(), "{trace:#?}");
    outsides[0].settle();
    plant.stop(outsides);
}

#[test]
fn wrong_wishes_are_refused() {
    let (plant, outsides) = Plant::start(wire(), 1);
    let refused = |count, filter: &str| {
        let config = TraceConfig { count, filter: filter.to_owned() };
        Tracer::begin(&config, plant.controls(), &plant.live).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(refused(0, "").contains("1 to 1000"));
    assert!(refused(1001, "").contains("1 to 1000"));
    assert!(refused(1, "no such thing").starts_with("malformed filter"));
    let mut first = begin(&plant, 1, "");
    let second = refused(1, "");
    assert!(second.contains("worker 0"), "one probe at a time: {second:?}");
    first.end();
    begin(&plant, 1, "").end();
    plant.stop(outsides);
}
