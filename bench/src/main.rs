//! Measures Tailwater and its peers side by side. See `tailwater-bench --help`.
//!
//! A [`scenario`] takes turns among its contenders; each turn builds a network ([`testbed`]), starts a contender
//! ([`forwarder`]), sees that it does its work ([`verify`]), measures, and takes everything down. The [`report`] keeps every
//! run and makes the tables.

mod cli;
mod contender;
mod forwarder;
mod gauge;
mod host;
mod interrupt;
mod lookup;
mod report;
mod round_trip;
mod scenario;
mod tcp_load;
mod tcp_stream;
mod testbed;
mod tool;
mod tools;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use cli::{Cli, Command, Paths, Run};
use scenario::Scenario;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::List(paths) => list(&paths),
        Command::Run(options) => run(&options),
        Command::Tool(tool) => tool::run(&tool).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("tailwater-bench: {error:#}");
        ExitCode::FAILURE
    })
}

fn list(paths: &Paths) -> Result<ExitCode> {
    let binaries = paths.binaries();
    for scenario in Scenario::value_variants() {
        println!("{}: {}", scenario.name(), scenario.about());
        for (name, about) in scenario.contenders() {
            println!("    {name:<22}{about}");
        }
    }
    let shown =
        |found: Option<&std::path::PathBuf>| found.map_or("absent".to_owned(), |path| path.display().to_string());
    println!("tailwater:    {}", shown(Some(&binaries.tailwater).filter(|path| path.is_file())));
    println!("dpdk-testpmd: {}", shown(binaries.testpmd.as_ref()));
    println!("DPDK l3fwd:   {}", shown(binaries.dpdk_l3fwd.as_ref()));
    Ok(ExitCode::SUCCESS)
}

fn run(arguments: &Run) -> Result<ExitCode> {
    let options = arguments.options()?;
    interrupt::listen()?;
    let mut complete = true;
    for scenario in &arguments.scenarios {
        let report = scenario.run(&options)?;
        for file in report::files::write(&report, &options.out)? {
            println!("{}", file.display());
        }
        if !report.complete {
            eprintln!("tailwater-bench: interrupted, {} finished measurements are kept", report.samples.len());
            return Ok(ExitCode::from(130));
        }
        // What was asked for by name must be there; what was merely not left out may be absent.
        for row in report.rows.iter().filter(|row| options.peers.contains(&row.name)) {
            if let Some(reason) = &row.absent {
                eprintln!("tailwater-bench: {} in {}: {reason}", row.name, report.scenario);
                complete = false;
            }
        }
    }
    if !complete {
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
