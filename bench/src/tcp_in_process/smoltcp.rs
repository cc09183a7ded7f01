//! smoltcp's hosts.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant as Clock;

use anyhow::{Result, anyhow};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

use super::{Exchange, Load, MESSAGE, Pair, WRITE, pattern, warm_up};

const PORT: u16 = 7;
/// Of the client's connections.
const FIRST_PORT: u16 = 49_152;
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
    handles: Vec<SocketHandle>,
}

impl Host {
    fn new(number: u8, mut device: End, exchange: &Exchange) -> Self {
        let mac = HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 0, number]));
        let mut interface = Interface::new(Config::new(mac), &mut device, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            // Room for one at least: an empty list takes it.
            let _ = addresses.push(IpCidr::new(IpAddress::v4(10, 0, 0, number), 24));
        });
        let buffer = || SocketBuffer::new(vec![0; exchange.buffer()]);
        let mut sockets = SocketSet::new(Vec::new());
        let mut add = |_| {
            let mut socket = Socket::new(buffer(), buffer());
            socket.set_nagle_enabled(false);
            sockets.add(socket)
        };
        let handles = (0..exchange.connections).map(&mut add).collect();
        Self { interface, device, sockets, handles }
    }

    fn poll(&mut self, now: Instant) {
        self.interface.poll(now, &mut self.device, &mut self.sockets);
    }

    fn listen(&mut self) -> Result<()> {
        for &handle in &self.handles {
            self.sockets.get_mut::<Socket<'_>>(handle).listen(PORT).map_err(|error| anyhow!("{error:?}"))?;
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<()> {
        for (&handle, port) in self.handles.iter().zip(FIRST_PORT..) {
            let socket = self.sockets.get_mut::<Socket<'_>>(handle);
            let server = (IpAddress::v4(10, 0, 0, 2), PORT);
            socket.connect(self.interface.context(), server, port).map_err(|error| anyhow!("{error:?}"))?;
        }
        Ok(())
    }
}

/// A client and a server of smoltcp's.
pub struct Smoltcp {
    client: Host,
    server: Host,
    load: Load,
    pattern: Vec<u8>,
    /// By connection: a request is on its way.
    asked: Vec<bool>,
    done: u64,
    started: Clock,
}

impl Smoltcp {
    /// Connects them, and warms up.
    pub fn new(exchange: Exchange) -> Result<Self> {
        let Exchange { load, mtu, connections } = exchange;
        let wires: [Rc<RefCell<Wire>>; 2] = Default::default();
        let end = |rx: usize, tx: usize| End { rx: Rc::clone(&wires[rx]), tx: Rc::clone(&wires[tx]), mtu };
        let (mut client, mut server) = (Host::new(1, end(0, 1), &exchange), Host::new(2, end(1, 0), &exchange));
        server.listen()?;
        client.connect()?;
        let (asked, started) = (vec![false; connections], Clock::now());
        let mut pair = Self { client, server, load, pattern: pattern(), asked, done: 0, started };
        warm_up(&mut pair, &exchange)?;
        Ok(pair)
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.started.elapsed().as_micros() as i64)
    }

    fn send(&mut self) {
        for (&handle, asked) in self.client.handles.iter().zip(&mut self.asked) {
            let socket = self.client.sockets.get_mut::<Socket<'_>>(handle);
            match self.load {
                // Ends when the send buffer is full.
                Load::Bulk => while socket.send_slice(&self.pattern).is_ok_and(|sent| sent == WRITE) {},
                Load::Requests => {
                    if socket.recv_queue() >= MESSAGE {
                        let _ = socket.recv(|bytes| (bytes.len().min(MESSAGE), ()));
                        *asked = false;
                        self.done += 1;
                    }
                    if !*asked && socket.can_send() {
                        *asked = socket.send_slice(&self.pattern[..MESSAGE]).is_ok();
                    }
                }
            }
        }
    }

    fn serve(&mut self) {
        for &handle in &self.server.handles {
            let socket = self.server.sockets.get_mut::<Socket<'_>>(handle);
            match self.load {
                Load::Bulk => {
                    // Twice where what has arrived lies around the end of the ring.
                    while socket.can_recv() {
                        self.done += socket.recv(|bytes| (bytes.len(), bytes.len() as u64)).unwrap_or(0);
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

    fn connected(&self) -> usize {
        let sockets = self.client.handles.iter().map(|&handle| self.client.sockets.get::<Socket<'_>>(handle));
        sockets.filter(|socket| socket.state() == State::Established).count()
    }
}
