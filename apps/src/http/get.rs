//! `tailwater http get`.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Args as ClapArgs;
use serde_json::json;
use tailwater_dataplane::service::{self, Host, Presence};
use tailwater_xdp::Place;

use super::client::{Client, Happened, Outlook, Plan};
use super::download::{self, Outcome, Wishes};
use super::spout::Spout;
use super::url::Url;
use crate::common::Common;
use crate::failure::Failure;
use crate::grouping::Grouping;
use crate::hosting::{Hosting, KEEP_ALIVE, explain};
use crate::output;
use crate::session::{self, Part};

pub(super) const AFTER_HELP: &str = "\
Examples:
  tailwater http get -i eth1 http://10.1.0.2/big.iso -o big.iso     with speed and progress
  tailwater http get -i eth1 http://10.1.0.2/bytes/1073741824 --sha256
  tailwater http get -i eth1 http://[fd00:1::2]:8080/ -n 1000       a thousand requests on one connection
  tailwater http get -i eth1 http://10.1.0.2/ -n 1000 --close       a connection for each

The answer's length must be what its head says. Standard output has the result alone; what goes on meanwhile is on
standard error. Exit code 1 if anything but a complete 200 came, or not all of it before the command was ended.";

/// Local ports reserved in the kernel: one connection at a time, and some that linger.
const LOCAL_PORTS: u16 = 64;
/// How often it is looked whether everything is there.
const LOOK: Duration = Duration::from_millis(10);
/// Longer than anybody waits: the command has a progress line of its own.
const NEVER: Duration = Duration::from_secs(100_000_000);

/// Options of `http get`.
#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    /// What to download: `http://HOST:PORT/PATH`, the port 80 unless given
    #[arg(value_parser = Url::parse)]
    url: Url,
    /// Write the body, of several the first, to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Download so many times, one after the other
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// A connection for each request
    #[arg(long)]
    close: bool,
    /// Print the body's SHA-256; several bodies must be the same
    #[arg(long)]
    sha256: bool,
    /// Only IPv4
    #[arg(short = '4', conflicts_with = "ipv6")]
    ipv4: bool,
    /// Only IPv6
    #[arg(short = '6')]
    ipv6: bool,
    #[command(flatten)]
    hosting: Hosting,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let plan = Plan { remote: args.remote()?, request: args.request().into(), count: args.count, closes: args.close };
    let mut common = args.common.clone();
    common.stats_interval = NEVER;
    // One connection lives on one worker.
    common.cores.truncate(1);
    let config = common.runtime_config(args.hosting.mode(), Place::User, &Grouping::default())?;
    let spout = (args.output.is_some() || args.sha256).then(Spout::new);
    let outlook = Arc::new(Outlook { bytes: 0.into(), spout });
    let (sender, happened) = channel();
    let worker_outlook = Arc::clone(&outlook);
    let host = Host::new(move |_worker| Client::new(plan.clone(), Arc::clone(&worker_outlook), sender.clone()));
    let mut stack = tailwater_stack::Config::default();
    stack.tcp.connection.keep_alive = Some(KEEP_ALIVE);
    let host = host.addresses(args.hosting.addresses()).local_ports(LOCAL_PORTS).stack_config(stack);
    let prepared = host.prepare(&config).map_err(explain)?;
    let wishes = args.wishes()?;
    let plan = session::Plan::of_host("http", &common, config, &prepared);
    plan.run(service::graph, |runtime| {
        let collector = Collector::start(wishes, outlook, happened)?;
        let presence = prepared.begin(runtime).map_err(explain)?;
        Ok(Getting { url: args.url.to_string(), json: args.common.json, collector, _presence: presence })
    })
}

impl Args {
    fn remote(&self) -> anyhow::Result<SocketAddr> {
        self.url.resolve(|at| (!self.ipv4 || at.is_ipv4()) && (!self.ipv6 || at.is_ipv6()))
    }

    fn request(&self) -> Vec<u8> {
        let Url { host, target, .. } = &self.url;
        let close = if self.close { "Connection: close\r\n" } else { "" };
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tailwater\r\nAccept: */*\r\n{close}\r\n").into()
    }

    fn wishes(&self) -> anyhow::Result<Wishes> {
        let create = |path: &PathBuf| {
            let hint = "choose another file with -o";
            File::create(path).map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display()), hint))
        };
        let file = self.output.as_ref().map(create).transpose()?;
        Ok(Wishes { file, hashes: self.sha256, count: self.count, json: self.common.json })
    }
}

type Ended = Result<Outcome, String>;

/// The thread that takes the answers in.
struct Collector {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    ended: Arc<Mutex<Option<Ended>>>,
}

impl Collector {
    fn start(wishes: Wishes, outlook: Arc<Outlook>, happened: Receiver<Happened>) -> anyhow::Result<Self> {
        let (stop, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
        let (stopping, ending) = (Arc::clone(&stop), Arc::clone(&ended));
        let thread = std::thread::Builder::new().name("tailwater/download".into()).spawn(move || {
            let outcome = download::collect(wishes, &outlook, &happened, &stopping);
            *ending.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        })?;
        Ok(Self { thread: Some(thread), stop, ended })
    }

    /// What has not come by now does not.
    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }

    fn with_end<T>(&self, look: impl FnOnce(&Ended) -> T) -> Option<T> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(look)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.end();
    }
}

/// The command's part of the running dataplane.
struct Getting {
    url: String,
    json: bool,
    collector: Collector,
    _presence: Presence,
}

impl Part for Getting {
    fn failure(&mut self) -> Option<anyhow::Error> {
        let why = self.collector.with_end(|ended| ended.as_ref().err().cloned())??;
        let hint = "`tailwater ss` beside it shows the connection, `tailwater stats` what was dropped";
        Some(Failure::new(format!("{}: {why}", self.url), hint).into())
    }

    fn is_done(&mut self) -> bool {
        self.collector.with_end(Result::is_ok).unwrap_or(false)
    }

    fn look(&self) -> Duration {
        LOOK
    }

    fn owns_stdout(&self) -> bool {
        true
    }

    fn ending(&mut self) {
        self.collector.end();
    }

    fn stopped(&mut self) {
        let (url, json) = (&self.url, self.json);
        self.collector.with_end(|ended| match ended {
            Ok(outcome) if json => output::line(json!({ "event": "result", "url": url, "result": outcome })),
            Ok(outcome) => output::line(outcome.text(url)),
            Err(_) => {}
        });
    }
}
