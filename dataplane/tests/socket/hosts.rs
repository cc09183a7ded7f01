//! Two hosts in this process, joined by memory ports, each with a worker of its own:
//!
//! ```text
//!   threads -- Sockets -- worker 192.0.2.1 ====== worker 192.0.2.2 -- Sockets -- threads
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use tailwater_dataplane::block::Registry;
use tailwater_dataplane::frame::{Pool, Region, RegionConfig};
use tailwater_dataplane::graph::Graph;
use tailwater_dataplane::port::Port;
use tailwater_dataplane::port::memory::MemoryPort;
use tailwater_dataplane::service::{Addresses, Host, graph};
use tailwater_dataplane::socket::{SocketConfig, Sockets, TcpListener, TcpStream};
use tailwater_dataplane::worker::{Idle, Running, Wakers, Worker, WorkerConfig};
use tailwater_stack::{Cidr, Config, InterfaceConfig, MacAddress};

/// Frames of each host; they lie in one region.
const FRAMES: usize = 8_192;

pub(crate) struct Hosts {
    pub(crate) sockets: [Sockets; 2],
    running: Vec<Running>,
    region: Arc<Region>,
}

/// Address of a host.
pub(crate) fn at(host: u8, port: u16) -> SocketAddr {
    ([192, 0, 2, host + 1], port).into()
}

impl Hosts {
    pub(crate) fn start() -> Self {
        Self::with(SocketConfig::default())
    }

    pub(crate) fn with(config: SocketConfig) -> Self {
        Self::sized(FRAMES, config)
    }

    /// Hosts that have so many frames each.
    pub(crate) fn sized(frames: usize, config: SocketConfig) -> Self {
        // Each would take what is the other's for its own.
        let config = SocketConfig { chunks_max: config.chunks_max.min(frames / 4), ..config };
        let region = RegionConfig { chunks: 2 * frames, huge_pages: false, ..RegionConfig::default() };
        let region = Region::in_process(region).unwrap();
        let (a, b) = MemoryPort::pair(&region, ["port", "port"], 1_024);
        let (mut sockets, mut running) = (Vec::new(), Vec::new());
        for (n, port) in [a, b].into_iter().enumerate() {
            let (ours, service) = Sockets::new(config);
            running.push(worker(n as u8, Box::new(port), service, &region, frames).spawn().unwrap());
            sockets.push(ours);
        }
        let Ok(sockets) = sockets.try_into() else { panic!("two hosts") };
        Self { sockets, running, region }
    }

    /// A connection from the first host to the second: its two ends.
    pub(crate) fn connect(&self) -> (TcpStream, TcpStream) {
        let listener = self.listen(7_000);
        let stream = self.sockets[0].connect(at(1, 7_000)).unwrap();
        (stream, listener.accept().unwrap().0)
    }

    pub(crate) fn listen(&self, port: u16) -> TcpListener {
        self.sockets[1].listen_tcp(("0.0.0.0", port)).unwrap()
    }

    /// Ends both hosts; every frame must come home.
    pub(crate) fn stop(self) {
        self.running.iter().for_each(|running| running.control.stop());
        // None may send into a ring that is emptied already.
        let ended: Vec<Worker> = self.running.into_iter().map(|running| running.join().unwrap()).collect();
        ended.into_iter().for_each(|worker| drop(worker.close()));
        assert_eq!((self.region.at_home(), self.region.strayed()), (self.region.chunks(), 0));
    }
}

fn worker<S: tailwater_dataplane::service::Service + 'static>(
    n: u8,
    port: Box<dyn Port>,
    service: impl Fn(usize) -> S + Send + Sync + 'static,
    region: &Arc<Region>,
    frames: usize,
) -> Worker {
    let addresses = vec![Cidr::new([192, 0, 2, n + 1], 24).unwrap()];
    let host = Host::new(service).addresses(Addresses::Own { addresses, gateways: Vec::new() });
    let mut stack = Config::default();
    // So that a writer whose peer does not read is held up soon.
    stack.tcp.connection.send_buffer_max = 256 << 10;
    stack.tcp.connection.receive_buffer_max = 256 << 10;
    stack.tcp.buffers_max = frames / 2;
    let interface = InterfaceConfig::exclusive(MacAddress([2, 0, 0, 0, 0, n + 1]), 1500);
    let mut services = host.stack_config(stack).detached(interface, 1).unwrap();
    let wakers = Arc::new(Wakers::new(1).unwrap());
    services.insert(Arc::clone(&wakers));
    let names = ["port".to_owned()];
    let graph = Graph::build(&graph(&names), &Registry::builtin(), &services, &names).unwrap();
    let config = WorkerConfig { number: 0, core: None, idle: Idle::Sleep };
    let waker = Arc::clone(wakers.iter().next().unwrap());
    Worker::with_waker(config, vec![port], graph, Pool::new(Arc::clone(region)), waker).unwrap()
}
