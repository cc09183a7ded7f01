//! Requests and responses in a worker. The caller keeps one request on each of its connections; the answerer, at our own
//! server, knows connections of the test by their cookie.
//!
//! ```text
//!   --rr    connect, cookie,  request, response,  request, response, ...
//!   --crr   connect, cookie + request, response, close;  connect, ...
//! ```
//!
//! An echo server (`--peer echo`) gets no cookie, and sends the request back. The caller closes first: the connections in
//! TIME-WAIT are its own, which it knows how to take over, and they end with the process.

use std::sync::Arc;

use hashbrown::HashMap;
use hdrhistogram::Histogram;
use tailwater_dataplane::clock;
use tailwater_dataplane::service::Io;
use tailwater_stack::tcp::{CloseReason, Connect, ConnectError, ConnectionId, ConnectionOptions};

use super::desk::{Desk, Event};
use super::part::{options, why};
use super::protocol::{COOKIE_LEN, Transactions};
use super::rr::News;
use super::stream::Payload;
use super::test::{Mark, Schedule, Test};
use super::worker::{Peer, told};

/// Longest time that the histogram tells apart, in ns; longer ones count as this.
const LATENCY_MAX_NS: u64 = 100_000_000_000;
/// Three digits: within 0.1 %.
const DIGITS: u8 = 3;

/// What a worker's connections did since the test began, or its omission ended.
#[derive(Clone, Debug)]
pub(super) struct Transacted {
    pub(super) count: u64,
    /// Connections that ended before their response, or could not be opened.
    pub(super) failed: u64,
    /// Nanoseconds: from the request, or with `--crr` the SYN, to the whole response.
    pub(super) latency: Histogram<u64>,
}

impl Transacted {
    /// `None`: never, the bounds are constants.
    pub(super) fn new() -> Option<Self> {
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX_NS, DIGITS).ok()?;
        Some(Self { count: 0, failed: 0, latency })
    }

    #[inline]
    fn on_response(&mut self, latency_ns: u64) {
        self.count += 1;
        self.latency.saturating_record(latency_ns);
    }

    fn reset(&mut self) {
        (self.count, self.failed) = (0, 0);
        self.latency.reset();
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.failed += other.failed;
        // Both have the same bounds.
        let _ = self.latency.add(&other.latency);
    }
}

/// A connection's turn: one request at a time.
#[derive(Default)]
struct Slot {
    connection: Option<ConnectionId>,
    /// Bytes of the cookie that found no room yet.
    cookie_left: usize,
    /// Bytes of the request that found no room yet.
    left: usize,
    /// Bytes of the response so far.
    got: u64,
    since_ns: u64,
    /// Without a connection, since there was no port or no place: again at the next tick.
    waits: bool,
}

/// Asks, at the client.
pub(super) struct Caller {
    pub(super) test: Arc<Test>,
    asked: Transactions,
    options: ConnectionOptions,
    slots: Vec<Slot>,
    schedule: Option<Schedule>,
    over: bool,
    transacted: Transacted,
}

type Peers = HashMap<ConnectionId, Peer, foldhash::fast::RandomState>;

impl Caller {
    /// This worker's share of the connections.
    pub(super) fn new(test: Arc<Test>, worker: usize, workers: usize) -> Option<Self> {
        let asked = test.settings.transactions?;
        let share = (0..test.settings.parallel).filter(|slot| slot % workers.max(1) == worker).count();
        let options = ConnectionOptions { nagle: false, ..options(&test.settings) };
        let slots = (0..share).map(|_| Slot::default()).collect();
        Some(Self { asked, options, slots, schedule: None, over: false, transacted: Transacted::new()?, test })
    }

    pub(super) fn next_ns(&self) -> u64 {
        match &self.schedule {
            Some(schedule) if !self.over => schedule.next_ns().min(self.test.ended_ns()),
            _ => u64::MAX,
        }
    }

