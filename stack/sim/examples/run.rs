//! Runs a file and says how fast it went:
//! `cargo run --release -p tailwater-sim --example run stack/sim/examples/hundred-stacks.toml`

use std::time::Instant;

use tailwater_sim::report::report;
use tailwater_sim::scenario::Scenario;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("give a TOML file")?;
    let scenario = Scenario::parse(&std::fs::read_to_string(&file)?)?;
    let mut simulation = scenario.build(scenario.seed)?.simulation;
    let started = Instant::now();
    simulation.run_until(scenario.end())?;
    let elapsed = started.elapsed().as_secs_f64();
    let report = report(&simulation);
    let received: u64 = report.flows.iter().map(|flow| flow.received_bytes).sum();
    println!("{} flows, {} frames, {} events, {received} bytes", report.flows.len(), report.frames, report.events);
    println!("{:.0} ns a frame, digest {}", elapsed * 1e9 / report.frames as f64, report.digest);
    println!("{} s in {elapsed:.2} s: {:.1} times real time", report.virtual_secs, report.virtual_secs / elapsed);
    Ok(())
}
