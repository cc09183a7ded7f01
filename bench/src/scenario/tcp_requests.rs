//! Requests and responses over TCP, client on CPU 1 with the kernel's sockets, server on CPU 0, over one veth pair.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tailwater_lab::{CpuTimes, Lab, LabConfig, Namespace, Process, Program, Topology};

use crate::contender::{Device, Idle};
use crate::forwarder::Binaries;
use crate::interrupt;
use crate::report::{Better, Measure};
use crate::scenario::Session;
use crate::scenario::server::{self, Contender};
use crate::tcp_load::{Kind, Transactions};
use crate::testbed::{GENERATOR_CPU, ROUTER_CPU};
use crate::tools;

const LISTEN: &str = "10.1.0.1:7777";
/// Milliseconds after which the client uses a port in TIME-WAIT again.
const TIME_WAIT_MS: u32 = 50;
/// Which Linux has since 6.14; before, it is a second.
const TIME_WAIT_SYSCTL: &str = "net.ipv4.tcp_tw_reuse_delay";
const START: Duration = Duration::from_secs(20);
/// Bytes of request and response.
const SIZE: usize = 64;
/// Connections that are busy at the same time.
const MANY: usize = 64;

/// The servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Kernel { polling: bool },
    Tailwater(Idle),
}

const CONTENDERS: &[Contender<Server>] = &[
    Contender::new(
        "kernel-polls",
        "echo on kernel TCP sockets by epoll, server polls",
        Server::Kernel { polling: true },
    ),
    Contender::new(
        "kernel-blocks",
        "echo on kernel TCP sockets by epoll, server blocks",
        Server::Kernel { polling: false },
    ),
    Contender::new("tailwater-spin", "tailwater echo --tcp --idle spin, server polls", Server::Tailwater(Idle::Spin)),
    Contender::new(
        "tailwater-adaptive",
        "tailwater echo --tcp --idle adaptive, server spins and then sleeps",
        Server::Tailwater(Idle::Adaptive),
    ),
    Contender::new(
        "tailwater-sleep",
        "tailwater echo --tcp --idle sleep, server blocks",
        Server::Tailwater(Idle::Sleep),
    ),
    Contender::new(
        "kernel-blocks-napi",
        "echo on kernel TCP sockets by epoll, server blocks",
        Server::Kernel { polling: false },
    )
    .with_napi_thread(),
    Contender::new(
        "tailwater-sleep-napi",
        "tailwater echo --tcp --idle sleep, server blocks",
        Server::Tailwater(Idle::Sleep),
    )
    .with_napi_thread(),
];

/// What the client does, and whose it is.
struct Column {
    name: &'static str,
    kind: Kind,
    connections: usize,
    ours: bool,
}

const ONE: &str = "1 connection";
const BUSY: &str = "64 connections";
const CONNECT: &str = "64, connect and close";
const OUR_BUSY: &str = "64 connections, our client";
const OUR_CONNECT: &str = "64, connect and close, our client";
const COLUMNS: [Column; 5] = [
    Column { name: ONE, kind: Kind::Rr, connections: 1, ours: false },
    Column { name: BUSY, kind: Kind::Rr, connections: MANY, ours: false },
    Column { name: CONNECT, kind: Kind::Crr, connections: MANY, ours: false },
    Column { name: OUR_BUSY, kind: Kind::Rr, connections: MANY, ours: true },
    Column { name: OUR_CONNECT, kind: Kind::Crr, connections: MANY, ours: true },
];

/// With as many transactions at a time as keep a server busy.
const SEVERAL: [&str; 4] = [BUSY, CONNECT, OUR_BUSY, OUR_CONNECT];

pub(super) fn names() -> Vec<(String, String)> {
    server::names(CONTENDERS)
}

pub(super) fn run(session: &mut Session<'_>) -> Result<()> {
    measures(session);
    notes(session);
    for contender in CONTENDERS.iter().filter(|contender| session.wants(contender.name)).collect::<Vec<_>>() {
        let absent = match contender.server {
            Server::Kernel { .. } => None,
            Server::Tailwater(idle) => session.options.binaries.absent(Device::TailwaterUser(idle)),
        };
        session.add_row(contender.name, contender.about, contender.setting(), absent);
    }
    session.take_turns(CONTENDERS, |contender| contender.name, COLUMNS.len(), turn)
}

