//! The asking side.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde::de::DeserializeOwned;

use super::folder;
use super::protocol::{Answer, Envelope, Identity, LINE_MAX, Refusal, Request, VERSION};
use crate::failure::Failure;

/// A worker may take up to three seconds to answer its own process.
const PATIENCE: Duration = Duration::from_secs(10);

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
        let socket = folder::socket(&folder, pid);
        match ask(&socket, Request::Identify) {
            Ok(identity) => peers.push(Peer { socket, identity }),
            Err(error) => tracing::warn!(pid, "process {pid} does not say who it is: {error:#}"),
        }
    }
    Ok(peers)
}

impl Peer {
    /// Asks this process.
    pub(crate) fn ask<T: DeserializeOwned>(&self, request: Request) -> anyhow::Result<T> {
        ask(&self.socket, request).with_context(|| format!("process {}", self.identity.pid))
    }
}

fn ask<T: DeserializeOwned>(socket: &PathBuf, request: Request) -> anyhow::Result<T> {
    let mut connection =
        UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_string(&Envelope { version: VERSION, request })?;
    line.push('\n');
    connection.write_all(line.as_bytes())?;
    let mut text = String::new();
    BufReader::new(connection).take(LINE_MAX).read_line(&mut text).context("no answer")?;
    let answer: Answer = serde_json::from_str(&text).context("the answer cannot be read")?;
    if let Some(refusal) = answer.error {
        return Err(refusal.into());
    }
    let content = answer.ok.ok_or_else(|| Refusal::new("syntax", "the answer is empty"))?;
    serde_json::from_value(content)
        .context("the answer is not what was asked for; use the same tailwater on both sides")
}
