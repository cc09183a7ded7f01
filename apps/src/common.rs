//! Options of every command that moves packets.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tailwater_dataplane::port::af_xdp;
use tailwater_dataplane::runtime::{self, FollowGroup, InterfaceConfig, RuntimeConfig};
use tailwater_dataplane::worker;
use tailwater_xdp::{AttachMode, Mode, Place, WORKERS_MAX};

use crate::cpus;
use crate::failure::Failure;
use crate::grouping::{self, Grouping};

/// Native or generic XDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum XdpMode {
    /// Native where the driver has it, else generic
    #[default]
    Auto,
    /// In the driver
    Native,
    /// In the kernel's receive path: any interface, slower
    Generic,
}

/// Whether the kernel copies packets to and from our memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum CopyMode {
    /// Zero-copy where the driver has it
    #[default]
    Auto,
    /// The kernel copies
    Copy,
    /// Zero-copy or an error
    Zero,
}

/// How to reach the interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// AF_XDP where it works, else AF_PACKET
    #[default]
    Auto,
    /// AF_XDP or an error
    #[value(name = "af_xdp")]
    AfXdp,
    /// AF_PACKET rings: works everywhere, and the kernel sees every packet, too
    Packet,
}

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Idle {
    /// Spin, always: lowest delay, a whole core
    Spin,
    /// Spin a while, then sleep; nap for 20 us at a time while packets come in bulk
    #[default]
    Adaptive,
    /// Sleep at once: for a core shared with others
    Sleep,
}

/// Options of every command that moves packets.
#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    /// Interface to use; give it again for each further one
    #[arg(short, long = "interface", value_name = "IF")]
    pub(crate) interfaces: Vec<String>,
    /// Cores to run workers on, one worker each
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "0")]
    pub(crate) cores: Vec<usize>,
    /// Receive queues to serve on each interface, from queue 0 on; all unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) queues: Option<u32>,
    /// Where the XDP program runs
    #[arg(long, value_enum, default_value_t)]
    pub(crate) mode: XdpMode,
    /// Whether the kernel copies packets
    #[arg(long, value_enum, default_value_t)]
    pub(crate) copy: CopyMode,
    /// How to reach the interfaces
    #[arg(long, value_enum, default_value_t)]
    pub(crate) backend: Backend,
    /// What workers do when there is nothing to do
    #[arg(long, value_enum, default_value_t)]
    pub(crate) idle: Idle,
    /// Descriptors of each ring: a power of two, 64 to 32768; 2048 unless given, fewer with many interfaces
    #[arg(long, value_name = "N", value_parser = ring_size)]
    pub(crate) ring_size: Option<u32>,
    /// Packet buffers in all, 64 or more; enough for all rings unless given
    #[arg(long, value_name = "N", value_parser = frames)]
    pub(crate) frames: Option<usize>,
    /// Do not try huge pages for packet memory
    #[arg(long)]
    pub(crate) no_huge_pages: bool,
    /// Hand TCP segments to the kernel one by one, even where it copies and could cut a larger packet (GSO)
    #[arg(long)]
    pub(crate) no_gso: bool,
    /// Let kernel threads on the workers' cores do the receive work (threaded NAPI) while we run
    #[arg(long)]
    pub(crate) napi_thread: bool,
    /// Nice value of those threads, -20 to 19: above 0 a worker with packets goes before receiving more
    #[arg(long, value_name = "N", default_value_t = 10, allow_hyphen_values = true,
          value_parser = clap::value_parser!(i32).range(-20..=19))]
    pub(crate) napi_nice: i32,
    /// Stop by itself after this many seconds
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub(crate) duration: Option<Duration>,
    /// Seconds between progress lines
    #[arg(long, value_name = "SECS", default_value = "1", value_parser = seconds)]
    pub(crate) stats_interval: Duration,
    /// Serve all counters to Prometheus at this address, as http://ADDR/metrics
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Print JSON: one object a line, told apart by "event"
    #[arg(short, long)]
    pub(crate) json: bool,
}

