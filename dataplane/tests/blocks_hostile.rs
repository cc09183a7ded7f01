//! Random bytes, in random chunks and batches, through every block: nothing panics, and every packet is accounted for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod rig;

use proptest::prelude::*;
use rig::{KeyFile, Rig, text};
use tailwater_dataplane::block::Value;
use tailwater_dataplane::frame::Batch;

static KEY: std::sync::OnceLock<Value> = std::sync::OnceLock::new();

/// The key that `encrypt` and `decrypt` share.
fn key_file() -> Value {
    let key = KeyFile::new("hostile", &[3; 32]);
    let path = key.value();
    // Blocks read it when they are built, at any time until the test ends.
    std::mem::forget(key);
    path
}

/// Built-in kinds that work by themselves, in configurations that reach their corners.
fn blocks() -> Vec<(&'static str, Vec<(&'static str, Value)>)> {
    let number = Value::Integer;
    let key = KEY.get_or_init(key_file).clone();
    vec![
        ("counter", vec![]),
        ("forward", vec![]),
        ("tee", vec![]),
        ("ethernet", vec![("vlan", text("accept"))]),
        ("ethernet", vec![("mac", text("02:00:00:00:00:01"))]),
        ("vlan", vec![("mode", text("push")), ("id", number(5))]),
        ("vlan", vec![("mode", text("pop"))]),
        ("vlan", vec![("mode", text("match")), ("id", number(0)), ("protocol", text("0x88a8"))]),
        ("filter", vec![("expression", text("tcp[tcpflags] & tcp-syn != 0 or vlan and ip6 or greater 3000"))]),
        ("filter", vec![("expression", text("ip[ip[0] & 15] = 4")), ("drop", Value::Bool(true))]),
        ("mirror", vec![("sample_one_in", number(2)), ("snap_bytes", number(40))]),
        ("rate-limit", vec![("pps", number(1000)), ("bps", number(1_000_000)), ("burst_packets", number(3))]),
        ("encrypt", vec![("key_file", key.clone()), ("cipher", text("chacha20-poly1305"))]),
        ("encrypt", vec![("key_file", key.clone()), ("cipher", text("aes-256-gcm"))]),
        ("decrypt", vec![("key_file", key.clone())]),
        ("decrypt", vec![("key_file", key), ("plain", text("drop"))]),
        ("compress", vec![("least_bytes", number(1))]),
        ("decompress", vec![]),
        ("decompress", vec![("plain", text("drop")), ("frame_max", number(65_535))]),
        (
            "impair",
            vec![
                ("rate_bps", number(50_000_000)),
                ("delay_us", number(300)),
                ("jitter_us", number(200)),
                ("loss_percent", number(10)),
                ("loss_burst_packets", number(3)),
                ("duplicate_percent", number(20)),
                ("reorder_percent", number(20)),
                ("corrupt_percent", number(50)),
                ("queue_max", number(20)),
            ],
        ),
    ]
}

/// Mostly headers that parse for a while, then anything; of any length up to a jumbo frame.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let header = prop::collection::vec(
        prop_oneof![
            Just(vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]),
            Just(vec![0x81, 0, 0x20, 5]),
            Just(vec![0x88, 0xa8, 0, 0]),
            Just(vec![8, 0, 0x45, 0]),
            Just(vec![0x86, 0xdd, 0x60, 0]),
            Just(vec![0x88, 0xb5, 0x77, 0x11, 0, 0]),
            Just(vec![0x88, 0xb6, 0x77, 0x11, 0, 0, 1, 0, 0, 60, 0x1f, 8]),
            Just(vec![0x88, 0xb6, 0x77, 0x10, 0, 0, 0, 9, 0, 9]),
        ],
        0..6,
    );
    let rest = prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..80),
        1 => (0usize..9200, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ];
    (header, rest).prop_map(|(header, rest)| [header.concat(), rest].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_packet_makes_a_block_panic_or_lose_track(
        turns in prop::collection::vec((prop::collection::vec((packet(), 0usize..20), 0..12), 0u64..1_000_000), 1..8),
        chunks in prop_oneof![Just(512usize), Just(80)],
    ) {
        for (kind, parameters) in blocks() {
            let mut rig = Rig::with_chunks(kind, &parameters, chunks);
            for (packets, later_ns) in &turns {
                rig.now_ns += later_ns;
                let mut batch = Batch::default();
                for (packet, cut) in packets {
                    // The test may run out of frames where the blocks hold many; the blocks do, too.
                    let Some(mut frame) = rig.pool.allocate_copy(packet) else { continue };
                    // Headers that do not start where they usually do, and chains whose first chunk is short.
                    let _ = frame.trim_front((*cut).min(frame.len()));
                    batch.push(frame);
                }
                // `turn` checks that every packet and every chunk is accounted for.
                rig.turn(batch);
            }
            rig.shut_down();
        }
    }
}
