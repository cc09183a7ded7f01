//! The flow hash that user space and the XDP program share.

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};

use criterion::{Criterion, criterion_group, criterion_main};
use tailwater_xdp::{FlowKey, HashKey, flow_hash};

fn hash(criterion: &mut Criterion) {
    let key = HashKey::new(0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3211);
    let flow4 = FlowKey::v4(Ipv4Addr::new(10, 1, 0, 2), 40_000, Ipv4Addr::new(10, 2, 0, 2), 80, 6);
    let (source, destination) =
        (Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2), Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 2));
    let flow6 = FlowKey::v6(source, 40_000, destination, 80, 6);
    for (name, flow) in [("flow_hash/ip4", flow4), ("flow_hash/ip6", flow6)] {
        criterion.bench_function(name, |bencher| bencher.iter(|| flow_hash(black_box(&key), black_box(&flow))));
    }
}

criterion_group!(benches, hash);
criterion_main!(benches);
