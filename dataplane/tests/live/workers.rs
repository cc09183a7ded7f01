//! All workers or none: blocks that refuse, fail or hang on one of them.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tailwater_dataplane::block::{
    self, Block, BuildError, Context, ImportError, Kind, Parameter, ParameterError, Registry, State, Value, ValueKind,
};
use tailwater_dataplane::frame::Batch;
use tailwater_dataplane::graph::GraphSpec;
use tailwater_dataplane::live::Operation;

use crate::plant::{DEADLINE, Outside, Plant, extract, insert, replace, wire};

/// Only as long as a worker takes that does not answer.
const SHORT: Duration = Duration::from_millis(50);

/// Counts packets, and on worker 1 misbehaves as its parameter says.
struct Odd {
    packets: u64,
    mode: String,
    worker: usize,
    level: i64,
}

/// Whether a block hangs at its gate now.
static HANGS: AtomicBool = AtomicBool::new(false);
/// One hanging block a test, each with a gate.
static GATES: [AtomicBool; 2] = [AtomicBool::new(true), AtomicBool::new(true)];

fn wait_for_gate(gate: usize) {
    HANGS.fetch_or(gate == 0 && !GATES[0].load(Ordering::Acquire), Ordering::Release);
    while !GATES[gate].load(Ordering::Acquire) {
        std::thread::yield_now();
    }
}

const ODD: Kind = Kind {
    name: "odd",
    summary: "misbehave on worker 1",
    parameters: &[
        Parameter { key: "mode", kind: ValueKind::Text, default: Some(""), doc: "how" },
        Parameter { key: "level", kind: ValueKind::Integer { min: 0, max: 9 }, default: Some("0"), doc: "anything" },
    ],
    state: Some("odd"),
    prepare: block::live,
    build: |arguments, services| {
        let (mode, worker) = (arguments.text("mode").to_owned(), services.worker);
        if mode == "unbuilt" && worker == 1 {
            return Err(BuildError::Other("not here".into()));
        }
        Ok(Box::new(Odd { packets: 0, mode, worker, level: arguments.integer("level") }))
    },
    ..Kind::PLAIN
};

impl Block for Odd {
    fn process(&mut self, batch: &mut Batch, _context: &mut Context<'_>) {
        self.packets += batch.len() as u64;
        if self.mode == "hangs" && self.worker == 1 {
            wait_for_gate(0);
        }
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), ParameterError> {
        match value {
            Value::Integer(level) if self.worker == 0 || *level < 9 => self.level = *level,
            _ => return Err(ParameterError::Fixed { key: key.to_owned() }),
        }
        Ok(())
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        report("packets", self.packets);
        report("level", self.level as u64);
    }

    fn export(&mut self) -> Option<State<'_>> {
        Some(State::lend("odd", &mut self.packets))
    }

    fn import(&mut self, state: State<'_>) -> Result<(), ImportError> {
        match (self.mode.as_str(), self.worker) {
            ("unfit", 1) => return Err(ImportError::Unfit("worker 1 does not like it")),
            ("stuck", 1) => wait_for_gate(1),
            _ => {}
        }
        state.exchange("odd", &mut self.packets)
    }
}

fn plant(mode: &str, patience: Duration) -> (Plant, Vec<Outside>) {
    let mut registry = Registry::builtin();
    registry.add(ODD);
    let spec = GraphSpec::default()
        .node("odd", "odd", &[("mode", Value::Text(mode.into()))])
        .edge("rx:a", "odd")
        .edge("odd", "tx:b");
    Plant::start_with(spec, 2, registry, patience)
}

fn odd(mode: &str) -> Operation {
    let parameters = [("mode".to_owned(), Value::Text(mode.into()))].into();
    Operation::Replace { name: "odd".into(), kind: None, parameters, drop_state: false }
}

fn level(level: i64) -> Operation {
    Operation::Set { name: "odd".into(), key: "level".into(), value: Value::Integer(level) }
}

fn flow(outsides: &mut [Outside]) {
    for outside in outsides {
        (0..20).for_each(|_| outside.step(true));
        outside.settle();
        assert!(outside.astray.is_empty());
    }
}

fn sent(outsides: &[Outside]) -> u64 {
    outsides.iter().map(|outside| outside.sent).sum()
}

#[test]
fn block_that_cannot_be_built_on_the_second_worker_changes_neither() {
    let (mut plant, mut outsides) = plant("", DEADLINE);
    let before = plant.dump();
    let error = plant.change([odd("unbuilt")]).unwrap_err();
    assert_eq!(error.code(), "build");
    assert!(error.to_string().contains("worker 1"), "{error}");
    assert_eq!(plant.dump(), before);
    flow(&mut outsides);
    plant.stop(outsides);
}

