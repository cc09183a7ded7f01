//! `tailwater ping`: ICMP echo requests from a stack of our own, at an address of our own.

mod output;
mod requester;
mod statistics;

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use tailwater_dataplane::runtime::Runtime;
use tailwater_dataplane::service::{Addresses, Host};
use tailwater_stack::EchoRequest;
use tailwater_xdp::{Mode, Place};

use crate::common::{Common, seconds};
use crate::failure::Failure;
use crate::grouping::Grouping;
use crate::hosting::{Hosting, explain};
use crate::interrupt::Interrupt;
use crate::metrics::{Endpoint, Serving};
use crate::session::check_privileges;
use crate::snapshot::{Counts, Snapshot};
use output::Output;
use requester::{Happened, Plan, Requester};
use statistics::Statistics;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  tailwater ping -i eth1 --address 10.1.0.9/24 10.1.0.1     from an address that nobody else has
  tailwater ping -i eth1 --exclusive 10.1.0.1 -c 3          from the kernel's address, which is ours meanwhile
  tailwater ping -i eth1 --address fd00:1::9/64 fd00:1::1 -s 8000 --interval 0.01

Replies to the kernel's addresses are the kernel's, so either the address or the interface has to be ours.
Exit code 1 if no reply came.";

/// How often signals are looked for.
const LOOK: Duration = Duration::from_millis(20);

/// Options of `ping`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    /// Whom to ask: an address or a name
    #[arg(value_name = "DEST")]
    destination: String,
    /// Stop after this many requests
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Seconds between requests
    #[arg(long, value_name = "SECS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Bytes of data in each request
    #[arg(short, long, value_name = "BYTES", default_value_t = 56, value_parser = clap::value_parser!(u16).range(0..=65_507))]
    size: u16,
    /// Time to live or hop limit
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    ttl: Option<u8>,
    /// Seconds to wait for the last reply
    #[arg(short = 'W', long, value_name = "SECS", default_value = "4", value_parser = seconds)]
    wait: Duration,
    /// Only IPv4
    #[arg(short = '4', conflicts_with = "ipv6")]
    ipv4: bool,
    /// Only IPv6
    #[arg(short = '6')]
    ipv6: bool,
    /// Print the summary only
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    hosting: Hosting,
}

pub(crate) fn run(args: Args, common: Common) -> anyhow::Result<()> {
    let mode = args.hosting.mode();
    if mode == Mode::Shared && args.hosting.addresses() == Addresses::Kernel {
        let hint = "give --address ADDR/LEN that nobody has, or --exclusive to take the interface meanwhile";
        return Err(Failure::usage("replies to the kernel's addresses go to the kernel", hint).into());
    }
    let destination = args.resolve()?;
    let interrupt = Interrupt::listen()?;
    let endpoint = common.metrics.map(Endpoint::bind).transpose()?;
    check_privileges()?;
    let mut config = common.runtime_config(mode, Place::User, &Grouping::default())?;
    // Requests leave from one stack, and replies have to come back to it.
    config.cores.truncate(1);
    let (sender, receiver) = channel();
    let plan = args.plan(destination, common.interfaces.len() == 1);
    let host = Host::new(move |_worker| Requester::new(plan, sender.clone())).addresses(args.hosting.addresses());
    let (runtime, presence) = host.start(&config).map_err(explain)?;
    runtime.describe().iter().for_each(|line| tracing::info!("{line}"));
    let running = Arc::new(Running { started: Instant::now(), runtime: Mutex::new(Some(runtime)) });
    let metrics = endpoint.map(|endpoint| running.serve(endpoint)).transpose()?;
    let output = Output { json: common.json, quiet: args.quiet, size: args.size.into(), destination };
    output.start(&args.destination);
    let statistics = follow(&args, common.duration, &running, &receiver, &interrupt, &output);
    drop((metrics, presence));
    running.stop()?;
    output.end(&args.destination, &statistics);
    if statistics.received == 0 {
        let hint = "is it on the link of --address, or is --gateway missing? -v shows what was set up";
        return Err(Failure::new(format!("no reply from {destination}"), hint).into());
    }
    Ok(())
}

/// The dataplane, shared with those who ask for metrics.
struct Running {
    started: Instant,
    /// `None` once it is being stopped.
    runtime: Mutex<Option<Runtime>>,
}

impl Running {
    fn runtime(&self) -> MutexGuard<'_, Option<Runtime>> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> bool {
        self.runtime().as_ref().is_some_and(Runtime::alive)
    }

    fn serve(self: &Arc<Self>, endpoint: Endpoint) -> anyhow::Result<Serving> {
        let asked = Arc::clone(self);
        let serving = endpoint.serve(move || {
            let report = asked.runtime().as_mut()?.report();
            Some(Snapshot::of("ping", asked.started.elapsed().as_millis() as u64, &report, Counts::new()))
        })?;
        crate::output::note(format_args!("metrics: http://{}/metrics", serving.address()));
        Ok(serving)
    }

    fn stop(&self) -> anyhow::Result<()> {
        let runtime = self.runtime().take();
        runtime.map_or(Ok(()), |runtime| Ok(runtime.stop().map(drop)?))
    }
}

impl Args {
    fn plan(&self, destination: IpAddr, one_interface: bool) -> Plan {
        let request = EchoRequest {
            destination,
            // Link-local addresses and groups are on a link that only the command line names.
            interface: one_interface.then_some(tailwater_stack::InterfaceId(0)),
            ident: std::process::id() as u16,
            sequence: 0,
            hop_limit: self.ttl,
        };
        let interval_ns = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        Plan { request, count: self.count, interval_ns, size: self.size.into() }
    }

    fn resolve(&self) -> anyhow::Result<IpAddr> {
        let wanted = |address: &IpAddr| (!self.ipv4 || address.is_ipv4()) && (!self.ipv6 || address.is_ipv6());
        let name = self.destination.as_str();
        let found = (name, 0).to_socket_addrs().map(|mut all| all.find_map(|at| Some(at.ip()).filter(wanted)));
        match found {
            Ok(Some(address)) => Ok(address),
            Ok(None) => Err(Failure::usage(format!("{name} has no address of that family"), "drop -4 or -6").into()),
            Err(error) => Err(Failure::usage(format!("cannot resolve {name}: {error}"), "give an address").into()),
        }
    }
}

/// Shows what happens until it is over.
fn follow(
    args: &Args,
    duration: Option<Duration>,
    running: &Running,
    happened: &Receiver<Happened>,
    interrupt: &Interrupt,
    output: &Output,
) -> Statistics {
    let started = Instant::now();
    let mut statistics = Statistics::default();
    let mut last_sent = started;
    while running.alive() {
        if let Ok(happened) = happened.recv_timeout(LOOK) {
            if matches!(happened, Happened::Sent { .. }) {
                last_sent = Instant::now();
            }
            statistics.note(&happened);
            output.happened(&happened);
        }
        let asked_all = args.count.is_some_and(|count| statistics.sent >= count);
        let all_ended = statistics.received + statistics.failed >= statistics.sent;
        let over = asked_all && (all_ended || last_sent.elapsed() >= args.wait);
        if over || duration.is_some_and(|duration| started.elapsed() >= duration) || interrupt.wait(Duration::ZERO) {
            break;
        }
    }
    statistics.elapsed = started.elapsed();
    statistics
}
