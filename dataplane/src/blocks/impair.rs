//! `impair`: makes a good link a bad one: rate, delay, jitter, loss, duplication, reordering, corruption.
//!
//! In: any. Out: `out`. The same seed, parameters and packets meet the same fate. With `jitter_us=0` and
//! `reorder_percent=0` packets keep their order, also while parameters change. Limits hold for each worker by itself.
//!
//! ```text
//!  packet -> loss -> duplication -> corruption -> queue (queue_max) -> serialisation (rate_bps) -> delay -> out
//! ```

use std::any::Any;

use tailwater_impair::{Delay, Departures, Loss, LossModel, Random, flip_bit, serialisation_ns};

use crate::block::{Arguments, Block, Context, ImportError, Kind, Parameter, ParameterError, State, Value, ValueKind};
use crate::frame::{Batch, Frame};
use crate::ledger::DropReason;
use crate::timer_wheel::TimerWheel;

const PERCENT: ValueKind = ValueKind::Float { min: 0.0, max: 100.0 };
/// A minute.
const MICROSECONDS: ValueKind = ValueKind::Integer { min: 0, max: 60_000_000 };

const fn parameter(key: &'static str, kind: ValueKind, default: &'static str, doc: &'static str) -> Parameter {
    Parameter { key, kind, default: Some(default), doc }
}

pub(crate) const KIND: Kind = Kind {
    name: "impair",
    summary: "impose rate, delay, jitter, loss, duplication, reordering and corruption",
    parameters: &[
        parameter(
            "rate_bps",
            ValueKind::Integer { min: 0, max: 1_000_000_000_000 },
            "0",
            "bits per second, of frames without checksum and preamble; 0: no limit",
        ),
        parameter("delay_us", MICROSECONDS, "0", "delay in microseconds, after serialisation"),
        parameter("jitter_us", MICROSECONDS, "0", "the delay varies evenly by this much either way, in microseconds"),
        parameter("loss_percent", PERCENT, "0", "packets lost, in percent"),
        parameter(
            "loss_burst_packets",
            ValueKind::Float { min: 0.0, max: 10_000.0 },
            "0",
            "mean length of a burst of losses (Gilbert's model), in packets; below 1: each loss is independent",
        ),
        parameter("duplicate_percent", PERCENT, "0", "packets sent twice, in percent"),
        parameter("reorder_percent", PERCENT, "0", "packets that skip the delay and overtake others, in percent"),
        parameter(
            "reorder_gap_packets",
            ValueKind::Integer { min: 1, max: 1_000_000 },
            "1",
            "at most one packet in this many overtakes",
        ),
        parameter("corrupt_percent", PERCENT, "0", "packets with one bit flipped in their first chunk, in percent"),
        parameter(
            "queue_max",
            ValueKind::Integer { min: 1, max: 1_000_000 },
            "1000",
            "packets held at a time; more are dropped. Each holds a frame: stay well below their number",
        ),
        parameter("seed", ValueKind::Integer { min: 0, max: i64::MAX }, "1", "the same seed, the same fate"),
    ],
    polled: true,
    state: Some("impair"),
    prepare: |key, arguments| match key {
        // A longer queue needs memory.
        "queue_max" => Ok(Some(Box::new(Queue::of(arguments.integer(key) as usize)))),
        _ => Ok(None),
    },
    build: |arguments, services| Ok(Box::new(Impair::new(arguments, services.worker))),
    ..Kind::PLAIN
};

/// Resolution of departures.
const TICK_NS: u64 = 1000;
const NS_PER_US: u64 = 1000;

/// The parameters, in the units of the models: nanoseconds, and probabilities from 0 to 1.
#[derive(Clone, Copy, Default)]
struct Settings {
    rate_bps: u64,
    delay: Delay,
    loss: f64,
    loss_burst_packets: f64,
    duplicate: f64,
    corrupt: f64,
    queue_max: usize,
}

#[derive(Clone, Copy, Default)]
struct Counted {
    passed: u64,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    corrupted: u64,
    queue_full: u64,
}

/// What a successor takes over: packets on their way, and where the models stand.
struct Carried {
    wheel: TimerWheel<Frame>,
    departures: Departures,
    loss: Loss,
    random: Random,
    counted: Counted,
}

struct Impair {
    settings: Settings,
    worker: usize,
    carried: Carried,
}

impl Impair {
    fn new(arguments: &Arguments, worker: usize) -> Self {
        let mut settings = Settings::default();
        for parameter in KIND.parameters {
            if let Some(value) = arguments.value(parameter.key) {
                settings.set(parameter.key, value);
            }
        }
        Self { settings, worker, carried: Carried::new(settings.queue_max, seed(arguments.integer("seed")), worker) }
    }

    fn admit(&mut self, mut frame: Frame, context: &mut Context<'_>) {
        let Settings { loss, loss_burst_packets, .. } = self.settings;
        let model = LossModel::bursts(loss, loss_burst_packets);
        if self.carried.loss.strikes(&model, &mut self.carried.random) {
            self.carried.counted.lost += 1;
            return context.discard(frame, DropReason::Impaired);
        }
        let copy = if self.carried.random.chance(self.settings.duplicate) { context.duplicate(&frame) } else { None };
        if self.carried.random.chance(self.settings.corrupt) && !frame.is_empty() {
            let Some(own) = context.unshare(frame) else { return };
            frame = own;
            self.carried.counted.corrupted += 1;
            flip_bit(frame.bytes_mut(), &mut self.carried.random);
        }
        self.enqueue(frame, context);
        if let Some(copy) = copy {
            self.carried.counted.duplicated += 1;
            self.enqueue(copy, context);
        }
    }

