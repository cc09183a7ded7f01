//! `stack`: a host's stack with a service on top. One instance per worker serves all interfaces: frames come with the
//! number of the port that they came in by, and leave for the port that they name (`tx:*`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tailwater_stack::tcp::{ConnectionId, Listen, TcpEvent};
use tailwater_stack::wire::{arp, ethernet, icmpv6, ipv6, protocol};
use tailwater_stack::{Event, Instant, InterfaceId, Route, Stack, Verdict};

use super::around::Around;
use super::boot_secret;
use super::census::CensusPage;
use super::entropy::Entropy;
use super::env::{DrainEnv, WorkerEnv};
use super::flows::Flows;
use super::listener::{Listener, Transport};
use super::mailbox::{Mailbox, Questions, Update};
use super::ports::Ports;
use super::{After, Io, Service};
use crate::block::{Block, BuildError, Context, ImportError, Kind, PacketType, Pin, Services, State};
use crate::frame::{Batch, Frame};
use crate::surroundings::Surroundings;
use crate::worker::Wakers;

/// News told in a turn although nothing can leave: a device that is stuck must keep no end of a connection from its
/// application.
const TOLD_BLOCKED_MAX: usize = 8;
/// Until another look for room, in ns, where the device takes nothing.
const BLOCKED_NS: u64 = 200_000;

pub(crate) const KIND: Kind = Kind {
    name: "stack",
    summary: "IP, ICMP, UDP and TCP of this host, with the command's service; needs `service::Host`",
    input: PacketType::Ethernet,
    outputs: &[Pin { name: "out", carries: PacketType::Ethernet }],
    polled: true,
    asks_for_room: true,
    state: Some("stack"),
    // The kernel's state comes as differences, connections and sockets are known outside.
    lasts: true,
    build: |_, services| {
        let assembly = services.find::<Assembly>().ok_or(BuildError::Service("a service (service::Host)"))?;
        (assembly.build)(services)
    },
    ..Kind::PLAIN
};

type BuildBlock = dyn Fn(&Services) -> Result<Box<dyn Block>, BuildError> + Send + Sync;

/// Builds a worker's block; found by the block's constructor among the services.
pub(super) struct Assembly {
    build: Box<BuildBlock>,
}

/// What each worker's block starts with.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) stack: tailwater_stack::Config,
    /// In port order, so that port n is interface n of the stack.
    pub(super) interfaces: Vec<tailwater_stack::InterfaceConfig>,
    pub(super) listeners: Vec<Listener>,
    /// Of the stack's local ports, those that are somebody else's; sorted.
    pub(super) taken: Arc<[u16]>,
    /// The XDP program knows what is ours.
    pub(super) begun: Arc<AtomicBool>,
    /// By worker.
    pub(super) mailboxes: Arc<[Mailbox]>,
    /// Who resolves neighbours, if the stack does not.
    pub(super) questions: Option<Arc<Questions>>,
}

impl Assembly {
    pub(super) fn new<S: Service + 'static>(parts: Parts, service: Arc<dyn Fn(usize) -> S + Send + Sync>) -> Self {
        let build = move |services: &Services| {
            let block = StackBlock::new(parts.clone(), services, service(services.worker))?;
            Ok(Box::new(block) as Box<dyn Block>)
        };
        Self { build: Box::new(build) }
    }
}

impl Listener {
    fn open(self, stack: &mut Stack<Frame>) -> Result<(), BuildError> {
        let Self { transport, at } = self;
        let opened = match transport {
            Transport::Udp => stack.udp_bind(at, None).map(drop).map_err(|error| format!("{error:?}")),
            Transport::Tcp => stack.tcp_listen(at, Listen::default()).map(drop).map_err(|error| format!("{error:?}")),
        };
        opened.map_err(|error| BuildError::Other(format!("cannot listen on {self}: {error}")))
    }
}

/// What of the stack's ledger the worker's counters have taken in.
#[derive(Clone, Copy, Default)]
struct Booked {
    originated: u64,
    ended: u64,
}