fn measures(session: &mut Session<'_>) {
    let mut measure = |name: &str, title: &str, unit: &str, better: Better, columns: &[&str], value: &str| {
        session.measure(Measure {
            name: name.into(),
            title: title.into(),
            unit: unit.into(),
            better,
            reference: "kernel-polls".into(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            load: None,
            value: value.into(),
        });
    };
    let (lower, higher) = (Better::Lower, Better::Higher);
    measure("p50", "Round trip of 64 bytes, median", "us", lower, &[ONE, BUSY, CONNECT], "p50_us");
    measure("p999", "Round trip of 64 bytes, 99.9th percentile", "us", lower, &[ONE, BUSY, CONNECT], "p999_us");
    measure("rate", "Transactions a second", "k/s", higher, &SEVERAL, "k_per_second");
    measure("server", "Transactions for a second of the server's CPU", "k", higher, &SEVERAL, "k_per_server_cpu");
    measure("cpu", "Time of both CPUs for a transaction", "us", lower, &SEVERAL, "both_cpus_us");
}

fn notes(session: &mut Session<'_>) {
    let notes = [
        "Client on CPU 1, the same for every row: one thread, kernel sockets, epoll without sleeping, and every response is \
         compared with its request; in the columns that say so `tailwater perf`, which costs less. Server on CPU 0. With 64 \
         connections over the kernel's sockets the client's CPU is the one that is full: what the server could do shows behind ours.",
        "In the columns with \"connect and close\" each transaction opens a connection, sends, receives and closes; the client closes \
         first.",
        time_wait(has_sysctl(TIME_WAIT_SYSCTL)),
        "On a veth, receiving is paid by whoever sends unless a NAPI thread does it: compare within one placement. A server \
         that polls uses its CPU whatever there is to do, so for CPU time compare those that block.",
        "Off-loads (TSO, GSO, GRO, checksums, scatter-gather) are off on both ends, the kernel's included, as on a wire.",
        "\"kernel-blocks-napi\" and \"tailwater-sleep-napi\" have GRO on at the server's end, without which a veth gives the \
         kernel no NAPI.",
        "Congestion control is CUBIC at every end, the kernel's included.",
    ];
    for note in notes {
        session.note(note);
    }
}

fn turn(session: &mut Session<'_>, contender: &Contender<Server>, run: u32) -> Result<()> {
    let quiet = session.wait_until_quiet()?;
    let config = LabConfig { ipv6: false, static_neighbours: true, ..LabConfig::default() };
    let lab = Lab::build(Topology::Pair, &config)?;
    prepare(&lab, contender.napi_thread)?;
    let (_server, command) = start(contender.server, &lab, &session.options.binaries)?;
    session.commands(contender.name, &[command]);
    if contender.napi_thread {
        lab.dut().napi_thread("d0", ROUTER_CPU)?;
    }
    for Column { name, kind, connections, ours } in COLUMNS {
        let secs = session.options.secs;
        let client = if ours {
            our_client(session, lab.client(), kind, connections)
        } else {
            tools::load(lab.client(), LISTEN, kind, connections, SIZE, secs)?
        };
        let (before, began) = ([CpuTimes::read(ROUTER_CPU)?, CpuTimes::read(GENERATOR_CPU)?], Instant::now());
        let found = client.cpu(GENERATOR_CPU).run(Duration::from_secs_f64(secs) + START)?;
        let (after, elapsed) = ([CpuTimes::read(ROUTER_CPU)?, CpuTimes::read(GENERATOR_CPU)?], began.elapsed());
        interrupt::check()?;
        let found = if ours { ours_found(&found)? } else { serde_json::from_str(found.trim())? };
        // Our client takes a while to start, in which nothing happens.
        let share = if ours { elapsed.as_secs_f64() / secs.ceil() } else { 1.0 };
        let server = (after[0].busy_since(before[0]) * share).max(0.001);
        let client = after[1].busy_since(before[1]) * share;
        let values = [
            ("p50_us", found.p50_us),
            ("p99_us", found.p99_us),
            ("p999_us", found.p999_us),
            ("max_us", found.max_us),
            ("count", found.count as f64),
            ("k_per_second", found.per_second / 1e3),
            ("k_per_server_cpu", found.per_second / 1e3 / server),
            ("both_cpus_us", (server + client) * 1e6 / found.per_second.max(1.0)),
            ("server_cpu_busy", server),
            ("client_cpu_busy", client),
        ];
        session.sample(contender.name, name, "", run, quiet, &values);
        session.step(&format!(
            "run {run} {}, {name}: {:.1} k/s, median {:.1} us, server's CPU {:.0} %",
            contender.name,
            found.per_second / 1e3,
            found.p50_us,
            server * 100.0
        ));
    }
    Ok(())
}

fn our_client(session: &Session<'_>, client: &Namespace, kind: Kind, connections: usize) -> Program {
    let (cores, connections, secs) =
        (GENERATOR_CPU.to_string(), connections.to_string(), session.options.secs.ceil().to_string());
    let mode = if kind == Kind::Rr { "--rr" } else { "--crr" };
    let program = client.program(&session.options.binaries.tailwater);
    let program =
        program.args(["perf", "-c", "10.1.0.1", "-p", "7777", "-i", "c0", "--cores", &cores, "--idle", "spin"]);
    let size = SIZE.to_string();
    program.args([mode, &size, "--peer", "echo", "-P", &connections, "-t", &secs, "--interval", "0", "-J"])
}

fn ours_found(printed: &str) -> Result<Transactions> {
    let document: Value = serde_json::from_str(printed).context("reading what our client printed")?;
    let number = |path: &str| {
        let value = document.pointer(&format!("/end/transactions/{path}")).and_then(Value::as_f64);
        value.with_context(|| format!("our client printed no {path}"))
    };
    Ok(Transactions {
        count: number("count")? as u64,
        per_second: number("per_second")?,
        p50_us: number("latency_us/p50")?,
        p99_us: number("latency_us/p99")?,
        p999_us: number("latency_us/p99.9")?,
        max_us: number("latency_us/max")?,
    })
}

/// How the kernel's client uses ports again.
fn time_wait(has_delay: bool) -> &'static str {
    if has_delay {
        "With the kernel's sockets the client uses ports in TIME-WAIT again after 50 ms (tcp_tw_reuse, tcp_tw_reuse_delay)."
    } else {
        "With the kernel's sockets the client uses ports in TIME-WAIT again after a second (tcp_tw_reuse), as this kernel has no \
         tcp_tw_reuse_delay: what connects and closes may show how the client waits for a port."
    }
}

