//! The asking side.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::de::DeserializeOwned;

use super::folder;
use super::protocol::{ANSWER_MAX, Answer, Envelope, Identity, Refusal, Request, VERSION};
use crate::failure::Failure;

/// A worker may take some seconds to answer its own process, and as many again to take back what it did.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running process.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    socket: PathBuf,
    pub(crate) identity: Identity,
}

/// The processes that run now, by process id.
pub(crate) fn peers() -> anyhow::Result<Vec<Peer>> {
    let folder = folder::path();
    let pids = folder::living(&folder).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let hint = "run as the user who started tailwater, or as root";
            Failure::new(format!("not permitted to look into {}", folder.display()), hint)
        }
        _ => Failure::new(format!("cannot look into {}: {error}", folder.display()), ""),
    })?;
    let mut peers = Vec::new();
    for pid in pids {
        match Peer::at(folder::socket(&folder, pid)) {
            Ok(peer) => peers.push(peer),
            Err(error) => tracing::warn!(pid, "process {pid} does not say who it is: {error:#}"),
        }
    }
    Ok(peers)
}

impl Peer {
    /// The process that listens at a socket.
    pub(crate) fn at(socket: PathBuf) -> anyhow::Result<Self> {
        let identity = Conversation::begin(&socket)?.ask(Request::Identify)?;
        Ok(Self { socket, identity })
    }

    /// The process of that id or, if it is no number, the one that listens at that path.
    pub(crate) fn named(text: &str) -> anyhow::Result<Self> {
        match text.parse() {
            Ok(pid) => Self::at(folder::socket(&folder::path(), pid)),
            Err(_) => Self::at(PathBuf::from(text)),
        }
    }

    /// Asks this process.
    pub(crate) fn ask<T: DeserializeOwned>(&self, request: Request) -> anyhow::Result<T> {
        self.converse()?.ask(request)
    }

    /// Begins a conversation with this process.
    pub(crate) fn converse(&self) -> anyhow::Result<Conversation> {
        Conversation::begin(&self.socket)
    }
}

/// A connection to a process.
pub(crate) struct Conversation {
    reader: BufReader<UnixStream>,
}

impl Conversation {
    fn begin(socket: &Path) -> anyhow::Result<Self> {
        let connected = UnixStream::connect(socket);
        let connection = connected.map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::PermissionDenied => "run as the user who started tailwater, or as root",
                _ => "`tailwater stats --list` shows the processes that run",
            };
            Failure::new(format!("cannot connect to {}: {error}", socket.display()), hint)
        })?;
        connection.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { reader: BufReader::new(connection) })
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, request: Request) -> anyhow::Result<T> {
        let mut line = serde_json::to_string(&Envelope { version: VERSION, request })?;
        line.push('\n');
        // Somebody who refuses us has answered already and hung up.
        let written = self.reader.get_mut().write_all(line.as_bytes());
        match (self.next(), written) {
            (Err(error), Err(written)) if !error.is::<Refusal>() => Err(written.into()),
            (answered, _) => answered,
        }
    }

    /// Waits for what comes next, however long that takes, from now on.
    pub(crate) fn be_patient(&mut self) -> anyhow::Result<()> {
        Ok(self.reader.get_mut().set_read_timeout(None)?)
    }

    /// The next answer.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut text = String::new();
        if (&mut self.reader).take(ANSWER_MAX).read_line(&mut text).context("no answer")? == 0 {
            return Err(Failure::new("the process hung up", "it has ended, or is about to").into());
        }
        let answer: Answer = serde_json::from_str(&text).context("the answer cannot be read")?;
        if let Some(refusal) = answer.error {
            return Err(refusal.into());
        }
        let content = answer.ok.ok_or_else(|| Refusal::new("syntax", "the answer is empty"))?;
        serde_json::from_value(content)
            .context("the answer is not what was asked for; use the same tailwater on both sides")
    }
}
