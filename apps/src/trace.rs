//! `tailwater trace`: single packets followed through the graph of a running command, block by block.

mod headers;
mod print;

use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use tailwater_dataplane::trace::{PACKETS_MAX, Trace, TraceConfig};

use crate::common::seconds;
use crate::control::{Choice, Peer, Request};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  tailwater trace 5                                the next five packets, whatever they are
  tailwater trace 10 --filter 'udp port 53'        of those that match, as tcpdump would (man pcap-filter)
  tailwater trace 1 --filter 'host 10.2.0.2' -j | jq '.steps[].did'

Each packet is shown from the port that it came in by: every block with what it did, what it cost, and which bytes it
changed. Copies and answers are followed, too. Traffic goes on meanwhile; only followed packets walk alone.";

/// How often the process is asked.
const LOOK: Duration = Duration::from_millis(100);

/// Options of `trace`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    /// How many packets to follow
    #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(PACKETS_MAX)))]
    count: u32,
    /// Only packets that match this expression, as tcpdump takes it
    #[arg(short, long, value_name = "EXPR", default_value = "")]
    filter: String,
    /// Give up after so many seconds, and show what there is; Ctrl-C does the same
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    timeout: Option<Duration>,
    #[command(flatten)]
    choice: Choice,
    /// Print JSON: a packet a line
    #[arg(short, long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let peer = args.choice.find()?;
    let interrupt = Interrupt::listen()?;
    let config = TraceConfig { count: args.count, filter: args.filter.clone() };
    let _: bool = peer.ask(Request::Trace(config)).map_err(sort_out)?;
    let trace = wait(&peer, args.timeout, &interrupt)?;
    if args.json {
        for packet in &trace.packets {
            output::line(serde_json::to_string(packet)?);
        }
    } else {
        trace.packets.iter().enumerate().for_each(|(at, packet)| output::line(print::packet(at + 1, packet)));
    }
    if trace.passed_by > 0 {
        output::note(format_args!(
            "{} more were wanted, but came while as many as can be followed at once were under way",
            trace.passed_by
        ));
    }
    if trace.steps_lost > 0 {
        output::note(format_args!("{} steps were not written down for want of room", trace.steps_lost));
    }
    if trace.packets.is_empty() {
        let hint = "`tailwater top` shows whether packets come in; -f '' takes all that do";
        return Err(Failure::new("no packet came that was wanted", hint).into());
    }
    Ok(())
}

/// Until everything is told, or the user has waited long enough.
fn wait(peer: &Peer, timeout: Option<Duration>, interrupt: &Interrupt) -> anyhow::Result<Trace> {
    let started = Instant::now();
    let mut end = false;
    loop {
        let trace: Trace = peer.ask(Request::Traced { end })?;
        if trace.done {
            return Ok(trace);
        }
        end = interrupt.wait(LOOK) || timeout.is_some_and(|timeout| started.elapsed() >= timeout);
    }
}

/// A wrong filter is a wrong command line.
fn sort_out(error: anyhow::Error) -> anyhow::Error {
    match error.to_string() {
        text if text.starts_with("malformed filter") => {
            let hint = "quote it: -f 'host 10.0.0.1 and not icmp'; `man pcap-filter` has the language";
            Failure::usage(text, hint).into()
        }
        _ => error,
    }
}