    pub(super) fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        self.slots.iter().filter_map(|slot| slot.connection)
    }

    /// Begins, takes samples, ends.
    pub(super) fn advance(&mut self, peers: &mut Peers, desk: &Desk, io: &mut Io<'_, '_>) {
        if self.over {
            return;
        }
        if self.schedule.is_none() {
            let Some(started_ns) = self.test.started_ns() else { return };
            let omit_ns = self.test.settings.omit.as_nanos() as u64;
            self.schedule = Some(Schedule::new(started_ns, desk.interval_ns, omit_ns));
            (0..self.slots.len()).for_each(|slot| self.connect(slot, peers, desk, io));
        }
        let ended = io.now_ns() >= self.test.ended_ns();
        while let Some(mark) = self.schedule.as_mut().and_then(|schedule| schedule.due(io.now_ns())) {
            if !ended || mark == Mark::OmitEnd {
                self.report(mark, desk, io);
            }
            if mark == Mark::OmitEnd {
                self.transacted.reset();
            }
        }
        if ended {
            self.report(Mark::Final, desk, io);
            self.over = true;
        }
    }

    /// Once a tick: connections that could not be opened, and requests that found no room when nothing of theirs was on its
    /// way, so that no acknowledgement will remind of them.
    pub(super) fn tend(&mut self, peers: &mut Peers, desk: &Desk, payload: &Payload, io: &mut Io<'_, '_>) {
        for at in 0..self.slots.len() {
            if !self.over && self.slots.get(at).is_some_and(|slot| slot.waits) {
                self.connect(at, peers, desk, io);
            }
            self.on_writable(at, payload, io);
        }
    }

    fn report(&self, mark: Mark, desk: &Desk, io: &Io<'_, '_>) {
        let (session, at_ns, count) = (self.test.number, io.now_ns(), self.transacted.count);
        let whole = (mark == Mark::Final).then(|| Box::new(self.transacted.clone()));
        let news = News { worker: io.worker(), mark, at_ns, count, whole };
        desk.tell(Event::Transacted { session, news });
    }

    fn connect(&mut self, at: usize, peers: &mut Peers, desk: &Desk, io: &mut Io<'_, '_>) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        let connect = Connect { connection: Some(self.options), ..Connect::to(self.test.remote) };
        // The time of the turn began before the request did.
        let since_ns = clock::now_ns();
        match io.connect(connect) {
            Ok(connection) => {
                *slot = Slot { connection: Some(connection), since_ns, ..Slot::default() };
                peers.insert(connection, Peer::Caller(at));
            }
            Err(ConnectError::NoPort | ConnectError::InUse | ConnectError::Full) => {
                self.transacted.failed += u64::from(!slot.waits);
                *slot = Slot { waits: true, ..Slot::default() };
            }
            Err(error) => {
                let why = why(error);
                desk.tell(Event::StreamLost { session: self.test.number, why });
            }
        }
    }

    /// A connection is there.
    pub(super) fn on_connected(&mut self, at: usize, payload: &Payload, io: &mut Io<'_, '_>) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        if !self.test.settings.echo {
            slot.cookie_left = COOKIE_LEN;
        }
        if !self.asked.close {
            slot.since_ns = clock::now_ns();
        }
        self.ask(at, payload, io);
    }

    fn ask(&mut self, at: usize, payload: &Payload, io: &mut Io<'_, '_>) {
        if let Some(slot) = self.slots.get_mut(at) {
            // An answer that came too early leaves the request to be ended.
            slot.left += self.asked.request as usize;
        }
        self.on_writable(at, payload, io);
    }

    /// Sends what is left of the cookie and a request, as far as there is room.
    #[inline]
    pub(super) fn on_writable(&mut self, at: usize, payload: &Payload, io: &mut Io<'_, '_>) {
        let Some(slot) = self.slots.get_mut(at).filter(|slot| slot.left > 0) else { return };
        let Some(connection) = slot.connection else { return };
        slot.cookie_left = self.test.cookie.say(slot.cookie_left, connection, io);
        if slot.cookie_left > 0 {
            return;
        }
        // An error means that the connection is over, which is told otherwise.
        slot.left -= io.send_with(connection, slot.left, |_, room| payload.write(room)).unwrap_or(0);
    }

    /// Something has come: the response, when it is whole.
    #[inline]
    pub(super) fn on_readable(
        &mut self,
        at: usize,
        peers: &mut Peers,
        desk: &Desk,
        payload: &Payload,
        io: &mut Io<'_, '_>,
    ) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        let Some(connection) = slot.connection else { return };
        let (bytes, finished) = drain(connection, io);
        slot.got += bytes;
        if slot.got < u64::from(self.asked.response) {
            if finished {
                peers.remove(&connection);
                let _ = io.close(connection);
                self.on_closed(at, CloseReason::Finished, peers, desk, io);
            }
            return;
        }
        slot.got = 0;
        let now_ns = clock::now_ns();
        let since_ns = std::mem::replace(&mut slot.since_ns, now_ns);
        if self.over {
            return;
        }
        self.transacted.on_response(now_ns.saturating_sub(since_ns));
        if let Some(volume) = self.test.settings.volume() {
            self.test.on_moved(1);
            if self.test.on_received(1) >= volume {
                self.test.end_at(now_ns);
            }
        }
        if self.asked.close {
            peers.remove(&connection);
            let _ = io.close(connection);
            self.connect(at, peers, desk, io);
        } else {
            self.ask(at, payload, io);
        }
    }

    /// A connection is over that should not be.
    pub(super) fn on_closed(
        &mut self,
        at: usize,
        reason: CloseReason,
        peers: &mut Peers,
        desk: &Desk,
        io: &mut Io<'_, '_>,
    ) {
        if self.over {
            return;
        }
        self.transacted.failed += 1;
        let lasting = matches!(reason, CloseReason::Refused | CloseReason::Unreachable);
        if self.asked.close && !lasting {
            return self.connect(at, peers, desk, io);
        }
        desk.tell(Event::StreamLost { session: self.test.number, why: told(reason).to_owned() });
    }
}

