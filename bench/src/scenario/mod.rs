//! The scenarios, and what they share: options, progress, interleaving.

mod exec_models;
mod fib;
mod forwarding;
mod groups;
mod http;
mod impaired;
mod l3fwd;
mod memory;
mod server;
mod sweep;
mod tcp_bulk;
mod tcp_in_process;
mod tcp_requests;
mod udp_rtt;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

use crate::forwarder::Binaries;
use crate::host::{self, Host};
use crate::interrupt::Interrupted;
use crate::report::{Measure, Report, Row, Sample};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// L3 forwarding over packet sizes, against the kernel, DPDK and XDP.
    L3fwd,
    /// The ways to run a forwarder: in softirq, polling, sleeping, sharing a core.
    ExecModels,
    /// UDP round trips against the kernel's sockets and DPDK, who polls and who blocks.
    UdpRtt,
    /// TCP one way against the kernel, by iperf3's protocol: sending, receiving, both; frames of 1500 and 9000 bytes.
    TcpBulk,
    /// Requests and responses over TCP against the kernel's sockets: one connection, many, and connect and close.
    TcpRequests,
    /// TCP one way by message size, 64 bytes to 64 KiB, sending and receiving, against the kernel.
    Sweep,
    /// TCP between two hosts of one process, no kernel in it, against smoltcp.
    TcpInProcess,
    /// An HTTP server under wrk, against nginx: small and large files, connections that stay and that close.
    Http,
    /// TCP over loss and reordering, and beside another flow, ours and the kernel's in turn.
    Impaired,
    /// Lookup in a full forwarding table, against DPDK's.
    Fib,
    /// Forwarding with no kernel in it, against testpmd over net_null.
    Memory,
    /// Up, MTU and down of whole interface groups, against ip one by one, in batches, and by its own group command.
    Groups,
}

impl Scenario {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub(crate) fn about(self) -> String {
        let value = self.to_possible_value();
        value.and_then(|value| value.get_help().map(ToString::to_string)).unwrap_or_default()
    }

    /// Names and descriptions of the contenders.
    pub(crate) fn contenders(self) -> Vec<(String, String)> {
        match self {
            Self::L3fwd => forwarding::names(crate::contender::L3FWD),
            Self::ExecModels => forwarding::names(crate::contender::EXEC_MODELS),
            Self::UdpRtt => udp_rtt::names(),
            Self::TcpBulk => tcp_bulk::names(),
            Self::TcpRequests => tcp_requests::names(),
            Self::Sweep => sweep::names(),
            Self::TcpInProcess => tcp_in_process::names(),
            Self::Http => http::names(),
            Self::Impaired => impaired::names(),
            Self::Fib => fib::names(),
            Self::Memory => memory::names(),
            Self::Groups => groups::names(),
        }
    }

    pub(crate) fn run(self, options: &Options) -> Result<Report> {
        let mut session = Session::new(self, options);
        let result = match self {
            Self::L3fwd => l3fwd::run(&mut session),
            Self::ExecModels => exec_models::run(&mut session),
            Self::UdpRtt => udp_rtt::run(&mut session),
            Self::TcpBulk => tcp_bulk::run(&mut session),
            Self::TcpRequests => tcp_requests::run(&mut session),
            Self::Sweep => sweep::run(&mut session),
            Self::TcpInProcess => tcp_in_process::run(&mut session),
            Self::Http => http::run(&mut session),
            Self::Impaired => impaired::run(&mut session),
            Self::Fib => fib::run(&mut session),
            Self::Memory => memory::run(&mut session),
            Self::Groups => groups::run(&mut session),
        };
        session.finish(self, result)
    }
}

/// What the command line chose.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub runs: u32,
    pub secs: f64,
    /// Contenders to run, by name; empty for all.
    pub peers: Vec<String>,
    /// Frame lengths without checksum.
    pub sizes: Vec<u16>,
    /// Offered loads as the generator's delay; 0 is full.
    pub delays: Vec<u32>,
    /// Members of interface groups.
    pub members: Vec<u32>,
    /// How long to wait for a quiet machine before each start.
    pub patience: Duration,
    pub binaries: Binaries,
    pub out: PathBuf,
    /// The command line as it was typed.
    pub command: String,
}

/// A scenario in progress.
pub(crate) struct Session<'a> {
    pub options: &'a Options,
    pub report: Report,
    progress: ProgressBar,
    /// Without a terminal, lines instead of a bar.
    lines: bool,
    started: Instant,
}