    fn enqueue(&mut self, frame: Frame, context: &mut Context<'_>) {
        let carried = &mut self.carried;
        if carried.wheel.len() >= self.settings.queue_max {
            carried.counted.queue_full += 1;
            return context.discard(frame, DropReason::ImpairQueueFull);
        }
        let due_ns = carried.departure_ns(&self.settings, frame.total_len(), context.now_ns);
        if due_ns <= context.now_ns && carried.wheel.is_empty() {
            carried.counted.passed += 1;
            return context.emit(0, frame);
        }
        if let Err(frame) = carried.wheel.schedule(due_ns, frame) {
            carried.counted.queue_full += 1;
            context.discard(frame, DropReason::ImpairQueueFull);
        }
    }

    fn release_due(&mut self, context: &mut Context<'_>) {
        let Carried { wheel, counted, .. } = &mut self.carried;
        wheel.advance(context.now_ns, |frame| {
            counted.passed += 1;
            context.emit(0, frame);
        });
    }
}

impl Carried {
    fn new(queue_max: usize, seed: u64, worker: usize) -> Self {
        Self {
            wheel: TimerWheel::new(TICK_NS, queue_max, 0),
            departures: Departures::default(),
            loss: Loss::default(),
            random: Random::new(seed, worker as u64),
            counted: Counted::default(),
        }
    }

    /// When a packet of `len` bytes that arrives now leaves.
    fn departure_ns(&mut self, settings: &Settings, len: usize, now_ns: u64) -> u64 {
        let took_ns = serialisation_ns(len, settings.rate_bps);
        let departure = self.departures.next(&settings.delay, took_ns, now_ns, &mut self.random);
        self.counted.reordered += u64::from(departure.overtakes);
        departure.due_ns
    }
}

impl Settings {
    /// Takes a checked value; false if it is no setting.
    fn set(&mut self, key: &str, value: &Value) -> bool {
        let number = match value {
            Value::Integer(number) => *number as f64,
            Value::Float(number) => *number,
            _ => return false,
        };
        let whole = number as u64;
        match key {
            "rate_bps" => self.rate_bps = whole,
            "delay_us" => self.delay.delay_ns = whole * NS_PER_US,
            "jitter_us" => self.delay.jitter_ns = whole * NS_PER_US,
            "loss_percent" => self.loss = number / 100.0,
            "loss_burst_packets" => self.loss_burst_packets = number,
            "duplicate_percent" => self.duplicate = number / 100.0,
            "reorder_percent" => self.delay.reorder = number / 100.0,
            "reorder_gap_packets" => self.delay.reorder_gap_packets = whole,
            "corrupt_percent" => self.corrupt = number / 100.0,
            "queue_max" => self.queue_max = whole as usize,
            _ => return false,
        }
        true
    }
}

impl Block for Impair {
    fn process(&mut self, batch: &mut Batch, context: &mut Context<'_>) {
        for frame in batch.drain() {
            self.admit(frame, context);
        }
        self.release_due(context);
    }

    fn poll(&mut self, context: &mut Context<'_>) {
        self.release_due(context);
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.carried.wheel.next_deadline()
    }

    fn held(&self) -> usize {
        self.carried.wheel.len()
    }

    fn drain(&mut self, batch: &mut Batch) {
        self.carried.wheel.drain(|frame| batch.push(frame));
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), ParameterError> {
        match (key, value) {
            ("seed", Value::Integer(new)) => self.carried.random = Random::new(seed(*new), self.worker as u64),
            _ if self.settings.set(key, value) => {}
            _ => return Err(ParameterError::Fixed { key: key.to_owned() }),
        }
        Ok(())
    }

    fn set_prepared(&mut self, key: &str, prepared: &mut (dyn Any + Send)) -> Result<(), ParameterError> {
        let Some(queue) = prepared.downcast_mut::<Queue>() else {
            return Err(ParameterError::Fixed { key: key.to_owned() });
        };
        std::mem::swap(&mut self.settings.queue_max, &mut queue.queue_max);
        self.carried.wheel.outgrow(&mut queue.wheel);
        Ok(())
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        let Counted { passed, lost, duplicated, reordered, corrupted, queue_full } = self.carried.counted;
        report("passed", passed);
        report("lost", lost);
        report("duplicated", duplicated);
        report("reordered", reordered);
        report("corrupted", corrupted);
        report("queue_full", queue_full);
        report("held", self.carried.wheel.len() as u64);
    }

    fn export(&mut self) -> Option<State<'_>> {
        Some(State::lend(KIND.name, &mut self.carried))
    }

    fn import(&mut self, state: State<'_>) -> Result<(), ImportError> {
        let other: &mut Carried = state.content(KIND.name)?;
        std::mem::swap(&mut self.carried, other);
        // The one of ours was made for our queue.
        self.carried.wheel.outgrow(&mut other.wheel);
        Ok(())
    }

    fn let_go(&mut self, context: &mut Context<'_>) {
        let Carried { wheel, counted, .. } = &mut self.carried;
        wheel.fire_all(|frame| {
            counted.passed += 1;
            context.emit(0, frame);
        });
    }
}

/// A longer queue, or a shorter one, ready for use.
struct Queue {
    queue_max: usize,
    wheel: TimerWheel<Frame>,
}

impl Queue {
    fn of(queue_max: usize) -> Self {
        Self { queue_max, wheel: TimerWheel::new(TICK_NS, queue_max, 0) }
    }
}

fn seed(value: i64) -> u64 {
    value as u64
}
