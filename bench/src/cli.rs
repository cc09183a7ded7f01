//! The command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::forwarder::Binaries;
use crate::host;
use crate::lookup::Family;
use crate::scenario::{Options, Scenario};
use crate::tcp_load::Kind;
use tailwater_bench::memory_forward::BATCH;
use tailwater_bench::tcp_in_process::{self, StackKind};

/// Measures Tailwater and its peers side by side, in networks of its own that vanish afterwards.
///
/// Contenders take turns (A B C, A B C, ...), pinned to CPU 0, with the generator or client on CPU 1. Results go to
/// bench/results/: every run as JSON, tables as Markdown, pictures as SVG and PNG. Needs root and two CPUs.
#[derive(Parser, Debug)]
#[command(name = "tailwater-bench", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Show the scenarios, their contenders, and which of them can be run here
    List(Paths),
    /// Run scenarios and write their results
    Run(Run),
    /// The small programs that the scenarios run inside their networks
    #[command(subcommand, hide = true)]
    Tool(Tool),
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    /// What to measure
    #[arg(required = true, value_enum)]
    pub scenarios: Vec<Scenario>,
    /// Turns of every contender
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub secs: f64,
    /// Contenders to run, by name (see `list`); all that are there unless given. The first of each list is the reference
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    pub peers: Vec<String>,
    /// Frame lengths of l3fwd in bytes, without the frame check sequence
    #[arg(long, value_delimiter = ',', default_value = "60,124,252,508,1020,1514", value_name = "BYTES,...",
          value_parser = clap::value_parser!(u16).range(60..=1514))]
    pub sizes: Vec<u16>,
    /// Offered loads: how many clock reads the generator wastes for each frame; 0 is all it can
    #[arg(long, value_delimiter = ',', default_value = "0,4,12,24", value_name = "N,...",
          value_parser = clap::value_parser!(u32).range(0..=64))]
    pub delays: Vec<u32>,
    /// Members of the groups
    #[arg(long, value_delimiter = ',', default_value = "128,256,512,1024,2048", value_name = "N,...",
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub members: Vec<u32>,
    /// Where the results go
    #[arg(long, default_value = "bench/results", value_name = "FOLDER")]
    pub out: PathBuf,
    /// One run of one second, two sizes, full load, a small group: does it work?
    #[arg(long)]
    pub quick: bool,
    /// Seconds to wait before each turn until nothing else uses the CPUs; what ran on a busy machine is marked
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub patience: f64,
    #[command(flatten)]
    pub paths: Paths,
}

#[derive(Args, Debug)]
pub(crate) struct Paths {
    /// Our program; the one beside this program unless given
    #[arg(long, value_name = "PATH")]
    pub tailwater: Option<PathBuf>,
    /// DPDK's l3fwd example, built elsewhere, with room for 4096 routes
    #[arg(long, value_name = "PATH")]
    pub dpdk_l3fwd: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Tool {
    /// Send UDP frames to random routed addresses until the time is over
    Generate {
        interface: String,
        /// MAC address of the router
        #[arg(long)]
        to: String,
        #[arg(long)]
        size: u16,
        #[arg(long)]
        delay: u32,
        #[arg(long)]
        secs: f64,
    },
    /// Drop every frame in XDP
    Drop { interface: String },
    /// Redirect every frame in XDP, without looking
    Redirect {
        interface: String,
        #[arg(long)]
        out: String,
    },
    /// Forward in XDP by the kernel's routing table
    Fib { interface: String },
    /// Build our full forwarding table and time lookups in it
    LookUp {
        #[arg(value_enum)]
        family: Family,
    },
    /// Forward between memory ports in this process
    Forward {
        /// One loop written by hand instead of the packet graph
        #[arg(long)]
        fused: bool,
        /// Packets of a turn
        #[arg(long, default_value_t = BATCH)]
        batch: usize,
        #[arg(long)]
        secs: f64,
    },
    /// TCP between two hosts of this process
    TcpInProcess {
        #[arg(value_enum)]
        stack: StackKind,
        #[arg(value_enum)]
        load: tcp_in_process::Load,
        #[arg(long)]
        mtu: usize,
        #[arg(long, default_value_t = 1)]
        connections: usize,
        #[arg(long)]
        secs: f64,
    },
    /// Echo UDP datagrams on a kernel socket
    Echo {
        listen: SocketAddr,
        #[arg(long)]
        poll: bool,
    },
    /// Echo on TCP connections with kernel sockets
    TcpEcho {
        listen: SocketAddr,
        #[arg(long)]
        poll: bool,
    },
    /// Time requests and responses over TCP
    TcpLoad {
        server: SocketAddr,
        #[arg(long, value_enum)]
        kind: Kind,
        #[arg(long)]
        connections: usize,
        #[arg(long)]
        size: usize,
        #[arg(long)]
        poll: bool,
        #[arg(long)]
        secs: f64,
    },
    /// Send to whoever connects, for as long as it is read, with kernel sockets or on our own stack
    TcpSource {
        listen: SocketAddr,
        /// Congestion control
        #[arg(long)]
        control: String,
        /// Spread what the window allows over the round trip, as the kernel does below the queueing discipline fq
        #[arg(long, conflicts_with = "ours")]
        paced: bool,
        /// On our own stack, on this interface
        #[arg(long)]
        ours: Option<String>,
        #[arg(long, default_value_t = 0)]
        core: usize,
    },
    /// Read from each of these at once, and count
    TcpSink {
        #[arg(required = true)]
        sources: Vec<SocketAddr>,
        /// Seconds at the beginning that do not count
        #[arg(long, default_value_t = 0.0)]
        skip: f64,
        #[arg(long)]
        secs: f64,
    },
    /// Time UDP round trips
    PingPong {
        server: SocketAddr,
        #[arg(long)]
        poll: bool,
        #[arg(long)]
        secs: f64,
    },
}

/// A length of time a person would ask for.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(secs) if (0.0..=3600.0).contains(&secs) => Ok(secs),
        _ => Err("between 0 and 3600 seconds".to_owned()),
    }
}

