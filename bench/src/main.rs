//! Measures Tailwater and its peers side by side. See `tailwater-bench --help`.
//!
//! A [`scenario`] takes turns among its contenders; each turn builds a network ([`testbed`]), starts a contender
//! ([`forwarder`]), sees that it does its work ([`verify`]), measures, and takes everything down. The [`report`] keeps every
//! run and makes the tables.

mod cli;
mod contender;
mod forwarder;
mod host;
mod interrupt;
mod report;
mod round_trip;
mod scenario;
mod stats;
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
    for scenario in &arguments.scenarios {
        let report = scenario.run(&options)?;
        let files = report::files::write(&report, &options.out)?;
        for file in files {
            println!("{}", file.display());
        }
        if !report.complete {
            eprintln!("tailwater-bench: interrupted, {} finished measurements are kept", report.samples.len());
            return Ok(ExitCode::from(130));
        }
    }
    Ok(ExitCode::SUCCESS)
}
