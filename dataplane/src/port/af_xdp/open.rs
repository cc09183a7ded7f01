//! Opening an interface: the sockets of every (queue, worker), their rings, and the program's view of them.

use std::cell::Cell;
use std::sync::{Arc, Mutex};

use tailwater_xdp::Steering;
use xsk_rs::config::BindFlags;

use super::fill_level::FillLevel;
use super::socket::{Copy, Socket};
use super::{Access, QueueRings, QueueRx, SHARE, XdpPort, epoll_over, rings};
use crate::blocks::header::ETHERNET_LEN;
use crate::frame::Region;
use crate::port::gso::{TextSwitch, TextWay, TrainSocket};
use crate::port::{Capabilities, LinkMtu, PortCounters, PortError, QueueCounters};

/// Largest Ethernet header that we expect in front of the MTU (two VLAN tags), in bytes.
const HEADER_MAX: u32 = 22;

/// What to open.
#[derive(Clone, Debug)]
pub struct OpenConfig {
    /// Interface name.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// Its MTU.
    pub mtu: LinkMtu,
    /// Whether to ask for packets in several chunks although the MTU does not need them yet.
    pub multi_buffer: bool,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Receive queues to serve: 0 to `queues - 1`.
    pub queues: u32,
    /// Workers that get an end each.
    pub workers: u32,
    /// Descriptors per ring; a power of two.
    pub ring_size: u32,
    /// Most chunks that lie in one fill ring.
    pub fill_target: u32,
    /// How to bind; `None` lets the kernel take zero-copy where the driver has it.
    pub copy: Option<Copy>,
    /// Which way TCP text leaves where the kernel copies; `None`: by the ring for ever.
    pub text: Option<Arc<TextSwitch>>,
}

/// An open interface: an end for each worker, not yet reached by any packet.
pub struct Opened {
    /// The workers' ends, by worker number.
    pub ports: Vec<XdpPort>,
    /// Whether the kernel copies.
    pub copy: Copy,
    /// What was tried and refused on the way, in words.
    pub notes: Vec<String>,
    ring_size: u32,
}

/// Attempts to bind to a queue that is busy, and the pause between two: a second in all.
const BUSY_TRIES_MAX: u32 = 51;
const BUSY_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Opens the sockets of all queues for all workers.
pub fn open(region: &Arc<Region>, config: &OpenConfig) -> Result<Opened, PortError> {
    let mut notes = Vec::new();
    let mut sockets: Vec<Vec<Arc<Socket>>> = Vec::new();
    for queue in 0..config.queues {
        let primary = open_primary(region, config, queue, &mut notes)?;
        let mut of_queue = vec![Arc::new(primary)];
        for _ in 1..config.workers {
            let auxiliary =
                Socket::auxiliary(&of_queue[0], &config.interface, config.ifindex, queue, config.ring_size)?;
            of_queue.push(Arc::new(auxiliary));
        }
        // The primary socket is the owner's; the other workers follow in order.
        let owner = (queue % config.workers) as usize;
        of_queue.rotate_right(owner);
        sockets.push(of_queue);
    }
    let copy = sockets.first().and_then(|queue| queue.first()).map_or(Copy::Copy, |socket| socket.copy());
    let shared = queue_rings(config, &sockets)?;
    let mut ports = Vec::new();
    for worker in 0..config.workers {
        ports.push(worker_end(region, config, &sockets, &shared, worker, copy)?);
    }
    if is_large(region, &config.mtu) && !region.is_multi_buffer() {
        notes.push(format!("packets of more than {} bytes are lost: {ONE_CHUNK}", region.segment_max()));
    }
    Ok(Opened { ports, copy, notes, ring_size: config.ring_size })
}

/// Whether packets may need several chunks at this MTU.
pub(crate) fn is_large(region: &Region, mtu: &LinkMtu) -> bool {
    (mtu.get() + HEADER_MAX) as usize > region.segment_max()
}

/// Why larger packets are lost.
pub(crate) const ONE_CHUNK: &str = "its sockets take packets in one chunk only; raise MTUs before the start";

fn open_primary(
    region: &Region,
    config: &OpenConfig,
    queue: u32,
    notes: &mut Vec<String>,
) -> Result<Socket, PortError> {
    let is_large = is_large(region, &config.mtu);
    let mut bind = BindFlags::XDP_USE_NEED_WAKEUP;
    match config.copy {
        Some(Copy::Zero) => bind |= BindFlags::XDP_ZEROCOPY,
        Some(Copy::Copy) => bind |= BindFlags::XDP_COPY,
        None => {}
    }
    let open_as = |bind| open_when_free(|| Socket::primary(region, &config.interface, queue, config.ring_size, bind));
    let open = |bind| {
        if is_large || config.multi_buffer {
            match open_as(bind | BindFlags::XDP_USE_SG) {
                // Kernels before 6.6 do not know of it.
                Err(PortError::Bind { .. }) if !is_large => {}
                opened => return opened.inspect(|_| region.note_multi_buffer(true)),
            }
        }
        open_as(bind).inspect(|_| region.note_multi_buffer(false))
    };
    match open(bind) {
        // A driver may promise zero-copy and fail to deliver; copying always works.
        Err(PortError::Bind { error, .. }) if config.copy.is_none() => {
            notes.push(format!("queue {queue}: {error}; bound with XDP_COPY instead"));
            open(bind | BindFlags::XDP_COPY)
        }
        other => other,
    }
}