#[test]
fn state_refused_by_the_second_worker_is_back_in_its_block_on_the_first() {
    let (mut plant, mut outsides) = plant("", DEADLINE);
    flow(&mut outsides);
    let (before, counted) = (plant.dump(), sent(&outsides));
    assert_eq!(plant.counter("odd", "packets"), counted);
    plant.change([level(3)]).unwrap();
    let with_level = plant.dump();
    assert_ne!(before, with_level);
    // Blocks around it come and go with the refusal, the setting of another too.
    let operations = [
        insert("slow", "impair", &[("delay_us", 60_000_000)], "rx:a -> odd"),
        insert("count", "counter", &[], "odd -> tx:b"),
        odd("unfit"),
    ];
    let error = plant.change(operations).unwrap_err();
    assert_eq!(error.code(), "refused");
    assert!(error.to_string().contains("worker 1 does not like it"), "{error}");
    assert_eq!((plant.dump(), plant.live.graph().0), (with_level, 2));
    assert_eq!((plant.counter("odd", "packets"), plant.counter("odd", "level")), (counted, 6));
    flow(&mut outsides);
    assert_eq!(plant.counter("odd", "packets"), sent(&outsides));
    plant.change([odd("")]).unwrap();
    assert_eq!(plant.counter("odd", "packets"), sent(&outsides));
    plant.stop(outsides);
}

#[test]
fn setting_refused_by_the_second_worker_is_taken_back_on_the_first() {
    let (mut plant, outsides) = plant("", DEADLINE);
    plant.change([level(2)]).unwrap();
    assert_eq!(plant.change([level(9)]).unwrap_err().code(), "refused");
    assert_eq!(plant.counter("odd", "level"), 4, "both have their old level");
    plant.stop(outsides);
}

#[test]
fn worker_that_does_not_begin_in_time_leaves_all_as_they_were() {
    let (mut plant, mut outsides) = plant("hangs", SHORT);
    let before = plant.dump();
    GATES[0].store(false, Ordering::Release);
    outsides[1].step(true);
    while !HANGS.load(Ordering::Acquire) {
        outsides[1].step(false);
    }
    assert_eq!(plant.change([replace("odd", None, false)]).unwrap_err().code(), "unresponsive");
    assert_eq!(plant.dump(), before);
    GATES[0].store(true, Ordering::Release);
    flow(&mut outsides);
    assert_eq!(plant.counter("odd", "packets"), sent(&outsides));
    plant.patiently(|plant| plant.change([insert("count", "counter", &[], "rx:a -> odd")]));
    plant.patiently(|plant| plant.change([extract("count")]));
    assert_eq!(plant.dump(), before);
    plant.stop(outsides);
}

#[test]
fn worker_that_hangs_within_a_change_is_told_and_put_right_when_it_answers() {
    let (mut plant, mut outsides) = plant("", SHORT);
    flow(&mut outsides);
    let before = plant.dump();
    GATES[1].store(false, Ordering::Release);
    assert_eq!(plant.change([odd("stuck")]).unwrap_err().code(), "unsettled");
    assert_eq!(plant.change([level(1)]).unwrap_err().code(), "unsettled", "nothing else before that");
    assert_eq!((plant.dump(), plant.live.graph().0), (before, 1));
    GATES[1].store(true, Ordering::Release);
    plant.patiently(|plant| plant.change([level(1)]));
    assert_eq!((plant.counter("odd", "packets"), plant.counter("odd", "level")), (sent(&outsides), 2));
    flow(&mut outsides);
    assert_eq!(plant.counter("odd", "packets"), sent(&outsides), "the old blocks run on both");
    plant.stop(outsides);
}

#[test]
fn state_of_the_same_name_but_another_type_is_refused_on_the_worker_and_taken_back() {
    /// Says that it is an odd block's state, and is not.
    struct Liar(u8);
    impl Block for Liar {
        fn process(&mut self, _batch: &mut Batch, _context: &mut Context<'_>) {}

        fn export(&mut self) -> Option<State<'_>> {
            let content: &mut (dyn Any + Send) = &mut self.0;
            Some(State { kind: "odd", content })
        }
    }
    const LIAR: Kind = Kind { name: "liar", state: Some("odd"), build: |_, _| Ok(Box::new(Liar(0))), ..Kind::PLAIN };
    let mut registry = Registry::builtin();
    registry.add(ODD);
    registry.add(LIAR);
    let (mut plant, outsides) = Plant::start_with(wire(), 2, registry, DEADLINE);
    plant.change([insert("block", "liar", &[], "rx:a -> tx:b")]).unwrap();
    let before = plant.dump();
    assert_eq!(plant.change([replace("block", Some("odd"), false)]).unwrap_err().code(), "refused");
    assert_eq!(plant.dump(), before);
    plant.change([replace("block", Some("odd"), true)]).unwrap();
    plant.stop(outsides);
}
