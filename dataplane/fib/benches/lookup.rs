//! Lookups over full tables: 1,000,000 IPv4 and 200,000 IPv6 prefixes.
//!
//! `all`: 2^20 addresses over all prefixes, more than any cache holds. `4000`: 4,000 destinations.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tailwater_fib::{BATCH, FibView, Limits, NextHop, generate};

const LOOKUPS: usize = 1 << 20;

fn lookup(criterion: &mut Criterion) {
    let (mut writer, reader) = tailwater_fib::new(Limits::default()).unwrap();
    let table4 = generate::table4(1_000_000, 256, 1);
    let table6 = generate::table6(200_000, 256, 2);
    writer.v4.extend(table4.iter().copied()).unwrap();
    writer.v6.extend(table6.iter().copied()).unwrap();
    let view = reader.join().unwrap();
    let all4 = generate::addresses4(&table4, LOOKUPS, 3);
    let all6 = generate::addresses6(&table6, LOOKUPS, 4);
    for (name, len) in [("all", LOOKUPS), ("4000", 4000)] {
        bench(criterion, &format!("ipv4/{name}"), &all4[..len], &view, FibView::lookup4, FibView::lookup4_batch);
        bench(criterion, &format!("ipv6/{name}"), &all6[..len], &view, FibView::lookup6, FibView::lookup6_batch);
    }
}

fn bench<A: Copy>(
    criterion: &mut Criterion,
    name: &str,
    addrs: &[A],
    view: &FibView,
    single: fn(&FibView, A) -> NextHop,
    batch: fn(&FibView, &[A], &mut [NextHop]),
) {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20).throughput(Throughput::Elements(addrs.len() as u64));
    group.bench_function("single", |bencher| {
        bencher.iter(|| {
            addrs.iter().for_each(|&addr| {
                black_box(single(view, addr));
            })
        });
    });
    group.bench_function("batch of 32", |bencher| {
        let mut next_hops = [NextHop::NONE; BATCH];
        bencher.iter(|| {
            for burst in addrs.chunks_exact(BATCH) {
                batch(view, burst, &mut next_hops);
                black_box(&next_hops);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, lookup);
criterion_main!(benches);
