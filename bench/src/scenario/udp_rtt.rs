//! UDP round trips, client on CPU 1, server on CPU 0, over one veth pair.
//!
//! Waking an idle core costs tens of microseconds on a virtual machine, more than everything else together. So the
//! name of every row says whether the server polls, and the name of every column whether the client does.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tailwater_lab::{Lab, LabConfig, Process, Topology};

use crate::contender::Idle;
use crate::forwarder::{Binaries, HUGE_PAGES, MEMORY_MIB, environment};
use crate::host::{self, HugePages};
use crate::interrupt;
use crate::report::{Better, Measure};
use crate::round_trip::RoundTrips;
use crate::scenario::Session;
use crate::scenario::server::{self, Contender};
use crate::testbed::{GENERATOR_CPU, ROUTER_CPU};
use crate::tools;

const LISTEN: &str = "10.1.0.1:7777";
const START: Duration = Duration::from_secs(20);
/// Attempts of the first exchange, a quarter of a second each: how long a server may take to start.
const PROBES_MAX: usize = 60;

/// The servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Kernel { polling: bool },
    Testpmd,
    Tailwater(Idle),
}

const CONTENDERS: &[Contender<Server>] = &[
    Contender::new("kernel-polls", "echo on a kernel UDP socket, server polls", Server::Kernel { polling: true }),
    Contender::new("kernel-blocks", "echo on a kernel UDP socket, server blocks", Server::Kernel { polling: false }),
    Contender::new(
        "testpmd-5tswap",
        "DPDK testpmd 5tswap over net_af_xdp, busy_budget=0, server polls",
        Server::Testpmd,
    ),
    Contender::new("tailwater-spin", "tailwater echo --idle spin, server polls", Server::Tailwater(Idle::Spin)),
    Contender::new(
        "tailwater-adaptive",
        "tailwater echo --idle adaptive, server spins and then sleeps",
        Server::Tailwater(Idle::Adaptive),
    ),
    Contender::new("tailwater-sleep", "tailwater echo --idle sleep, server blocks", Server::Tailwater(Idle::Sleep)),
    Contender::new("testpmd-5tswap-napi", "DPDK testpmd 5tswap, server polls", Server::Testpmd).with_napi_thread(),
    Contender::new("tailwater-spin-napi", "tailwater echo --idle spin, server polls", Server::Tailwater(Idle::Spin))
        .with_napi_thread(),
];

const CLIENTS: [(&str, bool); 2] = [("client polls", true), ("client blocks", false)];

pub(super) fn names() -> Vec<(String, String)> {
    server::names(CONTENDERS)
}

pub(super) fn run(session: &mut Session<'_>) -> Result<()> {
    for (name, title) in [("p50", "median"), ("p99", "99th percentile"), ("p999", "99.9th percentile")] {
        session.measure(Measure {
            name: name.into(),
            title: format!("UDP round trip, 64 bytes, {title}"),
            unit: "us".into(),
            better: Better::Lower,
            reference: "kernel-polls".into(),
            columns: CLIENTS.iter().map(|(column, _)| (*column).to_owned()).collect(),
            load: None,
            value: format!("{name}_us"),
        });
    }
    session.note(
        "Client on CPU 1 with a kernel socket, one datagram in flight; server on CPU 0. Rows say whether the server polls or \
         blocks, columns whether the client does. The client is the same for every row.",
    );
    session.note(
        "Transmit checksum off-load is off at the client, so that AF_XDP sees frames as a wire would carry them.",
    );
    let binaries = &session.options.binaries;
    for contender in CONTENDERS.iter().filter(|contender| session.wants(contender.name)).collect::<Vec<_>>() {
        session.add_row(contender.name, contender.about, contender.setting(), absent(contender.server, binaries));
    }
    let _pages = HugePages::reserve(HUGE_PAGES).ok();
    session.take_turns(CONTENDERS, |contender| contender.name, CLIENTS.len(), turn)
}

fn absent(server: Server, binaries: &Binaries) -> Option<String> {
    use crate::contender::Device;
    match server {
        Server::Kernel { .. } => None,
        Server::Testpmd => binaries.absent(Device::TestpmdIo),
        Server::Tailwater(idle) => binaries.absent(Device::TailwaterUser(idle)),
    }
}

