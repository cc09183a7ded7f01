//! TCP between two hosts in one process: a megabyte one way, and a request with its response; ours and smoltcp's.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tailwater_bench::tcp_in_process::{Load, Ours, Pair, Smoltcp, run};

const BULK: u64 = 1 << 20;

fn measure(criterion: &mut Criterion, group: &str, load: Load, mtu: usize) {
    let (count, throughput) = match load {
        Load::Bulk => (BULK, Throughput::Bytes(BULK)),
        Load::Requests => (1, Throughput::Elements(1)),
    };
    let mut group = criterion.benchmark_group(group);
    group.throughput(throughput);
    let mut pairs: [(&str, Box<dyn Pair>); 2] =
        [("tailwater", Box::new(Ours::new(load, mtu).unwrap())), ("smoltcp", Box::new(Smoltcp::new(load, mtu)))];
    for (name, pair) in &mut pairs {
        group.bench_function(*name, |bencher| bencher.iter(|| run(pair.as_mut(), count).unwrap()));
    }
    group.finish();
}

fn tcp(criterion: &mut Criterion) {
    measure(criterion, "bulk, MTU 1500", Load::Bulk, 1500);
    measure(criterion, "bulk, MTU 9000", Load::Bulk, 9000);
    measure(criterion, "request and response of 64 bytes", Load::Requests, 1500);
}

criterion_group!(benches, tcp);
criterion_main!(benches);
