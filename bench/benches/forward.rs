//! A turn of 32 packets: through the rings of a memory port alone, through the router's graph, and through the same work
//! as one fused loop. Times are for a whole batch and include writing the packets anew.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tailwater_bench::memory_forward::{BATCH, Bench, ROUTES};
use tailwater_dataplane::frame::{Batch, Pool, Region, RegionConfig};
use tailwater_dataplane::ledger::Ledger;
use tailwater_dataplane::port::Port;
use tailwater_dataplane::port::memory::MemoryPort;

fn ring_turn(criterion: &mut Criterion) {
    let region = Region::in_process(RegionConfig { chunks: 1024, ..RegionConfig::default() }).unwrap();
    let (mut near, mut far) = MemoryPort::pair(&region, ["near", "far"], 256);
    let (mut pool, mut ledger) = (Pool::new(Arc::clone(&region)), Ledger::default());
    let mut batch = Batch::with_capacity(BATCH);
    for _ in 0..BATCH {
        batch.push(pool.allocate_copy(&[0; 60]).unwrap());
    }
    let mut group = criterion.benchmark_group("turn of 32");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("ring: transmit and receive", |bencher| {
        bencher.iter(|| {
            near.transmit(&mut pool, &mut batch);
            near.flush(&mut pool);
            far.receive(&mut pool, &mut ledger, &mut batch, BATCH)
        });
    });
    group.finish();
}

fn forward(criterion: &mut Criterion) {
    for (name, fused) in [("forward by graph", false), ("forward by fused loop", true)] {
        let mut bench = Bench::new(fused, ROUTES, BATCH).unwrap();
        let mut group = criterion.benchmark_group("turn of 32");
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(name, |bencher| bencher.iter(|| bench.turn()));
        group.finish();
    }
}

criterion_group!(benches, ring_turn, forward);
criterion_main!(benches);
