//! A host: a stack, its applications, and the world that the stack sees.

use std::time::Duration;

use tailwater_impair::Random;
use tailwater_stack::{Config, DropReason, Env, Instant, InterfaceId, Stack, Verdict};

use crate::buffer::{Pool, SimBuffer};
use crate::router::Outbox;
use crate::workload::Workload;

/// The world of a host's stack: the virtual clock, seeded random numbers, the simulation's frames.
pub struct HostEnv<'a> {
    pub(crate) now: Instant,
    pub(crate) random: &'a mut Random,
    pub(crate) pool: &'a mut Pool,
    pub(crate) outbox: &'a mut Outbox,
}

impl Env for HostEnv<'_> {
    type Buffer = SimBuffer;

    fn now(&self) -> Instant {
        self.now
    }

    fn random(&mut self) -> u64 {
        self.random.next()
    }

    fn allocate(&mut self) -> Option<SimBuffer> {
        self.pool.take()
    }

    fn transmit(&mut self, interface: InterfaceId, frame: SimBuffer) {
        self.outbox.push((interface, frame));
    }

    fn discard(&mut self, buffer: SimBuffer, _reason: DropReason) {
        self.pool.give(buffer);
    }

    fn release(&mut self, buffer: SimBuffer) {
        self.pool.give(buffer);
    }
}

/// What a workload works with, for the time of one call.
pub struct HostContext<'a, 'b> {
    pub stack: &'a mut Stack<SimBuffer>,
    pub env: &'a mut HostEnv<'b>,
}

impl HostContext<'_, '_> {
    pub fn now(&self) -> Instant {
        self.env.now
    }
}

pub(crate) struct Host {
    pub(crate) stack: Stack<SimBuffer>,
    workloads: Vec<Running>,
    pub(crate) random: Random,
    /// Verdicts that no workload wanted.
    pub(crate) unclaimed: u64,
}

/// A workload, and its deadline since the last time that it was called.
struct Running {
    workload: Box<dyn Workload>,
    due: Option<Instant>,
}

impl Running {
    fn call(&mut self, f: impl FnOnce(&mut dyn Workload)) {
        f(&mut *self.workload);
        self.due = self.workload.poll_timeout();
    }
}

/// Rounds of events and timeouts in one instant, so that no pair of workloads keeps time standing still.
const ROUNDS_MAX: usize = 64;

impl Host {
    pub(crate) fn new(config: Config, mut random: Random) -> Self {
        let stack = Stack::new(config, random.next());
        Self { stack, workloads: Vec::new(), random, unclaimed: 0 }
    }

    pub(crate) fn workloads(&self) -> impl Iterator<Item = &dyn Workload> {
        self.workloads.iter().map(|running| &*running.workload)
    }

    /// Adds a workload and starts it.
    pub(crate) fn add(&mut self, workload: Box<dyn Workload>, now: Instant, pool: &mut Pool, outbox: &mut Outbox) {
        let mut running = Running { workload, due: None };
        let Self { stack, random, .. } = self;
        let env = &mut HostEnv { now, random, pool, outbox };
        running.call(|workload| workload.start(&mut HostContext { stack, env }));
        self.workloads.push(running);
    }

    pub(crate) fn on_frame(
        &mut self,
        port: usize,
        frame: SimBuffer,
        now: Instant,
        pool: &mut Pool,
        outbox: &mut Outbox,
    ) {
        let Self { stack, workloads, random, unclaimed } = self;
        let mut env = HostEnv { now, random, pool, outbox };
        let verdict = stack.ingest(InterfaceId(port as u32), frame, &mut env);
        let mut context = HostContext { stack, env: &mut env };
        let unwanted = match verdict {
            Verdict::Datagram(datagram) => {
                match workloads.iter_mut().find(|running| running.workload.has_socket(datagram.socket)) {
                    Some(running) => return running.call(|workload| workload.on_datagram(datagram, &mut context)),
                    None => datagram.into_buffer(),
                }
            }
            Verdict::EchoReply(reply) => {
                match workloads.iter_mut().find(|running| running.workload.has_ident(reply.ident)) {
                    Some(running) => return running.call(|workload| workload.on_echo_reply(reply, &mut context)),
                    None => reply.into_buffer(),
                }
            }
            _ => return,
        };
        pool.give(unwanted);
        *unclaimed += 1;
    }

    /// Does what is due and tells the workloads what has happened; returns when to come again.
    pub(crate) fn settle(&mut self, now: Instant, pool: &mut Pool, outbox: &mut Outbox) -> Option<Instant> {
        let Self { stack, workloads, random, .. } = self;
        let env = &mut HostEnv { now, random, pool, outbox };
        let mut context = HostContext { stack, env };
        for _ in 0..ROUNDS_MAX {
            tell_events(&mut context, workloads);
            let stack_due = context.stack.poll_timeout();
            let due = earlier(stack_due, workloads)?;
            if due > now {
                return Some(due);
            }
            if stack_due.is_some_and(|due| due <= now) {
                context.stack.on_timeout(context.env);
            }
            for running in workloads.iter_mut().filter(|running| running.due.is_some_and(|due| due <= now)) {
                running.call(|workload| workload.on_timeout(&mut context));
            }
        }
        // What is still due has had its rounds; it must wait for time to pass.
        earlier(context.stack.poll_timeout(), workloads).map(|due| due.max(now + Duration::from_nanos(1)))
    }
}

/// The first of the stack's deadline and the workloads'.
fn earlier(stack_due: Option<Instant>, workloads: &[Running]) -> Option<Instant> {
    workloads.iter().fold(stack_due, |due, running| match (due, running.due) {
        (Some(first), Some(other)) => Some(first.min(other)),
        (due, other) => due.or(other),
    })
}

fn tell_events(context: &mut HostContext<'_, '_>, workloads: &mut [Running]) {
    if context.stack.is_quiet() {
        return;
    }
    while let Some(event) = context.stack.poll_event() {
        workloads.iter_mut().for_each(|running| running.call(|workload| workload.on_event(&event, context)));
    }
    while let Some(event) = context.stack.tcp_poll() {
        workloads.iter_mut().for_each(|running| running.call(|workload| workload.on_tcp(&event, context)));
    }
}
