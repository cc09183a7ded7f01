//! smoltcp's hosts.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant as Clock;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

use super::{BUFFER, Load, MESSAGE, Pair, WRITE, pattern, run};

const PORT: u16 = 7;
/// Frames on their way in one direction.
const RING: usize = 2048;
const ETHERNET_HEADER_LEN: usize = 14;

/// Frames one way, and the buffers that have come back.
#[derive(Default)]
struct Wire {
    frames: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

/// One end of a pair of wires.
struct End {
    rx: Rc<RefCell<Wire>>,
    tx: Rc<RefCell<Wire>>,
    mtu: usize,
}

struct Received {
    frame: Vec<u8>,
    wire: Rc<RefCell<Wire>>,
}

struct Sending {
    wire: Rc<RefCell<Wire>>,
}

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        let result = read(&self.frame);
        self.wire.borrow_mut().spare.push(self.frame);
        result
    }
}

impl TxToken for Sending {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut frame = self.wire.borrow_mut().spare.pop().unwrap_or_default();
        frame.resize(len, 0);
        let result = write(&mut frame);
        self.wire.borrow_mut().frames.push_back(frame);
        result
    }
}

impl Device for End {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending;

    fn receive(&mut self, _now: Instant) -> Option<(Received, Sending)> {
        let frame = self.rx.borrow_mut().frames.pop_front()?;
        Some((Received { frame, wire: Rc::clone(&self.rx) }, Sending { wire: Rc::clone(&self.tx) }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending> {
        let room = self.tx.borrow().frames.len() < RING;
        room.then(|| Sending { wire: Rc::clone(&self.tx) })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + ETHERNET_HEADER_LEN;
        capabilities
    }
}

struct Host {
    interface: Interface,
    device: End,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
}

impl Host {
    fn new(number: u8, mut device: End) -> Self {
        let mac = HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 0, number]));
        let mut interface = Interface::new(Config::new(mac), &mut device, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            // Room for one at least: an empty list takes it.
            let _ = addresses.push(IpCidr::new(IpAddress::v4(10, 0, 0, number), 24));
        });
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(socket);
        Self { interface, device, sockets, socket }
    }

    fn poll(&mut self, now: Instant) {
        self.interface.poll(now, &mut self.device, &mut self.sockets);
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }
}

/// A client and a server of smoltcp's.
pub struct Smoltcp {
    client: Host,
    server: Host,
    load: Load,
    pattern: Vec<u8>,
    /// A request is on its way.
    asked: bool,
    done: u64,
    started: Clock,
}

impl Smoltcp {
    /// Connects them, and warms up.
    pub fn new(load: Load, mtu: usize) -> Self {
        let wires: [Rc<RefCell<Wire>>; 2] = Default::default();
        let end = |rx: usize, tx: usize| End { rx: Rc::clone(&wires[rx]), tx: Rc::clone(&wires[tx]), mtu };
        let (mut client, mut server) = (Host::new(1, end(0, 1)), Host::new(2, end(1, 0)));
        // Both can only fail on a socket in use.
        let _ = server.socket().listen(PORT);
        let socket = client.sockets.get_mut::<Socket<'_>>(client.socket);
        let _ = socket.connect(client.interface.context(), (IpAddress::v4(10, 0, 0, 2), PORT), 49_152);
        let mut pair = Self { client, server, load, pattern: pattern(), asked: false, done: 0, started: Clock::now() };
        // Whether it goes on at all, the measurement itself finds out.
        let _ = run(&mut pair, if load == Load::Bulk { 32 << 20 } else { 10_000 });
        pair
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.started.elapsed().as_micros() as i64)
    }

    fn send(&mut self) {
        let socket = self.client.sockets.get_mut::<Socket<'_>>(self.client.socket);
        match self.load {
            // Ends when the send buffer is full.
            Load::Bulk => while socket.send_slice(&self.pattern).is_ok_and(|sent| sent == WRITE) {},
            Load::Requests => {
                if socket.recv_queue() >= MESSAGE {
                    let _ = socket.recv(|bytes| (bytes.len().min(MESSAGE), ()));
                    self.asked = false;
                    self.done += 1;
                }
                if !self.asked && socket.can_send() {
                    self.asked = socket.send_slice(&self.pattern[..MESSAGE]).is_ok();
                }
            }
        }
    }

    fn serve(&mut self) {
        let (load, done) = (self.load, &mut self.done);
        let socket = self.server.sockets.get_mut::<Socket<'_>>(self.server.socket);
        match load {
            Load::Bulk => {
                // Twice where what has arrived lies around the end of the ring.
                while socket.can_recv() {
                    *done += socket.recv(|bytes| (bytes.len(), bytes.len() as u64)).unwrap_or(0);
                }
            }
            Load::Requests if socket.recv_queue() >= MESSAGE => {
                let mut request = [0; MESSAGE];
                let len = socket.recv_slice(&mut request).unwrap_or(0);
                let _ = socket.send_slice(&request[..len]);
            }
            Load::Requests => {}
        }
    }
}

impl Pair for Smoltcp {
    fn pass(&mut self) {
        let now = self.now();
        self.send();
        self.client.poll(now);
        let now = self.now();
        self.server.poll(now);
        self.serve();
        if self.load == Load::Requests {
            // What was written just now leaves, and arrives; with the same times, since a clock read costs a good part of a round trip.
            self.server.poll(now);
            self.client.poll(now);
        }
    }

    fn done(&self) -> u64 {
        self.done
    }
}
