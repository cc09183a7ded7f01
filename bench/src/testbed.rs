//! The network every forwarding figure comes from, and one measurement in it.
//!
//! ```text
//!   CPU 1: generator                CPU 0: device under test             also CPU 0: the end
//!   g0 10.1.0.2 ------------- d0 10.1.0.1 | d1 10.2.0.1 ------------- s0 10.2.0.2
//!   XDP live frames to              4096 routes via 10.2.0.2             counts, then drops
//!   2^20 destinations              (neighbour 02:00:00:00:02:03)
//! ```

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tailwater_lab::{CpuTimes, Lab, LabConfig, Namespace, Process, Topology};

use crate::contender::{Contender, Device, Sink};
use crate::forwarder::{Binaries, Forwarder};
use crate::gauge::{self, Totals};
use crate::interrupt;
use crate::tools::{self, Traffic};
use crate::verify;

pub(crate) const ROUTER_CPU: usize = 0;
pub(crate) const GENERATOR_CPU: usize = 1;
/// MAC address of d0, which the generator sends to.
pub(crate) const ROUTER_MAC: &str = "02:00:00:00:01:01";
/// MAC address that forwarded frames go to. It is nobody's, so that a sink without XDP drops them at once.
pub(crate) const NEXT_HOP_MAC: &str = "02:00:00:00:02:03";

/// From the generator's start to the beginning of the measured time.
const WARM_UP: Duration = Duration::from_millis(300);
const START: Duration = Duration::from_secs(20);
/// A counter whose reading took longer was read by a preempted thread: read it again.
const READ_MAX: Duration = Duration::from_millis(2);
const READS_MAX: usize = 20;
/// Share of the delivered frames that the kernel may have forwarded behind a contender's back.
const KERNEL_SHARE_MAX: f64 = 0.001;

/// A contender at work in its network.
#[derive(Debug)]
pub(crate) struct Testbed {
    device: Device,
    tailwater: PathBuf,
    forwarder: Forwarder,
    sink: Option<Process>,
    lab: Lab,
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forwarded {
    pub delivered_pps: f64,
    pub offered_pps: f64,
    /// Offered frames that the receiving end's ring had room for.
    pub accepted_pps: f64,
    pub router_cpu_busy: f64,
    pub generator_cpu_busy: f64,
    /// Of a forwarder in a process of ours.
    pub packets_per_system_call: Option<f64>,
}

impl Testbed {
    /// Builds the network, starts the contender, and makes sure that it does what it says.
    pub(crate) fn start(contender: &Contender, binaries: &Binaries) -> Result<Self> {
        let config = LabConfig { ipv6: false, static_neighbours: true, ..LabConfig::default() };
        let lab = Lab::build(Topology::Router, &config)?;
        let mut batch = format!("neigh replace 10.2.0.2 lladdr {NEXT_HOP_MAC} dev d1 nud permanent\n");
        for index in 0..tools::PREFIXES {
            batch += &format!("route add {} via 10.2.0.2\n", tools::prefix(index));
        }
        lab.dut().ip_batch(&batch)?;
        if contender.sink == Sink::XdpDrop {
            // XDP frames can be sent to a veth only while its other end has a NAPI; until the sink's program brings one
            // (frames that it drops cannot be looked at), gro does.
            lab.sink().offload("s0", &["gro"], true)?;
            // No frame goes back to g0, but a forwarder may insist on being able to send there.
            lab.gen_side().offload("g0", &["gro"], true)?;
        }
        let forwarder = Forwarder::start(contender, &lab, binaries)?;
        let mut testbed =
            Self { device: contender.device, tailwater: binaries.tailwater.clone(), forwarder, sink: None, lab };
        testbed.verify()?;
        if contender.sink == Sink::XdpDrop {
            let mut sink = tools::drop_frames(testbed.lab.sink(), "s0")?.spawn()?;
            sink.wait_for_line(tools::READY, START)?;
            testbed.sink = Some(sink);
        }
        Ok(testbed)
    }

    /// What was started and set.
    pub(crate) fn commands(&self) -> &[String] {
        &self.forwarder.commands
    }

    fn verify(&mut self) -> Result<()> {
        let before = kernel_forwarded(self.lab.dut())?;
        let forwarder = &mut self.forwarder;
        let seen = verify::forwards(&self.lab, self.device.routes(), || forwarder.check())?;
        let by_kernel = kernel_forwarded(self.lab.dut())?.saturating_sub(before);
        if self.device == Device::Kernel {
            ensure!(by_kernel >= seen, "the kernel counted {by_kernel} forwarded packets of {seen}");
        } else {
            ensure!(by_kernel < seen, "the kernel forwarded, not the contender");
        }
        Ok(())
    }

