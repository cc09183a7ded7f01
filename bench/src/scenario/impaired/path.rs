//! The network: two hosts with a forwarder between them that impairs what passes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tailwater_lab::{Lab, LabConfig, Process, Topology};

use crate::interrupt;
use crate::scenario::Session;
use crate::tcp_stream::Received;
use crate::testbed::{GENERATOR_CPU, ROUTER_CPU};
use crate::tools::{self, Source};

const RATE_BPS: u64 = 100_000_000;
/// Each way.
const DELAY_US: u64 = 25_000;
/// Packets that are in the delay at the full rate, and as many as a round trip holds to wait before it: a queue of one
/// bandwidth-delay product. The block counts both together.
const QUEUE_PACKETS: u64 = 206 + 412;
const START: Duration = Duration::from_secs(20);
/// Where sources are reached: the host has one address.
pub(super) const FIRST_AT: &str = "10.1.0.2:7001";
pub(super) const SECOND_AT: &str = "10.1.0.2:7002";
/// Our own stack, at the sending host.
pub(super) const OURS: Source = Source::Ours { interface: "g0", core: GENERATOR_CPU };

/// A network with its bad path.
pub(super) struct Path {
    lab: Lab,
    _forwarder: Process,
    pub(super) commands: Vec<String>,
}

/// A source that serves.
pub(super) struct Pouring {
    _process: Process,
    pub(super) command: String,
}

impl Path {
    pub(super) fn build(session: &Session<'_>, settings: &[&str], run: u32) -> Result<Self> {
        let config = LabConfig { ipv6: false, static_neighbours: true, ..LabConfig::default() };
        let lab = Lab::build(Topology::Router, &config)?;
        for (namespace, interface) in [(lab.gen_side(), "g0"), (lab.sink(), "s0")] {
            namespace.offload(interface, &["tso", "gso", "gro", "tx", "sg"], false)?;
        }
        let binary = &session.options.binaries.tailwater;
        let cores = ROUTER_CPU.to_string();
        let words = ["l3fwd", "-i", "d0", "-i", "d1", "--place", "user", "--idle", "sleep", "--cores", &cores];
        let program = lab.dut().program(binary).args(words);
        let mut commands = vec![program.display_short()];
        let mut forwarder = program.cpu(ROUTER_CPU).spawn()?;
        forwarder.wait_for_line(tools::READY, START)?;
        let (rate, delay) = (format!("rate_bps={RATE_BPS}"), format!("delay_us={DELAY_US}"));
        let (queue, seed) = (format!("queue_max={QUEUE_PACKETS}"), format!("seed={run}"));
        let there = [&[rate.as_str(), &delay, &queue, &seed], settings].concat();
        for (name, at, settings) in
            [("there", "rx:d0", there), ("back", "rx:d1", vec![delay.as_str(), "queue_max=4000"])]
        {
            let words = ["ctl", "--pid", &forwarder.pid().to_string(), "insert", name, "impair", at].map(str::to_owned);
            let program = lab.dut().program(binary).args(words).args(settings);
            program.run(START)?;
            commands.push(program.display_short());
        }
        Ok(Self { lab, _forwarder: forwarder, commands })
    }

    /// Starts a source that is reached there.
    pub(super) fn source(&self, at: &str, source: Source, control: &str) -> Result<Pouring> {
        if !matches!(source, Source::Ours { .. }) {
            let known = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control")?;
            ensure!(
                known.split_whitespace().any(|known| known == control),
                "the kernel has no {control}: it has {known}"
            );
        }
        let program = tools::tcp_source(self.lab.gen_side(), at, control, source)?;
        let command = program.display_short();
        let mut process = program.cpu(GENERATOR_CPU).spawn()?;
        process.wait_for_line(tools::READY, START)?;
        Ok(Pouring { _process: process, command })
    }

    pub(super) fn drain(&self, sources: &[&str], skip: f64, secs: f64) -> Result<Vec<Received>> {
        let sink = tools::tcp_sink(self.lab.sink(), sources, skip, secs)?.cpu(GENERATOR_CPU);
        let found = sink.run(Duration::from_secs_f64(skip + secs) + START)?;
        interrupt::check()?;
        serde_json::from_str(found.trim()).context("reading what the sink printed")
    }
}