struct StackBlock<S> {
    stack: Stack<Frame>,
    service: S,
    worker: usize,
    /// Of the interface that carries most.
    mtu: usize,
    mailboxes: Arc<[Mailbox]>,
    questions: Option<Arc<Questions>>,
    /// Worker 0 passes ARP and ND answers on to the others.
    shares_answers: bool,
    begun: Arc<AtomicBool>,
    /// The service was told.
    started: bool,
    around: Around,
    entropy: Entropy,
    booked: Booked,
    /// Changes that the stack had no room for: addresses, routes, neighbours.
    updates_refused: u64,
    /// Answers that found another worker's mailbox full.
    answers_lost: u64,
    /// A list of connections that somebody waits for.
    census: Option<Box<CensusPage>>,
    /// When to go on with what found nothing to leave by; 0: at once.
    blocked_until_ns: u64,
}

impl<S: Service> StackBlock<S> {
    fn new(parts: Parts, services: &Services, service: S) -> Result<Self, BuildError> {
        let mtu = parts.interfaces.iter().map(|interface| interface.mtu).max().unwrap_or_default();
        let Parts { stack: config, interfaces, listeners, taken, begun, mailboxes, questions } = parts;
        let worker = services.worker;
        let waker = Wakers::among(services);
        if let Some(mailbox) = mailboxes.get(worker) {
            mailbox.belongs_to(waker.clone());
        }
        let shared = Surroundings::of(services).and_then(|around| around.shared.clone());
        let mut entropy = Entropy::new();
        let mut stack = Stack::new(config, boot_secret::seed(&mut entropy));
        for interface in interfaces {
            stack.add_interface(interface);
        }
        for listener in listeners {
            listener.open(&mut stack)?;
        }
        Ok(Self {
            shares_answers: worker == 0 && mailboxes.len() > 1 && questions.is_none(),
            stack,
            service,
            worker,
            mtu,
            mailboxes,
            around: Around {
                flows: Flows::new(worker, shared, taken),
                ports: Ports::new(questions.clone()),
                waker,
                chunks: 0,
            },
            questions,
            begun,
            started: false,
            entropy,
            booked: Booked::default(),
            updates_refused: 0,
            answers_lost: 0,
            census: None,
            blocked_until_ns: 0,
        })
    }

    /// One received frame: through the stack, and to the service what is the service's.
    #[inline]
    fn ingest(&mut self, frame: Frame, context: &mut Context<'_>) {
        let interface = InterfaceId(frame.port().into());
        match self.stack.ingest(interface, frame, &mut WorkerEnv { context, entropy: &mut self.entropy }) {
            Verdict::Answered | Verdict::Held | Verdict::Consumed | Verdict::Discarded(_) => {}
            verdict => self.hand_over(verdict, context),
        }
    }

    /// What the stack has no use for.
    #[inline(never)]
    fn hand_over(&mut self, verdict: Verdict<Frame>, context: &mut Context<'_>) {
        let mut io = Io::new(&mut self.stack, context, &mut self.entropy, &self.around);
        match verdict {
            Verdict::Datagram(mut datagram) => match self.service.on_datagram(&mut datagram, &mut io) {
                After::Reply => {
                    let (stack, env) = io.parts();
                    // A refused reply has been discarded, and counted with its reason.
                    let _ = stack.udp_reply(datagram, env);
                }
                After::Release => context.pool.release(datagram.into_buffer()),
                After::Keep => self.service.keep_datagram(datagram, &mut io),
            },
            Verdict::EchoReply(reply) => {
                self.service.on_echo_reply(&reply, &mut io);
                context.pool.release(reply.into_buffer());
            }
            Verdict::Answered | Verdict::Held | Verdict::Consumed | Verdict::Discarded(_) => {}
        }
    }

    /// The service comes first, before all packets.
    #[cold]
    fn start(&mut self, context: &mut Context<'_>) {
        self.started = true;
        // The other half is for receiving, for what leaves without being kept, and for what the service keeps.
        let region = context.pool.region();
        self.around.chunks = region.chunks() / self.mailboxes.len().max(1);
        self.stack.tcp_bound_buffers(self.around.chunks / 2 / self.mtu.div_ceil(region.segment_max()).max(1), self.mtu);
        self.service.on_start(&mut Io::new(&mut self.stack, context, &mut self.entropy, &self.around));
    }

    /// Gives the other workers copies of what only this one received.
    #[inline(never)]
    fn share_answers(&mut self, batch: &Batch, context: &mut Context<'_>) {
        batch
            .iter()
            .filter(|frame| is_neighbour_answer(frame.bytes()))
            .for_each(|frame| self.share_answer(frame, context));
    }