    /// Sends this traffic and counts what arrives.
    pub(crate) fn measure(&mut self, traffic: Traffic) -> Result<Forwarded> {
        let secs = traffic.secs;
        // The generator is stopped when the time is over; its own limit is for the case that we are gone.
        let traffic = Traffic { secs: secs + 30.0, ..traffic };
        let program = tools::generate(self.lab.gen_side(), "g0", ROUTER_MAC, traffic)?.cpu(GENERATOR_CPU);
        let mut generator = program.spawn()?;
        generator.wait_for_line(tools::READY, START)?;
        interrupt::sleep(WARM_UP)?;

        let totals_before = self.totals()?;
        let kernel_before = kernel_forwarded(self.lab.dut())?;
        let offered_before = self.offered()?;
        let cpus_before = [CpuTimes::read(ROUTER_CPU)?, CpuTimes::read(GENERATOR_CPU)?];
        let before = self.delivered()?;
        interrupt::sleep(Duration::from_secs_f64(secs))?;
        let after = self.delivered()?;
        let cpus_after = [CpuTimes::read(ROUTER_CPU)?, CpuTimes::read(GENERATOR_CPU)?];
        let offered_after = self.offered()?;
        let kernel_after = kernel_forwarded(self.lab.dut())?;
        let totals = self.totals()?.zip(totals_before);

        ensure!(generator.is_running(), "the generator ended early: {}", generator.stdout());
        drop(generator);
        self.forwarder.check().context("under load")?;
        let delivered = after.count.saturating_sub(before.count);
        if self.device != Device::Kernel {
            let by_kernel = kernel_after.saturating_sub(kernel_before) as f64;
            ensure!(
                by_kernel <= KERNEL_SHARE_MAX * (delivered as f64).max(1000.0),
                "the kernel forwarded {by_kernel} of {delivered} frames, not the contender"
            );
        }
        let [accepted, refused] = [0, 1].map(|column| offered_after.rate(&offered_before, column));
        Ok(Forwarded {
            delivered_pps: delivered as f64 / (after.at - before.at).as_secs_f64(),
            offered_pps: accepted + refused,
            accepted_pps: accepted,
            router_cpu_busy: cpus_after[0].busy_since(cpus_before[0]),
            generator_cpu_busy: cpus_after[1].busy_since(cpus_before[1]),
            packets_per_system_call: totals.map(|(after, before)| after.packets_per_call_since(&before)),
        })
    }

    /// Share of a CPU that a process of ours takes in this time, while nothing is sent; None for other forwarders.
    pub(crate) fn idle_cpu(&self, time: Duration) -> Result<Option<f64>> {
        self.forwarder.worker_pid().map(|pid| gauge::cpu_share(pid, time)).transpose()
    }

    fn totals(&self) -> Result<Option<Totals>> {
        self.forwarder.worker_pid().map(|pid| Totals::read(&self.tailwater, pid)).transpose()
    }

    /// Frames that have reached s0.
    fn delivered(&self) -> Result<Reading> {
        let mut best: Option<(Duration, Reading)> = None;
        for _ in 0..READS_MAX {
            let start = Instant::now();
            let count = self.lab.sink().counters("s0")?.rx_packets;
            let took = start.elapsed();
            if best.is_none_or(|(least, _)| took < least) {
                best = Some((took, Reading { count, at: start + took / 2 }));
            }
            if took <= READ_MAX {
                break;
            }
        }
        best.map(|(_, reading)| reading).context("s0 has no counters")
    }

    /// Frames that the generator's end of the veth passed on, and frames it refused.
    fn offered(&self) -> Result<Offered> {
        let start = Instant::now();
        let counters = self.lab.gen_side().driver_counters("g0")?;
        let sum = |end: &str| {
            let ours = counters.iter().filter(|(name, _)| name.starts_with("tx_queue") && name.ends_with(end));
            ours.map(|(_, value)| value).sum()
        };
        Ok(Offered { counts: [sum("_xdp_xmit"), sum("_xdp_xmit_errors")], at: start + start.elapsed() / 2 })
    }
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    count: u64,
    at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Offered {
    counts: [u64; 2],
    at: Instant,
}

impl Offered {
    fn rate(&self, earlier: &Self, column: usize) -> f64 {
        let count = |offered: &Self| offered.counts.get(column).copied().unwrap_or_default();
        count(self).saturating_sub(count(earlier)) as f64 / (self.at - earlier.at).as_secs_f64()
    }
}

/// IPv4 packets that the kernel itself has forwarded in this namespace.
fn kernel_forwarded(namespace: &Namespace) -> Result<u64> {
    let table = namespace.enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))??;
    forwarded_in(&table).context("ForwDatagrams in /proc/net/snmp")
}

/// The table has a line of names and a line of values, both starting with the protocol.
fn forwarded_in(table: &str) -> Option<u64> {
    let mut lines = table.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let column = names.split_ascii_whitespace().position(|name| name == "ForwDatagrams")?;
    values.split_ascii_whitespace().nth(column)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_packets_are_read_from_the_named_column() {
        let table = "Ip: Forwarding DefaultTTL ForwDatagrams InReceives\nIp: 1 64 4711 9\nIcmp: InMsgs\nIcmp: 3\n";
        assert_eq!(forwarded_in(table), Some(4711));
        assert_eq!(forwarded_in("Ip: Forwarding\nIp: 1\n"), None);
    }
}
