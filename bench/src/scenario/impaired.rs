//! A stream over a bad path, from the kernel's sockets and from our stack in turn, to a kernel socket; and one of each at the
//! same time over one bottleneck.
//!
//! ```text
//!   CPU 1: source                    CPU 0: tailwater l3fwd, with impair blocks       CPU 1: sink
//!   g0 10.1.0.2 ---------------- d0: rate, 25 ms, loss, reordering, queue --- d1 ------- s0 10.2.0.2
//!   kernel or ours                     25 ms, all of it <--- acknowledgements            kernel
//! ```

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use tailwater_lab::{Lab, LabConfig, Process, Topology};

use crate::contender::{Device, Idle};
use crate::interrupt;
use crate::report::{Better, Measure};
use crate::scenario::Session;
use crate::tcp_stream::Received;
use crate::testbed::{GENERATOR_CPU, ROUTER_CPU};
use crate::tools;

const RATE_BPS: u64 = 100_000_000;
/// Each way.
const DELAY_US: u64 = 25_000;
/// Packets that are in the delay at the full rate, and as many as a round trip holds to wait before it: a queue of one
/// bandwidth-delay product. The block counts both together.
const QUEUE_PACKETS: u64 = 206 + 412;
const START: Duration = Duration::from_secs(20);
/// Two flows take a while to find their shares: they run so much longer, and the first part of it does not count.
const SHARING: f64 = 3.0;
const KERNEL_AT: &str = "10.1.0.2:7001";
const OURS_AT: &str = "10.1.0.2:7002";

/// Congestion controls: ours, the kernel's it is measured against, and the measure that they fill.
const CONTROLS: [Control; 4] = [
    Control { name: "cubic", kernels: "cubic", value: "cubic_mbps" },
    Control { name: "reno", kernels: "reno", value: "reno_mbps" },
    Control { name: "bbr", kernels: "bbr", value: "bbr_mbps" },
    Control { name: "bbr3", kernels: "bbr", value: "bbr3_mbps" },
];
const SHARE: &str = "share_mbps";

struct Control {
    name: &'static str,
    kernels: &'static str,
    value: &'static str,
}

impl Control {
    fn of(&self, sender: Sender) -> &'static str {
        if sender == Sender::Kernel { self.kernels } else { self.name }
    }
}

/// What the path does besides.
struct Impairment {
    name: &'static str,
    settings: &'static [&'static str],
}

const IMPAIRMENTS: [Impairment; 3] = [
    Impairment { name: "1 % loss", settings: &["loss_percent=1"] },
    Impairment { name: "3 % reordering", settings: &["reorder_percent=3"] },
    Impairment { name: "both", settings: &["loss_percent=1", "reorder_percent=3"] },
];

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sender {
    Kernel,
    Ours,
}

const CONTENDERS: [(&str, &str, Sender); 2] = [
    ("kernel", "Linux TCP, kernel to kernel", Sender::Kernel),
    ("tailwater", "our TCP in a worker, ours to kernel", Sender::Ours),
];

pub(super) fn names() -> Vec<(String, String)> {
    CONTENDERS.iter().map(|(name, about, _)| ((*name).to_owned(), (*about).to_owned())).collect()
}

pub(super) fn run(session: &mut Session<'_>) -> Result<()> {
    measures(session);
    notes(session);
    for (name, about, sender) in CONTENDERS {
        let absent = session.options.binaries.absent(Device::TailwaterUser(Idle::Sleep));
        let absent = absent.or_else(|| (!session.wants(name)).then(|| "not asked for".to_owned()));
        let setting =
            if sender == Sender::Ours { "XDP program on the sender's interface" } else { "no XDP at the sender" };
        session.add_row(name, about, setting, absent);
    }
    let both = CONTENDERS.iter().all(|(name, ..)| session.is_present(name));
    session.plan(u64::from(session.options.runs) * (CONTROLS.len() * CONTENDERS.len() + usize::from(both)) as u64);
    for run in 1..=session.options.runs {
        for control in &CONTROLS {
            for (name, _, sender) in CONTENDERS {
                if session.is_present(name)
                    && let Err(error) = alone(session, name, sender, control, run)
                {
                    session.failed(name, error)?;
                }
            }
        }
        if both && let Err(error) = beside(session, run) {
            session.failed(CONTENDERS[1].0, error)?;
        }
    }
    Ok(())
}

