//! Forwarding with no kernel in it: our graph over memory ports beside DPDK's testpmd over its null driver, and beside the
//! same work as one loop written by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tailwater_lab::Program;

use crate::forwarder::{HUGE_PAGES, MEMORY_MIB, environment};
use crate::host::{self, HugePages};
use crate::interrupt;
use crate::report::{Better, Measure};
use crate::scenario::Session;
use crate::testbed::ROUTER_CPU;
use crate::tools;
use tailwater_bench::memory_forward::{BATCH, BATCH_MAX, Cost};

/// Packets a turn: as few as the figures are mostly told for, and as many as a worker takes under load.
const COLUMNS: [(&str, usize); 2] = [("32 a turn", BATCH), ("256 a turn", BATCH_MAX)];
/// Ours, by the packet graph and as a fused loop.
const OURS: [(&str, bool, &str); 2] = [
    ("tailwater-graph", false, "router graph over memory ports: LPM in 1 M routes, random destinations"),
    ("fused-loop", true, "the same work in one loop written by hand, no graph and no worker"),
];
const START: Duration = Duration::from_secs(120);
/// testpmd's forwarding modes: frames unchanged, and addresses swapped as a forwarder would touch them.
const TESTPMD: [(&str, &str, &str); 2] = [
    ("testpmd-null-io", "io", "DPDK testpmd io over net_null (64 B, no copy), frames not touched"),
    ("testpmd-null-macswap", "macswap", "DPDK testpmd macswap over net_null (64 B, no copy), MAC addresses written"),
];

/// Name, description, and how it is run.
fn rows() -> impl Iterator<Item = (&'static str, &'static str, Way)> {
    let theirs = TESTPMD.into_iter().map(|(name, mode, about)| (name, about, Way::Testpmd(mode)));
    theirs.chain(OURS.into_iter().map(|(name, fused, about)| (name, about, Way::Ours { fused })))
}

#[derive(Clone, Copy)]
enum Way {
    Testpmd(&'static str),
    Ours { fused: bool },
}

pub(super) fn names() -> Vec<(String, String)> {
    rows().map(|(name, about, _)| (name.to_owned(), about.to_owned())).collect()
}

pub(super) fn run(session: &mut Session<'_>) -> Result<()> {
    for (name, title, reference) in [
        ("cost", "Time for one packet, no kernel", TESTPMD[0].0),
        ("graph", "The same, against the fused loop", OURS[1].0),
    ] {
        session.measure(Measure {
            name: name.into(),
            title: title.into(),
            unit: "ns".into(),
            better: Better::Lower,
            reference: reference.into(),
            columns: COLUMNS.iter().map(|(column, _)| (*column).to_owned()).collect(),
            load: None,
            value: "ns_per_packet".into(),
        });
    }
    session.note(
        "testpmd does no lookup: io moves buffer pointers, macswap also writes the first 12 bytes. Ours checks the header, \
         looks up a full table at a random address, decrements the TTL, corrects the checksum and writes both MAC addresses. \
         Graph and loop both serve two ports and send each packet by the port of its route. Ours counts receive, graph and transmit; testpmd its whole loop.",
    );
    for (name, about, way) in rows().filter(|(name, ..)| session.wants(name)).collect::<Vec<_>>() {
        let absent = match way {
            Way::Testpmd(_) => session.options.binaries.absent(crate::contender::Device::TestpmdIo),
            Way::Ours { .. } => None,
        };
        session.add_row(name, about, "one core, CPU 0", absent);
    }
    let _pages = HugePages::reserve(HUGE_PAGES).ok();
    let present = session.report.rows.iter().filter(|row| row.absent.is_none()).count();
    session.plan((present * COLUMNS.len() * session.options.runs as usize) as u64);
    for run in 1..=session.options.runs {
        for column in COLUMNS {
            for (name, _, way) in rows() {
                if session.is_present(name)
                    && let Err(error) = turn(session, name, column, run, way)
                {
                    session.failed(name, error)?;
                }
            }
        }
    }
    Ok(())
}

type Found = (String, BTreeMap<String, f64>);

fn turn(session: &mut Session<'_>, name: &str, column: (&str, usize), run: u32, way: Way) -> Result<()> {
    let (column, batch) = column;
    let quiet = session.wait_until_quiet()?;
    let (command, values) = match way {
        Way::Testpmd(mode) => testpmd(session, mode, batch)?,
        Way::Ours { fused } => ours(session, fused, batch)?,
    };
    interrupt::check()?;
    session.commands(name, &[command]);
    let cost = values.get("ns_per_packet").copied().context("no ns_per_packet in the result")?;
    let values: Vec<(&str, f64)> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    session.sample(name, column, "", run, quiet, &values);
    session.step(&format!("run {run} {name}, {column}: {cost:.1} ns"));
    Ok(())
}

fn ours(session: &Session<'_>, fused: bool, batch: usize) -> Result<Found> {
    let program = tools::forward_in_memory(fused, batch, session.options.secs)?.cpu(ROUTER_CPU);
    let output = program.run(START)?;
    let found: Cost = serde_json::from_str(output.trim()).context("reading what our forwarder printed")?;
    let values = [
        ("ns_per_packet", found.ns_per_packet),
        ("mean_ns_per_packet", found.mean_ns_per_packet),
        ("cycles_per_packet", found.cycles_per_packet),
    ];
    Ok((program.display_short(), values.map(|(name, value)| (name.to_owned(), value)).into()))
}

fn testpmd(session: &Session<'_>, mode: &str, batch: usize) -> Result<Found> {
    let path = session.options.binaries.testpmd.as_ref().context("dpdk-testpmd is not installed")?;
    // Standard output in lines, or the statistics come too late.
    let program = Program::new("stdbuf").arg("-oL").arg(path);
    let program = environment(program, &[0, 1], MEMORY_MIB).args([
        "--vdev",
        "net_null0,size=60,copy=0",
        "--vdev",
        "net_null1,size=60,copy=0",
    ]);
    let program = program.args(["--", &format!("--forward-mode={mode}"), "--auto-start", "--no-mlockall"]);
    let program =
        program.args(["--total-num-mbufs=32768", &format!("--burst={batch}"), "--stats-period=1"]).stdin_open();
    host::top_up_huge_pages(HUGE_PAGES)?;
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
    tailwater_bench::stats::Spread::of(reports).map(|spread| spread.median)
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
