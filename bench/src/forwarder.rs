//! Starting each contender in its namespace, in the way its own users would.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tailwater_lab::{Lab, Process, Program};

use crate::contender::{Contender, Device, Receive};
use crate::host;
use crate::interrupt;
use crate::testbed::{NEXT_HOP_MAC, ROUTER_CPU};
use crate::tools;

/// Memory for DPDK's packet buffers.
pub(crate) const MEMORY_MIB: &str = "400";
/// 1 GiB: that memory and our own frames.
pub(crate) const HUGE_PAGES: u64 = 512;
const START: Duration = Duration::from_secs(30);
const SHELL: Duration = Duration::from_secs(10);

/// The programs that may or may not be there.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    pub tailwater: PathBuf,
    pub testpmd: Option<PathBuf>,
    pub dpdk_l3fwd: Option<PathBuf>,
}

impl Binaries {
    /// Why this kind of forwarder cannot be run here, if so.
    pub(crate) fn absent(&self, device: Device) -> Option<String> {
        match device {
            Device::TestpmdIo if self.testpmd.is_none() => {
                Some("dpdk-testpmd is not installed (ci/setup --bench)".into())
            }
            Device::DpdkL3fwd if self.dpdk_l3fwd.is_none() => {
                Some("no l3fwd of DPDK given (--dpdk-l3fwd PATH; Debian does not package it)".into())
            }
            _ if device.is_ours() && !self.tailwater.is_file() => {
                Some(format!("no {} (cargo build --release, or --tailwater PATH)", self.tailwater.display()))
            }
            _ => None,
        }
    }
}

/// A contender that forwards, until dropped.
#[derive(Debug)]
pub(crate) struct Forwarder {
    processes: Vec<Process>,
    /// What was started and set, as a reader would repeat it.
    pub commands: Vec<String>,
    folder: Option<PathBuf>,
    /// Whether it is a process of ours in which a worker forwards.
    has_worker: bool,
}

impl Forwarder {
    pub(crate) fn start(contender: &Contender, lab: &Lab, binaries: &Binaries) -> Result<Self> {
        let mut forwarder = Self { processes: Vec::new(), commands: Vec::new(), folder: None, has_worker: false };
        forwarder.has_worker = matches!(contender.device, Device::TailwaterUser(_));
        match contender.device {
            Device::Kernel => forwarder.kernel(contender.receive, lab)?,
            Device::XdpRedirect => forwarder.tool(tools::redirect(lab.dut(), "d0", "d1")?)?,
            Device::XdpFib => forwarder.tool(tools::forward_by_fib(lab.dut(), "d0")?)?,
            Device::TestpmdIo => forwarder.testpmd("io", contender.receive, lab, binaries)?,
            Device::DpdkL3fwd => forwarder.dpdk_l3fwd(contender.receive, lab, binaries)?,
            Device::TailwaterUser(idle) => {
                forwarder.tailwater(&["--place", "user", "--idle", idle.word()], contender.receive, lab, binaries)?;
            }
            Device::TailwaterXdp => forwarder.tailwater(&["--place", "xdp"], contender.receive, lab, binaries)?,
        }
        if contender.receive == Receive::DutCore && !contender.device.is_ours() {
            lab.dut().napi_thread("d0", ROUTER_CPU)?;
            forwarder.commands.push(format!("threaded NAPI on d0, pinned to CPU {ROUTER_CPU}"));
        }
        Ok(forwarder)
    }

    /// The process whose worker forwards, if it is ours.
    pub(crate) fn worker_pid(&self) -> Option<u32> {
        self.processes.first().filter(|_| self.has_worker).map(Process::pid)
    }

    /// Whether what was started still runs.
    pub(crate) fn check(&mut self) -> Result<()> {
        if self.processes.iter_mut().all(Process::is_running) {
            return Ok(());
        }
        let finished = self.processes.pop().and_then(Process::stop);
        let output = finished.map(|finished| finished.stdout + &finished.stderr).unwrap_or_default();
        let lines: Vec<&str> = output.lines().rev().take(8).collect();
        bail!("the forwarder ended; its output ends with: {}", lines.into_iter().rev().collect::<Vec<_>>().join(" | "));
    }

    fn kernel(&mut self, receive: Receive, lab: &Lab) -> Result<()> {
        for device in ["d0", "d1"] {
            lab.dut().offload(device, &["gro"], true)?;
        }
        self.commands.push("net.ipv4.ip_forward=1, ethtool -K d0 gro on, d1 gro on".into());
        if receive == Receive::GeneratorCore {
            let mask = format!("{:x}", 1u64 << ROUTER_CPU);
            let script = format!("echo {mask} > /sys/class/net/d0/queues/rx-0/rps_cpus");
            lab.dut().program("sh").args(["-c", &script]).run(SHELL)?;
            self.commands.push(script);
        }
        Ok(())
    }

