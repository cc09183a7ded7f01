//! `tailwater sim`: a network of our own stacks on a virtual clock, from a file.

mod plot;
mod progress;
mod tables;

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args as ClapArgs;
use tailwater_sim::scenario::{Built, Scenario, ScenarioError};
use tailwater_sim::{Recorder, report};

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output;
use progress::Progress;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  tailwater sim stack/sim/examples/bottleneck.toml             run it; tables here, plots into ./bottleneck
  tailwater sim net.toml --seed 7 -o /tmp/run7                 another run of the same network
  tailwater sim net.toml -j                                    progress and report as JSON, a line each

The file names hosts, routers and switches, links ([[link]]) and flows ([[flow]]); the examples show every kind, and a
mistake is answered with its line and what would be right. The same file and seed give the same run, bit for bit:
compare digests. No privileges are needed, and no packet leaves the process.";

/// Options of `sim`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    /// TOML file with the network
    file: PathBuf,
    /// Instead of the file's seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Folder for report, plots and captures, made if need be; otherwise named like the file, here
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Threads that hosts which no link joins may run on, instead of one a core; the run is the same with any number
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Print JSON: one object a line
    #[arg(short, long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let scenario = read(&args.file)?;
    let folder = args.folder();
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let interrupt = Interrupt::listen_once()?;
    let built = scenario.build(args.seed.unwrap_or(scenario.seed)).map_err(|error| wrong(&args.file, &error))?;
    let Built { mut simulation, captures } = built;
    if let Some(threads) = args.threads {
        simulation.set_threads(threads.get());
    }
    let mut files = Vec::new();
    for (link, node) in captures {
        let name = format!("{}-at-{}.pcapng", simulation.link_name(link), simulation.name(node));
        let path = folder.join(name);
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        simulation.capture(link, node, file)?;
        files.push(path);
    }
    let mut recorder = Recorder::new(scenario.sample);
    let mut progress = Progress::start(scenario.duration, args.json);
    let started = Instant::now();
    let ran = recorder.run(&mut simulation, scenario.end(), |simulation| {
        progress.show(simulation);
        !interrupt.wait(Duration::ZERO)
    });
    let elapsed = started.elapsed();
    progress.finish();
    simulation.finish_captures().context("cannot write a capture")?;
    ran?;
    let report = report::report(&simulation);
    files.push(write_report(&folder, &report)?);
    files.extend(plot::draw(&recorder, &folder)?);
    let speed = report.virtual_secs / elapsed.as_secs_f64().max(1e-9);
    if args.json {
        let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        let wall_secs = elapsed.as_secs_f64();
        output::line(serde_json::json!({
            "event": "report", "report": report, "wall_secs": wall_secs, "speed": speed, "files": files,
        }));
    } else {
        tables::lines(&report).into_iter().for_each(output::line);
        output::line(format_args!(
            "\n{:.1} s of virtual time in {:.2} s: {speed:.0} times real time; seed {}, digest {}",
            report.virtual_secs,
            elapsed.as_secs_f64(),
            report.seed,
            report.digest,
        ));
        files.iter().for_each(|file| output::line(format_args!("wrote {}", file.display())));
    }
    Ok(())
}

impl Args {
    fn folder(&self) -> PathBuf {
        let stem = || PathBuf::from(self.file.file_stem().unwrap_or("sim".as_ref()));
        self.out.clone().unwrap_or_else(stem)
    }
}

fn read(file: &Path) -> anyhow::Result<Scenario> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let hint = "give a TOML file; stack/sim/examples has some";
        Failure::new(format!("cannot read {}: {error}", file.display()), hint)
    })?;
    Ok(Scenario::parse(&text).map_err(|error| wrong(file, &error))?)
}

/// `FILE:LINE:COLUMN`, the line itself with a mark, and what would be right.
fn wrong(file: &Path, error: &ScenarioError) -> Failure {
    let ScenarioError { line, column, message, hint, excerpt } = error;
    let place = format!("{}:{line}:{column}", file.display());
    let mark = " ".repeat(column.saturating_sub(1));
    Failure::new(format!("{place}: {message}\n  {excerpt}\n  {mark}^"), hint)
}

fn write_report(folder: &Path, report: &report::Report) -> anyhow::Result<PathBuf> {
    let path = folder.join("report.json");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    serde_json::to_writer_pretty(file, report)?;
    Ok(path)
}
