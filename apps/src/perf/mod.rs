//! `tailwater perf`: how much goes through, with a stack of our own at this end, and iperf3 or ourselves at the other.
//!
//! | file | what it is |
//! |---|---|
//! | `options`, `settings` | the command line; one test, checked |
//! | `protocol` | what iperf3 says on the wire |
//! | `server`, `client` | one session each, from the cookie to the good-bye, as a script that may wait: the director |
//! | `conversation` | what such a script waits for |
//! | `desk`, `test` | between the director and the workers, which never wait |
//! | `worker`, `newcomer`, `control`, `part` | the service: who comes, the control connection, a worker's part in a test |
//! | `stream`, `udp`, `meter` | the bulk path, and what is counted there |
//! | `transact`, `rr` | requests and responses, and what is measured of them |
//! | `book`, `document`, `report` | intervals and totals; as iperf3's JSON; as text (`cpu`, `origin`: what else these say) |
//! | `sweep` | many sizes, and the kernel in turn: runs this command and iperf3 |

mod book;
mod client;
mod control;
mod conversation;
mod cpu;
mod desk;
mod document;
mod meter;
mod newcomer;
mod options;
mod origin;
mod part;
mod protocol;
mod report;
mod rr;
mod server;
mod settings;
mod stream;
mod sweep;
mod test;
mod transact;
mod udp;
mod worker;

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tailwater_dataplane::runtime::RuntimeConfig;
use tailwater_dataplane::service::{self, Host, Presence};
use tailwater_stack::tcp::TcpConfig;
use tailwater_xdp::Place;

use crate::common::Common;
use crate::grouping::Grouping;
use crate::hosting::explain;
use crate::session::{Part, Plan};
use crate::snapshot::Snapshot;
use client::Client;
use desk::{Desk, Event};
pub(crate) use options::{AFTER_HELP, Args};
use protocol::Cookie;
use report::{Reporter, Style};
use server::Server;
use settings::{End, FRAMES_KEPT, Settings};
use worker::Worker;

/// Local ports of a client besides one for each stream: those of its last tests may be in TIME-WAIT.
const SPARE_PORTS: u16 = 64;
/// The same where connections come and go: a port is free again a millisecond after its connection is closed.
const REOPENED_PORTS: u16 = 192;
/// How long the director may take to say good-bye.
const FAREWELL: Duration = Duration::from_secs(1);
/// Headers of a datagram's packet: IP and UDP.
const HEADERS_LEN: (usize, usize) = (28, 48);

pub(crate) fn run(args: Args, common: Common) -> anyhow::Result<()> {
    if args.sweeping.sweep {
        return sweep::run(&args);
    }
    let mut config = common.runtime_config(args.hosting.mode(), Place::User, &Grouping::default())?;
    config.frames_kept = FRAMES_KEPT;
    let end = if args.server { End::Server } else { End::Client };
    let (desk, events) = Desk::new(end, config.cores.len(), args.interval_ns());
    let reporter = Reporter::new(style(&args, &common));
    let own_stdout = !common.json && (args.iperf_json || end == End::Client);
    let theirs = Arc::clone(&desk);
    let host = Host::new(move |worker| Worker::new(Arc::clone(&theirs), worker));
    let host = host.addresses(args.hosting.addresses()).stack_config(bounded());
    let (host, director): (_, Director) = match &args.client {
        None => {
            let listeners = args.listeners();
            let server = server(&args, &listeners, &desk, events, reporter);
            let host = listeners.into_iter().fold(host, |host, at| host.listen_tcp(at).listen_udp(at));
            (host, Box::new(move || server.run()))
        }
        Some(name) => {
            let client = client(&args, name, mtu(&config)?, &desk, events, reporter)?;
            (host.local_ports(local_ports(&client.settings)), Box::new(move || client.run()))
        }
    };
    let prepared = host.prepare(&config).map_err(explain)?;
    let plan = Plan::of_host("perf", &common, config, &prepared);
    plan.run(service::graph, |runtime| {
        let presence = prepared.begin(runtime).map_err(explain)?;
        let thread = std::thread::Builder::new().name("tailwater/perf".into()).spawn(director)?;
        Ok(Conducting { _presence: presence, desk, thread: Some(thread), own_stdout })
    })
}

