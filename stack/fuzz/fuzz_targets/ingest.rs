//! A sequence of frames and waits into one host that echoes what it gets.
//!
//! Input: records of a length byte and as many bytes; length 0 waits for the next deadline. Each
//! frame gets our MAC address, and its IPv4 checksum is mended half of the time.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tailwater_stack::testing::{TestEnv, VecBuffer, mac};
use tailwater_stack::{Cidr, Config, Env, InterfaceConfig, Stack, Verdict, checksum};

fuzz_target!(|bytes: &[u8]| {
    let mut stack = Stack::new(Config::default(), 1);
    let mut env = TestEnv::default();
    let port = stack.add_interface(InterfaceConfig::exclusive(mac(1), 1500));
    stack.add_address(port, Cidr::new([192, 0, 2, 1], 24).unwrap()).unwrap();
    stack.add_address(port, Cidr::new([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 64).unwrap()).unwrap();
    stack.udp_bind("0.0.0.0:7".parse().unwrap(), None).unwrap();
    stack.udp_bind("[::]:7".parse().unwrap(), None).unwrap();
    stack.echo_open(9);
    let mut rest = bytes;
    while let Some((&len, after)) = rest.split_first() {
        let (record, after) = after.split_at(usize::from(len).min(after.len()));
        rest = after;
        if record.is_empty() {
            env.now = stack.poll_timeout().unwrap_or(env.now);
            stack.on_timeout(&mut env);
        } else {
            let verdict = stack.ingest(port, VecBuffer::from_bytes(&frame(record)), &mut env);
            match verdict {
                Verdict::Datagram(datagram) => drop(stack.udp_reply(datagram, &mut env)),
                Verdict::EchoReply(reply) => env.release(reply.into_buffer()),
                _ => {}
            }
        }
        env.transmitted.clear();
        env.discarded.clear();
        while stack.poll_event().is_some() {}
        assert!(stack.ledger().is_balanced(stack.held()), "{:?}", stack.ledger());
    }
});

/// The first byte chooses what is mended, the rest is the frame.
fn frame(record: &[u8]) -> Vec<u8> {
    let (&choice, body) = record.split_first().unwrap();
    let kind = [[0x08, 0x00], [0x86, 0xdd], [0x08, 0x06], [0x81, 0x00]][usize::from(choice & 3)];
    let mut frame = [&mac(1).0[..], &mac(2).0, &kind, body].concat();
    let ip = &mut frame[14..];
    if choice & 4 != 0 && ip.len() >= 20 {
        match choice & 3 {
            0 => {
                ip[0] = 0x45;
                let len = ip.len() as u16;
                ip[2..4].copy_from_slice(&len.to_be_bytes());
                ip[12..20].copy_from_slice(&[192, 0, 2, 2, 192, 0, 2, 1]);
                ip[10..12].fill(0);
                let sum = checksum::of(&ip[..20]);
                ip[10..12].copy_from_slice(&sum);
            }
            1 if ip.len() >= 40 => {
                ip[0] = 0x60;
                let len = ip.len() as u16 - 40;
                ip[4..6].copy_from_slice(&len.to_be_bytes());
                ip[8..40].fill(0);
                for at in [8, 24] {
                    ip[at..at + 4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
                }
                ip[23] = 2;
                ip[39] = 1;
            }
            _ => {}
        }
    }
    frame
}
