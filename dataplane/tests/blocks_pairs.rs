//! The pairs `encrypt`/`decrypt` and `compress`/`decompress`: what goes in comes out, and nothing else does.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests, and a counting allocator"
)]

mod rig;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use proptest::prelude::*;
use rig::{KeyFile, Rig, ethernet, text, udp4};
use tailwater_dataplane::block::{PortNames, Registry, Services, Value};
use tailwater_dataplane::forwarding::{ForwardingPlane, PortEntry};
use tailwater_dataplane::frame::Batch;
use tailwater_dataplane::ledger::DropReason;
use tailwater_dataplane::surroundings::Surroundings;
use tailwater_xdp::{FlowKey, HashKey, Place, flow_hash};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts allocations of each thread.
struct Counting;

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: passed on from the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: passed on from the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ENCRYPTED: u16 = 0x88b5;
const ENCRYPT_LEN: usize = 40;
const COMPRESS_LEN: usize = 10;
const CIPHERS: [&str; 2] = ["chacha20-poly1305", "aes-256-gcm"];

fn key(name: &str) -> KeyFile {
    KeyFile::new(name, &[7; 32])
}

fn encrypt(key: &KeyFile, more: &[(&str, Value)]) -> Rig {
    Rig::new("encrypt", &[&[("key_file", key.value())], more].concat())
}

fn decrypt(key: &KeyFile, more: &[(&str, Value)]) -> Rig {
    Rig::new("decrypt", &[&[("key_file", key.value())], more].concat())
}

/// An Ethernet frame with this many tags and this content.
fn tagged(tags: usize, content: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &[0x81, 0, 0x20, 5].repeat(tags), &[8, 0], content].concat()
}

/// Frames of all lengths, some repetitive, some not.
fn packets() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let len = prop_oneof![4 => 0usize..200, 3 => 1400usize..1500, 1 => 1500usize..9000];
    let content = prop_oneof![
        (len.clone(), any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
        (len.clone(), 1usize..40).prop_map(|(len, period)| (0..len).map(|at| (at % period) as u8).collect()),
        len.prop_flat_map(|len| prop::collection::vec(any::<u8>(), len)),
    ];
    prop::collection::vec((0usize..3, content).prop_map(|(tags, content)| tagged(tags, &content)), 1..6)
}

/// Bytes that do not compress, the same each time: SplitMix64.
fn noise(len: u64) -> Vec<u8> {
    let mix = |at: u64| {
        let z = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 56) as u8
    };
    (1..=len).map(mix).collect()
}