impl<'a> Session<'a> {
    fn new(scenario: Scenario, options: &'a Options) -> Self {
        let report = Report {
            scenario: scenario.name(),
            about: scenario.about(),
            command: options.command.clone(),
            host: Host::read(),
            notes: Vec::new(),
            runs: options.runs,
            secs: options.secs,
            complete: true,
            rows: Vec::new(),
            measures: Vec::new(),
            samples: Vec::new(),
        };
        let progress = ProgressBar::no_length();
        let template = "{prefix} [{elapsed}/{eta} left] {bar:30} {pos}/{len} {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            progress.set_style(style);
        }
        progress.set_prefix(scenario.name());
        let lines = !std::io::stderr().is_terminal();
        Self { options, report, progress, lines, started: Instant::now() }
    }

    /// How many steps there will be.
    pub(crate) fn plan(&self, steps: u64) {
        self.progress.set_length(steps);
        self.progress.enable_steady_tick(Duration::from_millis(500));
    }

    /// Whether the command line wants this contender.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.options.peers.is_empty() || self.options.peers.iter().any(|peer| peer == name)
    }

    /// One step is done; the message says what came out.
    pub(crate) fn step(&self, message: &str) {
        self.progress.inc(1);
        self.progress.set_message(message.to_owned());
        if self.lines {
            let (done, all) = (self.progress.position(), self.progress.length().unwrap_or_default());
            eprintln!(
                "{} [{:>4.0} s] {done}/{all} {message}",
                self.report.scenario,
                self.started.elapsed().as_secs_f64()
            );
        }
    }

    /// Waits for a quiet machine; says whether it was.
    pub(crate) fn wait_until_quiet(&self) -> Result<bool> {
        use crate::testbed::{GENERATOR_CPU, ROUTER_CPU};
        Ok(host::is_quiet(host::wait_until_quiet(&[ROUTER_CPU, GENERATOR_CPU], self.options.patience)?))
    }

    pub(crate) fn add_row(&mut self, name: &str, about: &str, setting: &str, absent: Option<String>) {
        let (name, about, setting) = (name.to_owned(), about.to_owned(), setting.to_owned());
        self.report.rows.push(Row { name, about, setting, commands: Vec::new(), absent });
    }

    /// Lets every contender that is there take its turn, `samples` each, once in every run.
    pub(crate) fn take_turns<C>(
        &mut self,
        contenders: &[C],
        name: fn(&C) -> &'static str,
        samples: usize,
        turn: fn(&mut Self, &C, u32) -> Result<()>,
    ) -> Result<()> {
        let present = contenders.iter().filter(|contender| self.is_present(name(contender))).count();
        self.plan((present * self.options.runs as usize * samples) as u64);
        for run in 1..=self.options.runs {
            for contender in contenders {
                if self.is_present(name(contender))
                    && let Err(error) = turn(self, contender, run)
                {
                    self.failed(name(contender), error)?;
                }
            }
        }
        Ok(())
    }

    /// Whether this row can still be run.
    pub(crate) fn is_present(&self, name: &str) -> bool {
        self.report.rows.iter().any(|row| row.name == name && row.absent.is_none())
    }

    /// A row that failed is out from here on; what it measured before stays. Interruption is passed on.
    pub(crate) fn failed(&mut self, name: &str, error: anyhow::Error) -> Result<()> {
        if error.is::<Interrupted>() {
            return Err(error);
        }
        let reason = format!("{error:#}");
        self.progress.println(format!("{name}: {reason}"));
        if self.lines {
            eprintln!("{name}: {reason}");
        }
        if let Some(row) = self.report.row_mut(name) {
            row.absent = Some(format!("failed: {reason}"));
        }
        Ok(())
    }

    /// Records what was started for a row, once.
    pub(crate) fn commands(&mut self, name: &str, commands: &[String]) {
        if let Some(row) = self.report.row_mut(name)
            && row.commands.is_empty()
        {
            row.commands = commands.to_vec();
        }
    }

    pub(crate) fn sample(
        &mut self,
        contender: &str,
        column: &str,
        load: &str,
        run: u32,
        quiet: bool,
        values: &[(&str, f64)],
    ) {
        let values: BTreeMap<String, f64> = values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let (contender, column, load) = (contender.to_owned(), column.to_owned(), load.to_owned());
        self.report.samples.push(Sample { contender, column, load, run, values, quiet });
    }

    pub(crate) fn measure(&mut self, measure: Measure) {
        self.report.measures.push(measure);
    }

    /// One that names rows in quotation marks is on them, and left out where none of them is measured.
    pub(crate) fn note(&mut self, note: &str) {
        self.report.notes.push(note.to_owned());
    }

    /// An interrupted session still makes a report of what it has.
    fn finish(mut self, scenario: Scenario, result: Result<()>) -> Result<Report> {
        self.progress.finish_and_clear();
        match result {
            Ok(()) => {}
            Err(error) if error.is::<Interrupted>() => self.report.complete = false,
            Err(error) => return Err(error),
        }
        let names: Vec<String> = scenario.contenders().into_iter().map(|(name, _)| name).collect();
        self.report.drop_notes_on_others(&names);
        Ok(self.report)
    }
}
