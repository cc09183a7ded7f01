//! Message sizes from 64 bytes to 64 KiB in both directions, ours and the kernel's in turn to the same kernel peer: what
//! `tailwater perf --sweep --compare-kernel` measures, over one veth pair, client on CPU 1, peer on CPU 0.
//!
//! ```text
//!   CPU 1: tailwater perf or iperf3 -c                 CPU 0: iperf3 -s
//!   c0 10.1.0.2 ---------------- sends, receives ------------ d0 10.1.0.1
//! ```

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tailwater_lab::{Lab, LabConfig, Topology};

use crate::contender::{Device, Idle};
use crate::interrupt;
use crate::report::{Better, Measure};
use crate::scenario::Session;
use crate::testbed::{GENERATOR_CPU, ROUTER_CPU};

const SERVER: &str = "10.1.0.1";
const START: Duration = Duration::from_secs(20);
/// Bytes of a message.
const SIZES: [u32; 6] = [64, 256, 1024, 4096, 16_384, 65_536];
/// Who is measured; the names are those in sweep.json.
const CONTENDERS: [(&str, &str); 2] =
    [("kernel", "iperf3, kernel to kernel"), ("tailwater", "tailwater perf, our end to a kernel's")];
/// Directions by their names in sweep.json, with the measures' names and titles.
const DIRECTIONS: [(&str, &str); 2] = [("send", "sending"), ("receive", "receiving")];

/// What `perf --sweep` writes.
#[derive(Deserialize)]
struct Sweep {
    points: Vec<Point>,
    seconds_each: f64,
}

#[derive(Deserialize)]
struct Point {
    contender: String,
    message_bytes: u32,
    direction: String,
    goodput_bits_per_second: f64,
    cpu_process_percent: f64,
    /// Of the whole run, its start and end included.
    cpu_machine_percent: f64,
    elapsed_seconds: f64,
}

/// The folder that a sweep writes to, which goes with its value.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn names() -> Vec<(String, String)> {
    CONTENDERS.iter().map(|(name, about)| ((*name).to_owned(), (*about).to_owned())).collect()
}

pub(super) fn run(session: &mut Session<'_>) -> Result<()> {
    measures(session);
    notes(session);
    let absent = session.options.binaries.absent(Device::TailwaterUser(Idle::Adaptive));
    for (name, about) in CONTENDERS {
        session.add_row(name, about, "receive work in a softirq on the sender's core, off-loads off", absent.clone());
    }
    session.plan(u64::from(session.options.runs));
    for run in 1..=session.options.runs {
        if session.is_present(CONTENDERS[1].0)
            && let Err(error) = turn(session, run)
        {
            session.failed(CONTENDERS[1].0, error)?;
        }
    }
    Ok(())
}

fn column(bytes: u32) -> String {
    if bytes < 1024 { format!("{bytes} B") } else { format!("{} KiB", bytes >> 10) }
}

fn measures(session: &mut Session<'_>) {
    for (direction, title) in DIRECTIONS {
        for (name, of, unit, better, value) in [
            ("goodput", "Goodput", "Gbit/s", Better::Higher, "gbps"),
            ("cpu", "Time of both CPUs for a kilobyte", "ns", Better::Lower, "ns_per_kilobyte"),
        ] {
            session.measure(Measure {
                name: format!("{direction}-{name}"),
                title: format!("{of}, {title}"),
                unit: unit.into(),
                better,
                reference: CONTENDERS[0].0.into(),
                columns: SIZES.iter().map(|&bytes| column(bytes)).collect(),
                load: Some(direction.into()),
                value: value.into(),
            });
        }
    }
}

