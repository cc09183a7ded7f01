//! Forwarding with no kernel in it: our blocks over memory ports beside DPDK's testpmd over its null driver.
//!
//! Ours is any command that prints one JSON object with `ns_per_packet` (and may print others, which are kept).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tailwater_lab::Program;

use crate::forwarder::environment;
use crate::host::HugePages;
use crate::interrupt;
use crate::report::{Better, Measure};
use crate::scenario::Session;
use crate::testbed::ROUTER_CPU;

const COLUMN: &str = "64 B";
const OURS: &str = "tailwater-memory";
const HUGE_PAGES: u64 = 512;
const START: Duration = Duration::from_secs(120);
/// testpmd's forwarding modes: frames unchanged, and addresses swapped as a forwarder would touch them.
const TESTPMD: [(&str, &str, &str); 2] = [
    ("testpmd-null-io", "io", "DPDK testpmd io over net_null (64 B, no copy), frames not touched"),
    ("testpmd-null-macswap", "macswap", "DPDK testpmd macswap over net_null (64 B, no copy), MAC addresses written"),
];

pub(super) fn names() -> Vec<(String, String)> {
    let ours =
        (OURS.to_owned(), "LPM forwarding over memory ports in one process, full table, batches of 32".to_owned());
    TESTPMD.iter().map(|(name, _, about)| ((*name).to_owned(), (*about).to_owned())).chain([ours]).collect()
}

pub(super) fn run(session: &mut Session<'_>) -> Result<()> {
    session.measure(Measure {
        name: "cost".into(),
        title: "Time for one packet, no kernel".into(),
        unit: "ns".into(),
        better: Better::Lower,
        reference: "testpmd-null-io".into(),
        columns: vec![COLUMN.into()],
        load: None,
        value: "ns_per_packet".into(),
    });
    session.note(
        "testpmd does no lookup: io moves buffer pointers, macswap also writes the first 12 bytes. Ours looks up a full \
         table, decrements the TTL, corrects the checksum and writes both MAC addresses.",
    );
    let options = session.options;
    for (name, _, about) in TESTPMD {
        let absent = options.binaries.absent(crate::contender::Device::TestpmdIo);
        if session.wants(name) {
            session.add_row(name, about, "one core, CPU 0", absent);
        }
    }
    if session.wants(OURS) {
        let absent = options.memory_command.is_none().then(|| "no --memory-command given".to_owned());
        let about = names().pop().map(|(_, about)| about).unwrap_or_default();
        session.add_row(OURS, &about, "one core, CPU 0", absent);
    }
    let _pages = HugePages::reserve(HUGE_PAGES).ok();
    let present = session.report.rows.iter().filter(|row| row.absent.is_none()).count();
    session.plan((present * options.runs as usize) as u64);
    for run in 1..=options.runs {
        for (name, mode, _) in TESTPMD {
            if session.is_present(name)
                && let Err(error) = turn(session, name, run, |session| testpmd(session, mode))
            {
                session.failed(name, error)?;
            }
        }
        if session.is_present(OURS)
            && let Err(error) = turn(session, OURS, run, ours)
        {
            session.failed(OURS, error)?;
        }
    }
    Ok(())
}

type Found = (String, BTreeMap<String, f64>);

fn turn(
    session: &mut Session<'_>,
    name: &str,
    run: u32,
    work: impl FnOnce(&Session<'_>) -> Result<Found>,
) -> Result<()> {
    let quiet = session.wait_until_quiet()?;
    let (command, values) = work(session)?;
    session.commands(name, &[command]);
    let cost = values.get("ns_per_packet").copied().context("no ns_per_packet in the result")?;
    let values: Vec<(&str, f64)> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    session.sample(name, COLUMN, "", run, quiet, &values);
    session.step(&format!("run {run} {name}: {cost:.1} ns"));
    Ok(())
}

fn ours(session: &Session<'_>) -> Result<Found> {
    let command = session.options.memory_command.as_deref().context("no --memory-command given")?;
    let output = Program::new("sh").args(["-c", command]).cpu(ROUTER_CPU).run(START)?;
    let line =
        output.lines().rev().find(|line| line.trim_start().starts_with('{')).context("it printed no JSON object")?;
    let object: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).context("reading its JSON")?;
    let numbers = object.into_iter().filter_map(|(name, value)| Some((name, value.as_f64()?)));
    Ok((command.to_owned(), numbers.collect()))
}

fn testpmd(session: &Session<'_>, mode: &str) -> Result<Found> {
    let path = session.options.binaries.testpmd.as_ref().context("dpdk-testpmd is not installed")?;
    // Standard output in lines, or the statistics come too late.
    let program = Program::new("stdbuf").arg("-oL").arg(path);
    let program = environment(program, &[0, 1]).args([
        "--vdev",
        "net_null0,size=60,copy=0",
        "--vdev",
        "net_null1,size=60,copy=0",
    ]);
    let program = program.args(["--", &format!("--forward-mode={mode}"), "--auto-start", "--no-mlockall"]);
    let program = program.args(["--total-num-mbufs=32768", "--burst=32", "--stats-period=1"]).stdin_open();
    let mut process = program.spawn()?;
    process.wait_for_line("Port statistics", START)?;
    interrupt::sleep(Duration::from_secs_f64(session.options.secs + 2.0))?;
    let finished = process.stop().context("testpmd did not end")?;
    let pps = packet_rate(&finished.stdout).context("testpmd printed no packet rate")?;
    ensure!(pps > 0.0, "testpmd forwarded nothing");
    let values = BTreeMap::from([("ns_per_packet".to_owned(), 1e9 / pps), ("mpps".to_owned(), pps / 1e6)]);
    Ok((program.display_short(), values))
}

/// Median over testpmd's reports of both ports' receive rates together. The first covers its start and does not count.
fn packet_rate(output: &str) -> Option<f64> {
    let mut reports: Vec<f64> = Vec::new();
    let starts = output.split("Port statistics").skip(2);
    for report in starts {
        let rates = report.lines().filter_map(|line| line.trim().strip_prefix("Rx-pps:"));
        let rates: Vec<f64> = rates.filter_map(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).collect();
        if rates.len() == 2 {
            reports.push(rates.iter().sum());
        }
    }
    crate::stats::Spread::of(reports).map(|spread| spread.median)
}

#[cfg(test)]
mod tests {
    use super::packet_rate;

    #[test]
    fn rates_of_both_ports_are_added_and_the_first_report_is_left_out() {
        let report = |a: u64, b: u64| {
            format!("Port statistics ====\n  Rx-pps:  {a}  Rx-bps: 7\n  Tx-pps: 1\n  Rx-pps:  {b}  Rx-bps: 8\n")
        };
        let output = report(1, 1) + &report(10, 20) + &report(30, 40) + &report(20, 30);
        assert_eq!(packet_rate(&output), Some(50.0));
        assert_eq!(packet_rate(&report(1, 1)), None);
    }
}
