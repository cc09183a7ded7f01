//! One way over TCP as fast as it goes, sender on CPU 1, receiver on CPU 0, over one veth pair: either end the kernel's, with
//! iperf3, or ours.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tailwater_lab::{CpuTimes, Lab, LabConfig, LinkCounters, Namespace, Process, Topology};

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
/// IPv4 and TCP with timestamps, in each segment of a stream that goes one way.
const HEADERS_BYTES: u64 = 20 + 32;
const ETHERNET_BYTES: u64 = 14;
const MTUS: [u32; 2] = [1500, 9000];
const STREAMS: [usize; 2] = [1, 4];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Kernel,
    Ours,
}

/// The kernel as it sends over a veth by default, but for off-loads; the second reference.
const SCATTER_GATHER: &str = "kernel-sg";

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
        ..row(SCATTER_GATHER, "kernel to kernel, scatter-gather on", End::Kernel, End::Kernel, false)
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
        let measure = Measure {
            name: name.into(),
            title: title.into(),
            unit: unit.into(),
            better,
            reference: "kernel".into(),
            columns: columns.clone(),
            load: None,
            value: value.into(),
        };
        let against_sg = session.wants(SCATTER_GATHER).then(|| Measure {
            name: format!("{name}-sg"),
            title: format!("{title}, against the kernel with scatter-gather"),
            reference: SCATTER_GATHER.into(),
            ..measure.clone()
        });
        session.measure(measure);
        against_sg.into_iter().for_each(|measure| session.measure(measure));
    }
    let notes = [
        "Sender on CPU 1, receiver on CPU 0; congestion control CUBIC everywhere, by the routes, too: iperf3 asks for it only when it has \
         connected, and a socket that began with BBR, where that is the default, goes on pacing by timers. The kernel's ends are iperf3's, ours are \
         `tailwater perf`, which speaks the same protocol.",
        "Off-loads (TSO, GSO, GRO, checksums) are off, as on a wire that carries no more than the MTU. Also then the \
         kernel's TCP hands down large buffers and cuts them below IP; so does our end by a packet socket. Scatter-gather is \
         on for our ends, which need it for that, and off for the kernel's.",
        "\"kernel-sg\" has scatter-gather on at both ends. This is what the kernel does by itself: a veth has it on by default. \
         \"kernel\" has it off, as where it is switched off with the off-loads. Each row has its ratio to either.",
        "\"sends-ring\" hands segments to the kernel one by one.",
        "On a veth, receiving is paid by whoever sends unless a NAPI thread does it: compare rows of one placement.",
        "A veth gives the kernel a NAPI only with GRO: \"kernel-napi\" and \"sends-napi\" have that at the receiver.",
        "Goodput and CPU time are of one interval, which begins half a second after the first bytes have arrived: text is what the \
         receiver's interface counts less the headers of each segment (what is sent again counts again; the JSON has how many \
         segments were, and the rate of the whole run with its slow start).",
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
        let [before, after] = watch(&lab, &mut sender, secs)?;
        let Found { gbps, busy, ns_per_kilobyte } = after.since(&before, contender.headers_bytes());
        let text = sender.wait(Duration::from_secs_f64(secs) + START)?.stdout;
        interrupt::check()?;
        let document: Value = serde_json::from_str(&text).context("reading what the sender printed")?;
        let end = |sum: &str, field: &str| document.pointer(&format!("/end/{sum}/{field}")).and_then(Value::as_f64);
        let whole_run = end("sum_received", "bits_per_second").context("no rate in what the sender printed")? / 1e9;
        ensure!(gbps > 0.0 && whole_run > 0.0, "nothing arrived");
        let values = [
            ("gbps", gbps),
            ("receiver_cpu_busy", busy[0]),
            ("sender_cpu_busy", busy[1]),
            ("ns_per_kilobyte", ns_per_kilobyte),
            ("whole_run_gbps", whole_run),
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

/// What has arrived and what the CPUs have done, at a moment.
struct Reading {
    at: Instant,
    /// The receiver's and the sender's.
    cpus: [CpuTimes; 2],
    /// At the receiver's interface.
    arrived: LinkCounters,
}

/// What came of an interval.
struct Found {
    gbps: f64,
    /// Shares of the receiver's and the sender's CPU.
    busy: [f64; 2],
    ns_per_kilobyte: f64,
}

impl Contender {
    /// Of each segment, as the receiver's interface counts bytes: a veth with a NAPI, which XDP or GRO gives it, counts
    /// without the Ethernet header.
    fn headers_bytes(&self) -> u64 {
        let napi = self.receiver == End::Ours || self.napi_thread;
        HEADERS_BYTES + if napi { 0 } else { ETHERNET_BYTES }
    }
}

impl Reading {
    fn take(lab: &Lab) -> Result<Self> {
        let cpus = [CpuTimes::read(ROUTER_CPU)?, CpuTimes::read(GENERATOR_CPU)?];
        Ok(Self { at: Instant::now(), cpus, arrived: lab.dut().counters("d0")? })
    }

    fn since(&self, earlier: &Self, headers_bytes: u64) -> Found {
        let (bytes, packets) = (
            self.arrived.rx_bytes.saturating_sub(earlier.arrived.rx_bytes),
            self.arrived.rx_packets.saturating_sub(earlier.arrived.rx_packets),
        );
        let text_bytes = bytes.saturating_sub(packets.saturating_mul(headers_bytes)) as f64;
        let secs = self.at.duration_since(earlier.at).as_secs_f64();
        let busy = [0, 1].map(|at| self.cpus[at].busy_since(earlier.cpus[at]));
        Found {
            gbps: text_bytes * 8.0 / 1e9 / secs,
            busy,
            ns_per_kilobyte: (busy[0] + busy[1]) * secs * 1e9 / (text_bytes / 1e3),
        }
    }
}

/// From the first reading to the second the transfer is past its beginning, and goes on.
fn watch(lab: &Lab, sender: &mut Process, secs: f64) -> Result<[Reading; 2]> {
    let arrived = || lab.client().counters("c0").map(|counters| counters.tx_bytes);
    let (before, end) = (arrived()?, Instant::now() + START);
    while arrived()? < before + BEGUN_BYTES {
        interrupt::sleep(Duration::from_millis(20))?;
        ensure!(sender.is_running(), "the sender ended early: {}", sender.stdout());
        ensure!(Instant::now() < end, "nothing is sent");
    }
    interrupt::sleep(WARM_UP)?;
    let before = Reading::take(lab)?;
    interrupt::sleep(Duration::from_secs_f64(secs))?;
    let after = Reading::take(lab)?;
    ensure!(sender.is_running(), "the sender ended early: {}", sender.stdout());
    Ok([before, after])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(at: Instant, cpus: [(u64, u64); 2], rx_bytes: u64, rx_packets: u64) -> Reading {
        let cpus = cpus.map(|(busy_ticks, idle_ticks)| CpuTimes { busy_ticks, idle_ticks });
        Reading { at, cpus, arrived: LinkCounters { rx_bytes, rx_packets, ..LinkCounters::default() } }
    }

    #[test]
    fn goodput_and_cpu_time_are_of_the_interval_and_of_text_alone() {
        let start = Instant::now();
        let end = start + Duration::from_millis(500);
        let before = reading(start, [(900, 0), (0, 900)], 7_000_000, 7_000);
        // 1,000,000 segments of 1448 bytes behind 66 of headers.
        let after = reading(end, [(925, 25), (50, 900)], 7_000_000 + 1_514_000_000, 1_007_000);
        let found = after.since(&before, 66);
        let close = |value: f64, expected: f64| (value / expected - 1.0).abs() < 1e-9;
        assert!(close(found.gbps, 1.448 * 8.0 / 0.5), "{}", found.gbps);
        assert_eq!(found.busy, [0.5, 1.0]);
        // 0.25 and 0.5 s of CPU for 1,448,000 kilobytes.
        assert!(close(found.ns_per_kilobyte, 0.75e9 / 1_448_000.0), "{}", found.ns_per_kilobyte);
    }

    #[test]
    fn ethernet_headers_are_counted_where_the_receiver_has_no_napi() {
        let bytes = |name: &str| CONTENDERS.iter().find(|row| row.name == name).map(Contender::headers_bytes);
        assert_eq!(["kernel", "sends", "kernel-sg"].map(bytes), [Some(66); 3]);
        assert_eq!(["receives", "both", "kernel-napi"].map(bytes), [Some(52); 3]);
    }
}