impl Common {
    /// The same wishes for the runtime, checked as far as that is possible without touching an interface. Members of a
    /// group are those of this moment.
    pub(crate) fn runtime_config(
        &self,
        mode: Mode,
        place: Place,
        grouping: &Grouping,
    ) -> anyhow::Result<RuntimeConfig> {
        self.check_cores()?;
        let members = grouping.members(&self.interfaces)?;
        let names: Vec<&str> = self.interfaces.iter().chain(&members.names).map(String::as_str).collect();
        if names.is_empty() {
            let hint = "name one with -i IF (--interface IF); `tailwater doctor` shows what there is";
            return Err(Failure::usage("no interface given", hint).into());
        }
        let interfaces_max = grouping.places(names.len())?;
        let interface = |name: &str| InterfaceConfig {
            backend: match self.backend {
                Backend::Auto => runtime::Backend::Auto,
                Backend::AfXdp => runtime::Backend::AfXdp,
                Backend::Packet => runtime::Backend::Packet,
            },
            attach: self.attach_mode(),
            copy: match self.copy {
                CopyMode::Auto => None,
                CopyMode::Copy => Some(af_xdp::Copy::Copy),
                CopyMode::Zero => Some(af_xdp::Copy::Zero),
            },
            queues: self.queues,
            ..InterfaceConfig::named(name)
        };
        Ok(RuntimeConfig {
            interfaces: names.iter().map(|name| interface(name)).collect(),
            interfaces_max,
            follow: members.group.map(|number| FollowGroup { number, like: interface("") }),
            cores: self.cores.clone(),
            idle: match self.idle {
                Idle::Spin => worker::Idle::Spin,
                // Spinning would keep the core from the kernel's receive thread.
                Idle::Adaptive if self.napi_thread => worker::Idle::Sleep,
                Idle::Adaptive => worker::Idle::Adaptive,
                Idle::Sleep => worker::Idle::Sleep,
            },
            mode,
            place,
            ring_size: self.ring_size.unwrap_or(grouping::ring_size(interfaces_max)),
            frames: self.frames,
            huge_pages: !self.no_huge_pages,
            segmentation: !self.no_gso,
            ..RuntimeConfig::default()
        })
    }

    /// How programs are to be attached.
    pub(crate) fn attach_mode(&self) -> AttachMode {
        match self.mode {
            XdpMode::Auto => AttachMode::Auto,
            XdpMode::Native => AttachMode::Native,
            XdpMode::Generic => AttachMode::Generic,
        }
    }

    fn check_cores(&self) -> anyhow::Result<()> {
        let online = cpus::online();
        let mut seen = Vec::new();
        for &core in &self.cores {
            if !online.contains(&core) {
                let there = cpus::list(&online);
                return Err(Failure::usage(format!("there is no core {core}"), format!("cores here: {there}")).into());
            }
            if seen.contains(&core) {
                let hint = "a worker takes a whole core; name each once";
                return Err(Failure::usage(format!("core {core} is given twice"), hint).into());
            }
            seen.push(core);
        }
        if seen.len() > WORKERS_MAX as usize {
            let hint = format!("name at most {WORKERS_MAX} cores");
            return Err(Failure::usage("more workers than the XDP program can tell apart", hint).into());
        }
        Ok(())
    }
}

/// A length of time that a person would ask for.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(secs) if (0.01..=1e8).contains(&secs) => Ok(Duration::from_secs_f64(secs)),
        _ => Err("wanted seconds, 0.01 or more".to_owned()),
    }
}

fn ring_size(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(size) if size.is_power_of_two() && (64..=32_768).contains(&size) => Ok(size),
        _ => Err("wanted a power of two from 64 to 32768".to_owned()),
    }
}

fn frames(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(frames) if (64..=1 << 24).contains(&frames) => Ok(frames),
        _ => Err("wanted a number from 64 to 16777216".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_outside_what_the_kernel_takes_are_refused_before_anything_is_opened() {
        assert_eq!(ring_size("2048"), Ok(2048));
        assert!(ring_size("100").is_err() && ring_size("32").is_err() && ring_size("65536").is_err());
        assert_eq!(frames("64"), Ok(64));
        assert!(frames("63").is_err() && frames("-1").is_err());
    }

    #[test]
    fn a_time_is_positive_and_finite() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        assert!(["0", "-1", "nan", "inf", "soon"].iter().all(|text| seconds(text).is_err()));
    }
}