impl Paths {
    pub(crate) fn binaries(&self) -> Binaries {
        let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join("tailwater")));
        Binaries {
            tailwater: absolute(self.tailwater.as_deref().or(beside.as_deref()).unwrap_or(Path::new("tailwater"))),
            testpmd: host::find_program("dpdk-testpmd"),
            dpdk_l3fwd: self.dpdk_l3fwd.as_deref().map(absolute),
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl Run {
    pub(crate) fn options(&self) -> Result<Options> {
        self.check_peers()?;
        if let Some(path) = self.paths.dpdk_l3fwd.as_ref().filter(|path| !path.is_file()) {
            bail!("--dpdk-l3fwd: there is no file {}", path.display());
        }
        let (runs, secs) = if self.quick { (1, 1.0) } else { (self.runs, self.secs) };
        let quick_sizes = || if self.sizes.len() > 2 { vec![60, 1514] } else { self.sizes.clone() };
        Ok(Options {
            runs,
            secs,
            peers: self.peers.clone(),
            sizes: if self.quick { quick_sizes() } else { self.sizes.clone() },
            delays: if self.quick { vec![0] } else { self.delays.clone() },
            members: if self.quick && self.members.len() > 1 { vec![64] } else { self.members.clone() },
            patience: Duration::from_secs_f64(if self.quick { 0.0 } else { self.patience }),
            binaries: self.paths.binaries(),
            out: self.out.clone(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
        })
    }

    /// A misspelt name must not silently measure nothing.
    fn check_peers(&self) -> Result<()> {
        let known: Vec<String> =
            self.scenarios.iter().flat_map(|scenario| scenario.contenders()).map(|(name, _)| name).collect();
        match self.peers.iter().find(|peer| !known.contains(peer)) {
            Some(peer) => bail!("--peers: {peer} is in none of these scenarios; known are {}", known.join(", ")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Result<Options> {
        let cli = Cli::try_parse_from([&["tailwater-bench", "run"], words].concat())?;
        match cli.command {
            Command::Run(run) => run.options(),
            other => bail!("{other:?}"),
        }
    }

    #[test]
    fn command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_five_interleaved_runs_over_six_sizes() {
        let options = options(&["l3fwd"]).unwrap();
        assert_eq!((options.runs, options.sizes.len()), (5, 6));
    }

    #[test]
    fn quick_is_one_run_of_the_smallest_and_largest_frame() {
        let options = options(&["l3fwd", "--quick"]).unwrap();
        assert_eq!((options.runs, options.sizes, options.delays), (1, vec![60, 1514], vec![0]));
    }

    #[test]
    fn misspelt_contender_is_refused_with_the_known_ones() {
        let error = options(&["l3fwd", "--peers", "kernel,testmpd"]).unwrap_err().to_string();
        assert!(error.contains("testmpd") && error.contains("testpmd-io"), "{error}");
        assert!(options(&["l3fwd", "--peers", "kernel,testpmd-io"]).is_ok());
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for words in [["l3fwd", "--sizes=59"], ["l3fwd", "--runs=0"], ["l3fwd", "--secs=-1"], ["l3fwd", "--secs=nan"]] {
            assert!(options(&words).is_err(), "{words:?}");
        }
    }
}
