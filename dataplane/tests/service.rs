//! The stack block with a service on it, on a virtual clock and without any kernel.
#![allow(unsafe_code, clippy::unwrap_used, clippy::panic, reason = "a test, with an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tailwater_dataplane::block::{Registry, Services};
use tailwater_dataplane::frame::{Batch, Frame, Pool, Region, RegionConfig};
use tailwater_dataplane::graph::{Graph, Turn};
use tailwater_dataplane::ledger::Ledger;
use tailwater_dataplane::service::{Addresses, After, Datagram, Host, Io, Service, graph};
use tailwater_stack::{Cidr, InterfaceConfig, MacAddress, Sent, checksum};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts allocations of each thread.
struct Counting;

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: passed on from the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: passed on from the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const OUR_IP: [u8; 4] = [192, 0, 2, 1];
const PEER_IP: [u8; 4] = [192, 0, 2, 2];

struct Echo;

impl Service for Echo {
    fn on_datagram(&mut self, _datagram: &mut Datagram, _io: &mut Io<'_, '_>) -> After {
        After::Reply
    }
}

/// One worker's graph.
struct Worker {
    graph: Graph,
    pool: Pool,
    ledger: Ledger,
    now_ns: u64,
    received: u64,
    originated: u64,
    sent: u64,
    delivered: u64,
}

fn host<S: Service + 'static>(service: impl Fn(usize) -> S + Send + Sync + 'static, workers: usize) -> Services {
    let addresses = vec![Cidr::new(OUR_IP, 24).unwrap()];
    let host = Host::new(service).addresses(Addresses::Own { addresses, gateways: Vec::new() });
    let host = host.listen_udp("0.0.0.0:7000".parse().unwrap());
    host.detached(InterfaceConfig::exclusive(MacAddress(OUR_MAC), 1500), workers).unwrap()
}

fn region() -> Arc<Region> {
    Region::in_process(RegionConfig { chunks: 512, huge_pages: false, ..RegionConfig::default() }).unwrap()
}

impl Worker {
    fn new(services: &Services, worker: usize, region: &Arc<Region>) -> Self {
        let mut services = services.clone();
        services.worker = worker;
        let ports = ["port".to_owned()];
        Self {
            graph: Graph::build(&graph(&ports), &Registry::builtin(), &services, &ports).unwrap(),
            pool: Pool::new(Arc::clone(region)),
            ledger: Ledger::default(),
            now_ns: 1_000_000_000,
            received: 0,
            originated: 0,
            sent: 0,
            delivered: 0,
        }
    }

    /// One turn with these frames received; what leaves is in `batch` afterwards.
    fn turn(&mut self, batch: &mut Batch) {
        let Self { graph, pool, ledger, now_ns, originated, delivered, .. } = self;
        self.received += batch.len() as u64;
        let mut turn = Turn { now_ns: *now_ns, pool, ledger, originated, delivered };
        graph.ingest(0, batch, &mut turn);
        graph.run(&mut turn);
        batch.append(graph.sink(0).unwrap());
        self.sent += batch.len() as u64;
        let ended = self.sent + self.delivered + self.ledger.total() + self.graph.held() as u64;
        assert_eq!(self.received + self.originated, ended, "{:?}", self.ledger);
    }

    /// One turn with these packets received; the packets that leave.
    fn exchange(&mut self, packets: &[Vec<u8>]) -> Vec<Frame> {
        let mut batch = Batch::default();
        packets.iter().for_each(|packet| batch.push(self.pool.allocate_copy(packet).unwrap()));
        self.turn(&mut batch);
        batch.drain().collect()
    }

    fn release(&mut self, frames: Vec<Frame>) {
        frames.into_iter().for_each(|frame| self.pool.release(frame));
    }
}

fn ethernet(ethertype: u16) -> Vec<u8> {
    [&OUR_MAC[..], &PEER_MAC, &ethertype.to_be_bytes()].concat()
}

/// A frame with the IPv4 payload `body`; `fragment` is the header's flags and offset.
fn ipv4(body: &[u8], fragment: u16) -> Vec<u8> {
    let len = (20 + body.len()) as u16;
    let mut header = [&[0x45, 0][..], &len.to_be_bytes(), &[0, 9], &fragment.to_be_bytes(), &[64, 17, 0, 0]].concat();
    header.extend([PEER_IP, OUR_IP].concat());
    let sum = checksum::of(&header);
    header[10..12].copy_from_slice(&sum);
    [ethernet(0x0800), header, body.to_vec()].concat()
}

/// From port 5000 to 7000, without a checksum, as IPv4 allows.
fn udp(payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    [&5000u16.to_be_bytes()[..], &7000u16.to_be_bytes(), &len.to_be_bytes(), &[0, 0], payload].concat()
}

fn fragments(datagram: &[u8], len: usize) -> Vec<Vec<u8>> {
    let pieces = datagram.chunks(len).enumerate();
    let last = datagram.len().div_ceil(len) - 1;
    pieces.map(|(n, piece)| ipv4(piece, (n * len / 8) as u16 | u16::from(n != last) << 13)).collect()
}

fn at_home(region: &Region) -> bool {
    region.at_home() == region.chunks() && region.strayed() == 0
}

