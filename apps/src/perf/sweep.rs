//! `perf --sweep`: message sizes from 64 bytes to 64 KiB, sending and receiving, for us and, in turn, for the kernel.
//!
//! Each measurement is a run of its own, of this command with the same options, or of `iperf3`: what one leaves behind does
//! not help or hinder the next, and the kernel has its interface to itself while it is measured. Congestion control is the same for
//! whoever sends: what the kernel takes by default differs from machine to machine.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context;
use serde_json::{Value, json};

use super::options::Args;
use super::origin::{system, timestamp};
use super::report::bits;
use crate::chart::{Chart, Curve};
use crate::failure::Failure;
use crate::output;

/// Options of the sweep, and of its output, that no single measurement has; those with a value.
const OWN_FLAGS: [&str; 6] = ["--sweep", "--compare-kernel", "-J", "--iperf-json", "-j", "--json"];
const OWN_OPTIONS: [&str; 2] = ["--out", "--sizes"];
/// Unless another is asked for: our default.
const CONGESTION_CONTROL: &str = "cubic";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Contender {
    Ours,
    Kernel,
}

/// One measurement.
struct Point {
    contender: Contender,
    bytes: u64,
    reverse: bool,
    /// Bits per second that arrived.
    goodput: f64,
    /// Percent of one CPU: the measuring process's, and everything's on this machine.
    cpu_process: f64,
    cpu_machine: f64,
    /// Of the whole run, its start and end included, which `cpu_machine` is a share of.
    elapsed_secs: f64,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let folder = args.sweeping.out.as_path();
    std::fs::create_dir_all(folder).map_err(|error| {
        Failure::usage(format!("cannot make folder {}: {error}", folder.display()), "give --out another one")
    })?;
    let contenders: &[Contender] =
        if args.sweeping.compare_kernel { &[Contender::Ours, Contender::Kernel] } else { &[Contender::Ours] };
    let sizes = &args.sweeping.sizes;
    let runs = sizes.len() * 2 * contenders.len();
    let mut points = Vec::new();
    for &bytes in sizes {
        for reverse in [false, true] {
            for &contender in contenders {
                let point = measure(args, contender, bytes, reverse)?;
                output::note(format_args!("[{}/{runs}] {}", points.len() + 1, point.line()));
                points.push(point);
            }
        }
    }
    let json = folder.join("sweep.json");
    let text = format!("{:#}\n", document(args, &points));
    std::fs::write(&json, text).with_context(|| format!("cannot write {}", json.display()))?;
    draw(folder, sizes, &points)?;
    output::line(table(&points).trim_end());
    output::note(format_args!("written: {0}/sweep.json, {0}/sweep-goodput.svg, {0}/sweep-cpu.svg", folder.display()));
    Ok(())
}

fn measure(args: &Args, contender: Contender, bytes: u64, reverse: bool) -> anyhow::Result<Point> {
    let mut command = match contender {
        Contender::Ours => ours()?,
        Contender::Kernel => kernel(args)?,
    };
    let asked = args.testing.congestion.as_deref();
    if asked.is_none() || contender == Contender::Kernel {
        command.args(["-C", asked.unwrap_or(CONGESTION_CONTROL)]);
    }
    command.args(["-J", "-l", &bytes.to_string()]).args(reverse.then_some("-R"));
    let shown = format!("{command:?}");
    let (before, began) = (Machine::now(), Instant::now());
    let run = command.stdin(Stdio::null()).stderr(Stdio::piped()).output();
    let run = run.map_err(|error| {
        Failure::new(format!("cannot run {shown}: {error}"), "`apt install iperf3`, or leave --compare-kernel out")
    })?;
    let (cpu_machine, elapsed_secs) = (before.busy_percent(), began.elapsed().as_secs_f64());
    let result: Value = serde_json::from_slice(&run.stdout).unwrap_or_default();
    let number = |path: &str| result.pointer(path).and_then(Value::as_f64);
    match (number("/end/sum_received/bits_per_second"), number("/end/cpu_utilization_percent/host_total")) {
        (Some(goodput), Some(cpu_process)) if run.status.success() => {
            Ok(Point { contender, bytes, reverse, goodput, cpu_process, cpu_machine, elapsed_secs })
        }
        _ => {
            let why = result["error"].as_str().map(str::to_owned);
            let why = why.unwrap_or_else(|| String::from_utf8_lossy(&run.stderr).trim().to_owned());
            Err(Failure::new(format!("{shown}: {why}"), "").into())
        }
    }
}

/// This command as it was called, without what makes it a sweep.
fn ours() -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command.args(single(std::env::args().skip(1)));
    Ok(command)
}

fn single(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        let name = word.split('=').next().unwrap_or_default();
        if OWN_OPTIONS.contains(&name) {
            if !word.contains('=') {
                words.next();
            }
        } else if !OWN_FLAGS.contains(&word.as_str()) {
            kept.push(word);
        }
    }
    kept
}

