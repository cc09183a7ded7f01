//! Segments of any flags, numbers near the right ones, options and text, into a live connection: nothing panics, every
//! packet is accounted for, and what the application reads is what belongs at its place in the stream.
//!
//! The first byte chooses: IPv6, SYN cookies, timestamps. The rest are records of twelve bytes, a segment each.

#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tailwater_stack::tcp::{ConnectionId, Listen, SynCookies, TcpEvent};
use tailwater_stack::testing::{TestEnv, VecBuffer, mac};
use tailwater_stack::wire::tcp::{TcpSend, flag};
use tailwater_stack::wire::tcp_option::find;
use tailwater_stack::{Cidr, Config, InterfaceConfig, InterfaceId, Stack, checksum};

const START: u32 = 1_000;
const TIMESTAMPS: u8 = 8;

fuzz_target!(|script: &[u8]| {
    let Some((&choice, script)) = script.split_first() else { return };
    let mut world = World::new(choice);
    world.step(&[0, 0, 0, 0, flag::SYN, 0, 0, 0]);
    world.learn();
    world.step(&[0, 0, 0, 0, flag::ACK, 0, 0, 0]);
    assert!(world.id.is_some(), "the handshake is an honest one");
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
    ours: IpAddr,
    peer: IpAddr,
    cookies: bool,
    /// Every segment has them; the last that came is echoed.
    timestamps: Option<u32>,
    id: Option<ConnectionId>,
    /// What we last sent, and what we acknowledged.
    snd: u32,
    rcv: u32,
    /// The first byte of the stream that the last SYN,ACK let begin.
    begins: u32,
    /// Number of the byte that the application reads next.
    read: u32,
}

impl World {
    fn new(choice: u8) -> Self {
        let (v6, cookies) = (choice & 1 != 0, choice & 2 != 0);
        let mut config = Config::default();
        (config.tcp.connections_max, config.tcp.buffers_max) = (4, 64);
        config.tcp.syn_cookies = if cookies { SynCookies::Always } else { SynCookies::Never };
        let mut stack = Stack::new(config, 1);
        let port = stack.add_interface(InterfaceConfig::exclusive(mac(1), 1500));
        let address = |last: u8| match v6 {
            true => IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into())),
            false => Ipv4Addr::new(192, 0, 2, last).into(),
        };
        let (ours, peer) = (address(1), address(2));
        stack.add_address(port, Cidr::new(ours, if v6 { 64 } else { 24 }).unwrap()).unwrap();
        let mut env = TestEnv { pool: 10_000, ..TestEnv::default() };
        env.now = env.now + Duration::from_secs(1);
        stack.set_neighbour(port, peer, mac(2), &mut env);
        let any = if v6 { "[::]:80" } else { "0.0.0.0:80" };
        stack.tcp_listen(any.parse().unwrap(), Listen::default()).unwrap();
        let timestamps = (choice & 4 != 0).then_some(0);
        Self { stack, env, ours, peer, cookies, timestamps, id: None, snd: 0, rcv: START, begins: 0, read: 0 }
    }

    /// A record's bytes: offset of the sequence number (2), of the acknowledgement (2), flags, length of the text, kind of
    /// option, window.
    fn step(&mut self, record: &[u8]) {
        let at = |n: usize| record.get(n).copied().unwrap_or(0);
        let offset = |high: u8, low: u8| i32::from(i16::from_be_bytes([high, low]));
        let seq = self.rcv.wrapping_add_signed(offset(at(0) & !1, at(1)) + i32::from(at(0) & 1));
        let ack = self.snd.wrapping_add_signed(offset(at(2), at(3)));
        let mut options = vec![];
        if let Some(echo) = self.timestamps {
            let late = if at(6) & 7 == 5 { u32::from(at(8)) } else { 0 };
            let clock = START + (self.env.now.as_nanos() / 1_000_000) as u32;
            options.extend([1, 1, TIMESTAMPS, 10]);
            options.extend(clock.wrapping_sub(late).to_be_bytes());
            options.extend(echo.to_be_bytes());
        }
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
        // Whoever sends a byte, at its number it is the same: so what is read must be right whatever was forged.
        let text_at = seq.wrapping_add(u32::from(at(4) & flag::SYN != 0));
        let text: Vec<u8> = (0..u32::from(at(5)) * 8).map(|n| pattern(text_at.wrapping_add(n))).collect();
        let header = TcpSend {
            source_port: 5_000,
            destination_port: 80,
            seq,
            ack,
            flags: at(4),
            window: u16::from(at(7)) << 8,
            options_len: options.len(),
        };
        let frame = self.frame(&header, &options, &text);
        let _ = self.stack.ingest(InterfaceId(0), VecBuffer::from_bytes(&frame), &mut self.env);
        assert!(self.stack.ledger().is_balanced(self.stack.held()), "{:?}", self.stack.ledger());
        while let Some(event) = self.stack.tcp_poll() {
            if let TcpEvent::Accepted { connection, .. } = event {
                self.id = Some(connection);
                // A cookie is worth a connection from the number on that its ACK has.
                self.read = if self.cookies { seq } else { self.begins };
            }
        }
    }

    /// Numbers near which segments make sense.
    fn learn(&mut self) {
        let tcp_at = if self.ours.is_ipv6() { 14 + 40 } else { 14 + 20 };
        while let Some(frame) = self.env.sent() {
            let Some(tcp) = frame.get(tcp_at..).filter(|tcp| tcp.len() >= 20) else { continue };
            let number = |at: usize| tcp.get(at..at + 4).map_or(0, |b| u32::from_be_bytes(b.try_into().unwrap()));
            self.snd = number(4).wrapping_add(1);
            self.rcv = number(8);
            if tcp[13] & (flag::SYN | flag::ACK) == flag::SYN | flag::ACK {
                self.begins = number(8);
            }
            let options = tcp.get(20..usize::from(tcp[12] >> 4) * 4).unwrap_or_default();
            let theirs = find(options, TIMESTAMPS).and_then(|body| body.first_chunk::<4>());
            if let (Some(echo), Some(&theirs)) = (&mut self.timestamps, theirs) {
                *echo = u32::from_be_bytes(theirs);
            }
        }
    }

    /// The application and the clock do something.
    fn act(&mut self, record: &[u8]) {
        let Some(id) = self.id else { return };
        match record.last().copied().unwrap_or(0) % 16 {
            0 => drop(self.stack.tcp_send(id, &[7; 3_000], &mut self.env)),
            1 | 2 => {
                if let Ok(Some(text)) = self.stack.tcp_receive(id, &mut self.env) {
                    let text = text.to_vec();
                    assert!(!text.is_empty());
                    for byte in text {
                        assert_eq!(byte, pattern(self.read), "at {}", self.read);
                        self.read = self.read.wrapping_add(1);
                    }
                }
            }
            3 => drop(self.stack.tcp_shutdown(id, &mut self.env)),
            4 => drop(self.stack.tcp_close(id, &mut self.env)),
            n => self.env.advance(Duration::from_millis(1 << n)),
        }
        self.stack.on_timeout(&mut self.env);
        assert!(self.stack.ledger().is_balanced(self.stack.held()), "{:?}", self.stack.ledger());
    }

    fn frame(&self, header: &TcpSend, options: &[u8], text: &[u8]) -> Vec<u8> {
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
        let len = segment.len();
        let (sum, ethertype, ip) = match (self.peer, self.ours) {
            (IpAddr::V6(peer), IpAddr::V6(ours)) => {
                let ends = [peer.octets(), ours.octets()].concat();
                let ip = [&[0x60, 0, 0, 0], &(len as u16).to_be_bytes()[..], &[6, 64], &ends].concat();
                (checksum::Sum::pseudo_v6(peer, ours, 6, len), [0x86, 0xdd], ip)
            }
            (IpAddr::V4(peer), IpAddr::V4(ours)) => {
                let ends = [peer.octets(), ours.octets()].concat();
                let total = (20 + len) as u16;
                let mut ip = [&[0x45, 0][..], &total.to_be_bytes(), &[0, 0, 0x40, 0, 64, 6, 0, 0], &ends].concat();
                let sum = checksum::of(&ip);
                ip[10..12].copy_from_slice(&sum);
                (checksum::Sum::pseudo_v4(peer, ours, 6, len), [8, 0], ip)
            }
            _ => unreachable!(),
        };
        let sum = sum.with(&segment).checksum();
        segment[16..18].copy_from_slice(&sum);
        [&mac(1).0[..], &mac(2).0, &ethertype, &ip, &segment].concat()
    }
}

/// The byte at this number.
fn pattern(seq: u32) -> u8 {
    (seq ^ seq >> 8) as u8
}