fn turn(session: &mut Session<'_>, contender: &Contender<Server>, run: u32) -> Result<()> {
    let quiet = session.wait_until_quiet()?;
    let config = LabConfig { ipv6: false, static_neighbours: true, ..LabConfig::default() };
    let lab = Lab::build(Topology::Pair, &config)?;
    let (mut server, command) = start(contender.server, &lab, &session.options.binaries)?;
    session.commands(contender.name, &[command]);
    wait_for_echo(&lab, &mut server)?;
    if contender.napi_thread {
        lab.dut().napi_thread("d0", ROUTER_CPU)?;
    }
    for (column, polling) in CLIENTS {
        let client = tools::ping_pong(lab.client(), LISTEN, polling, session.options.secs)?.cpu(GENERATOR_CPU);
        let deadline = Duration::from_secs_f64(session.options.secs) + START;
        let found = client.run(deadline)?;
        interrupt::check()?;
        let found: RoundTrips = serde_json::from_str(found.trim()).context("reading what the client printed")?;
        ensure!(found.lost * 10 <= found.count, "{} of {} datagrams lost", found.lost, found.count + found.lost);
        let values = [
            ("p50_us", found.p50_us),
            ("p99_us", found.p99_us),
            ("p999_us", found.p999_us),
            ("max_us", found.max_us),
            ("count", found.count as f64),
            ("lost", found.lost as f64),
        ];
        session.sample(contender.name, column, "", run, quiet, &values);
        session.step(&format!(
            "run {run} {}, {column}: median {:.1} us, p99 {:.1}",
            contender.name, found.p50_us, found.p99_us
        ));
    }
    Ok(())
}

fn start(server: Server, lab: &Lab, binaries: &Binaries) -> Result<(Process, String)> {
    let program = match server {
        Server::Kernel { polling } => tools::echo_server(lab.dut(), LISTEN, polling)?,
        Server::Testpmd => {
            // It answers for any address; the kernel must not answer too.
            lab.dut().ip("addr flush dev d0")?;
            let path: &Path = binaries.testpmd.as_ref().context("dpdk-testpmd is not installed")?;
            let program = environment(lab.dut().program(path), &[0, 1], MEMORY_MIB);
            let program = program.args(["--vdev", "net_af_xdp0,iface=d0,busy_budget=0", "--", "--forward-mode=5tswap"]);
            program.args(["--auto-start", "--no-mlockall", "--total-num-mbufs=32768"]).stdin_open()
        }
        Server::Tailwater(idle) => {
            let cores = ROUTER_CPU.to_string();
            let program = lab.dut().program(&binaries.tailwater);
            let program = program.args(["echo", "--udp", "-i", "d0", "--listen", LISTEN, "--cores", &cores]);
            program.args(["--idle", idle.word()])
        }
    };
    let command = program.display_short();
    if server == Server::Testpmd {
        host::top_up_huge_pages(HUGE_PAGES)?;
    }
    let mut process = program.cpu(ROUTER_CPU).spawn()?;
    if server != Server::Testpmd {
        process.wait_for_line(tools::READY, START)?;
    }
    Ok((process, command))
}

/// Waits until a datagram comes back. The client's own check then holds for every single one.
fn wait_for_echo(lab: &Lab, server: &mut Process) -> Result<()> {
    let socket = lab.client().enter(|| std::net::UdpSocket::bind("10.1.0.2:0"))??;
    socket.set_read_timeout(Some(Duration::from_millis(250)))?;
    for _ in 0..PROBES_MAX {
        interrupt::check()?;
        ensure!(server.is_running(), "the server ended: {}", server.stdout());
        let mut reply = [0u8; 64];
        if socket.send_to(b"are you there", LISTEN).is_ok()
            && let Ok((length, from)) = socket.recv_from(&mut reply)
            && reply.get(..length) == Some(b"are you there")
            && from.to_string() == LISTEN
        {
            return Ok(());
        }
        interrupt::sleep(Duration::from_millis(10))?;
    }
    anyhow::bail!("the server does not echo")
}
