//! A worker neither allocates nor frees for a change of its graph.
#![allow(unsafe_code, clippy::unwrap_used, clippy::panic, reason = "a test, with an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tailwater_dataplane::block::{Block, Context, Kind, Registry, Services, Value};
use tailwater_dataplane::frame::{Batch, Pool, Region, RegionConfig};
use tailwater_dataplane::graph::{Graph, GraphSpec};
use tailwater_dataplane::live::{Live, Operation, Transaction};
use tailwater_dataplane::port::Port;
use tailwater_dataplane::port::memory::MemoryPort;
use tailwater_dataplane::worker::{Idle, Worker, WorkerConfig};

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// Counts calls of each thread, allocations and frees alike.
struct Counting;

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = CALLS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: passed on from the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let _ = CALLS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: passed on from the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the worker's thread has counted, and how often it has looked.
static SEEN: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// Looks at the counter of the thread that it runs on, each turn.
struct Probe;

const PROBE: Kind = Kind {
    name: "probe",
    summary: "tell how often this thread has called the allocator",
    polled: true,
    build: |_, _| Ok(Box::new(Probe)),
    ..Kind::PLAIN
};

impl Block for Probe {
    fn process(&mut self, _batch: &mut Batch, _context: &mut Context<'_>) {}

    fn poll(&mut self, _context: &mut Context<'_>) {
        SEEN[0].store(CALLS.get(), Ordering::Relaxed);
        SEEN[1].fetch_add(1, Ordering::Release);
    }
}

/// Calls of the allocator by the worker up to a turn that begins after this.
fn calls() -> u64 {
    let looked = SEEN[1].load(Ordering::Acquire);
    while SEEN[1].load(Ordering::Acquire) < looked + 2 {
        std::thread::yield_now();
    }
    SEEN[0].load(Ordering::Relaxed)
}

#[test]
fn no_change_makes_a_worker_call_the_allocator() {
    let region = Region::in_process(RegionConfig { chunks: 2048, huge_pages: false, ..RegionConfig::default() });
    let region = region.unwrap();
    let mut registry = Registry::builtin();
    registry.add(PROBE);
    let spec = GraphSpec::default()
        .node("probe", "probe", &[])
        .node("slow", "impair", &[("delay_us", Value::Integer(60_000_000))])
        .node("count", "counter", &[])
        .node("pick", "filter", &[("expression", Value::Text("greater 1".into()))])
        .edge("rx:a", "pick")
        .edge("pick", "slow")
        .edge("slow", "count")
        .edge("count", "tx:a");
    let (mut outer, inner) = MemoryPort::pair(&region, ["outer", "a"], 512);
    let ports = ["a".to_owned()];
    let graph = Graph::build(&spec, &registry, &Services::default(), &ports).unwrap();
    let inner: Vec<Box<dyn Port>> = vec![Box::new(inner)];
    let config = WorkerConfig { number: 0, core: None, idle: Idle::Spin };
    let worker = Worker::new(config, inner, graph, Pool::new(Arc::clone(&region))).unwrap();
    let controls = vec![Arc::clone(worker.control())];
    let patience = Duration::from_secs(60);
    let mut live = Live::new(spec, registry, Services::default(), ports.to_vec(), controls, patience).unwrap();
    let running = worker.spawn().unwrap();
    let mut pool = Pool::new(Arc::clone(&region));
    let mut batch = Batch::default();
    batch.extend((0..200).map(|_| pool.allocate_copy(&[0; 60]).unwrap()));
    outer.transmit(&mut pool, &mut batch);
    outer.flush(&mut pool);
    while outer.tx_pending() > 0 {
        std::thread::yield_now();
    }
    calls();
    let edge = |text: &str| text.parse().unwrap();
    let node = |name: &str, kind: &str| GraphSpec::default().node(name, kind, &[]).nodes.remove(0);
    let set = |name: &str, key: &str, value: Value| Operation::Set { name: name.into(), key: key.into(), value };
    let replace = |name: &str, key: &str, value: Value| Operation::Replace {
        name: name.into(),
        kind: None,
        parameters: [(key.to_owned(), value)].into(),
        drop_state: false,
    };
    let changes = [
        ("set", set("slow", "delay_us", Value::Integer(50_000_000))),
        ("set with memory", set("slow", "queue_max", Value::Integer(5_000))),
        ("set with a program", set("pick", "expression", Value::Text("greater 2".into()))),
        ("insert", Operation::Insert { node: node("limit", "rate-limit"), edge: edge("rx:a -> pick") }),
        ("insert", Operation::Insert { node: node("copy", "tee"), edge: edge("count -> tx:a") }),
        ("replace", replace("slow", "queue_max", Value::Integer(9_000))),
        ("replace", replace("limit", "pps", Value::Integer(0))),
        ("replace", replace("pick", "drop", Value::Bool(true))),
        ("extract", Operation::Extract { name: "copy".into() }),
        ("unbind", Operation::Unbind { edge: edge("count -> tx:a") }),
    ];
    let before = calls();
    for (what, operation) in changes {
        live.change(&Transaction::of([operation])).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(calls() - before, 0, "{what}");
    }
    live.undo(None, false, "test").unwrap();
    assert_eq!(calls() - before, 0, "undo");
    assert_eq!(running.control.report(patience).unwrap().held, 200);
    // With what it holds let go, 200 packets leave.
    let before = calls();
    live.change(&Transaction::of([Operation::Extract { name: "slow".into() }])).unwrap();
    assert_eq!(calls() - before, 0, "extract of a full block");
    running.control.stop();
    let worker = running.join().unwrap();
    outer.close(&mut pool);
    let report = worker.close();
    assert_eq!((report.imbalance(), report.ports[0].counters.tx_packets), (0, 200));
    drop((pool, live));
    assert_eq!((region.at_home(), region.strayed()), (region.chunks(), 0));
}
