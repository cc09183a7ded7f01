//! One way over TCP as fast as it goes, sender on CPU 1, receiver on CPU 0, over one veth pair: either end the kernel's, with
//! iperf3, or ours.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tailwater_lab::{CpuTimes, Lab, LabConfig, Namespace, Process, Topology};

use crate::contender::{Device, Idle};
use crate::interrupt;
use crate::report::{Better, Measure};
use crate::scenario::Session;
use crate::testbed::{GENERATOR_CPU, ROUTER_CPU};
use crate::tools;

const SERVER: &str = "10.1.0.1";
const LISTEN: &str = "10.1.0.1:5201";
const START: Duration = Duration::from_secs(20);
/// What arrives before is the handshakes'.
const BEGUN_BYTES: u64 = 4 << 20;
/// From the first bytes to the measured time: slow start is over.
const WARM_UP: Duration = Duration::from_millis(500);
/// Seconds that a sender goes on beyond the measured time.
const SPARE_SECS: f64 = 1.5;
const MTUS: [u32; 2] = [1500, 9000];
const STREAMS: [usize; 2] = [1, 4];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Kernel,
    Ours,
}

/// Who is at which end, and where what arrives is worked on.
struct Contender {
    name: &'static str,
    about: &'static str,
    sender: End,
    receiver: End,
    /// In a NAPI thread on the receiver's core; otherwise in the softirq that sending raises, on the sender's core.
    napi_thread: bool,
    /// The kernel's TSO, GSO, GRO and checksums are left to the veth, which does none of them.
    offloads: bool,
    /// Scatter-gather stays on for the kernel's ends, too.
    scatter_gather: bool,
    /// Our end hands segments to the kernel one by one.
    by_ring: bool,
}

const fn row(name: &'static str, about: &'static str, sender: End, receiver: End, napi_thread: bool) -> Contender {
    Contender { name, about, sender, receiver, napi_thread, offloads: false, scatter_gather: false, by_ring: false }
}

const CONTENDERS: &[Contender] = &[
    row("kernel", "kernel to kernel", End::Kernel, End::Kernel, false),
    row("sends", "tailwater perf to kernel", End::Ours, End::Kernel, false),
    row("receives", "kernel to tailwater perf", End::Kernel, End::Ours, false),
    row("both", "tailwater perf to tailwater perf", End::Ours, End::Ours, false),
    row("kernel-napi", "kernel to kernel", End::Kernel, End::Kernel, true),
    row("sends-napi", "tailwater perf to kernel", End::Ours, End::Kernel, true),
    row("receives-napi", "kernel to tailwater perf", End::Kernel, End::Ours, true),
    row("both-napi", "tailwater perf to tailwater perf", End::Ours, End::Ours, true),
    Contender {
        offloads: true,
        ..row("kernel-offloads", "kernel to kernel, TSO and checksum off-load on", End::Kernel, End::Kernel, false)
    },
    Contender {
        scatter_gather: true,
        ..row("kernel-sg", "kernel to kernel, scatter-gather on", End::Kernel, End::Kernel, false)
    },
    Contender {
        by_ring: true,
        ..row("sends-ring", "tailwater perf --no-gso to kernel", End::Ours, End::Kernel, false)
    },
];

fn column(mtu: u32, streams: usize) -> String {
    let streams = if streams == 1 { "1 stream".to_owned() } else { format!("{streams} streams") };
    format!("MTU {mtu}, {streams}")
}

pub(super) fn names() -> Vec<(String, String)> {
    CONTENDERS.iter().map(|contender| (contender.name.to_owned(), contender.about.to_owned())).collect()
}