fn measures(session: &mut Session<'_>) {
    let mut measure = |name: &str, title: String, columns: Vec<String>, value: &str| {
        session.measure(Measure {
            name: name.into(),
            title,
            unit: "Mbit/s".into(),
            better: Better::Higher,
            reference: CONTENDERS[0].0.into(),
            columns,
            load: None,
            value: value.into(),
        });
    };
    for Control { name, value, .. } in CONTROLS {
        let columns = IMPAIRMENTS.iter().map(|impairment| impairment.name.to_owned()).collect();
        measure(name, format!("Goodput with {name}"), columns, value);
    }
    let columns = CONTROLS.iter().map(|control| control.name.to_owned()).collect();
    measure("share", "Shares of one bottleneck, one flow of each at the same time".into(), columns, SHARE);
}

fn notes(session: &mut Session<'_>) {
    let notes = [
        "100 Mbit/s, 25 ms each way, by the impair block of `tailwater l3fwd`; the same seed for both senders of a run. Reordered \
         packets skip the whole 25 ms and so overtake some 200 others. The three columns of a control run at the same time, \
         each in a network of its own.",
        "The receiver is the same kernel socket for every row, and each sender has a send buffer of 4 MiB. The queue holds one bandwidth-delay product, tail drop.",
        "Shares: no loss, no reordering; the senders are two sockets of one host, kernel and ours, and the ratio is ours to the \
         kernel's in the same run.",
        "The kernel's BBR is version 1, as ours is. `bbr3` is version 3 against the kernel's version 1, which does not yield to \
         losses as version 3 is meant to.",
        "With loss and reordering together a retransmission may overtake what was sent before it. It brings a newer timestamp, so that \
         the receiver refuses the others (PAWS, RFC 7323 section 5.3): these are losses in bursts, above the 2 % at which version 3 \
         of BBR backs off.",
        "Offloads (TSO, GSO, GRO, checksums) are off at sender and receiver, as on a wire.",
    ];
    for note in notes {
        session.note(note);
    }
}

/// One control over each impairment, from one sender.
fn alone(session: &mut Session<'_>, name: &str, sender: Sender, control: &Control, run: u32) -> Result<()> {
    let quiet = session.wait_until_quiet()?;
    let secs = session.options.secs;
    let stream = |impairment: &Impairment| {
        let path = Path::build(session, impairment.settings, run)?;
        let (source, at) = path.source(sender, control.of(sender))?;
        let received = path.drain(&[at], 0.0, secs)?;
        let commands = [path.commands, vec![source.command]].concat();
        received.first().map(|received| (received.mbps(), commands)).context("nothing was received")
    };
    let found = side_by_side(&IMPAIRMENTS, stream)?;
    let mut told = Vec::new();
    for (impairment, (mbps, commands)) in IMPAIRMENTS.iter().zip(found) {
        session.commands(name, &commands);
        session.sample(name, impairment.name, "", run, quiet, &[(control.value, mbps)]);
        told.push(format!("{}: {mbps:.2}", impairment.name));
    }
    session.step(&format!("run {run} {name} {}, Mbit/s: {}", control.name, told.join(", ")));
    Ok(())
}

/// Ours beside the kernel's, for each control.
fn beside(session: &mut Session<'_>, run: u32) -> Result<()> {
    let quiet = session.wait_until_quiet()?;
    let (skip, secs) = (session.options.secs, session.options.secs * SHARING);
    let stream = |control: &Control| {
        let path = Path::build(session, &[], run)?;
        let (_kernel, kernel_at) = path.source(Sender::Kernel, control.of(Sender::Kernel))?;
        let (_ours, ours_at) = path.source(Sender::Ours, control.of(Sender::Ours))?;
        // Who comes first takes turns, too.
        let ours_first = run.is_multiple_of(2);
        let order = if ours_first { [ours_at, kernel_at] } else { [kernel_at, ours_at] };
        let mut received = path.drain(&order, skip, secs)?;
        if ours_first {
            received.reverse();
        }
        Ok(received)
    };
    let found = side_by_side(&CONTROLS, stream)?;
    let mut told = Vec::new();
    for (Control { name: control, .. }, received) in CONTROLS.iter().zip(found) {
        for ((name, ..), received) in CONTENDERS.iter().zip(&received) {
            session.sample(name, control, "", run, quiet, &[(SHARE, received.mbps())]);
            told.push(format!("{control} {name} {:.1}", received.mbps()));
        }
    }
    session.step(&format!("run {run} beside each other, Mbit/s: {}", told.join(", ")));
    Ok(())
}

