//! `tailwater capture`: an interface's packets as a pcapng file.

mod end;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use tailwater_dataplane::block::{Registry, Services, Value};
use tailwater_dataplane::graph::{GraphError, GraphSpec};
use tailwater_dataplane::runtime::RuntimeError;
use tailwater_netlink::{Control, Link};
use tailwater_xdp::{Mode, Place};

use crate::common::{Backend, Common};
use crate::failure::Failure;
use crate::grouping::Grouping;
use crate::session::{Part, Plan, check_privileges};
use crate::snapshot::Snapshot;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  tailwater capture -i eth0 -w all.pcapng
  tailwater capture -i eth0 -w web.pcapng -f 'tcp port 443' --snaplen 128 --duration 60
  tailwater capture -i eth0 -w - -c 100 | tshark -r -
  tailwater capture -i eth0 -w ring.pcapng --file-size-mb 100 --files 10      the last gigabyte

What the interface receives is captured, what the host sends by it is not. Over AF_PACKET (the default) the host
still gets every packet. With --backend af_xdp it does NOT: packets end in the
file. -f takes what tcpdump takes (man pcap-filter). What the disk is too slow for is counted as `missed`.";

/// Options of `capture`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    /// File to write, overwritten if it exists; - is standard output
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    file: PathBuf,
    /// Only packets that match this expression, as tcpdump takes it
    #[arg(short = 'f', long, value_name = "EXPR", default_value = "")]
    filter: String,
    /// Bytes kept of each packet; 0 keeps all
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..=262_144))]
    snaplen: i64,
    /// Stop after this many packets
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=i64::MAX as u64))]
    count: Option<u64>,
    /// Go on with a next, numbered file after this many MiB
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(i64).range(1..=1_048_576))]
    file_size_mb: Option<i64>,
    /// Keep this many numbered files, the newest
    #[arg(long, value_name = "N", requires = "file_size_mb", value_parser = clap::value_parser!(i64).range(1..=100_000))]
    files: Option<i64>,
    #[command(flatten)]
    common: Common,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let mut netlink = Control::open()?;
    let links: Result<Vec<_>, _> = args.common.interfaces.iter().map(|name| netlink.link_by_name(name)).collect();
    let links = links?;
    writable(&args.file)?;
    check_privileges()?;
    let mut common = args.common.clone();
    let mut notes = Vec::new();
    match common.backend {
        Backend::Auto => common.backend = Backend::Packet,
        Backend::AfXdp => {
            notes.push("AF_XDP: captured packets do NOT reach the host; leave --backend out to only watch".into())
        }
        Backend::Packet => {}
    }
    if common.backend == Backend::Packet {
        notes.extend(links.iter().filter_map(taken_before));
    }
    let to_stdout = args.file.as_os_str() == "-";
    if to_stdout && common.json {
        return Err(Failure::usage("-w - and -j both want standard output", "write to a file").into());
    }
    let mut registry = Registry::builtin();
    registry.add(end::KIND);
    let plan = Plan {
        command: "capture",
        common: &common,
        config: common.runtime_config(Mode::Exclusive, Place::User, &Grouping::default())?,
        registry,
        services: Services::default(),
        notes,
    };
    plan.run(|ports| graph(&args, ports), |_| Ok(Limit { packets: args.count, to_stdout })).map_err(sort_out)
}

/// Whether an XDP program has the interface's packets first, and what to do then.
fn taken_before(link: &Link) -> Option<String> {
    let (name, program) = (&link.name, link.xdp?.prog_id);
    Some(format!(
        "{name} has an XDP program (id {program}): what that takes is not seen here; \
         if it is a tailwater's: `tailwater ctl insert cap capture rx:{name} file=FILE`"
    ))
}

/// Stops after a number of packets.
struct Limit {
    packets: Option<u64>,
    to_stdout: bool,
}

impl Part for Limit {
    fn looks(&self) -> bool {
        self.packets.is_some()
    }

    fn owns_stdout(&self) -> bool {
        self.to_stdout
    }

    fn enough(&mut self, snapshot: &Snapshot) -> bool {
        let blocks = snapshot.workers.iter().flat_map(|worker| &worker.blocks);
        // All instances write to one file and count the same.
        let captured = blocks.filter_map(|block| block.counters.get("captured")).max();
        captured >= self.packets.as_ref()
    }
}

/// All ports into one file.
fn graph(args: &Args, ports: &[String]) -> GraphSpec {
    let number = |n: i64| Value::Integer(n);
    let parameters = [
        ("file", Value::Text(args.file.to_string_lossy().into_owned())),
        ("expression", Value::Text(args.filter.clone())),
        ("snap_bytes", number(args.snaplen)),
        ("count_max", number(args.count.unwrap_or(0) as i64)),
        ("file_size_mb", number(args.file_size_mb.unwrap_or(0))),
        ("files", number(args.files.unwrap_or(0))),
        ("interfaces", Value::Text(ports.join(","))),
    ];
    let graph = GraphSpec::default().node("capture", "capture", &parameters).node("end", end::KIND.name, &[]);
    let graph = ports.iter().fold(graph, |graph, port| graph.edge(&format!("rx:{port}"), "capture"));
    graph.edge("capture.out", "end")
}

/// Refuses a file that cannot be written before an interface is opened. Does not cut what is there.
fn writable(file: &Path) -> anyhow::Result<()> {
    if file.as_os_str() == "-" {
        return Ok(());
    }
    let existed = file.exists();
    let opened = OpenOptions::new().append(true).create(true).open(file);
    opened.map_err(|error| {
        Failure::new(format!("cannot write {}: {error}", file.display()), "choose another file with -w")
    })?;
    if !existed && let Err(error) = std::fs::remove_file(file) {
        tracing::debug!(%error, "could not remove the trial file");
    }
    Ok(())
}

/// A wrong filter is a wrong command line.
fn sort_out(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<RuntimeError>() {
        Some(RuntimeError::Graph(GraphError::Build { error: why, .. }))
            if why.to_string().starts_with("expression") =>
        {
            let hint = "-f takes what tcpdump takes; quote it: -f 'host 10.0.0.1 and not icmp'";
            Failure::usage(format!("malformed filter: {why}"), hint).into()
        }
        _ => error,
    }
}