pub(super) fn run(session: &mut Session<'_>) -> Result<()> {
    describe(session);
    for contender in CONTENDERS.iter().filter(|contender| session.wants(contender.name)).collect::<Vec<_>>() {
        let setting = match (contender.napi_thread, contender.offloads) {
            (true, _) => "receive work in a NAPI thread on the receiver's core, where the kernel has its GRO on",
            (false, true) => "receive work in a softirq on the sender's core, all off-loads on",
            (false, false) => "receive work in a softirq on the sender's core, all off-loads off",
        };
        let ours = contender.sender == End::Ours || contender.receiver == End::Ours;
        let absent = session.options.binaries.absent(Device::TailwaterUser(Idle::Adaptive)).filter(|_| ours);
        session.add_row(contender.name, contender.about, setting, absent);
    }
    let present = CONTENDERS.iter().filter(|contender| session.is_present(contender.name)).count();
    session.plan((present * session.options.runs as usize * MTUS.len() * STREAMS.len()) as u64);
    for mtu in MTUS {
        for run in 1..=session.options.runs {
            for contender in CONTENDERS {
                if session.is_present(contender.name)
                    && let Err(error) = turn(session, contender, mtu, run)
                {
                    session.failed(contender.name, error)?;
                }
            }
        }
    }
    Ok(())
}

fn describe(session: &mut Session<'_>) {
    let columns: Vec<String> =
        MTUS.iter().flat_map(|&mtu| STREAMS.iter().map(move |&streams| column(mtu, streams))).collect();
    let measures = [
        ("goodput", "Goodput", "Gbit/s", Better::Higher, "gbps"),
        ("cpu", "Time of both CPUs for a kilobyte", "ns", Better::Lower, "ns_per_kilobyte"),
    ];
    for (name, title, unit, better, value) in measures {
        session.measure(Measure {
            name: name.into(),
            title: title.into(),
            unit: unit.into(),
            better,
            reference: "kernel".into(),
            columns: columns.clone(),
            load: None,
            value: value.into(),
        });
    }
    let notes = [
        "Sender on CPU 1, receiver on CPU 0; congestion control CUBIC everywhere, by the routes, too: iperf3 asks for it only when it has \
         connected, and a socket that began with BBR, where that is the default, goes on pacing by timers. The kernel's ends are iperf3's, ours are \
         `tailwater perf`, which speaks the same protocol.",
        "Off-loads (TSO, GSO, GRO, checksums) are off, as on a wire that carries no more than the MTU. Also then the \
         kernel's TCP hands down large buffers and cuts them below IP; so does our end by a packet socket. Scatter-gather is \
         on for our ends, which need it for that, and off for the kernel's.",
        "\"sends-ring\" hands segments to the kernel one by one.",
        "On a veth, receiving is paid by whoever sends unless a NAPI thread does it: compare rows of one placement.",
        "A veth gives the kernel a NAPI only with GRO: \"kernel-napi\" and \"sends-napi\" have that at the receiver.",
        "\"kernel-offloads\": buffers of 64 KiB cross the veth uncut and unsummed: memory copies, not packets.",
    ];
    for note in notes {
        session.note(note);
    }
}

fn turn(session: &mut Session<'_>, contender: &Contender, mtu: u32, run: u32) -> Result<()> {
    let quiet = session.wait_until_quiet()?;
    let config = LabConfig { ipv6: false, static_neighbours: true, mtu_bytes: mtu, ..LabConfig::default() };
    let lab = Lab::build(Topology::Pair, &config)?;
    lab.set_congestion_control("cubic")?;
    prepare(&lab, contender)?;
    let mut commands = Vec::new();
    let _receiver = receive(session, contender, &lab, &mut commands)?;
    for streams in STREAMS {
        let secs = session.options.secs;
        let program = send(session, contender, lab.client(), streams, secs);
        commands.push(program.display_short());
        let mut sender = program.cpu(GENERATOR_CPU).spawn()?;
        let busy = watch(&lab, &mut sender, secs)?;
        let text = sender.wait(Duration::from_secs_f64(secs) + START)?.stdout;
        interrupt::check()?;
        let document: Value = serde_json::from_str(&text).context("reading what the sender printed")?;
        let end = |sum: &str, field: &str| document.pointer(&format!("/end/{sum}/{field}")).and_then(Value::as_f64);
        let gbps = end("sum_received", "bits_per_second").context("no rate in what the sender printed")? / 1e9;
        ensure!(gbps > 0.0, "nothing arrived");
        let values = [
            ("gbps", gbps),
            ("receiver_cpu_busy", busy[0]),
            ("sender_cpu_busy", busy[1]),
            ("ns_per_kilobyte", (busy[0] + busy[1]) * 1e9 / (gbps * 1e9 / 8.0 / 1e3)),
            ("retransmits", end("sum_sent", "retransmits").unwrap_or(0.0)),
        ];
        session.sample(contender.name, &column(mtu, streams), "", run, quiet, &values);
        session.step(&format!("{} run {run} {}: {gbps:.2} Gbit/s", column(mtu, streams), contender.name));
    }
    session.commands(contender.name, &commands);
    Ok(())
}