/// `iperf3` with the options that both have.
fn kernel(args: &Args) -> anyhow::Result<Command> {
    let testing = &args.testing;
    let remote = args.remote(args.client.as_deref().unwrap_or_default())?;
    let mut command = Command::new("iperf3");
    let (port, parallel, omit) = (args.port().to_string(), testing.parallel.to_string(), testing.omit.to_string());
    command.args(["-c", &remote.ip().to_string(), "-p", &port, "-P", &parallel, "-O", &omit]);
    match testing.bytes {
        Some(bytes) => command.args(["-n", &bytes.to_string()]),
        None => command.args(["-t", &testing.time.to_string()]),
    };
    command.args(testing.no_delay.then_some("-N"));
    let valued =
        [("-w", testing.window.map(|bytes| bytes.to_string())), ("-M", testing.set_mss.map(|bytes| bytes.to_string()))];
    for (flag, value) in valued {
        command.args(value.iter().flat_map(|value| [flag, value]));
    }
    Ok(command)
}

/// The machine's time up to one moment, in the kernel's ticks.
struct Machine {
    busy: u64,
    idle: u64,
}

impl Machine {
    fn now() -> Self {
        std::fs::read_to_string("/proc/stat").ok().and_then(|stat| Self::of(&stat)).unwrap_or(Self { busy: 0, idle: 0 })
    }

    /// proc_stat(5): user, nice, system, idle, iowait, irq, softirq; guests are within user.
    fn of(stat: &str) -> Option<Self> {
        let numbers = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
        let numbers: Vec<u64> = numbers.filter_map(|number| number.parse().ok()).take(8).collect();
        let idle = numbers.get(3)? + numbers.get(4)?;
        Some(Self { busy: numbers.iter().sum::<u64>() - idle, idle })
    }

    /// Since then, in percent of one CPU.
    fn busy_percent(&self) -> f64 {
        let now = Self::now();
        let (busy, idle) = (now.busy.saturating_sub(self.busy), now.idle.saturating_sub(self.idle));
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        busy as f64 * 100.0 * cpus as f64 / (busy + idle).max(1) as f64
    }
}

impl Point {
    fn who(&self) -> &'static str {
        match (self.contender, self.reverse) {
            (Contender::Ours, false) => "tailwater sends",
            (Contender::Ours, true) => "tailwater receives",
            (Contender::Kernel, false) => "kernel sends",
            (Contender::Kernel, true) => "kernel receives",
        }
    }

    fn line(&self) -> String {
        let rate = bits(self.goodput);
        format!("{:>6} B, {}: {}/sec, {:.0} % of one core", self.bytes, self.who(), rate.trim(), self.cpu_machine)
    }

    fn to_json(&self) -> Value {
        json!({
            "contender": if self.contender == Contender::Ours { "tailwater" } else { "kernel" },
            "message_bytes": self.bytes,
            "direction": if self.reverse { "receive" } else { "send" },
            "goodput_bits_per_second": self.goodput,
            "cpu_process_percent": self.cpu_process,
            "cpu_machine_percent": self.cpu_machine,
            "elapsed_seconds": self.elapsed_secs,
        })
    }
}

fn document(args: &Args, points: &[Point]) -> Value {
    let (time, timesecs) = timestamp();
    json!({
        "command": std::env::args().collect::<Vec<_>>().join(" "),
        "system_info": system(),
        "timestamp": { "time": time, "timesecs": timesecs },
        "seconds_each": args.testing.time,
        "points": points.iter().map(Point::to_json).collect::<Vec<_>>(),
    })
}

fn table(points: &[Point]) -> String {
    let mut text = String::from("   bytes  who                  goodput           CPU: process  machine\n");
    for point in points {
        let Point { bytes, goodput, cpu_process, cpu_machine, .. } = point;
        let _ = writeln!(
            text,
            "  {bytes:>6}  {:<20} {:>12}/sec   {cpu_process:>9.1} %  {cpu_machine:>5.1} %",
            point.who(),
            bits(*goodput).trim()
        );
    }
    text
}

fn draw(folder: &Path, sizes: &[u64], points: &[Point]) -> anyhow::Result<()> {
    let names: Vec<String> = sizes.iter().map(u64::to_string).collect();
    let curves = |value: fn(&Point) -> f64| -> Vec<Curve<'_>> {
        let mut curves: Vec<Curve<'_>> = Vec::new();
        for point in points {
            let x = sizes.iter().position(|&bytes| bytes == point.bytes).unwrap_or(0) as f64;
            match curves.iter_mut().find(|(who, _)| *who == point.who()) {
                Some((_, curve)) => curve.push((x, value(point))),
                None => curves.push((point.who(), vec![(x, value(point))])),
            }
        }
        curves
    };
    let picture = |title| Chart { title, x_title: "bytes of a message", x_names: Some(&names) };
    picture("goodput, Mbit/s").draw(&folder.join("sweep-goodput.svg"), &curves(|point| point.goodput / 1e6))?;
    picture("CPU of the whole machine, percent of one core")
        .draw(&folder.join("sweep-cpu.svg"), &curves(|point| point.cpu_machine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_is_the_same_command_without_the_sweep() {
        let words = "perf -c 10.1.0.1 -i d0 --sweep --out x --sizes 64,1K --compare-kernel -t 1 --cores 0 -J";
        let kept = single(words.split(' ').map(str::to_owned));
        assert_eq!(kept.join(" "), "perf -c 10.1.0.1 -i d0 -t 1 --cores 0");
        assert_eq!(single(["--out=x".to_owned(), "-4".to_owned()].into_iter()), ["-4"]);
    }

    #[test]
    fn busy_is_all_but_idle_and_waiting_for_disks() {
        let machine = Machine::of("cpu  10 1 20 100 5 2 3 0 0 0\ncpu0 1 2 3\n").unwrap();
        assert_eq!((machine.busy, machine.idle), (36, 105));
    }
}
