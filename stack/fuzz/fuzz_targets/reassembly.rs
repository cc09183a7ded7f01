//! Any sequence of fragments. Every fragment carries what belongs at its offset, so whatever is
//! delivered must read as the whole does.
//!
//! Input: records of four bytes: offset (in 8 bytes), length (in 8 bytes), flags, wait.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tailwater_stack::testing::{TestEnv, VecBuffer, mac};
use tailwater_stack::{Cidr, Config, Env, InterfaceConfig, ReassemblyLimits, Stack, Verdict, checksum};

const BUFFERS_MAX: usize = 20;

fuzz_target!(|bytes: &[u8]| {
    let reassembly = ReassemblyLimits {
        datagrams_max: 4,
        fragments_max: 12,
        buffers_max: BUFFERS_MAX,
        bytes_max: 4_000,
        ..ReassemblyLimits::default()
    };
    let mut stack = Stack::new(Config { reassembly, ..Config::default() }, 1);
    let mut env = TestEnv::default();
    let port = stack.add_interface(InterfaceConfig::exclusive(mac(1), 1500));
    stack.add_address(port, Cidr::new([192, 0, 2, 1], 24).unwrap()).unwrap();
    stack.udp_bind("0.0.0.0:7".parse().unwrap(), None).unwrap();
    for record in bytes.chunks_exact(4) {
        let &[offset, len, flags, wait] = record else { unreachable!() };
        let offset = usize::from(offset) * 8;
        let len = usize::from(len % 32) * 8 + if flags & 1 == 0 { usize::from(flags >> 5) } else { 0 };
        let frame = fragment(offset, len, flags & 1 != 0, u16::from(flags >> 1 & 7));
        if let Verdict::Datagram(datagram) = stack.ingest(port, VecBuffer::from_bytes(&frame), &mut env) {
            let payload = datagram.payload_pieces().flatten().copied();
            assert!(payload.enumerate().all(|(at, byte)| byte == pattern(at + 8)), "not what was sent");
            env.release(datagram.into_buffer());
        }
        env.now = env.now + Duration::from_millis(u64::from(wait) * 100);
        stack.on_timeout(&mut env);
        env.transmitted.clear();
        env.discarded.clear();
        assert!(stack.held() <= BUFFERS_MAX);
        assert!(stack.ledger().is_balanced(stack.held()));
    }
});

/// UDP length by identification, so that a whole datagram is looked at in full.
fn udp_len(ident: u16) -> u16 {
    [8, 16, 64, 100, 256, 500, 1_000, 2_000][usize::from(ident & 7)]
}

/// The byte at `at` of a datagram: the UDP header (no checksum), then a pattern.
fn content(at: usize, ident: u16) -> u8 {
    match at {
        0..4 => [0x13, 0x88, 0, 7][at],
        4 | 5 => udp_len(ident).to_be_bytes()[at - 4],
        6 | 7 => 0,
        _ => pattern(at),
    }
}

fn pattern(at: usize) -> u8 {
    (at * 7 % 251) as u8
}

fn fragment(offset: usize, len: usize, more: bool, ident: u16) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend((20 + len as u16).to_be_bytes());
    ip.extend(ident.to_be_bytes());
    ip.extend(((offset / 8) as u16 | if more { 0x2000 } else { 0 }).to_be_bytes());
    ip.extend([64, 17, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1]);
    let sum = checksum::of(&ip);
    ip[10..12].copy_from_slice(&sum);
    let payload = (offset..offset + len).map(|at| content(at, ident));
    [&mac(1).0[..], &mac(2).0, &[8, 0], &ip].concat().into_iter().chain(payload).collect()
}