    #[cold]
    fn share_answer(&mut self, frame: &Frame, context: &mut Context<'_>) {
        for mailbox in self.mailboxes.iter().skip(1) {
            let Some(copy) = context.pool.duplicate(frame) else { return };
            if let Err(copy) = mailbox.answers.push(copy) {
                context.pool.release(copy);
                self.answers_lost += 1;
            }
            mailbox.wake();
        }
    }

    /// Whether there was any, a list to be filled included.
    #[inline]
    fn take_mail(&mut self, context: &mut Context<'_>) -> bool {
        let some = self.mailboxes.get(self.worker).is_some_and(|mailbox| !mailbox.is_empty());
        if some {
            self.open_mail(context);
        }
        some
    }

    #[cold]
    fn open_mail(&mut self, context: &mut Context<'_>) {
        let mailboxes = Arc::clone(&self.mailboxes);
        let Some(mailbox) = mailboxes.get(self.worker) else { return };
        mailbox.opened();
        // No more than there were at first, so that a turn ends.
        for _ in 0..mailbox.updates.len() {
            let Some(update) = mailbox.updates.pop() else { break };
            self.apply(update, context);
        }
        for _ in 0..mailbox.answers.len() {
            let Some(frame) = mailbox.answers.pop() else { break };
            *context.originated += 1;
            self.ingest(frame, context);
        }
    }

    /// Whether nothing has become due, nor come from elsewhere, nor is left from before.
    #[inline]
    fn is_idle(&self, now_ns: u64) -> bool {
        let has_mail = self.mailboxes.get(self.worker).is_some_and(|mailbox| !mailbox.is_empty());
        let is_time = self.service.deadline_ns().is_some_and(|deadline_ns| deadline_ns <= now_ns);
        !has_mail
            && !is_time
            && self.started
            && self.census.is_none()
            && self.stack.is_quiet()
            && !self.stack.may_be_due(Instant::from_nanos(now_ns))
    }

    /// What comes without a packet: mail, time, and those that had no room.
    #[inline(never)]
    fn go_on(&mut self, context: &mut Context<'_>) {
        let had_mail = self.take_mail(context);
        if had_mail || self.census.is_some() {
            self.take_census(context.now_ns);
        }
        if !self.started && self.begun.load(Ordering::Acquire) {
            self.start(context);
        }
        // What had come before in this turn has used the room up, or none was left.
        let is_blocked = !context.has_room();
        self.blocked_until_ns = if is_blocked { context.now_ns + BLOCKED_NS } else { 0 };
        self.stack.begin_burst();
        if self.service.deadline_ns().is_some_and(|deadline_ns| deadline_ns <= context.now_ns) {
            self.service.on_deadline(&mut Io::new(&mut self.stack, context, &mut self.entropy, &self.around));
        }
        if self.stack.may_be_due(Instant::from_nanos(context.now_ns)) {
            self.stack.on_timeout(&mut WorkerEnv { context, entropy: &mut self.entropy });
        }
        self.settle(if is_blocked { TOLD_BLOCKED_MAX } else { 0 }, context);
    }

    /// Goes on with the list that somebody waits for, or begins one.
    #[cold]
    fn take_census(&mut self, now_ns: u64) {
        let Some(mailbox) = self.mailboxes.get(self.worker) else { return };
        let Some(mut page) = self.census.take().or_else(|| mailbox.census.take()) else { return };
        match page.fill(&self.stack, Instant::from_nanos(now_ns)) {
            true => {
                mailbox.census.give_back(page);
                // Another may have been asked for meanwhile, by who gave this one up.
                if !mailbox.census.is_empty() {
                    mailbox.note_mail();
                }
            }
            false => self.census = Some(page),
        }
    }

    fn apply(&mut self, update: Update, context: &mut Context<'_>) {
        let mut env = WorkerEnv { context, entropy: &mut self.entropy };
        let stack = &mut self.stack;
        let taken = match update {
            Update::Interface(interface, config) => stack.set_interface(interface, config),
            Update::NoInterface(interface) => {
                stack.remove_interface(interface, &mut env);
                true
            }
            Update::Mtu(interface, mtu) => stack.set_mtu(interface, mtu),
            Update::Address(interface, address) => stack.add_address(interface, address).is_ok(),
            Update::NoAddress(interface, address) => {
                stack.remove_address(interface, address);
                true
            }
            Update::Route(route) => stack.add_route(route).is_ok(),
            Update::NoRoute(interface, prefix) => {
                stack.remove_route(prefix, interface);
                // An address on the same link still brings the prefix with it.
                let connected = stack.addresses(interface).iter().any(|own| own.network() == prefix);
                let route = Route { prefix, gateway: None, interface };
                !connected || stack.add_route(route).is_ok()
            }
            Update::Neighbour(interface, address, mac) => stack.set_neighbour(interface, address, mac, &mut env),
            Update::NoNeighbour(interface, address) => {
                stack.remove_neighbour(interface, address, &mut env);
                true
            }
        };
        self.updates_refused += u64::from(!taken);
    }

