//! One host under test, and a peer that says what the test makes it say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use etherparse::{PacketBuilder, TcpHeader, TcpOptionElement};
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpAddress, Ipv4Packet, Ipv6Packet, TcpPacket};
use tailwater_stack::tcp::{Connect, ConnectionId, Listen, ListenerId, TcpEvent};
use tailwater_stack::testing::{TestEnv, VecBuffer, mac};
use tailwater_stack::{Cidr, Config, DropReason, InterfaceConfig, InterfaceId, Stack, Verdict};

pub const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub const OURS_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub const PEER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
pub const PORT: u16 = 80;
pub const PEER_PORT: u16 = 5_000;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;
pub const URG: u8 = 32;
pub const ECE: u8 = 64;
pub const CWR: u8 = 128;

/// A segment as the test writes it, and as it reads it back.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    pub text: Vec<u8>,
    pub mss: Option<u16>,
    pub scale: Option<u8>,
    pub sack_permitted: bool,
    pub timestamps: Option<(u32, u32)>,
    pub sack: Vec<(u32, u32)>,
    /// Instead of all these options, bytes as nobody else would write them.
    pub raw_options: Vec<u8>,
    /// ECN field of the IP header.
    pub ecn: u8,
    pub port: u16,
}

pub fn seg(flags: u8, seq: u32, ack: u32) -> Segment {
    Segment { flags, seq, ack, window: 65_535, port: PEER_PORT, ..Segment::default() }
}

impl Segment {
    pub fn text(mut self, text: &[u8]) -> Self {
        self.text = text.to_vec();
        self
    }

    pub fn window(mut self, window: u16) -> Self {
        self.window = window;
        self
    }

    pub fn sack(mut self, blocks: &[(u32, u32)]) -> Self {
        self.sack = blocks.to_vec();
        self
    }

    pub fn ts(mut self, value: u32, echo: u32) -> Self {
        self.timestamps = Some((value, echo));
        self
    }

    pub fn raw_options(mut self, options: &[u8]) -> Self {
        self.raw_options = options.to_vec();
        self
    }

    pub fn via(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    fn options(&self) -> Vec<TcpOptionElement> {
        let mut options = Vec::new();
        options.extend(self.mss.map(TcpOptionElement::MaximumSegmentSize));
        options.extend(self.scale.map(TcpOptionElement::WindowScale));
        if self.sack_permitted {
            options.push(TcpOptionElement::SelectiveAcknowledgementPermitted);
        }
        if let Some((value, echo)) = self.timestamps {
            options.push(TcpOptionElement::Timestamp(value, echo));
        }
        if let Some((first, rest)) = self.sack.split_first() {
            let mut others = [None; 3];
            for (to, from) in others.iter_mut().zip(rest) {
                *to = Some(*from);
            }
            options.push(TcpOptionElement::SelectiveAcknowledgement(*first, others));
        }
        options
    }

    /// The frame that carries it to our host.
    pub fn frame(&self, to_port: u16) -> Vec<u8> {
        self.frame_over(false, to_port)
    }

    pub fn frame_over(&self, v6: bool, to_port: u16) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2(mac(2).0, mac(1).0);
        let builder = match v6 {
            true => builder.ipv6(PEER_V6.octets(), OURS_V6.octets(), 64),
            false => builder.ipv4(PEER.octets(), OURS.octets(), 64),
        };
        let mut header = TcpHeader::new(self.port, to_port, self.seq, self.window);
        header.acknowledgment_number = self.ack;
        (header.fin, header.syn, header.rst) = (self.flags & FIN != 0, self.flags & SYN != 0, self.flags & RST != 0);
        (header.psh, header.ack, header.urg) = (self.flags & PSH != 0, self.flags & ACK != 0, self.flags & URG != 0);
        (header.ece, header.cwr) = (self.flags & ECE != 0, self.flags & CWR != 0);
        header.urgent_pointer = u16::from(header.urg);
        header.set_options(&self.options()).unwrap();
        if !self.raw_options.is_empty() {
            header.set_options_raw(&self.raw_options).unwrap();
        }
        let mut frame = Vec::new();
        builder.tcp_header(header).write(&mut frame, &self.text).unwrap();
        if v6 {
            frame[15] |= self.ecn << 4;
        } else {
            frame[15] |= self.ecn;
            Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
        }
        frame
    }