/// The kernel gives up a closed socket's queue in a work queue, some milliseconds later: without a little patience a
/// restart would find it busy.
fn open_when_free(mut open: impl FnMut() -> Result<Socket, PortError>) -> Result<Socket, PortError> {
    for _ in 1..BUSY_TRIES_MAX {
        match open() {
            Err(PortError::QueueBusy { .. }) => std::thread::sleep(BUSY_PAUSE),
            other => return other,
        }
    }
    open()
}

/// Fill and completion rings of each queue, by way of the socket of its owner.
fn queue_rings(config: &OpenConfig, sockets: &[Vec<Arc<Socket>>]) -> Result<Vec<Arc<Mutex<QueueRings>>>, PortError> {
    let failed = |what| move |error| PortError::System { interface: config.interface.clone(), what, error };
    let of_queue = |(queue, of_queue): (usize, &Vec<Arc<Socket>>)| {
        let socket = &of_queue[queue % config.workers as usize];
        Ok(Arc::new(Mutex::new(QueueRings {
            fill: rings::fill(socket.fd(), config.ring_size).map_err(failed("mapping a fill ring"))?,
            completion: rings::completion(socket.fd(), config.ring_size)
                .map_err(failed("mapping a completion ring"))?,
            socket: Arc::clone(socket),
            level: FillLevel::new(config.fill_target.min(config.ring_size), socket.copy() == Copy::Copy),
        })))
    };
    sockets.iter().enumerate().map(of_queue).collect()
}

fn worker_end(
    region: &Arc<Region>,
    config: &OpenConfig,
    sockets: &[Vec<Arc<Socket>>],
    shared: &[Arc<Mutex<QueueRings>>],
    worker: u32,
    copy: Copy,
) -> Result<XdpPort, PortError> {
    let failed = |what| move |error| PortError::System { interface: config.interface.clone(), what, error };
    let mut queues = Vec::new();
    let mut accesses = Vec::new();
    for (queue, of_queue) in sockets.iter().enumerate() {
        let socket = &of_queue[worker as usize];
        let ring = rings::rx(socket.fd(), config.ring_size).map_err(failed("mapping a receive ring"))?;
        let level = FillLevel::new(config.fill_target.min(config.ring_size), copy == Copy::Copy);
        let counters = Cell::new(QueueCounters { queue: queue as u32, ..QueueCounters::default() });
        queues.push(QueueRx { counters, ring, socket: Arc::clone(socket), state: None });
        accesses.push(Access {
            rings: Arc::clone(&shared[queue]),
            owned: queue as u32 % config.workers == worker,
            used: 0,
            used_max: (level.min() / SHARE).max(1),
        });
    }
    let tx_queue = (worker % config.queues) as usize;
    let tx_socket = Arc::clone(&sockets[tx_queue][worker as usize]);
    let tx = rings::tx(tx_socket.fd(), config.ring_size).map_err(failed("mapping a transmit ring"))?;
    let text = config.text.as_ref().filter(|_| copy == Copy::Copy);
    let trains = text
        .map(|text| TrainSocket::open(config.ifindex).map(|socket| (socket, Arc::clone(text))))
        .transpose()
        .map_err(failed("opening a socket for segmented packets"))?;
    let capabilities = Capabilities {
        backend: "af_xdp",
        mode: match copy {
            Copy::Zero => "zero-copy".into(),
            Copy::Copy => "copy".into(),
        },
        mtu: config.mtu.get(),
        mac: config.mac,
        queues: config.queues,
        multi_buffer: region.is_multi_buffer(),
        busy_poll: tx_socket.busy_poll,
        segmentation: trains.as_ref().is_some_and(|(_, text)| text.get() != TextWay::Ring),
        tx_budget: tx_socket.tx_budget,
    };
    Ok(XdpPort {
        name: config.interface.clone(),
        number: 0,
        region: Arc::clone(region),
        epoll: epoll_over(&queues).map_err(failed("epoll"))?,
        queues,
        next_queue: 0,
        tx,
        tx_socket,
        accesses,
        packet_slots: packet_slots(region, config.mtu.get()),
        mtu: config.mtu.clone(),
        tx_queue,
        tx_in_flight: 0,
        is_down: false,
        trains,
        too_big: 0,
        text_in_ring: false,
        capabilities,
        counters: PortCounters::default(),
    })
}

/// Descriptors of a packet of full length.
pub(super) fn packet_slots(region: &Region, mtu: u32) -> usize {
    (mtu as usize + ETHERNET_LEN).div_ceil(region.segment_max()).max(1)
}

/// The way of packets from the program into one socket.
pub struct Entrance {
    queue: u32,
    worker: u32,
    socket: Arc<Socket>,
}

impl Entrance {
    /// Puts the socket into the program's map.
    pub fn open(&self, steering: &Steering) -> Result<(), tailwater_xdp::Error> {
        steering.insert_socket(self.queue, self.worker, self.socket.fd())
    }
}

impl Opened {
    /// Joins the rings to the program's view of them; packets come once the entrances are opened.
    pub fn entrances(&mut self, steering: &Steering) -> Result<Vec<Entrance>, tailwater_xdp::Error> {
        let mut entrances = Vec::new();
        for (worker, port) in self.ports.iter_mut().enumerate() {
            port.capabilities.mode =
                format!("{:?}, {}", steering.attachment().mode, port.capabilities.mode).to_lowercase();
            for (queue, rx) in port.queues.iter_mut().enumerate() {
                let (queue, worker) = (queue as u32, worker as u32);
                let state = steering.ring_state(queue, worker)?;
                state.set_capacity(self.ring_size);
                rx.state = Some(state);
                entrances.push(Entrance { queue, worker, socket: Arc::clone(&rx.socket) });
            }
        }
        Ok(entrances)
    }
}
