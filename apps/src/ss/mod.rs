//! `tailwater ss`: the TCP connections of running commands, as `ss -tin` shows the kernel's.

mod line;

use clap::Args as ClapArgs;
use serde_json::json;

use crate::control::{Choice, Connections, ConnectionsQuery, Peer, Request, peers, state};
use crate::output;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  tailwater ss                                  connections of all running commands, with details
  tailwater ss --brief --state established --port 80
  tailwater ss --listening                      where they listen, and who waits there
  tailwater ss -j --name http | jq -s 'map(.bytes_delivered) | add'

States: established, syn-sent, syn-received, fin-wait-1, fin-wait-2, close-wait, closing, last-ack, time-wait, closed (over,
but not read to its end). The workers look for what is asked, some connections each turn, so that a list of a hundred
thousand delays no packet; connections that come or go meanwhile may be missed. Sizes are in bytes.";

/// Connections of one answer.
const PAGE: usize = 2_048;

/// Options of `ss`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Only listeners
    #[arg(short, long, conflicts_with_all = ["states", "all"])]
    listening: bool,
    /// Listeners and connections
    #[arg(short, long)]
    all: bool,
    /// Only connections in this state; give it again for further ones
    #[arg(long = "state", value_name = "STATE", value_parser = |text: &str| state(text).map(|_| text.to_owned()))]
    states: Vec<String>,
    /// Only with this port at either end
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Only IPv4
    #[arg(short = '4', conflicts_with = "ipv6")]
    ipv4: bool,
    /// Only IPv6
    #[arg(short = '6')]
    ipv6: bool,
    /// One line a connection, without details
    #[arg(short, long)]
    brief: bool,
    /// Print JSON: one object a line, for a listener or a connection
    #[arg(short, long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let peers = if args.choice.is_made() { vec![args.choice.find()?] } else { peers()? };
    if !args.json {
        output::line(line::HEADINGS);
    }
    for peer in &peers {
        args.list(peer)?;
    }
    if peers.is_empty() && !args.json {
        output::note("no tailwater process runs here; another user's are not shown");
    }
    Ok(())
}

impl Args {
    /// Everything of one process, answer by answer.
    fn list(&self, peer: &Peer) -> anyhow::Result<()> {
        let mut conversation = peer.converse()?;
        let mut query = self.query();
        loop {
            let answer: Connections = conversation.ask(Request::Connections(query.clone()))?;
            self.print(peer, &answer);
            // Only the last has none.
            let Some(next) = answer.next else { return Ok(()) };
            query.from = Some(next);
        }
    }

    fn query(&self) -> ConnectionsQuery {
        let family = match (self.ipv4, self.ipv6) {
            (true, _) => Some(4),
            (_, true) => Some(6),
            _ => None,
        };
        // Without connections only listeners come.
        let limit = Some(if self.listening { 0 } else { PAGE });
        ConnectionsQuery { states: self.states.clone(), port: self.port, family, limit, from: None }
    }

    fn print(&self, peer: &Peer, answer: &Connections) {
        let whose = &peer.identity;
        if self.listening || self.all {
            let wanted = answer.listeners.iter().filter(|listener| {
                self.port.is_none_or(|port| listener.local.port() == port)
                    && (!self.ipv4 || listener.local.is_ipv4())
                    && (!self.ipv6 || listener.local.is_ipv6())
            });
            wanted.for_each(|listener| match self.json {
                true => output::line(line::tagged(whose, "listen", json!(listener))),
                false => output::line(line::listener(whose, listener)),
            });
        }
        for connection in &answer.connections {
            match (self.json, self.brief) {
                (true, _) => output::line(line::tagged(whose, &connection.state, json!(connection))),
                (false, true) => output::line(line::connection(whose, connection)),
                (false, false) => output::line(format_args!(
                    "{}\n    {}",
                    line::connection(whose, connection),
                    line::details(connection)
                )),
            }
        }
    }
}