    /// What a frame of our host says; panics unless smoltcp finds it right.
    pub fn read(frame: &[u8]) -> Self {
        let ethernet = EthernetFrame::new_checked(frame).expect("ethernet");
        let (source, destination, segment, ecn): (IpAddress, IpAddress, _, _) = match ethernet.ethertype() {
            EthernetProtocol::Ipv6 => {
                let ip = Ipv6Packet::new_checked(ethernet.payload()).expect("ipv6");
                (ip.src_addr().into(), ip.dst_addr().into(), ip.payload(), frame[15] >> 4 & 3)
            }
            _ => {
                let ip = Ipv4Packet::new_checked(ethernet.payload()).expect("ipv4");
                assert!(ip.verify_checksum());
                assert!(ip.dont_frag() && !ip.more_frags(), "TCP is never fragmented");
                (ip.src_addr().into(), ip.dst_addr().into(), ip.payload(), frame[15] & 3)
            }
        };
        let tcp = TcpPacket::new_checked(segment).expect("tcp");
        assert!(tcp.verify_checksum(&source, &destination), "tcp checksum");
        let flags = segment[13];
        let mut read = Self {
            flags,
            seq: tcp.seq_number().0 as u32,
            ack: if tcp.ack() { tcp.ack_number().0 as u32 } else { 0 },
            window: tcp.window_len(),
            text: tcp.payload().to_vec(),
            ecn,
            port: tcp.dst_port(),
            ..Self::default()
        };
        let header = etherparse::TcpSlice::from_slice(segment).unwrap();
        for option in header.options_iterator() {
            match option.expect("option") {
                TcpOptionElement::MaximumSegmentSize(mss) => read.mss = Some(mss),
                TcpOptionElement::WindowScale(scale) => read.scale = Some(scale),
                TcpOptionElement::SelectiveAcknowledgementPermitted => read.sack_permitted = true,
                TcpOptionElement::Timestamp(value, echo) => read.timestamps = Some((value, echo)),
                TcpOptionElement::SelectiveAcknowledgement(first, rest) => {
                    read.sack = std::iter::once(first).chain(rest.into_iter().flatten()).collect();
                }
                TcpOptionElement::Noop => {}
            }
        }
        read
    }
}

pub struct Host {
    pub stack: Stack<VecBuffer>,
    pub env: TestEnv,
    pub events: Vec<TcpEvent>,
    /// What it says goes over IPv6.
    v6: bool,
    /// What a segment's numbers are more on the wire than in the test: the peer's, and ours.
    shifts: [u32; 2],
    given: usize,
    taken: usize,
}

impl Host {
    pub fn new() -> Self {
        Self::with(Config::default())
    }

    pub fn with(config: Config) -> Self {
        Self::with_config_and_secret(config, 7)
    }

    pub fn with_secret(secret: u64) -> Self {
        Self::with_config_and_secret(Config::default(), secret)
    }

    fn with_config_and_secret(config: Config, secret: u64) -> Self {
        let mut stack = Stack::new(config, secret);
        let port = stack.add_interface(InterfaceConfig::exclusive(mac(1), 1500));
        stack.add_address(port, Cidr::new(OURS, 24).unwrap()).unwrap();
        stack.add_address(port, Cidr::new(OURS_V6, 64).unwrap()).unwrap();
        let mut env = TestEnv::default();
        env.now = env.now + Duration::from_secs(1_000);
        assert!(stack.set_neighbour(port, PEER.into(), mac(2), &mut env));
        assert!(stack.set_neighbour(port, PEER_V6.into(), mac(2), &mut env));
        Self { stack, env, events: Vec::new(), v6: false, shifts: [0; 2], given: 0, taken: 0 }
    }

    pub fn v6() -> Self {
        let mut host = Self::new();
        host.v6 = true;
        host
    }

    /// Over IPv4, and over IPv6.
    pub fn of_both_families() -> [Self; 2] {
        [Self::new(), Self::v6()]
    }

    fn peer(&self) -> IpAddr {
        if self.v6 { PEER_V6.into() } else { PEER.into() }
    }