/// Answers, at the server.
pub(super) struct Answerer {
    pub(super) session: u64,
    asked: Transactions,
    /// Bytes of requests that have no response yet.
    got: u64,
    /// Bytes of responses that found no room.
    owed: usize,
}

/// Whether the connection goes on.
#[derive(PartialEq, Eq)]
pub(super) enum Next {
    Stays,
    Done,
}

impl Answerer {
    pub(super) fn new(test: &Test) -> Option<Self> {
        Some(Self { session: test.number, asked: test.settings.transactions?, got: 0, owed: 0 })
    }

    /// Takes what has come, and answers each whole request.
    #[inline]
    pub(super) fn serve(&mut self, connection: ConnectionId, payload: &Payload, io: &mut Io<'_, '_>) -> Next {
        // A peer that sends without reading is not read from.
        if !self.pay(connection, payload, io) {
            return Next::Stays;
        }
        let (bytes, finished) = drain(connection, io);
        self.got += bytes;
        while self.got >= u64::from(self.asked.request) {
            self.got -= u64::from(self.asked.request);
            self.owed += self.asked.response as usize;
            if !self.pay(connection, payload, io) {
                return Next::Stays;
            }
        }
        if finished { Next::Done } else { Next::Stays }
    }

    /// Sends what is owed; whether that is all.
    fn pay(&mut self, connection: ConnectionId, payload: &Payload, io: &mut Io<'_, '_>) -> bool {
        if self.owed > 0 {
            let sent = io.send_with(connection, self.owed, |_, room| payload.write(room)).unwrap_or(0);
            self.owed -= sent;
        }
        self.owed == 0
    }
}