fn prepare(lab: &Lab, contender: &Contender) -> Result<()> {
    for (namespace, interface, end) in [(lab.client(), "c0", contender.sender), (lab.dut(), "d0", contender.receiver)] {
        namespace.offload(interface, &["tso", "gso", "gro", "tx"], contender.offloads)?;
        namespace.offload(interface, &["sg"], contender.offloads || contender.scatter_gather || end == End::Ours)?;
    }
    Ok(())
}

/// Starts the receiving end; its receive work where it belongs.
fn receive(session: &Session<'_>, contender: &Contender, lab: &Lab, commands: &mut Vec<String>) -> Result<Process> {
    let (program, ready) = match contender.receiver {
        End::Kernel => (lab.dut().program("iperf3").args(["-s", "-B", SERVER, "--forceflush"]), "Server listening"),
        End::Ours => {
            let cores = ROUTER_CPU.to_string();
            let program = lab.dut().program(&session.options.binaries.tailwater);
            let program = program.args(["perf", "-s", "-i", "d0", "--listen", LISTEN, "--cores", &cores]);
            (if contender.napi_thread { program.arg("--napi-thread") } else { program }, tools::READY)
        }
    };
    commands.push(program.display_short());
    let mut process = program.cpu(ROUTER_CPU).spawn()?;
    process.wait_for_line(ready, START)?;
    if contender.napi_thread && contender.receiver == End::Kernel {
        lab.dut().offload("d0", &["gro"], true)?;
        lab.dut().napi_thread("d0", ROUTER_CPU)?;
    }
    Ok(process)
}

fn send(
    session: &Session<'_>,
    contender: &Contender,
    client: &Namespace,
    streams: usize,
    secs: f64,
) -> tailwater_lab::Program {
    let (streams, secs) = (streams.to_string(), (secs + SPARE_SECS + WARM_UP.as_secs_f64()).ceil().to_string());
    match contender.sender {
        End::Kernel => client.program("iperf3").args(["-c", SERVER, "-P", &streams, "-t", &secs, "-C", "cubic", "-J"]),
        End::Ours => {
            let cores = GENERATOR_CPU.to_string();
            let program = client.program(&session.options.binaries.tailwater);
            let program = program.args(["perf", "-c", SERVER, "-i", "c0", "-P", &streams, "-t", &secs, "-J"]);
            let program = program.args(["--cores", &cores]);
            if contender.by_ring { program.arg("--no-gso") } else { program }
        }
    }
}

/// How busy receiver's and sender's CPU are, in the middle of the transfer.
fn watch(lab: &Lab, sender: &mut Process, secs: f64) -> Result<[f64; 2]> {
    let arrived = || lab.client().counters("c0").map(|counters| counters.tx_bytes);
    let (before, end) = (arrived()?, Instant::now() + START);
    while arrived()? < before + BEGUN_BYTES {
        interrupt::sleep(Duration::from_millis(20))?;
        ensure!(sender.is_running(), "the sender ended early: {}", sender.stdout());
        ensure!(Instant::now() < end, "nothing is sent");
    }
    interrupt::sleep(WARM_UP)?;
    let cpus = [ROUTER_CPU, GENERATOR_CPU];
    let before = [CpuTimes::read(cpus[0])?, CpuTimes::read(cpus[1])?];
    interrupt::sleep(Duration::from_secs_f64(secs))?;
    let after = [CpuTimes::read(cpus[0])?, CpuTimes::read(cpus[1])?];
    ensure!(sender.is_running(), "the sender ended early: {}", sender.stdout());
    Ok([0, 1].map(|at| after[at].busy_since(before[at])))
}