    /// What our SYNs offer: the link's MTU without fixed headers.
    pub fn mss(&self) -> u16 {
        if self.v6 { 1_440 } else { 1_460 }
    }

    /// Without, and with the numbers of both ends passing 2^32 after 1500 bytes of what [`accept`](Self::accept) makes; the
    /// test need not know.
    pub fn of_any_numbers() -> [Self; 2] {
        const FIRST: u32 = u32::MAX - 1_499;
        let (_, plain) = Self::new().accept();
        let ours = FIRST.wrapping_sub(plain);
        let mut host = Self::new();
        // RFC 6528 §3: our numbers follow a clock with steps of 4096 ns.
        host.env.now = host.env.now.plus_nanos(u64::from(ours) << 12);
        host.shifts = [FIRST - 1_001, ours];
        [Self::new(), host]
    }

    /// As it goes over the wire.
    fn shifted(&self, segment: &Segment) -> Segment {
        Self::moved(segment.clone(), self.shifts)
    }

    /// A segment of an end whose numbers move by the first of these, the other's by the second.
    fn moved(mut segment: Segment, [own, other]: [u32; 2]) -> Segment {
        segment.seq = segment.seq.wrapping_add(own);
        if segment.has(ACK) {
            segment.ack = segment.ack.wrapping_add(other);
        }
        for (left, right) in &mut segment.sack {
            (*left, *right) = (left.wrapping_add(other), right.wrapping_add(other));
        }
        segment
    }

    pub fn listen(&mut self) -> ListenerId {
        let any = if self.v6 { Ipv6Addr::UNSPECIFIED.into() } else { IpAddr::from(Ipv4Addr::UNSPECIFIED) };
        self.stack.tcp_listen((any, PORT).into(), Listen::default()).unwrap()
    }

    pub fn connect(&mut self) -> ConnectionId {
        let remote = (self.peer(), PEER_PORT).into();
        let connect = Connect { local_port: PORT, ..Connect::to(remote) };
        self.stack.tcp_connect(connect, |_| true, &mut self.env).unwrap()
    }

    /// A segment arrives from the peer.
    pub fn get(&mut self, segment: &Segment) {
        let _ = self.frame(&self.shifted(segment).frame_over(self.v6, PORT));
    }

    /// A segment arrives that must be dropped, and says why it was.
    pub fn refusal(&mut self, segment: &Segment) -> DropReason {
        match self.frame(&self.shifted(segment).frame_over(self.v6, PORT)) {
            Verdict::Discarded(reason) => reason,
            other => panic!("not refused: {other:?}"),
        }
    }

    pub fn frame(&mut self, frame: &[u8]) -> Verdict<VecBuffer> {
        let verdict = self.frame_unnoticed(frame);
        self.collect();
        verdict
    }

    /// A frame arrives, and the application looks for no news.
    pub fn frame_unnoticed(&mut self, frame: &[u8]) -> Verdict<VecBuffer> {
        self.given += 1;
        self.stack.ingest(InterfaceId(0), VecBuffer::from_bytes(frame), &mut self.env)
    }

    /// A segment arrives in a frame of several segments, each of at most `len` bytes.
    pub fn get_segmented(&mut self, segment: &Segment, len: usize) {
        self.given += 1;
        let frame = VecBuffer::segmented(&self.shifted(segment).frame_over(self.v6, PORT), len);
        let _ = self.stack.ingest(InterfaceId(0), frame, &mut self.env);
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(event) = self.stack.tcp_poll() {
            self.events.push(event);
        }
    }

    /// The next segment sent.
    pub fn sent(&mut self) -> Option<Segment> {
        let segment = self.env.sent().map(|frame| Segment::read(&frame))?;
        let [peers, ours] = self.shifts.map(u32::wrapping_neg);
        Some(Self::moved(segment, [ours, peers]))
    }

    pub fn expect(&mut self) -> Segment {
        self.sent().expect("nothing was sent")
    }

    /// Everything sent so far.
    pub fn all(&mut self) -> Vec<Segment> {
        std::iter::from_fn(|| self.sent()).collect()
    }

