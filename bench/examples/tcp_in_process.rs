//! One side of `benches/tcp.rs` by itself, for profilers: `tcp_in_process ours|smoltcp bulk|requests MTU COUNT
//! [CONNECTIONS]`. The work of a segment or a round trip is the difference of two runs with different counts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot be set up ends")]

use std::time::Instant;

use tailwater_bench::tcp_in_process::{Exchange, Load, StackKind, run};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [stack, load, mtu, count, rest @ ..] = arguments.as_slice() else {
        panic!("usage: tcp_in_process ours|smoltcp bulk|requests MTU COUNT [CONNECTIONS]");
    };
    let load = if load == "bulk" { Load::Bulk } else { Load::Requests };
    let (mtu, count) = (mtu.parse().unwrap(), count.parse().unwrap());
    let stack = if stack == "ours" { StackKind::Ours } else { StackKind::Smoltcp };
    let connections = rest.first().map_or(1, |connections| connections.parse().unwrap());
    let mut pair = stack.pair(Exchange { load, mtu, connections }).unwrap();
    let started = Instant::now();
    run(pair.as_mut(), count).unwrap();
    let took = started.elapsed();
    println!("{count} in {took:?}: {:.4} ns each", took.as_nanos() as f64 / count as f64);
}
