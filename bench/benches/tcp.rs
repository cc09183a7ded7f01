//! TCP between two hosts in one process: a megabyte one way, and requests with their responses; ours and smoltcp's.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tailwater_bench::tcp_in_process::{Exchange, Load, Pair, StackKind, run};

const BULK: u64 = 1 << 20;

fn measure(criterion: &mut Criterion, group: &str, exchange: Exchange) {
    // A request on each connection.
    let requests = exchange.connections as u64;
    let (count, throughput) = match exchange.load {
        Load::Bulk => (BULK, Throughput::Bytes(BULK)),
        Load::Requests => (requests, Throughput::Elements(requests)),
    };
    let mut group = criterion.benchmark_group(group);
    group.throughput(throughput);
    let kinds = [("tailwater", StackKind::Ours), ("smoltcp", StackKind::Smoltcp)];
    let mut pairs: [(&str, Box<dyn Pair>); 2] = kinds.map(|(name, kind)| (name, kind.pair(exchange).unwrap()));
    for (name, pair) in &mut pairs {
        group.bench_function(*name, |bencher| bencher.iter(|| run(pair.as_mut(), count).unwrap()));
    }
    group.finish();
}

fn tcp(criterion: &mut Criterion) {
    measure(criterion, "bulk, MTU 1500", Exchange::new(Load::Bulk, 1500));
    measure(criterion, "bulk, MTU 9000", Exchange::new(Load::Bulk, 9000));
    for (name, connections) in [("1 connection", 1), ("64 connections", 64), ("1000 connections", 1000)] {
        let group = format!("requests and responses of 64 bytes, {name}");
        measure(criterion, &group, Exchange { connections, ..Exchange::new(Load::Requests, 1500) });
    }
}

criterion_group!(benches, tcp);
criterion_main!(benches);