/// Throws away what has come, and counts it; whether it was the last.
#[inline]
fn drain(connection: ConnectionId, io: &mut Io<'_, '_>) -> (u64, bool) {
    let mut bytes = 0;
    loop {
        match io.receive(connection) {
            Ok(Some(text)) => {
                bytes += text.total_len() as u64;
                io.release(text);
            }
            Ok(None) => return (bytes, false),
            Err(_) => return (bytes, true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::{Cookie, Parameters};
    use super::super::settings::{End, Settings};
    use super::*;
    use std::sync::Mutex;
    use tailwater_dataplane::block::Registry;
    use tailwater_dataplane::frame::{Pool, Region, RegionConfig};
    use tailwater_dataplane::graph::Graph;
    use tailwater_dataplane::port::memory::MemoryPort;
    use tailwater_dataplane::service::{Addresses, Host, Service, graph};
    use tailwater_dataplane::worker::{Idle, Worker, WorkerConfig};
    use tailwater_stack::{Cidr, Config, InterfaceConfig, MacAddress};

    /// A caller's worker, but for the test's begin and end.
    struct Calls {
        caller: Caller,
        peers: Peers,
        desk: Arc<Desk>,
        payload: Payload,
        tick_ns: u64,
    }

    impl Calls {
        fn at(&self, connection: ConnectionId) -> usize {
            let Some(&Peer::Caller(at)) = self.peers.get(&connection) else { panic!("a connection of nobody's") };
            at
        }
    }

    impl Service for Calls {
        fn on_start(&mut self, io: &mut Io<'_, '_>) {
            let Self { caller, peers, desk, .. } = self;
            (0..caller.slots.len()).for_each(|at| caller.connect(at, peers, desk, io));
        }

        fn on_connected(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
            self.caller.on_connected(self.at(connection), &self.payload, io);
        }

        fn on_writable(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
            self.caller.on_writable(self.at(connection), &self.payload, io);
        }

        fn deadline_ns(&self) -> Option<u64> {
            Some(self.tick_ns)
        }

        fn on_deadline(&mut self, io: &mut Io<'_, '_>) {
            self.tick_ns = io.now_ns() + 10_000_000;
            self.caller.tend(&mut self.peers, &self.desk, &self.payload, io);
        }
    }

    type Heard = Arc<Mutex<HashMap<ConnectionId, Vec<u8>, foldhash::fast::RandomState>>>;

    struct Listens(Heard);

    impl Service for Listens {
        fn on_readable(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
            let mut heard = self.0.lock().unwrap();
            let mut room = [0; 100];
            while let Ok(n @ 1..) = io.read(connection, &mut room) {
                heard.entry(connection).or_default().extend(&room[..n]);
            }
        }
    }

    fn worker<S: Service + 'static>(
        n: u8,
        service: impl Fn(usize) -> S + Send + Sync + 'static,
        port: MemoryPort,
        region: &Arc<Region>,
    ) -> Worker {
        let addresses = vec![Cidr::new([192, 0, 2, n], 24).unwrap()];
        let host = Host::new(service).addresses(Addresses::Own { addresses, gateways: Vec::new() });
        let mut stack = Config::default();
        // One text at a time is under way, of all connections.
        stack.tcp.buffers_max = 1;
        let host = host.stack_config(stack).listen_tcp(([0, 0, 0, 0], 7_000).into());
        let interface = InterfaceConfig::exclusive(MacAddress([2, 0, 0, 0, 0, n]), 1_500);
        let (services, names) = (host.detached(interface, 1).unwrap(), ["port".to_owned()]);
        let graph = Graph::build(&graph(&names), &Registry::builtin(), &services, &names).unwrap();
        let config = WorkerConfig { number: 0, core: None, idle: Idle::Spin };
        Worker::new(config, vec![Box::new(port)], graph, Pool::new(Arc::clone(region))).unwrap()
    }

    #[test]
    fn a_cookie_that_found_no_memory_goes_before_the_request_all_the_same() {
        const CONNECTIONS: usize = 4;
        let cookie = Cookie([b'c'; COOKIE_LEN]);
        let asked = Parameters {
            parallel: CONNECTIONS as u64,
            time: 10,
            tailwater_transactions: Some(Transactions { request: 1, response: 1, close: false }),
            ..Parameters::default()
        };
        let call = move |_| {
            let settings = Settings::of(&asked).unwrap();
            let test = Test::new(1, End::Client, cookie, settings, ([192, 0, 2, 2], 7_000).into(), 1);
            let caller = Caller::new(Arc::new(test), 0, 1).unwrap();
            let (desk, _) = Desk::new(End::Client, 1, 0);
            Calls { caller, peers: Peers::default(), desk, payload: Payload::new(), tick_ns: 0 }
        };
        let heard = Heard::default();
        let listen = {
            let heard = Arc::clone(&heard);
            move |_| Listens(Arc::clone(&heard))
        };
        let region = RegionConfig { chunks: 2_048, huge_pages: false, ..RegionConfig::default() };
        let region = Region::in_process(region).unwrap();
        let (near, far) = MemoryPort::pair(&region, ["port", "port"], 64);
        let mut workers = [worker(1, call, near, &region), worker(2, listen, far, &region)];
        let whole = [&cookie.0[..], b"0"].concat();
        for turn in 0..1_000_000 {
            workers.iter_mut().for_each(|worker| _ = worker.turn(1_000_000_000 + turn * 10_000));
            let heard = heard.lock().unwrap();
            assert!(heard.values().all(|text| whole.starts_with(text)), "{heard:?}");
            if heard.len() == CONNECTIONS && heard.values().all(|text| *text == whole) {
                break;
            }
            assert!(turn < 999_999, "{heard:?} after ten seconds");
        }
        workers.into_iter().for_each(|worker| _ = worker.close());
        assert_eq!((region.at_home(), region.strayed()), (region.chunks(), 0));
    }

    #[test]
    fn histograms_of_several_workers_add_up() {
        let (mut a, mut b) = (Transacted::new().unwrap(), Transacted::new().unwrap());
        (1..=90).for_each(|_| a.on_response(10_000));
        (1..=10).for_each(|_| b.on_response(1_000_000));
        b.failed = 2;
        a.add(&b);
        assert_eq!((a.count, a.failed, a.latency.len()), (100, 2, 100));
        let median = a.latency.value_at_quantile(0.5);
        assert!((9_990..=10_010).contains(&median), "{median}");
        assert!(a.latency.value_at_quantile(0.99) > 990_000);
    }
}
