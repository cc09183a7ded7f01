//! Which of the processes that run is meant.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;

use super::{Peer, peers};
use crate::failure::Failure;
use crate::table::Table;

/// Options that choose a process.
#[derive(Args, Clone, Debug)]
pub(crate) struct Choice {
    /// The process with this id
    #[arg(long, value_name = "PID", global = true)]
    pub(crate) pid: Option<u32>,
    /// The process that runs this subcommand
    #[arg(long = "name", value_name = "COMMAND", conflicts_with = "pid", global = true)]
    pub(crate) command: Option<String>,
    /// The process that listens at this socket
    #[arg(long, value_name = "PATH", conflicts_with_all = ["pid", "command"], global = true)]
    pub(crate) socket: Option<PathBuf>,
}

impl Choice {
    /// Whether any of them was given.
    pub(crate) fn is_made(&self) -> bool {
        self.pid.is_some() || self.command.is_some() || self.socket.is_some()
    }

    /// The process that is meant; asks where there are several and somebody to answer.
    pub(crate) fn find(&self) -> anyhow::Result<Peer> {
        match &self.socket {
            Some(socket) => Peer::at(socket.clone()),
            None => self.choose(peers()?),
        }
    }

    fn choose(&self, mut peers: Vec<Peer>) -> anyhow::Result<Peer> {
        let running = table(&peers).lines().join("\n");
        let none = peers.is_empty();
        peers.retain(|Peer { identity, .. }| {
            self.pid.is_none_or(|pid| identity.pid == pid)
                && self.command.as_ref().is_none_or(|command| identity.command == *command)
        });
        match peers.len() {
            1 => peers.pop().ok_or_else(|| Failure::new("nothing chosen", "").into()),
            0 if none => {
                let hint = "start one, such as `tailwater l3fwd -i IF -i IF`; another user's are not shown";
                Err(Failure::new("no tailwater process runs here", hint).into())
            }
            0 => Err(Failure::new("no such process", format!("these run:\n{running}")).into()),
            _ if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() => ask(peers),
            _ => {
                let hint = format!("choose with --pid:\n{}", table(&peers).lines().join("\n"));
                Err(Failure::usage(format!("{} processes run", peers.len()), hint).into())
            }
        }
    }
}

/// Processes, one a row.
pub(crate) fn table(peers: &[Peer]) -> Table {
    let mut table = Table::new(&["command", "pid", "seconds", "interfaces"]);
    for Peer { identity, .. } in peers {
        let secs = identity.uptime_ms / 1000;
        table.row(vec![
            identity.command.clone(),
            identity.pid.to_string(),
            secs.to_string(),
            identity.interfaces.join(","),
        ]);
    }
    table
}

fn ask(peers: Vec<Peer>) -> anyhow::Result<Peer> {
    eprint!("{}\npid? ", table(&peers).lines().join("\n"));
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let pid: Option<u32> = line.trim().parse().ok();
    let chosen = peers.into_iter().find(|peer| Some(peer.identity.pid) == pid);
    chosen.ok_or_else(|| Failure::usage("that is none of them", "give --pid").into())
}