    /// What else happened to a connection than that there is something to read, to the service; which one it was.
    #[inline(never)]
    fn tell_other(&mut self, context: &mut Context<'_>) -> Option<ConnectionId> {
        let event = self.stack.tcp_poll()?;
        let connection = event.connection();
        let io = &mut Io::new(&mut self.stack, context, &mut self.entropy, &self.around);
        let service = &mut self.service;
        match event {
            TcpEvent::Accepted { connection, remote, .. } => service.on_accepted(connection, remote, io),
            TcpEvent::Connected(connection) => service.on_connected(connection, io),
            TcpEvent::Readable(connection) => service.on_readable(connection, io),
            TcpEvent::Writable(connection) => service.on_writable(connection, io),
            TcpEvent::Closed(connection, reason) => service.on_closed(connection, reason, io),
        }
        Some(connection)
    }

    /// The next news of a connection, to the service; of which.
    #[inline(always)]
    fn tell(&mut self, context: &mut Context<'_>) -> Option<ConnectionId> {
        let Some(connection) = self.stack.tcp_poll_readable() else { return self.tell_other(context) };
        let io = &mut Io::new(&mut self.stack, context, &mut self.entropy, &self.around);
        self.service.on_readable(connection, io);
        Some(connection)
    }

    /// Each event is of something that happened since; what a callback does brings none by itself. An answer leaves at once,
    /// while it is in the cache. Where nothing more may leave, those who would answer are told of it in the next turn, but for
    /// `beyond`: the frames that an answer takes are better used by what leaves now.
    #[inline(always)]
    fn tell_all(&mut self, mut beyond: usize, context: &mut Context<'_>) {
        // Bounded by the connections, each of which has its news once.
        while self.stack.tcp_has_news() {
            if !context.has_room() {
                let Some(left) = beyond.checked_sub(1) else { return };
                beyond = left;
            }
            let Some(connection) = self.tell(context) else { return };
            self.stack.tcp_answered(connection, &mut WorkerEnv { context, entropy: &mut self.entropy });
        }
    }

    /// What can wait for the next turn where there is no room.
    #[inline(never)]
    fn tell_rest(&mut self, context: &mut Context<'_>) {
        self.tell_all(0, context);
    }

    /// What else there is to tell than of connections.
    #[inline(never)]
    fn tell_events(&mut self, context: &mut Context<'_>) {
        // Bounded by `Config::events_max`.
        while let Some(event) = self.stack.poll_event() {
            match (event, &self.questions) {
                (Event::ResolveNeeded { interface, address }, Some(questions)) => questions.ask(interface, address),
                _ => {
                    let mut io = Io::new(&mut self.stack, context, &mut self.entropy, &self.around);
                    self.service.on_event(&event, &mut io);
                }
            }
        }
    }

    /// After the packets: events out, then what answers them, and the stack's books into the worker's. So many are told
    /// `beyond` what room there is.
    #[inline(always)]
    fn settle(&mut self, beyond: usize, context: &mut Context<'_>) {
        if self.stack.has_events() {
            self.tell_events(context);
        }
        self.stack.tcp_go_on(&mut WorkerEnv { context, entropy: &mut self.entropy });
        self.tell_all(beyond, context);
        self.stack.end_burst(&mut WorkerEnv { context, entropy: &mut self.entropy });
        // What the end of the burst brought.
        if self.stack.tcp_has_news() {
            self.tell_rest(context);
        }
        let ledger = self.stack.ledger();
        let now = Booked { originated: ledger.originated, ended: ledger.delivered + ledger.consumed };
        *context.originated += now.originated - self.booked.originated;
        *context.delivered += now.ended - self.booked.ended;
        self.booked = now;
    }
}

