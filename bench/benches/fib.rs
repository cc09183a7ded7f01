//! Longest prefix match at random addresses over a full table, one by one and in batches.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tailwater_fib::generate::{addresses4, addresses6, table4, table6};
use tailwater_fib::{Limits, NextHop};

const ROUTES4: usize = 1_000_000;
const ROUTES6: usize = 200_000;
/// Addresses looked up in turn: more than caches hold tables for.
const ADDRESSES: usize = 1 << 20;
const BATCH: usize = 32;

fn lookup(criterion: &mut Criterion) {
    let (mut writer, reader) = tailwater_fib::new(Limits::default()).unwrap();
    let (table_v4, table_v6) = (table4(ROUTES4, 256, 1), table6(ROUTES6, 256, 1));
    let (to4, to6) = (addresses4(&table_v4, ADDRESSES, 2), addresses6(&table_v6, ADDRESSES, 2));
    writer.v4.extend(table_v4).unwrap();
    writer.v6.extend(table_v6).unwrap();
    let view = reader.join().unwrap();
    let mut next_hops = [NextHop::NONE; BATCH];

    let mut group = criterion.benchmark_group("fib");
    group.throughput(Throughput::Elements(1));
    let mut turn = to4.iter().cycle();
    group.bench_function("ip4/one", |bencher| {
        bencher.iter(|| turn.next().map(|&address| black_box(view.lookup4(address))));
    });
    let mut turn = to6.iter().cycle();
    group.bench_function("ip6/one", |bencher| {
        bencher.iter(|| turn.next().map(|&address| black_box(view.lookup6(address))));
    });
    group.throughput(Throughput::Elements(BATCH as u64));
    let mut turn = to4.chunks_exact(BATCH).cycle();
    group.bench_function("ip4/batch of 32", |bencher| {
        bencher.iter(|| {
            if let Some(addresses) = turn.next() {
                view.lookup4_batch(addresses, &mut next_hops);
            }
            black_box(&next_hops);
        });
    });
    let mut turn = to6.chunks_exact(BATCH).cycle();
    group.bench_function("ip6/batch of 32", |bencher| {
        bencher.iter(|| {
            if let Some(addresses) = turn.next() {
                view.lookup6_batch(addresses, &mut next_hops);
            }
            black_box(&next_hops);
        });
    });
    group.finish();
}

criterion_group!(benches, lookup);
criterion_main!(benches);