/// What comes out of a frame that went in: short ones get the padding that a wire would give them.
fn padded(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet.resize(packet.len().max(60 - ENCRYPT_LEN), 0);
    packet
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_is_sealed_is_opened_again_whatever_it_is(packets in packets()) {
        let key = key("round-trip");
        for cipher in CIPHERS {
            let sealed = encrypt(&key, &[("cipher", text(cipher))]).send(&packets).remove(0);
            prop_assert_eq!(sealed.len(), packets.len());
            for (sealed, packet) in sealed.iter().zip(&packets) {
                prop_assert_eq!(sealed.len(), padded(packet).len() + ENCRYPT_LEN);
                prop_assert_eq!(&sealed[..12], &packet[..12]);
            }
            let mut decrypt = decrypt(&key, &[("plain", text("drop"))]);
            let opened = decrypt.send(&sealed).remove(0);
            prop_assert_eq!(opened, packets.iter().map(|packet| padded(packet)).collect::<Vec<_>>());
            prop_assert_eq!(decrypt.send(&sealed)[0].len(), 0);
            prop_assert_eq!(decrypt.dropped(DropReason::DecryptReplayed), packets.len() as u64);
        }
    }

    #[test]
    fn no_frame_with_a_changed_bit_is_opened(
        content in prop::collection::vec(any::<u8>(), 20..200), at in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let key = key("tampered");
        for cipher in CIPHERS {
            let mut sealed = encrypt(&key, &[("cipher", text(cipher))]).send(&[tagged(0, &content)]).remove(0).remove(0);
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            let mut decrypt = decrypt(&key, &[("plain", text("drop"))]);
            prop_assert_eq!(decrypt.send(&[sealed])[0].len(), 0);
            let expected = match at {
                12..=14 => vec![DropReason::NotEncapsulated],
                15 => vec![DropReason::EncapsulationVersion, DropReason::DecryptTampered],
                18..=19 => vec![DropReason::DecryptWrongKey],
                28..=35 => vec![DropReason::DecryptTampered, DropReason::DecryptTooOld],
                _ => vec![DropReason::DecryptTampered],
            };
            prop_assert_eq!(decrypt.ledger.total(), 1);
            prop_assert!(expected.iter().any(|&reason| decrypt.dropped(reason) == 1), "{:?}", decrypt.ledger);
        }
    }

    #[test]
    fn no_frame_that_is_cut_short_is_opened(content in prop::collection::vec(any::<u8>(), 20..100)) {
        let key = key("cut");
        let sealed = encrypt(&key, &[]).send(&[tagged(0, &content)]).remove(0).remove(0);
        let mut decrypt = decrypt(&key, &[("plain", text("drop"))]);
        let cut: Vec<&[u8]> = (0..sealed.len()).map(|len| &sealed[..len]).collect();
        for cut in &cut {
            prop_assert_eq!(decrypt.send(&[cut])[0].len(), 0);
        }
        prop_assert_eq!(decrypt.ledger.total(), cut.len() as u64);
        prop_assert_eq!(decrypt.send(&[sealed])[0].len(), 1, "forgeries do not use its counter up");
    }

    #[test]
    fn what_is_compressed_is_restored_whatever_it_is(packets in packets(), padding in 0usize..60) {
        let mut compress = Rig::new("compress", &[("least_bytes", Value::Integer(1))]);
        let mut smaller = compress.send(&packets).remove(0);
        prop_assert_eq!(smaller.len(), packets.len());
        for (smaller, packet) in smaller.iter_mut().zip(&packets) {
            prop_assert!(smaller.len() <= packet.len() + COMPRESS_LEN);
            smaller.resize(smaller.len() + padding, 0);
        }
        prop_assert_eq!(compress.counter("compressed") + compress.counter("stored"), packets.len() as u64);
        let mut decompress = Rig::new("decompress", &[("plain", text("drop"))]);
        prop_assert_eq!(&decompress.send(&smaller)[0], &packets);
    }

    #[test]
    fn compressed_frames_with_noise_in_them_come_out_within_the_bound_or_not_at_all(
        packets in packets(), noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut frames = Rig::new("compress", &[("least_bytes", Value::Integer(1))]).send(&packets).remove(0);
        for frame in &mut frames {
            for (at, byte) in &noise {
                let at = at.index(frame.len());
                frame[at] = *byte;
            }
        }
        let mut decompress = Rig::new("decompress", &[("frame_max", Value::Integer(2000)), ("plain", text("drop"))]);
        let out = decompress.send(&frames).remove(0);
        prop_assert!(out.iter().all(|packet| packet.len() <= 2000));
        prop_assert_eq!(out.len() as u64 + decompress.ledger.total(), frames.len() as u64);
    }
}

#[test]
fn sealed_frames_show_neither_what_they_carry_nor_twice_the_same() {
    let key = key("secret");
    let packet = udp4(9, &b"what nobody is to read ".repeat(10));
    for cipher in CIPHERS {
        let mut rig = encrypt(&key, &[("cipher", text(cipher))]);
        let sealed = rig.send(&[&packet, &packet]).remove(0);
        assert!(sealed.iter().all(|frame| !frame.windows(6).any(|bytes| bytes == b"nobody")));
        let differing = sealed[0].iter().zip(&sealed[1]).skip(54).filter(|(a, b)| a != b).count();
        assert!(differing > 200, "{differing} of {} bytes differ", sealed[0].len() - 54);
        assert_eq!(rig.counter("sealed"), 2);
    }
}

#[test]
fn replays_are_noticed_within_the_window_and_all_else_behind_it_is_too_old() {
    let key = key("replay");
    let mut encrypt = encrypt(&key, &[]);
    let sealed: Vec<Vec<u8>> = (0..50).flat_map(|_| encrypt.send(&vec![udp4(1, &[1; 20]); 100]).remove(0)).collect();
    let mut decrypt = decrypt(&key, &[]);
    let mut send = |at: usize| {
        let before: Vec<u64> =
            [DropReason::DecryptReplayed, DropReason::DecryptTooOld].map(|r| decrypt.dropped(r)).into();
        let passed = decrypt.send(&[&sealed[at]])[0].len();
        let replayed = decrypt.dropped(DropReason::DecryptReplayed) - before[0];
        let too_old = decrypt.dropped(DropReason::DecryptTooOld) - before[1];
        (passed, replayed, too_old)
    };
    assert_eq!(send(10), (1, 0, 0));
    assert_eq!(send(9), (1, 0, 0), "late, but in the window");
    assert_eq!(send(9), (0, 1, 0));
    assert_eq!(send(10), (0, 1, 0));
    assert_eq!(send(4900), (1, 0, 0));
    // The window is 63 words of 64 counters; frame `at` has counter `at + 1`.
    assert_eq!(send(4900 - 4032), (0, 0, 1));
    assert_eq!(send(4900 - 4031), (1, 0, 0));
    assert_eq!(send(4900 - 4031), (0, 1, 0));
    assert_eq!(send(11), (0, 0, 1));
    assert_eq!([decrypt.counter("replayed"), decrypt.counter("too_old"), decrypt.counter("opened")], [3, 2, 4]);
}