    pub fn expect_nothing(&mut self) {
        let sent = self.sent();
        assert_eq!(sent, None, "sent unexpectedly");
    }

    /// Lets time pass, with every timer due on the way.
    pub fn wait(&mut self, time: Duration) {
        let end = self.env.now + time;
        for _ in 0..100_000 {
            match self.stack.poll_timeout() {
                Some(due) if due <= end => {
                    self.env.now = self.env.now.max(due);
                    self.stack.on_timeout(&mut self.env);
                    self.collect();
                }
                _ => {
                    self.env.now = end;
                    return;
                }
            }
        }
        panic!("timers never settle");
    }

    pub fn wait_ms(&mut self, ms: u64) {
        self.wait(Duration::from_millis(ms));
    }

    /// The handshake, from the peer's SYN with these options on; returns our first number. The peer's
    /// first byte is 1001.
    pub fn accept_with(&mut self, syn: &Segment) -> (ConnectionId, u32) {
        self.get(syn);
        let answer = self.expect();
        assert!(answer.has(SYN | ACK), "{answer:?}");
        let first = answer.seq.wrapping_add(1);
        let mut ack = seg(ACK, syn.seq + 1, first).via(syn.port);
        ack.timestamps = syn.timestamps.map(|(value, _)| (value, answer.timestamps.unwrap().0));
        self.get(&ack);
        let accepted = self.events.iter().find_map(|event| match event {
            TcpEvent::Accepted { connection, .. } => Some(*connection),
            _ => None,
        });
        self.events.clear();
        (accepted.expect("not accepted"), first)
    }

    /// A connection without options but MSS 1000.
    pub fn accept(&mut self) -> (ConnectionId, u32) {
        self.listen();
        let mut syn = seg(SYN, 1_000, 0);
        syn.mss = Some(1_000);
        self.accept_with(&syn)
    }

    /// A connection with SACK, and MSS 1000.
    pub fn accept_sack(&mut self) -> (ConnectionId, u32) {
        self.listen();
        let mut syn = seg(SYN, 1_000, 0);
        syn.mss = Some(1_000);
        syn.sack_permitted = true;
        self.accept_with(&syn)
    }

    pub fn send(&mut self, id: ConnectionId, text: &[u8]) -> usize {
        let sent = self.stack.tcp_send(id, text, &mut self.env).unwrap();
        self.collect();
        sent
    }

    pub fn shutdown(&mut self, id: ConnectionId) {
        self.stack.tcp_shutdown(id, &mut self.env).unwrap();
    }

    pub fn read(&mut self, id: ConnectionId) -> Vec<u8> {
        let mut read = Vec::new();
        while let Ok(Some(text)) = self.stack.tcp_receive(id, &mut self.env) {
            read.extend(text.to_vec());
            self.taken += text.frames();
        }
        self.collect();
        read
    }

    pub fn state(&self, id: ConnectionId) -> &'static str {
        self.stack.tcp_snapshot(id, self.env.now).map_or("gone", |snapshot| snapshot.state.name())
    }

    /// `n` buffers went to a layer above.
    pub fn forget_taken(&mut self, n: usize) {
        self.taken += n;
    }

    pub fn closed(&self) -> Option<tailwater_stack::tcp::CloseReason> {
        self.events.iter().find_map(|event| match event {
            TcpEvent::Closed(_, reason) => Some(*reason),
            _ => None,
        })
    }

    pub fn assert_books(&self) {
        let held = self.stack.held();
        let ledger = self.stack.ledger();
        assert!(ledger.is_balanced(held), "{held} held, {ledger:?}");
        let came = self.given + self.env.allocated;
        let went = self.taken + self.env.returned + self.env.left;
        assert!(came >= went && came - went >= held, "{came} came, {went} went, {held} held");
        if held == 0 {
            assert_eq!(came, went, "buffers came and went");
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_books();
            self.stack.tcp_forget_all(&mut self.env);
            assert_eq!(self.stack.held(), 0, "nothing is kept without a connection");
            self.assert_books();
        }
    }
}

/// `n` bytes that tell where they are.
pub fn bytes(from: usize, n: usize) -> Vec<u8> {
    (from..from + n).map(|at| (at % 251) as u8).collect()
}