fn notes(session: &mut Session<'_>) {
    let notes = [
        "`tailwater perf --sweep` takes turns between ours and iperf3 at each size and direction. What is measured is on \
         CPU 1; the peer is iperf3's server on CPU 0, and the same for both. Sending: our client, or the kernel's, writes \
         messages of this size (TCP_STREAM). Receiving: the peer does (TCP_MAERTS).",
        "Messages are put together into full segments by both: Nagle's algorithm is on. A write of iperf3 is a system call, \
         one of ours is a call within the worker.",
        "CPU time is that of a whole run, with the start and the end of the measuring program.",
        "Off-loads (TSO, GSO, GRO, checksums) are off on both ends, as on a wire; scatter-gather is on.",
        "Congestion control is CUBIC at every end, the kernel's included.",
    ];
    for note in notes {
        session.note(note);
    }
}

fn turn(session: &mut Session<'_>, run: u32) -> Result<()> {
    let quiet = session.wait_until_quiet()?;
    let config = LabConfig { ipv6: false, static_neighbours: true, ..LabConfig::default() };
    let lab = Lab::build(Topology::Pair, &config)?;
    for (namespace, interface) in [(lab.client(), "c0"), (lab.dut(), "d0")] {
        namespace.offload(interface, &["tso", "gso", "gro", "tx"], false)?;
        namespace.offload(interface, &["sg"], true)?;
    }
    lab.set_congestion_control("cubic")?;
    let server = lab.dut().program("iperf3").args(["-s", "-B", SERVER, "--forceflush"]);
    let mut peer = server.clone().cpu(ROUTER_CPU).spawn()?;
    peer.wait_for_line("Server listening", START)?;
    let folder = Folder(std::env::temp_dir().join(format!("tailwater-bench-{}", lab.dut().name())));
    let secs = session.options.secs.ceil().max(1.0);
    let program = lab.client().program(&session.options.binaries.tailwater);
    let program = program.args(["perf", "-c", SERVER, "-i", "c0", "--cores", &GENERATOR_CPU.to_string()]);
    let sizes = SIZES.map(|bytes| bytes.to_string()).join(",");
    let program = program.args(["--sweep", "--compare-kernel", "-t", &secs.to_string(), "--sizes", &sizes, "--out"]);
    let program = program.arg(&folder.0);
    let points = SIZES.len() * DIRECTIONS.len() * CONTENDERS.len();
    program.clone().cpu(GENERATOR_CPU).run((Duration::from_secs_f64(secs) + START) * points as u32)?;
    interrupt::check()?;
    for (name, ..) in CONTENDERS {
        session.commands(name, &[server.display_short(), program.display_short()]);
    }
    let json = folder.0.join("sweep.json");
    let text = fs::read_to_string(&json).with_context(|| format!("reading {}", json.display()))?;
    record(session, &text, run, quiet)
}

fn record(session: &mut Session<'_>, text: &str, run: u32, quiet: bool) -> Result<()> {
    let sweep: Sweep = serde_json::from_str(text).context("reading what the sweep wrote")?;
    let wanted = SIZES.len() * DIRECTIONS.len() * CONTENDERS.len();
    ensure!(sweep.points.len() == wanted, "{} points of {wanted} in sweep.json", sweep.points.len());
    for point in &sweep.points {
        let gbps = point.goodput_bits_per_second / 1e9;
        ensure!(gbps > 0.0, "nothing arrived at {} bytes", point.message_bytes);
        let kilobytes = gbps * 1e9 / 8.0 / 1e3 * sweep.seconds_each;
        let values = [
            ("gbps", gbps),
            ("ns_per_kilobyte", point.cpu_machine_percent / 100.0 * point.elapsed_seconds * 1e9 / kilobytes),
            ("process_cpu_busy", point.cpu_process_percent / 100.0),
            ("machine_cpu_busy", point.cpu_machine_percent / 100.0),
        ];
        session.sample(&point.contender, &column(point.message_bytes), &point.direction, run, quiet, &values);
    }
    session.step(&format!("run {run}: {wanted} points"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_named_as_people_say_sizes() {
        assert_eq!([64, 256, 1024, 65_536].map(column), ["64 B", "256 B", "1 KiB", "64 KiB"]);
    }
}
