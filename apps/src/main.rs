//! The `tailwater` command: one file for each subcommand, all started here.
//!
//! | file | what it is |
//! |---|---|
//! | `cli` | the command line as a whole |
//! | `common` | options of every command that moves packets |
//! | `grouping` | options of those that use a whole interface group |
//! | `l3fwd`, `echo`, `http`, `perf`, `ping`, `capture`, `group`, `doctor`, `stats`, `ss`, `top`, `trace`, `ctl`, `sim`, `demo` | the subcommands |
//! | `session` | a dataplane that runs until it is told to stop: progress, control socket, summary |
//! | `control` | the socket by which `stats`, `ss`, `top` and `ctl` talk to a running command |
//! | `snapshot`, `window` | counters as data, and what was counted between two looks |
//! | `summary`, `table` | the same as text for people |
//! | `chart` | curves as pictures |
//! | `metrics` | the same as a page for Prometheus |
//!
//! Exit codes: 0 all went well, 1 it failed, 2 the command line cannot be right.

mod capture;
mod chart;
mod cli;
mod common;
mod control;
mod cpus;
mod ctl;
mod demo;
mod doctor;
mod echo;
mod failure;
mod group;
mod grouping;
mod hosting;
mod http;
mod interrupt;
mod l3fwd;
mod logging;
mod metrics;
mod napi;
mod output;
mod perf;
mod ping;
mod progress;
mod session;
mod sim;
mod snapshot;
mod ss;
mod stats;
mod summary;
mod table;
mod top;
mod trace;
mod window;

use std::process::ExitCode;

use clap::CommandFactory;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::of_process();
    if cli.logs() {
        logging::start(cli.verbose);
    }
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}

fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::L3fwd { args, common } => l3fwd::run(args, common),
        Command::Echo { args, common } => echo::run(args, common),
        Command::Perf { args, common } => perf::run(*args, common),
        Command::Http(args) => http::run(args),
        Command::Ping { args, common } => ping::run(args, common),
        Command::Capture(args) => capture::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Stats(args) => stats::run(args),
        Command::Ss(args) => ss::run(args),
        Command::Top(args) => top::run(args),
        Command::Trace(args) => trace::run(args),
        Command::Ctl(args) => ctl::run(args),
        Command::Sim(args) => sim::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Group(args) => group::run(args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "tailwater", &mut std::io::stdout());
            Ok(())
        }
    }
}