#[test]
fn echo_allocates_nothing_once_it_is_warm() {
    let region = region();
    let mut worker = Worker::new(&host(|_| Echo, 1), 0, &region);
    let packet = ipv4(&udp(&[7; 100]), 0);
    let mut batch = Batch::with_capacity(64);
    let mut counted = 0;
    for round in 0..1_100 {
        (0..32).for_each(|_| batch.push(worker.pool.allocate_copy(&packet).unwrap()));
        let before = ALLOCATIONS.get();
        worker.turn(&mut batch);
        counted += if round < 100 { 0 } else { ALLOCATIONS.get() - before };
        assert_eq!(batch.len(), 32);
        batch.drain().for_each(|frame| worker.pool.release(frame));
        worker.now_ns += 10_000;
    }
    assert_eq!(counted, 0, "allocations in 1000 turns");
    drop(worker);
    assert!(at_home(&region));
}

#[test]
fn reply_lies_in_the_frame_that_the_question_came_in() {
    let region = region();
    let mut worker = Worker::new(&host(|_| Echo, 1), 0, &region);
    let mut batch = Batch::default();
    batch.push(worker.pool.allocate_copy(&ipv4(&udp(b"question"), 0)).unwrap());
    let place = |batch: &Batch| batch.iter().map(|frame| frame.bytes().as_ptr() as usize).collect::<Vec<_>>();
    let before = place(&batch);
    worker.turn(&mut batch);
    assert_eq!(place(&batch), before);
    let frames: Vec<Frame> = batch.drain().collect();
    let bytes = frames[0].bytes();
    assert_eq!((&bytes[..6], &bytes[6..12]), (&PEER_MAC[..], &OUR_MAC[..]));
    assert_eq!((&bytes[26..30], &bytes[30..34], &bytes[42..]), (&OUR_IP[..], &PEER_IP[..], &b"question"[..]));
    worker.release(frames);
}

#[test]
fn packet_of_many_small_fragments_is_answered_in_one_chunk() {
    let region = region();
    let mut worker = Worker::new(&host(|_| Echo, 1), 0, &region);
    let payload: Vec<u8> = (0..900u16).map(|n| n as u8).collect();
    // 57 fragments are more segments than a port takes.
    let answers = worker.exchange(&fragments(&udp(&payload), 16));
    assert_eq!(answers.len(), 1);
    assert!(!answers[0].is_chained() && answers[0].bytes()[42..] == payload);
    worker.release(answers);
    drop(worker);
    assert!(at_home(&region));
}

#[test]
fn fragments_held_at_the_end_are_counted_and_come_home() {
    let region = region();
    let mut worker = Worker::new(&host(|_| Echo, 1), 0, &region);
    let mut packets = fragments(&udp(&[1; 2000]), 504);
    packets.pop();
    assert!(worker.exchange(&packets).is_empty());
    assert_eq!(worker.graph.held(), packets.len());
    let Worker { graph, pool, ledger, originated, delivered, .. } = &mut worker;
    graph.drain(&mut Turn { now_ns: 0, pool, ledger, originated, delivered });
    assert_eq!((worker.graph.held(), worker.ledger.total()), (0, packets.len() as u64));
    drop(worker);
    assert!(at_home(&region));
}

/// Sends one datagram to the peer when told to.
struct Asker(Arc<AtomicBool>);

impl Service for Asker {
    fn deadline_ns(&self) -> Option<u64> {
        self.0.load(Ordering::Relaxed).then_some(0)
    }

    fn on_deadline(&mut self, io: &mut Io<'_, '_>) {
        if io.worker() == 1 && self.0.swap(false, Ordering::Relaxed) {
            let socket = io.bind_udp("0.0.0.0:8000".parse().unwrap(), None).unwrap();
            let sent = io.send_udp(socket, "192.0.2.2:9".parse().unwrap(), 3, |_, room| room.copy_from_slice(b"hi!"));
            assert_eq!(sent, Ok(Sent::Queued));
        }
    }
}

#[test]
fn answer_that_only_worker_0_receives_reaches_the_worker_that_asked() {
    let region = region();
    let ask = Arc::new(AtomicBool::new(true));
    let services = host(
        {
            let ask = Arc::clone(&ask);
            move |_| Asker(Arc::clone(&ask))
        },
        2,
    );
    let [mut first, mut second] = [0, 1].map(|number| Worker::new(&services, number, &region));
    let question = second.exchange(&[]);
    assert_eq!(question[0].bytes()[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, 1], "an ARP request");
    assert_ne!(second.graph.deadline_ns(), Some(0), "has nothing to do until the answer is there");
    second.release(question);
    let answer = [&[0, 1, 8, 0, 6, 4, 0, 2][..], &PEER_MAC, &PEER_IP, &OUR_MAC, &OUR_IP].concat();
    assert!(first.exchange(&[[ethernet(0x0806), answer].concat()]).is_empty());
    assert_eq!(second.graph.deadline_ns(), Some(0), "takes its mail at once");
    let datagram = second.exchange(&[]);
    assert_eq!((&datagram[0].bytes()[..6], &datagram[0].bytes()[42..]), (&PEER_MAC[..], &b"hi!"[..]));
    second.release(datagram);
    drop((first, second));
    assert!(at_home(&region));
}
