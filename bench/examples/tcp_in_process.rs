//! One side of `benches/tcp.rs` by itself, for profilers: `tcp_in_process ours|smoltcp bulk|requests MTU COUNT`. The work of
//! a segment or a round trip is the difference of two runs with different counts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot be set up ends")]

use std::time::Instant;

use tailwater_bench::tcp_in_process::{Load, Ours, Pair, Smoltcp, run};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [stack, load, mtu, count] = arguments.as_slice() else {
        panic!("usage: tcp_in_process ours|smoltcp bulk|requests MTU COUNT");
    };
    let load = if load == "bulk" { Load::Bulk } else { Load::Requests };
    let (mtu, count) = (mtu.parse().unwrap(), count.parse().unwrap());
    let mut pair: Box<dyn Pair> = match stack.as_str() {
        "ours" => Box::new(Ours::new(load, mtu).unwrap()),
        _ => Box::new(Smoltcp::new(load, mtu)),
    };
    let started = Instant::now();
    run(pair.as_mut(), count).unwrap();
    let took = started.elapsed();
    println!("{count} in {took:?}: {:.4} ns each", took.as_nanos() as f64 / count as f64);
}