fn server(
    args: &Args,
    listeners: &[SocketAddr],
    desk: &Arc<Desk>,
    events: Receiver<Event>,
    reporter: Reporter,
) -> Server {
    let listener = listeners.first().copied().unwrap_or(([0, 0, 0, 0], args.port()).into());
    Server { desk: Arc::clone(desk), events, listener, one_off: args.serving.one_off, reporter }
}

fn client(
    args: &Args,
    name: &str,
    mtu: usize,
    desk: &Arc<Desk>,
    events: Receiver<Event>,
    reporter: Reporter,
) -> anyhow::Result<Client> {
    let remote = args.remote(name)?;
    let headers = if remote.is_ipv4() { HEADERS_LEN.0 } else { HEADERS_LEN.1 };
    let settings = args.settings(mtu.saturating_sub(headers))?;
    let cookie = Cookie::new(random()?);
    Ok(Client { desk: Arc::clone(desk), events, remote, settings, cookie, reporter })
}

type Director = Box<dyn FnOnce() -> anyhow::Result<()> + Send>;

fn style(args: &Args, common: &Common) -> Style {
    match (common.json, args.iperf_json) {
        (true, _) => Style::Events,
        (false, true) => Style::Iperf,
        (false, false) => Style::Text,
    }
}

/// A stack whose connections do not take the frames that rings need, and end with their peers.
fn bounded() -> tailwater_stack::Config {
    let tcp = TcpConfig { buffers_max: FRAMES_KEPT, connection: part::basis(), ..TcpConfig::default() };
    tailwater_stack::Config { tcp, ..tailwater_stack::Config::default() }
}

/// Ports that a test takes.
fn local_ports(settings: &Settings) -> u16 {
    let connections = settings.streams().max(settings.parallel) as u16;
    let again = settings.transactions.is_some_and(|asked| asked.close);
    connections + if again { REOPENED_PORTS } else { SPARE_PORTS }
}

/// Numbers that nobody can guess.
fn random() -> anyhow::Result<impl FnMut() -> u64> {
    let mut bytes = [0; 24];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let mut words = bytes.into_iter();
    Ok(move || words.by_ref().take(8).fold(0, |word, byte| word << 8 | u64::from(byte)))
}

/// MTU of the interface, in bytes.
fn mtu(config: &RuntimeConfig) -> anyhow::Result<usize> {
    let names: Vec<String> = config.interfaces.iter().map(|interface| interface.name.clone()).collect();
    let links = tailwater_netlink::Control::open()?.links_by_name(&names)?;
    Ok(links.iter().map(|link| link.mtu_bytes as usize).min().unwrap_or(1_500))
}

/// The director at work, while the dataplane runs.
struct Conducting {
    _presence: Presence,
    desk: Arc<Desk>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    own_stdout: bool,
}

impl Part for Conducting {
    fn failure(&mut self) -> Option<anyhow::Error> {
        let thread = self.thread.take_if(|thread| thread.is_finished())?;
        match thread.join() {
            Ok(outcome) => outcome.err(),
            Err(_) => Some(anyhow::anyhow!("the director ended with a panic; this is a bug")),
        }
    }

    fn looks(&self) -> bool {
        true
    }

    fn enough(&mut self, _snapshot: &Snapshot) -> bool {
        self.thread.is_none()
    }

    fn owns_stdout(&self) -> bool {
        self.own_stdout
    }

    fn shows_progress(&self) -> bool {
        false
    }

    fn ending(&mut self) {
        self.desk.stop();
        let until = Instant::now() + FAREWELL;
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        // The last orders are carried out within some ticks.
        std::thread::sleep(Duration::from_millis(5));
    }
}
