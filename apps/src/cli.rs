//! The command line as a whole.

use std::ffi::OsString;

use clap::{ArgAction, Parser, Subcommand};
use clap_complete::Shell;

use crate::common::Common;
use crate::{capture, ctl, demo, doctor, echo, group, http, l3fwd, logging, perf, ping, sim, ss, stats, top, trace};

const AFTER_HELP: &str = "\
Start here:
  tailwater doctor                        what each interface can do, and what stands in the way
  tailwater demo                          a network in a box: forwards and echoes, and cleans up
  tailwater l3fwd -i eth1 -i eth2         forward between two interfaces by the kernel's routes
  tailwater stats                         counters of what runs
  tailwater ss                            its TCP connections
  tailwater top                           the same, per second and live
  tailwater ctl list                      its packet graph, to be changed while traffic flows
  tailwater group 7 up                    all interfaces of a group at once

Packets need root, or CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, CAP_PERFMON and CAP_IPC_LOCK.
RUST_LOG=tailwater=debug shows more; so do -v and -vv. Exit codes: 0 done, 1 failed, 2 wrong command line.";

/// Network packets around the kernel: AF_XDP rings, one worker a core, a graph of small blocks.
#[derive(Parser, Debug)]
#[command(name = "tailwater", version, max_term_width = 110, after_help = AFTER_HELP, propagate_version = true)]
pub(crate) struct Cli {
    /// Tell more on standard error; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Forward IPv4 and IPv6 between interfaces, by the kernel's routes and neighbours
    #[command(after_help = l3fwd::AFTER_HELP)]
    L3fwd {
        #[command(flatten)]
        args: l3fwd::Args,
        #[command(flatten)]
        common: Common,
    },
    /// Answer what comes to an address and port
    #[command(after_help = echo::AFTER_HELP)]
    Echo {
        #[command(flatten)]
        args: echo::Args,
        #[command(flatten)]
        common: Common,
    },
    /// Measure throughput, with iperf3 or ourselves at the other end
    #[command(after_help = perf::AFTER_HELP)]
    Perf {
        #[command(flatten)]
        args: Box<perf::Args>,
        #[command(flatten)]
        common: Common,
    },
    /// Serve and download by HTTP, on our own TCP
    #[command(after_help = http::AFTER_HELP)]
    Http(http::Args),
    /// Send echo requests from an address of our own
    #[command(after_help = ping::AFTER_HELP)]
    Ping {
        #[command(flatten)]
        args: ping::Args,
        #[command(flatten)]
        common: Common,
    },
    /// Write an interface's packets to a file
    #[command(after_help = capture::AFTER_HELP)]
    Capture(capture::Args),
    /// Say what interfaces can do and what stands in the way, changing nothing
    #[command(after_help = doctor::AFTER_HELP)]
    Doctor(doctor::Args),
    /// Show the counters of a running command
    #[command(after_help = stats::AFTER_HELP)]
    Stats(stats::Args),
    /// List the TCP connections of running commands
    #[command(after_help = ss::AFTER_HELP)]
    Ss(ss::Args),
    /// Watch a running command: workers, ports, queues, blocks, drops, per second
    #[command(after_help = top::AFTER_HELP)]
    Top(top::Args),
    /// Follow single packets through a running command, block by block
    #[command(after_help = trace::AFTER_HELP)]
    Trace(trace::Args),
    /// Look at and change the packet graph of a running command, while traffic flows
    #[command(after_help = ctl::AFTER_HELP)]
    Ctl(ctl::Args),
    /// Run a network of our own stacks from a file, on a virtual clock
    #[command(after_help = sim::AFTER_HELP)]
    Sim(sim::Args),
    /// Forward and echo in a network made for it, step by step, and clean up
    #[command(after_help = demo::AFTER_HELP)]
    Demo(demo::Args),
    /// Change or show all interfaces of a kernel interface group at once
    #[command(after_help = group::AFTER_HELP)]
    Group(group::Args),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  tailwater completions bash > /etc/bash_completion.d/tailwater")]
    Completions {
        /// Which shell
        shell: Shell,
    },
}

impl Cli {
    /// The process's command line. `tailwater group` is started once for each change, in the place of `ip`: of the
    /// other commands it builds no descriptions, which would be a third of its time, and of its own only if it must.
    pub(crate) fn of_process() -> Self {
        let words: Vec<OsString> = std::env::args_os().skip(1).collect();
        let group = words.split_first().filter(|(command, _)| *command == "group");
        match group.map(|(_, rest)| group::plain_args(rest)) {
            None => Self::parse(),
            Some(Some(args)) => Self { verbose: 0, command: Command::Group(args) },
            Some(None) => {
                let OnlyGroup { verbose, command: Only::Group(args) } = OnlyGroup::parse();
                Self { verbose, command: Command::Group(args) }
            }
        }
    }

    /// Whether anything is told on standard error: setting that up takes longer than changing a small group, which
    /// tells nothing unless it is asked.
    pub(crate) fn logs(&self) -> bool {
        self.verbose > 0 || !matches!(self.command, Command::Group(_)) || logging::is_configured()
    }
}

/// [`Cli`] with one command.
#[derive(Parser, Debug)]
#[command(name = "tailwater", version, max_term_width = 110, propagate_version = true)]
struct OnlyGroup {
    /// Tell more on standard error; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Only,
}

#[derive(Subcommand, Debug)]
enum Only {
    /// Change or show all interfaces of a kernel interface group at once
    #[command(after_help = group::AFTER_HELP)]
    Group(group::Args),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_group_command_alone_is_the_same_as_among_all() {
        let of = |mut whole: clap::Command| {
            whole.build();
            whole.find_subcommand_mut("group").unwrap().render_long_help().to_string()
        };
        assert_eq!(of(OnlyGroup::command()), of(Cli::command()));
    }

    /// Words after `tailwater group`, as users and mistakes put them.
    const GROUP_WORDS: [&str; 24] = [
        "7 up",
        "7 down",
        "7 mtu 1400",
        "7 mtu +1400",
        "7 mtu 01400",
        "7 mtu 68",
        "7 mtu 67",
        "7 mtu 4294967295",
        "7 mtu 4294967296",
        "7 mtu -1400",
        "7 mtu 0x500",
        "7 mtu",
        "7 mtu 1400 1400",
        "7 up --per-member",
        "7 up -j",
        "-j 7 up",
        "uplinks up",
        "up up",
        "list up",
        "help up",
        "help mtu",
        "-7 up",
        "-- up",
        "mtu mtu 1400",
    ];

    #[test]
    fn plain_group_words_mean_what_they_mean_to_clap() {
        let mut plain = 0;
        for line in GROUP_WORDS {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let Some(args) = group::plain_args(&words) else { continue };
            let by_clap =
                OnlyGroup::try_parse_from(["tailwater", "group"].map(OsString::from).into_iter().chain(words));
            let Only::Group(by_clap) = by_clap.unwrap_or_else(|error| panic!("{line}: {error}")).command;
            assert_eq!(format!("{args:?}"), format!("{by_clap:?}"), "{line}");
            plain += 1;
        }
        assert_eq!(plain, 8, "those of a number or name with up, down, or an MTU in range");
    }

    #[test]
    fn every_command_says_what_it_is_for() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
    }
}