/// Does `work` for each at the same time.
fn side_by_side<T: Sync, R: Send>(each: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    thread::scope(|scope| {
        let threads: Vec<_> = each.iter().map(|one| scope.spawn(|| work(one))).collect();
        let done =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked"))));
        done.collect()
    })
}

/// A network with its bad path.
struct Path {
    lab: Lab,
    _forwarder: Process,
    commands: Vec<String>,
}

/// A source that serves.
struct Source {
    _process: Process,
    command: String,
}

impl Path {
    fn build(session: &Session<'_>, settings: &[&str], run: u32) -> Result<Self> {
        let config = LabConfig { ipv6: false, static_neighbours: true, ..LabConfig::default() };
        let lab = Lab::build(Topology::Router, &config)?;
        for (namespace, interface) in [(lab.gen_side(), "g0"), (lab.sink(), "s0")] {
            namespace.offload(interface, &["tso", "gso", "gro", "tx", "sg"], false)?;
        }
        let binary = &session.options.binaries.tailwater;
        let cores = ROUTER_CPU.to_string();
        let words = ["l3fwd", "-i", "d0", "-i", "d1", "--place", "user", "--idle", "sleep", "--cores", &cores];
        let program = lab.dut().program(binary).args(words);
        let mut commands = vec![program.display_short()];
        let mut forwarder = program.cpu(ROUTER_CPU).spawn()?;
        forwarder.wait_for_line(tools::READY, START)?;
        let (rate, delay) = (format!("rate_bps={RATE_BPS}"), format!("delay_us={DELAY_US}"));
        let (queue, seed) = (format!("queue_max={QUEUE_PACKETS}"), format!("seed={run}"));
        let there = [&[rate.as_str(), &delay, &queue, &seed], settings].concat();
        for (name, at, settings) in
            [("there", "rx:d0", there), ("back", "rx:d1", vec![delay.as_str(), "queue_max=4000"])]
        {
            let words = ["ctl", "--pid", &forwarder.pid().to_string(), "insert", name, "impair", at].map(str::to_owned);
            let program = lab.dut().program(binary).args(words).args(settings);
            program.run(START)?;
            commands.push(program.display_short());
        }
        Ok(Self { lab, _forwarder: forwarder, commands })
    }

    /// Starts a source; where it is reached.
    fn source(&self, sender: Sender, control: &str) -> Result<(Source, &'static str)> {
        let (at, ours) = match sender {
            Sender::Kernel => (KERNEL_AT, None),
            Sender::Ours => (OURS_AT, Some(("g0", GENERATOR_CPU))),
        };
        if sender == Sender::Kernel {
            let known = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control")?;
            ensure!(
                known.split_whitespace().any(|known| known == control),
                "the kernel has no {control}: it has {known}"
            );
        }
        let program = tools::tcp_source(self.lab.gen_side(), at, control, ours)?;
        let command = program.display_short();
        let mut process = program.cpu(GENERATOR_CPU).spawn()?;
        process.wait_for_line(tools::READY, START)?;
        Ok((Source { _process: process, command }, at))
    }

    fn drain(&self, sources: &[&str], skip: f64, secs: f64) -> Result<Vec<Received>> {
        let sink = tools::tcp_sink(self.lab.sink(), sources, skip, secs)?.cpu(GENERATOR_CPU);
        let found = sink.run(Duration::from_secs_f64(skip + secs) + START)?;
        interrupt::check()?;
        serde_json::from_str(found.trim()).context("reading what the sink printed")
    }
}
