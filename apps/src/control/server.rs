//! The answering side: one thread, one connection at a time.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::folder;
use super::protocol::{Answer, LINE_MAX, Refusal, Request, parse};

/// A client that says nothing for so long is sent away: there may be others waiting.
const SILENCE: Duration = Duration::from_secs(2);
/// Requests on one connection before others get their turn.
const REQUESTS_MAX: usize = 1000;

/// The control socket of this process; closed and removed when dropped.
pub(crate) struct Server {
    socket: PathBuf,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens, and answers each request by `handle` on a thread of its own.
    pub(crate) fn start(handle: impl FnMut(Request) -> Result<Value, Refusal> + Send + 'static) -> io::Result<Self> {
        Self::start_in(folder::path(), handle)
    }

    fn start_in(
        folder: PathBuf,
        mut handle: impl FnMut(Request) -> Result<Value, Refusal> + Send + 'static,
    ) -> io::Result<Self> {
        folder::make(&folder)?;
        folder::living(&folder)?;
        let socket = folder::socket(&folder, std::process::id());
        let listener = UnixListener::bind(&socket)?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o600))?;
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = std::thread::Builder::new().name("tailwater/control".into()).spawn(move || {
            for connection in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                // A client that goes away in the middle is no concern of ours.
                if let Err(error) = connection.and_then(|connection| converse(&connection, &mut handle)) {
                    tracing::debug!(%error, "control connection ended");
                }
            }
        })?;
        Ok(Self { socket, stopping, thread: Some(thread) })
    }
}

fn converse(connection: &UnixStream, handle: &mut impl FnMut(Request) -> Result<Value, Refusal>) -> io::Result<()> {
    connection.set_read_timeout(Some(SILENCE))?;
    connection.set_write_timeout(Some(SILENCE))?;
    let mut reader = BufReader::new(connection);
    for _ in 0..REQUESTS_MAX {
        let mut line = String::new();
        if (&mut reader).take(LINE_MAX).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let answer = Answer::new(parse(&line).and_then(&mut *handle));
        let mut text = serde_json::to_string(&answer)?;
        text.push('\n');
        (&mut &*connection).write_all(text.as_bytes())?;
    }
    Ok(())
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the thread; if the socket has been removed from outside, the thread ends with the process.
        let woken = UnixStream::connect(&self.socket).is_ok();
        folder::remove(&self.socket);
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            // A panic of a handler has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_gives_one_line_out_and_the_socket_is_for_its_owner_only() {
        let folder = std::env::temp_dir().join(format!("tailwater-server-{}", std::process::id()));
        let server = Server::start_in(folder.clone(), |request| match request {
            Request::Report => Ok(Value::from(42)),
            other => Err(Refusal::new("failed", format!("{other:?}"))),
        })
        .unwrap();
        assert_eq!(fs::metadata(&server.socket).unwrap().permissions().mode() & 0o777, 0o600);
        let connection = UnixStream::connect(&server.socket).unwrap();
        let mut lines = BufReader::new(&connection).lines();
        let mut ask = |line: &str| {
            (&mut &connection).write_all(format!("{line}\n").as_bytes()).unwrap();
            lines.next().unwrap().unwrap()
        };
        assert_eq!(ask(r#"{"version":1,"op":"report"}"#), r#"{"version":1,"ok":42}"#);
        assert!(ask(r#"{"version":1,"op":"graph"}"#).contains(r#""kind":"failed""#));
        assert!(ask("nonsense").contains(r#""kind":"syntax""#));
        assert_eq!(ask(r#"{"version":1,"op":"report"}"#), r#"{"version":1,"ok":42}"#, "an error must not end it");
        drop(connection);
        let socket = server.socket.clone();
        drop(server);
        assert!(!socket.exists());
        fs::remove_dir_all(&folder).unwrap();
    }
}
