//! `tailwater http serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args as ClapArgs;
use tailwater_dataplane::service::{self, Addresses, Host, Presence};
use tailwater_stack::Config;
use tailwater_xdp::Place;

use super::content::{BYTES_MAX, Content, folder};
use super::server::{Limits, Server};
use crate::common::{Common, seconds};
use crate::echo::listener;
use crate::failure::Failure;
use crate::grouping::Grouping;
use crate::hosting::{Hosting, explain};
use crate::output;
use crate::session::{Part, Plan};

pub(super) const AFTER_HELP: &str = "\
Examples:
  tailwater http serve -i eth1 --listen 10.1.0.1:80                 / has 1024 bytes, /bytes/N has N
  tailwater http serve -i eth1 --listen 0.0.0.0:80 --root /srv/www  a folder's files, read once at the start
  tailwater http serve -i eth1 --listen [::]:8080 --cores 2,3       two workers; connections are shared out by hash
  curl -O http://10.1.0.1/bytes/1073741824                          a gigabyte that follows from its offsets alone

GET and HEAD, connections that stay (several requests may be under way) or close, single ranges. Files are kept in
memory and served by the names that they had at the start, so that nothing else can be reached. On veth, let kernel
peers compute their checksums: `ethtool -K PEER tx off`. `tailwater ss` shows the connections.";

/// Bytes of `/` unless told.
const ROOT_LEN: u64 = 1_024;
/// Bytes that one connection may have under way: a megabyte each keeps many downloads within the frames there are.
const SEND_BUFFER_MAX: u32 = 1 << 20;
/// Of them, bytes that the windows do not let go yet: what is written is sent while it is in the cache.
const UNSENT_MAX: u32 = 4 << 10;
/// Frames with what has been sent and may have to be sent again, for each worker: half of them, and so as many segments, are
/// for the stack, which shares them out among the connections. Frames that are kept leave as trains of segments.
const FRAMES_KEPT: usize = 32_768;

/// Options of `http serve`.
#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    /// Address and port to listen at; `0.0.0.0` or `[::]` for all addresses. Give it again for further ones
    #[arg(long = "listen", value_name = "ADDR:PORT", required = true, value_parser = listener)]
    listeners: Vec<SocketAddr>,
    /// Serve the files below this folder, `index.html` for the folder itself
    #[arg(long, value_name = "DIR", value_parser = folder)]
    root: Option<PathBuf>,
    /// Serve so many made bytes at `/`; 1024 unless there is a --root
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=BYTES_MAX))]
    bytes: Option<u64>,
    /// Connections of each worker at a time. Further ones are not answered until others have ended, so that clients try
    /// again, as beyond a full backlog (where there are several listeners, each may take one more)
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    connections: u32,
    /// Seconds of silence after which a connection is given up
    #[arg(long, value_name = "SECS", default_value = "60", value_parser = seconds)]
    idle_timeout: Duration,
    #[command(flatten)]
    hosting: Hosting,
    #[command(flatten)]
    grouping: Grouping,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let Args { listeners, root, bytes, hosting, grouping, common, .. } = &args;
    if grouping.is_wanted() && hosting.addresses() != Addresses::Kernel {
        let hint = "with --group the addresses are those that the kernel has on its members";
        return Err(Failure::usage("--address is for one interface, --group for many", hint).into());
    }
    let root_len = bytes.or(root.is_none().then_some(ROOT_LEN));
    let content = Arc::new(Content::load(root.as_deref(), root_len)?);
    let mut config = common.runtime_config(hosting.mode(), Place::User, grouping)?;
    config.frames_kept = FRAMES_KEPT;
    let limits = args.limits();
    output::note(content.describe());
    let addresses: Arc<[SocketAddr]> = listeners.as_slice().into();
    let host = Host::new(move |_worker| Server::new(Arc::clone(&content), limits, Arc::clone(&addresses)));
    let host = host.addresses(hosting.addresses()).stack_config(stack_config(&limits));
    let host = listeners.iter().fold(host, |host, &listener| host.listen_tcp(listener));
    let prepared = host.prepare(&config).map_err(explain)?;
    let graph = if grouping.is_wanted() { service::graph_of_group } else { service::graph };
    let plan = Plan::of_host("http", common, config, &prepared);
    plan.run(graph, |runtime| Ok(Serving { _presence: prepared.begin(runtime).map_err(explain)? }))
}

impl Args {
    fn limits(&self) -> Limits {
        let idle_ns = u64::try_from(self.idle_timeout.as_nanos()).unwrap_or(u64::MAX);
        Limits { connections_max: self.connections as usize, idle_ns }
    }
}

/// Answers leave at once, and those who have left wait in TIME-WAIT beside those who are there.
fn stack_config(limits: &Limits) -> Config {
    let mut config = Config::default();
    let tcp = &mut config.tcp;
    tcp.connection.nagle = false;
    tcp.connection.send_buffer_max = SEND_BUFFER_MAX;
    tcp.connection.unsent_max = UNSENT_MAX;
    tcp.connections_max = tcp.connections_max.max(limits.connections_max + tcp.time_wait_max);
    config
}

/// Keeps the host present as long as the dataplane runs.
struct Serving {
    _presence: Presence,
}

impl Part for Serving {}
