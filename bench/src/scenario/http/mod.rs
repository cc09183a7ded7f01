//! An HTTP server under wrk: `tailwater http serve` beside nginx with one worker, on the same files, server on CPU 0, client
//! on CPU 1, over one veth pair.
//!
//! | file | what it is |
//! |---|---|
//! | `site` | the files, and the folder that they and the settings lie in |
//! | `server` | nginx and ours, as they are started |
//! | `client` | wrk, and what it found |

mod client;
mod server;
mod site;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tailwater_lab::{CpuTimes, Lab, LabConfig, Topology};

use crate::contender::{Device, Idle};
use crate::host;
use crate::interrupt;
use crate::report::{Better, Measure};
use crate::scenario::Session;
use crate::testbed::{GENERATOR_CPU, ROUTER_CPU};

use client::{Found, Load};
use server::Server;
use site::{LARGE, SMALL, Site};

/// Of wrk's requests, those that may fail: a connection that is opened again on a port in TIME-WAIT.
const ERRORS_SHARE_MAX: f64 = 0.001;
/// Pause in which what one load left behind comes to its end.
const SETTLE: Duration = Duration::from_millis(200);

struct Contender {
    name: &'static str,
    about: &'static str,
    server: Server,
    /// In a NAPI thread on the server's core; otherwise in the softirq that the client's sending raises, on its core.
    napi_thread: bool,
    /// TSO, GRO and checksums are left to the veth, which does none of them.
    offloads: bool,
}

const fn row(name: &'static str, about: &'static str, server: Server) -> Contender {
    Contender { name, about, server, napi_thread: false, offloads: false }
}

const NGINX: &str = "nginx, one worker, sendfile";
const NGINX_ROW: Contender = row("nginx", NGINX, Server::Nginx { sendfile: true });
const SLEEP: &str = "tailwater http serve --idle sleep, server blocks";

const CONTENDERS: &[Contender] = &[
    NGINX_ROW,
    row("nginx-copy", "nginx, one worker, sendfile off", Server::Nginx { sendfile: false }),
    row("tailwater-spin", "tailwater http serve --idle spin, server polls", Server::Tailwater(Idle::Spin)),
    row(
        "tailwater-adaptive",
        "tailwater http serve --idle adaptive, server spins and then sleeps",
        Server::Tailwater(Idle::Adaptive),
    ),
    row("tailwater-sleep", SLEEP, Server::Tailwater(Idle::Sleep)),
    Contender { napi_thread: true, ..row("nginx-napi", NGINX, Server::Nginx { sendfile: true }) },
    Contender { napi_thread: true, ..row("tailwater-sleep-napi", SLEEP, Server::Tailwater(Idle::Sleep)) },
    Contender { offloads: true, ..row("nginx-offloads", NGINX, Server::Nginx { sendfile: true }) },
];

/// Connections that ask at the same time.
const SOME: usize = 64;
const MANY: usize = 1000;
const LOADS: [(&str, Load); 6] = [
    ("64 B", Load { file: SMALL, connections: SOME, closes: false }),
    ("64 B, close", Load { file: SMALL, connections: SOME, closes: true }),
    ("64 KiB", Load { file: LARGE, connections: SOME, closes: false }),
    ("64 KiB, close", Load { file: LARGE, connections: SOME, closes: true }),
    ("64 B, 1000 connections", Load { file: SMALL, connections: MANY, closes: false }),
    ("64 KiB, 1000 connections", Load { file: LARGE, connections: MANY, closes: false }),
];

pub(super) fn names() -> Vec<(String, String)> {
    CONTENDERS.iter().map(|contender| (contender.name.to_owned(), contender.about.to_owned())).collect()
}

pub(super) fn run(session: &mut Session<'_>) -> Result<()> {
    measures(session);
    notes(session);
    for contender in CONTENDERS.iter().filter(|contender| session.wants(contender.name)).collect::<Vec<_>>() {
        let setting = match (contender.napi_thread, contender.offloads) {
            (true, _) => "receive work in a NAPI thread on the server's core",
            (false, true) => "receive work in a softirq on the client's core, all off-loads on",
            (false, false) => "receive work in a softirq on the client's core",
        };
        session.add_row(contender.name, contender.about, setting, absent(session, contender.server));
    }
    session.take_turns(CONTENDERS, |contender| contender.name, LOADS.len(), turn)
}

/// Why this server cannot be measured here, if so.
fn absent(session: &Session<'_>, server: Server) -> Option<String> {
    let missing = |program: &str| {
        host::find_program(program).is_none().then(|| format!("{program} is not installed (ci/setup --bench)"))
    };
    let ours = match server {
        Server::Nginx { .. } => missing("nginx"),
        Server::Tailwater(idle) => session.options.binaries.absent(Device::TailwaterUser(idle)),
    };
    missing("wrk").or(ours)
}

fn measures(session: &mut Session<'_>) {
    let mut measure = |name: &str, title: &str, unit: &str, better: Better, value: &str| {
        session.measure(Measure {
            name: name.into(),
            title: title.into(),
            unit: unit.into(),
            better,
            reference: NGINX_ROW.name.into(),
            columns: LOADS.iter().map(|(column, _)| (*column).to_owned()).collect(),
            load: None,
            value: value.into(),
        });
    };
    measure("rate", "Requests a second", "k/s", Better::Higher, "k_per_second");
    measure("server", "Requests for a second of the server's CPU", "k", Better::Higher, "k_per_server_cpu");
    measure("p50", "From request to response, median", "us", Better::Lower, "p50_us");
    measure("p99", "From request to response, 99th percentile", "us", Better::Lower, "p99_us");
    measure("cpu", "Time of both CPUs for a request", "us", Better::Lower, "both_cpus_us");
}