impl<S: Service + 'static> Block for StackBlock<S> {
    fn process(&mut self, batch: &mut Batch, context: &mut Context<'_>) {
        if !self.started {
            self.start(context);
        }
        if self.shares_answers {
            self.share_answers(batch, context);
        }
        self.stack.begin_burst();
        batch.take_each(|frame| self.ingest(frame, context));
        self.settle(0, context);
    }

    #[inline]
    fn poll(&mut self, context: &mut Context<'_>) {
        // Mostly there is nothing, in each turn.
        if !self.is_idle(context.now_ns) {
            self.go_on(context);
        }
    }

    fn deadline_ns(&self) -> Option<u64> {
        let stack = self.stack.poll_timeout().map(Instant::as_nanos);
        let has_mail = self.mailboxes.get(self.worker).is_some_and(|mailbox| !mailbox.is_empty());
        let may_start = !self.started && self.begun.load(Ordering::Acquire);
        let at_once = (has_mail || may_start || self.census.is_some()).then_some(0);
        // Who was not told, and text without room.
        let goes_on = (!self.stack.is_quiet()).then_some(self.blocked_until_ns);
        [stack, at_once, goes_on, self.service.deadline_ns()].into_iter().flatten().min()
    }

    fn held(&self) -> usize {
        self.stack.held()
    }

    fn drain(&mut self, batch: &mut Batch) {
        let mut env = DrainEnv { frames: batch };
        self.stack.tcp_forget_all(&mut env);
        // Interfaces are numbered from 0 on, one for each port.
        for port in 0..=u32::from(u16::MAX) {
            if self.stack.held() == 0 {
                break;
            }
            self.stack.remove_interface(InterfaceId(port), &mut env);
        }
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        let ledger = self.stack.ledger();
        report("ingested", ledger.ingested);
        report("delivered", ledger.delivered);
        report("answered", ledger.answered);
        report("originated", ledger.originated);
        report("transmitted", ledger.transmitted);
        report("consumed", ledger.consumed);
        report("events_lost", self.stack.events_lost());
        let tcp = self.stack.tcp_counters();
        report("tcp_segments_in", tcp.segments_in);
        report("tcp_segments_out", tcp.segments_out);
        report("tcp_segments_resent", tcp.segments_resent);
        report("tcp_bytes_in", tcp.bytes_in);
        report("tcp_bytes_out", tcp.bytes_out);
        report("tcp_active_opens", tcp.active_opens);
        report("tcp_passive_opens", tcp.passive_opens);
        report("tcp_failed", tcp.failed);
        report("tcp_resets_out", tcp.resets_out);
        report("tcp_timeouts", tcp.timeouts);
        report("tcp_recoveries", tcp.recoveries);
        report("tcp_loss_probes", tcp.loss_probes);
        report("tcp_spurious", tcp.spurious);
        report("tcp_challenge_acks", tcp.challenge_acks);
        report("tcp_syn_cookies_sent", tcp.syn_cookies_sent);
        report("tcp_syn_cookies_accepted", tcp.syn_cookies_accepted);
        report("tcp_connections_max_hit", tcp.connections_max_hit);
        report("tcp_buffers_max_hit", tcp.buffers_max_hit);
        report("tcp_no_buffer", tcp.no_buffer);
        report("tcp_room_waits", tcp.room_waits);
        report("updates_refused", self.updates_refused);
        report("answers_lost", self.answers_lost);
        self.service.counters(report);
    }

    fn export(&mut self) -> Option<State<'_>> {
        Some(State::lend(KIND.name, self))
    }

    /// The whole host goes over, with its sockets and the service: the new block only gives its place.
    fn import(&mut self, state: State<'_>) -> Result<(), ImportError> {
        state.exchange(KIND.name, self)
    }
}

/// Whether a frame is an ARP reply or a neighbour advertisement, by a glance: the stack looks properly.
#[inline]
fn is_neighbour_answer(frame: &[u8]) -> bool {
    let Ok(link) = ethernet::parse(frame) else { return false };
    let rest = frame.get(link.header_len..).unwrap_or_default();
    match link.ethertype {
        ethernet::ethertype::ARP => {
            matches!(arp::parse(rest), Ok(arp) if arp.operation == arp::Operation::Reply)
        }
        ethernet::ethertype::IPV6 => {
            rest.get(6) == Some(&protocol::ICMPV6)
                && rest.get(ipv6::HEADER_LEN) == Some(&icmpv6::kind::NEIGHBOUR_ADVERTISEMENT)
        }
        _ => false,
    }
}