fn has_sysctl(key: &str) -> bool {
    Path::new("/proc/sys").join(key.replace('.', "/")).exists()
}

/// Frames as on a wire, and as many connections as the ports of one client allow.
fn prepare(lab: &Lab, napi_thread: bool) -> Result<()> {
    for (namespace, interface) in [(lab.client(), "c0"), (lab.dut(), "d0")] {
        namespace.offload(interface, &["tso", "gso", "gro", "tx", "sg"], false)?;
        namespace.sysctl("net.core.somaxconn", "8192")?;
        namespace.sysctl("net.ipv4.tcp_max_syn_backlog", "8192")?;
    }
    lab.set_congestion_control("cubic")?;
    lab.client().sysctl("net.ipv4.ip_local_port_range", "1024 60999")?;
    lab.client().sysctl("net.ipv4.tcp_tw_reuse", "1")?;
    // Else all ports rest after a second, and what is measured is how the client waits for one.
    if has_sysctl(TIME_WAIT_SYSCTL) {
        lab.client().sysctl(TIME_WAIT_SYSCTL, TIME_WAIT_MS)?;
    }
    if napi_thread {
        // Without a program a veth has a NAPI only with gro.
        lab.dut().offload("d0", &["gro"], true)?;
    }
    Ok(())
}

fn start(server: Server, lab: &Lab, binaries: &Binaries) -> Result<(Process, String)> {
    let program = match server {
        Server::Kernel { polling } => tools::tcp_echo_server(lab.dut(), LISTEN, polling)?,
        Server::Tailwater(idle) => {
            let cores = ROUTER_CPU.to_string();
            let program = lab.dut().program(&binaries.tailwater);
            let program = program.args(["echo", "--tcp", "-i", "d0", "--listen", LISTEN, "--cores", &cores]);
            program.args(["--idle", idle.word()])
        }
    };
    let command = program.display_short();
    let mut process = program.cpu(ROUTER_CPU).spawn()?;
    process.wait_for_line(tools::READY, START)?;
    Ok((process, command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctl_that_the_kernel_lacks_is_told_from_one_that_it_has() {
        assert!(has_sysctl("net.ipv4.tcp_tw_reuse"));
        assert!(!has_sysctl("net.ipv4.tcp_tw_reuse_never"));
        assert!(time_wait(true).contains(&format!("after {TIME_WAIT_MS} ms")));
        assert!(time_wait(false).contains("no tcp_tw_reuse_delay"));
    }
}