    fn tool(&mut self, program: Program) -> Result<()> {
        self.commands.push(program.display_short());
        let mut process = program.spawn()?;
        process.wait_for_line(tools::READY, START)?;
        self.processes.push(process);
        Ok(())
    }

    fn tailwater(&mut self, words: &[&str], receive: Receive, lab: &Lab, binaries: &Binaries) -> Result<()> {
        let cores = ROUTER_CPU.to_string();
        let program = lab.dut().program(&binaries.tailwater);
        let program = program.args(["l3fwd", "-i", "d0", "-i", "d1", "--mode", "auto", "--cores", &cores]).args(words);
        // Ours has an option for it.
        let program = if receive == Receive::DutCore { program.arg("--napi-thread") } else { program };
        self.tool(program.cpu(ROUTER_CPU))
    }

    fn testpmd(&mut self, mode: &str, receive: Receive, lab: &Lab, binaries: &Binaries) -> Result<()> {
        let path = binaries.testpmd.as_ref().context("dpdk-testpmd is not installed")?;
        let program = environment(lab.dut().program(path), &[0, 1], MEMORY_MIB);
        let program = program.args(devices(receive)).args(["--", &format!("--forward-mode={mode}"), "--auto-start"]);
        let program = program.args(["--no-mlockall", "--total-num-mbufs=32768", "--rxq=1", "--txq=1", "--burst=64"]);
        self.dpdk(program, receive, lab)
    }

    fn dpdk_l3fwd(&mut self, receive: Receive, lab: &Lab, binaries: &Binaries) -> Result<()> {
        let path = binaries.dpdk_l3fwd.as_ref().context("no l3fwd of DPDK given")?;
        let folder = std::env::temp_dir().join(format!("tailwater-bench-{}", lab.dut().name()));
        std::fs::create_dir_all(&folder)?;
        self.folder = Some(folder.clone());
        let (rules4, rules6) = (folder.join("rules4"), folder.join("rules6"));
        let rules: String = (0..tools::PREFIXES).map(|index| format!("R{} 1\n", tools::prefix(index))).collect();
        std::fs::write(&rules4, rules)?;
        std::fs::write(&rules6, "Rfd00:0000:0000:0000:0000:0000:0000:0000/16 1\n")?;
        // One lcore only: the driver has one transmit queue, and l3fwd wants one for every lcore.
        let program = environment(lab.dut().program(path), &[0], MEMORY_MIB).args(devices(receive));
        let program = program.args(["--", "-p", "3", "--config=(0,0,0),(1,0,0)", "-P", "--parse-ptype"]);
        let program = program.args(["--rx-queue-size=2048", "--tx-queue-size=2048", "--lookup=lpm"]);
        let program = program.arg(format!("--rule_ipv4={}", rules4.display()));
        let program = program.arg(format!("--rule_ipv6={}", rules6.display()));
        let program = program.arg(format!("--eth-dest=1,{NEXT_HOP_MAC}"));
        self.dpdk(program, receive, lab)
    }

    fn dpdk(&mut self, program: Program, receive: Receive, lab: &Lab) -> Result<()> {
        if receive == Receive::GeneratorCore {
            // What DPDK's guide tells users of its busy polling to set.
            for device in ["d0", "d1"] {
                let folder = format!("/sys/class/net/{device}");
                let script =
                    format!("echo 2 > {folder}/napi_defer_hard_irqs; echo 200000 > {folder}/gro_flush_timeout");
                lab.dut().program("sh").args(["-c", &script]).run(SHELL)?;
                self.commands.push(script);
            }
        }
        self.commands.push(program.display_short());
        host::top_up_huge_pages(HUGE_PAGES)?;
        self.processes.push(program.stdin_open().spawn()?);
        let end = Instant::now() + START;
        // The log comes in blocks; the program on the last port tells when it is ready.
        while !lab.dut().ip("-d link show dev d1")?.contains("xdp") {
            self.check()?;
            if Instant::now() > end {
                bail!("DPDK attached nothing to d1 within {START:?}");
            }
            interrupt::sleep(Duration::from_millis(50))?;
        }
        Ok(())
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.processes.clear();
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// DPDK's environment options, all of its lcores on the forwarder's CPU.
pub(crate) fn environment(program: Program, lcores: &[u32], memory_mib: &str) -> Program {
    let map: Vec<String> = lcores.iter().map(|lcore| format!("{lcore}@{ROUTER_CPU}")).collect();
    program.args(["--no-pci", "--in-memory", "-m", memory_mib, "--no-telemetry", "--lcores", &map.join(",")])
}

/// Both ports over net_af_xdp. Its busy polling goes with receive work in softirqs; without it, with a NAPI thread.
fn devices(receive: Receive) -> [String; 4] {
    let busy = if receive == Receive::DutCore { ",busy_budget=0" } else { "" };
    let device = |number: u8| format!("net_af_xdp{number},iface=d{number},start_queue=0,queue_count=1{busy}");
    ["--vdev".into(), device(0), "--vdev".into(), device(1)]
}