fn notes(session: &mut Session<'_>) {
    let notes = [
        "Client: wrk with one thread on CPU 1, over the kernel's TCP, 64 connections unless the column says otherwise; with \
         \"close\" each request has a connection of its own, which the server ends. Where a server that blocks has time \
         left on its CPU, the rate is wrk's.",
        "The same two files for both servers, from the page cache (nginx, with its cache of open files) and from memory \
         (ours). nginx writes no access log, its listening queue has 8192 places, and its answers have neither ETag nor \
         Last-Modified, as ours; \"What was run\" has the length of each server's head.",
        "On a veth, receiving is paid by whoever sends unless a NAPI thread does it: compare within one placement. A server \
         that polls uses its CPU whatever there is to do, so for CPU time compare those that block.",
        "Off-loads (TSO, GSO, GRO, checksums) are off on both ends, as on a wire, scatter-gather is on.",
        "\"nginx-offloads\" has off-loads on: buffers of up to 64 KiB cross the veth uncut and unsummed.",
        "\"nginx-napi\" and \"tailwater-sleep-napi\" have GRO on at the server's end, without which a veth gives the kernel no \
         NAPI.",
        "Congestion control is CUBIC at every end, the kernel's included.",
        "For orientation, measured apart and not in turns: F-Stack 1.25 (its epoll example, which parses nothing and has no files; 438 B) \
         had 0.84 to 1.38 times the requests a second of nginx on the same veths, depending on who does the receive work, and 0.62 \
         to 1.63 with a connection for each. That nginx had its off-loads on.",
    ];
    for note in notes {
        session.note(note);
    }
}

fn turn(session: &mut Session<'_>, contender: &Contender, run: u32) -> Result<()> {
    let quiet = session.wait_until_quiet()?;
    let config = LabConfig { ipv6: false, static_neighbours: true, ..LabConfig::default() };
    let lab = Lab::build(Topology::Pair, &config)?;
    prepare(&lab, contender)?;
    let site = Site::make(lab.dut().name())?;
    let (_server, command) = contender.server.start(&lab, &site, &session.options.binaries)?;
    if contender.napi_thread {
        lab.dut().napi_thread("d0", ROUTER_CPU)?;
    }
    let head_bytes = site.verify(lab.client())?;
    let mut commands = vec![command, format!("its answers begin with {head_bytes} bytes of head")];
    for (column, load) in LOADS {
        let program = load.program(&lab, &site, session.options.secs);
        commands.push(program.display_short());
        let (before, began) = ([CpuTimes::read(ROUTER_CPU)?, CpuTimes::read(GENERATOR_CPU)?], Instant::now());
        let printed = program.cpu(GENERATOR_CPU).run(client::deadline(session.options.secs))?;
        let (after, elapsed) = ([CpuTimes::read(ROUTER_CPU)?, CpuTimes::read(GENERATOR_CPU)?], began.elapsed());
        interrupt::check()?;
        let found = client::parse(&printed)?;
        let busy = [0, 1].map(|at| after[at].busy_since(before[at]) * elapsed.as_secs_f64() / found.secs());
        record(session, (contender.name, column, run, quiet), &found, busy)?;
        interrupt::sleep(SETTLE)?;
    }
    session.commands(contender.name, &commands);
    Ok(())
}

fn record(session: &mut Session<'_>, of: (&str, &str, u32, bool), found: &Found, busy: [f64; 2]) -> Result<()> {
    let (name, column, run, quiet) = of;
    let (errors, requests) = (found.errors as f64, found.requests as f64);
    ensure!(requests > 0.0, "{column}: no request was answered");
    ensure!(errors <= requests * ERRORS_SHARE_MAX, "{column}: {errors} errors beside {requests} answers");
    let [server, client] = busy.map(|busy| busy.max(0.001));
    let per_second = requests / found.secs();
    let values = [
        ("k_per_second", per_second / 1e3),
        ("k_per_server_cpu", per_second / 1e3 / server),
        ("both_cpus_us", (server + client) * 1e6 / per_second),
        ("p50_us", found.p50_us),
        ("p99_us", found.p99_us),
        ("p999_us", found.p999_us),
        ("max_us", found.max_us),
        ("errors", errors),
        ("server_cpu_busy", server),
        ("client_cpu_busy", client),
    ];
    session.sample(name, column, "", run, quiet, &values);
    let busy = server * 100.0;
    session.step(&format!(
        "run {run} {name}, {column}: {:.1} k/s, median {:.0} us, server's CPU {busy:.0} %, {errors} errors",
        per_second / 1e3,
        found.p50_us,
    ));
    Ok(())
}

/// Frames as on a wire, and as many connections as the ports of one client allow.
fn prepare(lab: &Lab, contender: &Contender) -> Result<()> {
    for (namespace, interface) in [(lab.client(), "c0"), (lab.dut(), "d0")] {
        namespace.offload(interface, &["tso", "gso", "gro", "tx"], contender.offloads)?;
        namespace.offload(interface, &["sg"], true)?;
        namespace.sysctl("net.core.somaxconn", server::BACKLOG)?;
        namespace.sysctl("net.ipv4.tcp_max_syn_backlog", server::BACKLOG)?;
    }
    lab.set_congestion_control("cubic")?;
    lab.client().sysctl("net.ipv4.ip_local_port_range", "1024 60999")?;
    if contender.napi_thread {
        // Without a program a veth has a NAPI only with gro.
        lab.dut().offload("d0", &["gro"], true)?;
    }
    Ok(())
}
