//! Our TCP on one end, smoltcp's on the other.

use std::collections::VecDeque;

use smoltcp::iface::{Config as TheirConfig, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as TheirInstant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};
use tailwater_stack::tcp::{CloseReason, Connect, Listen, TcpEvent};
use tailwater_stack::testing::{TestEnv, VecBuffer, mac};
use tailwater_stack::{Cidr, Config, InterfaceConfig, InterfaceId, Stack};

use crate::script::{OURS, PEER, bytes};

#[derive(Default)]
struct Wire {
    to_them: VecDeque<Vec<u8>>,
    to_us: VecDeque<Vec<u8>>,
}

struct Frame(Vec<u8>);
struct Outgoing<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: TheirInstant) -> Option<(Frame, Outgoing<'_>)> {
        let frame = self.to_them.pop_front()?;
        Some((Frame(frame), Outgoing(&mut self.to_us)))
    }

    fn transmit(&mut self, _: TheirInstant) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.to_us))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

struct Pair {
    stack: Stack<VecBuffer>,
    env: TestEnv,
    them: Interface,
    wire: Wire,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    now_ms: u64,
    events: Vec<TcpEvent>,
    /// Every how many frames one is lost.
    loses: u64,
    frames: u64,
}

impl Pair {
    fn new(loses: u64) -> Self {
        let mut stack = Stack::new(Config::default(), 7);
        let port = stack.add_interface(InterfaceConfig::exclusive(mac(1), 1500));
        stack.add_address(port, Cidr::new(OURS, 24).unwrap()).unwrap();
        let mut wire = Wire::default();
        let config = TheirConfig::new(HardwareAddress::Ethernet(EthernetAddress(mac(2).0)));
        let mut them = Interface::new(config, &mut wire, TheirInstant::from_millis(0));
        them.update_ip_addrs(|addresses| addresses.push(IpCidr::new(PEER.into(), 24)).unwrap());
        let mut sockets = SocketSet::new(vec![]);
        let buffer = || tcp::SocketBuffer::new(vec![0; 65_535]);
        let socket = sockets.add(tcp::Socket::new(buffer(), buffer()));
        let env = TestEnv::default();
        Self { stack, env, them, wire, sockets, socket, now_ms: 0, events: vec![], loses, frames: 0 }
    }

    fn theirs(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    fn is_lost(&mut self) -> bool {
        self.frames += 1;
        self.loses > 0 && self.frames > 10 && self.frames.is_multiple_of(self.loses)
    }

    /// A millisecond goes by.
    fn step(&mut self) {
        self.now_ms += 1;
        self.env.now = tailwater_stack::Instant::from_millis(self.now_ms);
        self.them.poll(TheirInstant::from_millis(self.now_ms as i64), &mut self.wire, &mut self.sockets);
        if self.stack.poll_timeout().is_some_and(|due| due <= self.env.now) {
            self.stack.on_timeout(&mut self.env);
        }
        while let Some(frame) = self.wire.to_us.pop_front() {
            if !self.is_lost() {
                let _ = self.stack.ingest(InterfaceId(0), VecBuffer::from_bytes(&frame), &mut self.env);
            }
        }
        while let Some(event) = self.stack.tcp_poll() {
            self.events.push(event);
        }
        while let Some(frame) = self.env.sent() {
            if !self.is_lost() {
                self.wire.to_them.push_back(frame);
            }
        }
    }

    fn closed(&self) -> Option<CloseReason> {
        self.events.iter().find_map(|event| match event {
            TcpEvent::Closed(_, reason) => Some(*reason),
            _ => None,
        })
    }
}

/// Each end sends the other `len` bytes, and closes.
fn exchange(loses: u64, we_connect: bool, len: usize) {
    let mut pair = Pair::new(loses);
    let mut id = None;
    if we_connect {
        pair.theirs().listen(80).unwrap();
        id = pair.stack.tcp_connect(Connect::to((PEER, 80).into()), |_| true, &mut pair.env).ok();
    } else {
        pair.stack.tcp_listen("0.0.0.0:80".parse().unwrap(), Listen::default()).unwrap();
        let socket = pair.sockets.get_mut::<tcp::Socket>(pair.socket);
        socket.connect(pair.them.context(), (smoltcp::wire::IpAddress::from(OURS), 80), 5_000).unwrap();
    }
    let text = bytes(0, len);
    let (mut we_sent, mut they_sent) = (0, 0);
    let (mut we_got, mut they_got) = (Vec::new(), Vec::new());
    for _ in 0..600_000 {
        pair.step();
        for event in &pair.events {
            if let TcpEvent::Accepted { connection, .. } = event {
                id = Some(*connection);
            }
        }
        let theirs = pair.sockets.get_mut::<tcp::Socket>(pair.socket);
        if theirs.can_recv() {
            theirs.recv(|data| (data.len(), they_got.extend_from_slice(data))).unwrap();
        }
        if theirs.may_send() {
            if they_sent < len {
                they_sent += theirs.send_slice(&text[they_sent..]).unwrap();
            } else {
                theirs.close();
            }
        }
        if let Some(id) = id {
            if we_sent < len {
                we_sent += pair.stack.tcp_send(id, &text[we_sent..], &mut pair.env).unwrap_or(0);
            }
            while let Ok(Some(text)) = pair.stack.tcp_receive(id, &mut pair.env) {
                we_got.extend(text.to_vec());
            }
            // Not before: once the FINs have crossed, smoltcp sends lost text no more.
            if we_sent == len && we_got.len() == len {
                let _ = pair.stack.tcp_shutdown(id, &mut pair.env);
            }
        }
        if pair.closed().is_some() && !pair.theirs().is_active() {
            break;
        }
    }
    assert_eq!(pair.closed(), Some(CloseReason::Finished));
    assert!(we_got == text && they_got == text, "{} and {} of {len}", we_got.len(), they_got.len());
}

#[test]
fn smoltcp_connects_to_us() {
    exchange(0, false, 200_000);
}

#[test]
fn we_connect_to_smoltcp() {
    exchange(0, true, 200_000);
}

#[test]
fn both_get_everything_over_a_wire_that_loses() {
    exchange(50, false, 100_000);
    exchange(23, true, 50_000);
}

#[test]
fn smoltcp_is_refused_at_a_closed_port() {
    let mut pair = Pair::new(0);
    let socket = pair.sockets.get_mut::<tcp::Socket>(pair.socket);
    socket.connect(pair.them.context(), (smoltcp::wire::IpAddress::from(OURS), 81), 5_000).unwrap();
    for _ in 0..50 {
        pair.step();
    }
    assert_eq!(pair.theirs().state(), tcp::State::Closed);
}
