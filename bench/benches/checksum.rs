//! The Internet checksum over a header and over whole packets, and its incremental update.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tailwater_stack::checksum;

fn over_bytes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    let bytes: Vec<u8> = (0..9000u32).map(|at| (at * 31) as u8).collect();
    for length in [20, 64, 1460, 8960] {
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_with_input(BenchmarkId::from_parameter(length), &bytes[..length], |bencher, bytes| {
            bencher.iter(|| checksum::of(black_box(bytes)));
        });
    }
    group.finish();
    criterion.bench_function("checksum/update_u32", |bencher| {
        bencher
            .iter(|| checksum::update_u32(black_box([0x12, 0x34]), black_box([10, 1, 0, 2]), black_box([10, 9, 8, 7])));
    });
}

criterion_group!(benches, over_bytes);
criterion_main!(benches);
