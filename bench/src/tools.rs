//! Our own small programs that run inside a lab: hidden subcommands of this binary, started as processes of their own so
//! that they can be pinned, put into a namespace, and leave nothing behind however they end.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use tailwater_lab::{Namespace, Program};

use crate::lookup::Family;
use crate::tcp_load::Kind;
use tailwater_bench::tcp_in_process::{Exchange, StackKind};

/// First line of a tool that has attached its program or bound its socket.
pub(crate) const READY: &str = "ready";

/// What the generator sends: UDP from 10.1.0.2 to [`DESTINATIONS`] addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    /// Frame length without checksum: 60 is the smallest frame, 64 bytes on a wire.
    pub frame_bytes: u16,
    /// Clock reads the generator wastes per frame; 0 offers all it can.
    pub delay: u32,
    pub secs: f64,
}

/// Routes: 10.16.0.0/24 to 10.31.255.0/24, all via 10.2.0.2.
pub(crate) const PREFIXES: u32 = 4096;
/// Addresses below them, each frame to one taken at random.
pub(crate) const DESTINATIONS: u32 = PREFIXES * 256;
/// The first of both.
pub(crate) const DESTINATION_FIRST: Ipv4Addr = Ipv4Addr::new(10, 16, 0, 0);

/// An address in the prefix with number `index`.
pub(crate) fn destination(index: u32) -> Ipv4Addr {
    Ipv4Addr::from(DESTINATION_FIRST.to_bits() + ((index % PREFIXES) << 8) + 1)
}

/// The prefix with number `index` that every forwarder has a route for.
pub(crate) fn prefix(index: u32) -> String {
    format!("{}/24", Ipv4Addr::from(DESTINATION_FIRST.to_bits() + ((index % PREFIXES) << 8)))
}

fn this_binary() -> Result<PathBuf> {
    std::env::current_exe().context("finding this program's own file")
}

fn tool(namespace: &Namespace, words: &[&str]) -> Result<Program> {
    Ok(namespace.program(this_binary()?).arg("tool").args(words))
}

pub(crate) fn generate(namespace: &Namespace, interface: &str, router_mac: &str, traffic: Traffic) -> Result<Program> {
    let (size, delay, secs) = (traffic.frame_bytes.to_string(), traffic.delay.to_string(), traffic.secs.to_string());
    let words = ["generate", interface, "--to", router_mac, "--size", &size, "--delay", &delay, "--secs", &secs];
    tool(namespace, &words)
}

pub(crate) fn drop_frames(namespace: &Namespace, interface: &str) -> Result<Program> {
    tool(namespace, &["drop", interface])
}

pub(crate) fn redirect(namespace: &Namespace, interface: &str, out: &str) -> Result<Program> {
    tool(namespace, &["redirect", interface, "--out", out])
}

pub(crate) fn forward_by_fib(namespace: &Namespace, interface: &str) -> Result<Program> {
    tool(namespace, &["fib", interface])
}

pub(crate) fn look_up(family: Family) -> Result<Program> {
    let family = family.to_possible_value().context("the family has no name")?;
    Ok(Program::new(this_binary()?).args(["tool", "look-up", family.get_name()]))
}

pub(crate) fn forward_in_memory(fused: bool, batch: usize, secs: f64) -> Result<Program> {
    let program = Program::new(this_binary()?).args(["tool", "forward", "--secs", &secs.to_string()]);
    let program = program.args(["--batch", &batch.to_string()]);
    Ok(if fused { program.arg("--fused") } else { program })
}

pub(crate) fn tcp_in_process(stack: StackKind, exchange: &Exchange, secs: f64) -> Result<Program> {
    let Exchange { load, mtu, connections } = exchange;
    let stack = stack.to_possible_value().context("the stack has no name")?;
    let load = load.to_possible_value().context("the load has no name")?;
    let program = Program::new(this_binary()?).args(["tool", "tcp-in-process", stack.get_name(), load.get_name()]);
    let program = program.args(["--mtu", &mtu.to_string(), "--connections", &connections.to_string()]);
    Ok(program.args(["--secs", &secs.to_string()]))
}

pub(crate) fn echo_server(namespace: &Namespace, listen: &str, polling: bool) -> Result<Program> {
    let program = tool(namespace, &["echo", listen])?;
    Ok(if polling { program.arg("--poll") } else { program })
}

pub(crate) fn ping_pong(namespace: &Namespace, server: &str, polling: bool, secs: f64) -> Result<Program> {
    let program = tool(namespace, &["ping-pong", server, "--secs", &secs.to_string()])?;
    Ok(if polling { program.arg("--poll") } else { program })
}

pub(crate) fn tcp_echo_server(namespace: &Namespace, listen: &str, polling: bool) -> Result<Program> {
    let program = tool(namespace, &["tcp-echo", listen])?;
    Ok(if polling { program.arg("--poll") } else { program })
}

/// A client that does not sleep.
pub(crate) fn load(
    namespace: &Namespace,
    server: &str,
    kind: Kind,
    connections: usize,
    size: usize,
    secs: f64,
) -> Result<Program> {
    let kind = kind.to_possible_value().context("the kind has no name")?;
    let (connections, size, secs) = (connections.to_string(), size.to_string(), secs.to_string());
    let words = ["tcp-load", server, "--kind", kind.get_name(), "--connections", &connections, "--size", &size];
    Ok(tool(namespace, &words)?.args(["--secs", &secs, "--poll"]))
}

/// Who pours a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// A kernel socket.
    Kernel,
    /// A kernel socket that is paced, as below the queueing discipline fq.
    KernelPaced,
    /// Our own stack.
    Ours { interface: &'static str, core: usize },
}

pub(crate) fn tcp_source(namespace: &Namespace, listen: &str, control: &str, source: Source) -> Result<Program> {
    let program = tool(namespace, &["tcp-source", listen, "--control", control])?;
    Ok(match source {
        Source::Kernel => program,
        Source::KernelPaced => program.arg("--paced"),
        Source::Ours { interface, core } => program.args(["--ours", interface, "--core", &core.to_string()]),
    })
}

pub(crate) fn tcp_sink(namespace: &Namespace, sources: &[&str], skip: f64, secs: f64) -> Result<Program> {
    let (skip, secs) = (skip.to_string(), secs.to_string());
    Ok(tool(namespace, &["tcp-sink", "--skip", &skip, "--secs", &secs])?.args(sources))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_destination_lies_in_the_prefix_of_its_number() {
        assert_eq!((destination(0).to_string(), prefix(0)), ("10.16.0.1".into(), "10.16.0.0/24".into()));
        assert_eq!((destination(4095).to_string(), prefix(4095)), ("10.31.255.1".into(), "10.31.255.0/24".into()));
        assert_eq!((destination(257).to_string(), prefix(257)), ("10.17.1.1".into(), "10.17.1.0/24".into()));
    }
}