#[test]
fn another_key_and_another_session_are_told_from_tampering() {
    let (ours, theirs) = (key("ours"), KeyFile::new("theirs", &[8; 32]));
    let packet = udp4(1, &[1; 20]);
    let mut rig = decrypt(&ours, &[("session", text("today"))]);
    let foreign = encrypt(&theirs, &[("session", text("today"))]).send(&[&packet]).remove(0);
    let yesterdays = encrypt(&ours, &[("session", text("yesterday"))]).send(&[&packet]).remove(0);
    let right = encrypt(&ours, &[("session", text("today"))]).send(&[&packet]).remove(0);
    for frames in [foreign, yesterdays] {
        assert_eq!(rig.send(&frames)[0].len(), 0);
    }
    assert_eq!((rig.dropped(DropReason::DecryptWrongKey), rig.counter("wrong_key")), (2, 2));
    assert_eq!(rig.send(&right)[0], [packet]);
}

#[test]
fn plain_frames_pass_a_receiver_unless_it_is_told_to_drop_them() {
    let key = key("plain");
    let frames = [udp4(1, &[1; 20]), ethernet(ENCRYPTED, &[0x78; 60]), vec![1; 5], Vec::new()];
    for (kind, more) in [("decrypt", vec![("key_file", key.value())]), ("decompress", vec![])] {
        let mut rig = Rig::new(kind, &more);
        assert_eq!(rig.send(&frames)[0], frames, "{kind}");
        assert_eq!(rig.counter("plain"), 4);
        let mut rig = Rig::new(kind, &[&more[..], &[("plain", text("drop"))]].concat());
        assert_eq!(rig.send(&frames)[0].len(), 0, "{kind}");
        assert_eq!(rig.dropped(DropReason::NotEncapsulated), 4);
    }
}

#[test]
fn other_versions_and_forms_are_refused_by_name() {
    let key = key("version");
    let sealed = encrypt(&key, &[]).send(&[udp4(1, &[1; 20])]).remove(0).remove(0);
    for (mask, reason) in [(0x30, DropReason::EncapsulationVersion), (0x0f, DropReason::EncapsulationVersion)] {
        let mut rig = decrypt(&key, &[]);
        let mut changed = sealed.clone();
        changed[15] ^= mask;
        assert_eq!(rig.send(&[changed])[0].len(), 0);
        assert_eq!(rig.dropped(reason), 1, "{mask:#x}");
    }
    let header = |form: u8, content: u16, here: u16| {
        let lengths = [content.to_be_bytes(), here.to_be_bytes()].concat();
        ethernet(0x88b6, &[&[0x77, 0x10 | form, 0, 0][..], &lengths, &[8, 0, 1, 2]].concat())
    };
    for (frame, reason) in [
        (header(2, 4, 4), DropReason::EncapsulationVersion),
        (header(0, 5, 4), DropReason::DecompressCorrupt),
        (header(0, 1, 1), DropReason::DecompressCorrupt),
        (header(1, 9, 4), DropReason::DecompressCorrupt),
        (header(0, 5, 5), DropReason::EncapsulationTruncated),
        (header(1, 9999, 4), DropReason::DecompressTooBig),
    ] {
        let mut rig = Rig::new("decompress", &[]);
        assert_eq!(rig.send(&[&frame])[0].len(), 0);
        assert_eq!(rig.dropped(reason), 1, "{frame:02x?}");
    }
}

