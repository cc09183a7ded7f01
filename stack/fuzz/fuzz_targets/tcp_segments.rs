//! Segments of any flags, numbers near the right ones, options and text, into a live connection: nothing panics, every
//! packet is accounted for, and what the application reads was sent.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tailwater_stack::tcp::{ConnectionId, Listen, TcpEvent};
use tailwater_stack::testing::{TestEnv, VecBuffer, mac};
use tailwater_stack::wire::tcp::{TcpSend, flag};
use tailwater_stack::{Cidr, Config, InterfaceConfig, InterfaceId, Stack, checksum};

const OURS: [u8; 4] = [192, 0, 2, 1];
const PEER: [u8; 4] = [192, 0, 2, 2];
const START: u32 = 1_000;

fuzz_target!(|script: &[u8]| {
    let mut config = Config::default();
    (config.tcp.connections_max, config.tcp.buffers_max) = (4, 64);
    let mut stack = Stack::new(config, 1);
    let port = stack.add_interface(InterfaceConfig::exclusive(mac(1), 1500));
    stack.add_address(port, Cidr::new(OURS, 24).unwrap()).unwrap();
    let mut env = TestEnv { pool: 10_000, ..TestEnv::default() };
    env.now = env.now + Duration::from_secs(1);
    stack.set_neighbour(port, PEER.into(), mac(2), &mut env);
    stack.tcp_listen("0.0.0.0:80".parse().unwrap(), Listen::default()).unwrap();
    let mut world = World { stack, env, id: None, snd: 0, rcv: START };
    world.step(&[0, 0, 0, 0, flag::SYN, 0, 0, 0]);
    world.learn();
    world.step(&[1, 0, 0, 0, flag::ACK, 0, 0, 0]);
    for record in script.chunks(12) {
        world.step(record);
        world.learn();
        world.act(record);
    }
    world.env.transmitted.clear();
    world.stack.tcp_forget_all(&mut world.env);
    assert_eq!(world.stack.held(), 0);
    assert!(world.stack.ledger().is_balanced(0), "{:?}", world.stack.ledger());
});

struct World {
    stack: Stack<VecBuffer>,
    env: TestEnv,
    id: Option<ConnectionId>,
    /// What we last sent, and what we acknowledged.
    snd: u32,
    rcv: u32,
}

impl World {
    /// A record's bytes: offset of the sequence number (2), of the acknowledgement (2), flags, length of the text, kind of
    /// option, window.
    fn step(&mut self, record: &[u8]) {
        let at = |n: usize| record.get(n).copied().unwrap_or(0);
        let offset = |high: u8, low: u8| i32::from(i16::from_be_bytes([high, low]));
        let seq = self.rcv.wrapping_add_signed(offset(at(0) & !1, at(1)) + i32::from(at(0) & 1));
        let ack = self.snd.wrapping_add_signed(offset(at(2), at(3)));
        let mut options = vec![];
        match at(6) & 7 {
            1 => {
                options.extend([1, 1, 5, 10]);
                options.extend(ack.wrapping_add(u32::from(at(8))).to_be_bytes());
                options.extend(ack.wrapping_add(u32::from(at(9)) * 16).to_be_bytes());
            }
            2 => options.extend([2, 4, at(8), at(9)]),
            3 => options.extend([1, 3, 3, at(8), 1, 1, 4, 2]),
            4 => options.extend([at(8), at(9), at(10), at(11)]),
            _ => {}
        }
        let text: Vec<u8> = (0..u32::from(at(5)) * 8).map(|n| pattern(seq.wrapping_add(n))).collect();
        let header = TcpSend {
            source_port: 5_000,
            destination_port: 80,
            seq,
            ack,
            flags: at(4),
            window: u16::from(at(7)) << 8,
            options_len: options.len(),
        };
        let frame = frame(&header, &options, &text);
        let _ = self.stack.ingest(InterfaceId(0), VecBuffer::from_bytes(&frame), &mut self.env);
        assert!(self.stack.ledger().is_balanced(self.stack.held()), "{:?}", self.stack.ledger());
        while let Some(event) = self.stack.tcp_poll() {
            if let TcpEvent::Accepted { connection, .. } = event {
                self.id = Some(connection);
            }
        }
    }

    /// Numbers near which segments make sense.
    fn learn(&mut self) {
        while let Some(frame) = self.env.sent() {
            let number = |at: usize| frame.get(at..at + 4).map_or(0, |b| u32::from_be_bytes(b.try_into().unwrap()));
            self.snd = number(14 + 20 + 4).wrapping_add(1);
            self.rcv = number(14 + 20 + 8);
        }
    }

    /// The application and the clock do something.
    fn act(&mut self, record: &[u8]) {
        let Some(id) = self.id else { return };
        match record.last().copied().unwrap_or(0) % 16 {
            0 => drop(self.stack.tcp_send(id, &[7; 3_000], &mut self.env)),
            1 | 2 => {
                if let Ok(Some(text)) = self.stack.tcp_receive(id, &mut self.env) {
                    assert!(!text.to_vec().is_empty());
                }
            }
            3 => drop(self.stack.tcp_shutdown(id, &mut self.env)),
            4 => drop(self.stack.tcp_close(id, &mut self.env)),
            n => self.env.advance(Duration::from_millis(1 << n)),
        }
        self.stack.on_timeout(&mut self.env);
        assert!(self.stack.ledger().is_balanced(self.stack.held()), "{:?}", self.stack.ledger());
    }
}

fn pattern(seq: u32) -> u8 {
    (seq ^ seq >> 8) as u8
}

fn frame(header: &TcpSend, options: &[u8], text: &[u8]) -> Vec<u8> {
    let bytes = header.header();
    let mut fixed = vec![];
    fixed.extend(bytes.source_port.get().to_be_bytes());
    fixed.extend(bytes.destination_port.get().to_be_bytes());
    fixed.extend(bytes.seq.get().to_be_bytes());
    fixed.extend(bytes.ack.get().to_be_bytes());
    fixed.extend([bytes.data_offset, bytes.flags]);
    fixed.extend(bytes.window.get().to_be_bytes());
    fixed.extend([0; 4]);
    let mut segment = [&fixed, options, text].concat();
    let sum = checksum::Sum::pseudo_v4(PEER.into(), OURS.into(), 6, segment.len()).with(&segment).checksum();
    segment[16..18].copy_from_slice(&sum);
    let len = (20 + segment.len()) as u16;
    let mut ip = [&[0x45, 0][..], &len.to_be_bytes(), &[0, 0, 0x40, 0, 64, 6, 0, 0], &PEER, &OURS].concat();
    let sum = checksum::of(&ip);
    ip[10..12].copy_from_slice(&sum);
    [&mac(1).0[..], &mac(2).0, &[8, 0], &ip, &segment].concat()
}