#[test]
fn a_small_frame_that_would_become_huge_is_refused() {
    // An LZ4 block: one literal, then 65,534 times the same byte.
    let mut block = vec![0x1f, 0, 1, 0];
    block.extend([255; 256]);
    block.extend([235, 0]);
    let frame = ethernet(0x88b6, &[&[0x77, 0x11, 0, 0, 0xff, 0xff, 1, 6][..], &block].concat());
    let mut rig = Rig::new("decompress", &[]);
    assert_eq!(rig.send(&[&frame])[0].len(), 0);
    assert_eq!(rig.dropped(DropReason::DecompressTooBig), 1);
    let mut generous = Rig::new("decompress", &[("frame_max", Value::Integer(65_535))]);
    let out = generous.send(&[frame]);
    assert!(out[0].iter().all(|packet| packet.len() <= 65_535));
    assert_eq!(out[0].len() as u64 + generous.ledger.total(), 1);
}

#[test]
fn frames_that_do_not_shrink_travel_as_they_are() {
    let mut rig = Rig::new("compress", &[]);
    let noise = noise(1000);
    let frames = [udp4(1, &[0; 40]), udp4(1, &noise), udp4(1, &[0; 1000])];
    let out = rig.send(&frames).remove(0);
    assert_eq!([rig.counter("stored"), rig.counter("compressed")], [2, 1]);
    for (out, frame) in out.iter().zip(&frames[..2]) {
        assert_eq!(out[22..], frame[12..]);
    }
    assert!(out[2].len() < 100, "{}", out[2].len());
}

/// Names, kernel indices and MTUs.
fn ports(ports: &[(&str, u32, u32)]) -> Vec<PortEntry> {
    let entry = |&(name, ifindex, mtu): &(&str, u32, u32)| PortEntry {
        name: name.into(),
        ifindex,
        mtu,
        ..PortEntry::default()
    };
    ports.iter().map(entry).collect()
}

/// Ports `in` (index 0, MTU 1500) and `out` (index 1, MTU 1540), forwarded by workers or in the kernel.
fn surroundings(place: Place) -> (Services, Arc<ForwardingPlane>) {
    let ports = ports(&[("in", 1, 1500), ("out", 2, 1540)]);
    let (_, reader) = tailwater_fib::new(tailwater_fib::Limits::default()).unwrap();
    let plane = Arc::new(ForwardingPlane::new(reader, ports, HashKey::new(1, 2)).unwrap());
    let mut services = Services::default();
    services.insert(Arc::clone(&plane));
    services.insert(Arc::new(PortNames(vec!["in".into(), "out".into()])));
    services.insert(Arc::new(Surroundings { place, shared: None }));
    (services, plane)
}

#[test]
fn only_frames_for_the_named_port_are_encapsulated_and_only_if_its_link_carries_them() {
    let key = key("port");
    let (services, _plane) = surroundings(Place::User);
    for (kind, overhead, more) in
        [("encrypt", ENCRYPT_LEN, vec![("key_file", key.value())]), ("compress", COMPRESS_LEN, vec![])]
    {
        let parameters = [&more[..], &[("port", text("out"))]].concat();
        let mut rig = Rig::with_services(kind, &parameters, 512, &services);
        let noise = noise(2000);
        let mut batch = Batch::default();
        let room = 1540 - overhead;
        // 28 bytes of headers.
        for (port, len) in [(0, 100), (1, 100), (1, room - 28), (1, room - 27)] {
            let mut frame = rig.frame(&udp4(1, &noise[..len]));
            frame.set_port(port);
            batch.push(frame);
        }
        let out = rig.turn(batch).remove(0);
        let lens: Vec<usize> = out.iter().map(Vec::len).collect();
        assert_eq!(lens, [142, 142 + overhead, 1540 + 14], "{kind}");
        assert_eq!((rig.dropped(DropReason::PacketTooBig), rig.counter("passed")), (1, 1), "{kind}");
    }
}

#[test]
fn a_port_that_leaves_and_comes_back_is_followed_and_who_takes_its_place_is_left_alone() {
    let key = key("follow");
    let (services, plane) = surroundings(Place::User);
    let parameters = [("key_file", key.value()), ("port", text("out"))];
    let mut rig = Rig::with_services("encrypt", &parameters, 512, &services);
    let mut sealed = |links: &[(&str, u32, u32)]| {
        plane.publish_ports(ports(links));
        let mut batch = Batch::default();
        for port in 0..3 {
            let mut frame = rig.frame(&udp4(1, &[1; 20]));
            frame.set_port(port);
            batch.push(frame);
        }
        let out = rig.turn(batch).remove(0);
        out.iter().map(|frame| frame[12..14] == ENCRYPTED.to_be_bytes()).collect::<Vec<_>>()
    };
    assert_eq!(sealed(&[("in", 1, 1500), ("out", 2, 1540)]), [false, true, false]);
    assert_eq!(sealed(&[("in", 1, 1500), ("renamed", 2, 1540)]), [false, true, false], "the same interface");
    assert_eq!(sealed(&[("in", 1, 1500), ("other", 3, 1540)]), [false; 3]);
    assert_eq!(sealed(&[("in", 1, 1500), ("other", 3, 1540), ("out", 4, 1540)]), [false, false, true]);
    assert_eq!(sealed(&[("out", 4, 1500), ("other", 3, 1540)]), [true, false, false]);
}

#[test]
fn where_packets_pass_by_in_the_kernel_pairs_are_refused_with_the_way_out() {
    let key = key("kernel");
    let (services, _plane) = surroundings(Place::Kernel);
    let with_key = vec![("key_file", key.value())];
    for (kind, parameters) in
        [("encrypt", with_key.clone()), ("decrypt", with_key), ("compress", vec![]), ("decompress", vec![])]
    {
        let built = rig::build_with(kind, &parameters, &Registry::builtin(), &services);
        let error = built.err().expect("refused").to_string();
        assert!(error.contains("--place user"), "{kind}: {error}");
    }
}

#[test]
fn parameters_that_cannot_be_are_refused_with_what_would_be_right() {
    let (good, short) = (key("good"), KeyFile::new("short", &[1; 31]));
    let (services, _plane) = surroundings(Place::User);
    let refusal = |kind: &str, parameters: &[(&str, Value)]| {
        rig::build_with(kind, parameters, &Registry::builtin(), &services).err().expect("refused").to_string()
    };
    for kind in ["encrypt", "decrypt"] {
        assert!(refusal(kind, &[]).contains("key_file"));
        assert!(refusal(kind, &[("key_file", short.value())]).contains("31 bytes"));
    }
    let with = |key, value| [("key_file", good.value()), (key, text(value))];
    assert!(refusal("encrypt", &with("cipher", "rot13")).contains("chacha20-poly1305"));
    assert!(refusal("encrypt", &with("port", "eth9")).contains("in, out"));
    assert!(refusal("encrypt", &with("flow_key", "12")).contains("32 hexadecimal"));
    assert!(refusal("decrypt", &with("plain", "maybe")).contains("pass or drop"));
}

#[test]
fn flow_bits_are_those_of_the_receivers_hash() {
    let (key, hash_key) = (key("flow"), HashKey::new(0x1234, 0x9e37_79b9_7f4a_7c15));
    let parameters = [("flow_key", text(&hash_key.to_hex()))];
    let flow = FlowKey::v4([10, 1, 0, 2].into(), 1234, [10, 1, 0, 1].into(), 53, 17);
    let expected = (flow_hash(&hash_key, &flow) as u16).to_be_bytes();
    let frame = udp4(53, &[1; 200]);
    let tag = [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat();
    for mut rig in [encrypt(&key, &parameters), Rig::new("compress", &parameters)] {
        let out = rig.send(&[&frame, &tag]).remove(0);
        assert_eq!((&out[0][16..18], &out[1][20..22]), (&expected[..], &expected[..]));
        assert_eq!(out[1][12..16], tag[12..16], "the tag stays outside");
    }
}

#[test]
fn after_the_first_frames_nothing_is_allocated() {
    let key = key("allocations");
    let packets: Vec<Vec<u8>> = [20, 200, 1400, 4000, 8900].map(|len| udp4(1, &vec![3; len])).to_vec();
    let mut rigs = [
        encrypt(&key, &[("cipher", text("chacha20-poly1305"))]),
        encrypt(&key, &[("cipher", text("aes-256-gcm"))]),
        Rig::new("compress", &[]),
    ];
    let mut receivers = [decrypt(&key, &[]), decrypt(&key, &[]), Rig::new("decompress", &[])];
    for (sender, receiver) in rigs.iter_mut().zip(&mut receivers) {
        for round in 0..4 {
            let frames = quietly(sender, &packets, round > 1);
            assert_eq!(quietly(receiver, &frames, round > 1), packets);
        }
    }
}

/// One turn with these packets; with `check`, the graph must not allocate in it.
fn quietly(rig: &mut Rig, packets: &[Vec<u8>], check: bool) -> Vec<Vec<u8>> {
    let mut batch = Batch::default();
    for packet in packets {
        batch.push(rig.frame(packet));
    }
    let (out, allocations) = rig.turn_counting(batch, || ALLOCATIONS.with(Cell::get));
    assert!(!check || allocations == 0, "{allocations} allocations");
    out.into_iter().next().unwrap()
}
