//! The answering side: a thread that accepts, and one for each connection.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use serde_json::Value;
use tailwater_dataplane::live::EventLog;

use super::folder;
use super::lines::{Line, Lines};
use super::protocol::{Answer, REQUEST_MAX, Refusal, Request, parse};
use super::stream::stream;

/// A client that says nothing for so long, or does not take what it is sent, is sent away.
pub(super) const SILENCE: Duration = Duration::from_secs(10);
/// Clients at one time; more are refused.
const CONNECTIONS_MAX: usize = 32;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) pid: i32,
    pub(crate) uid: u32,
}

type Handle = dyn Fn(Request, Caller) -> Result<Value, Refusal> + Send + Sync;

/// What all connections share.
struct Desk {
    handle: Box<Handle>,
    events: Arc<EventLog>,
    stopping: AtomicBool,
    connections: AtomicUsize,
}

/// The control socket of this process; closed and removed when dropped.
pub(crate) struct Server {
    socket: PathBuf,
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens, and answers requests by `handle` and subscriptions from `events`, on threads of its own.
    pub(crate) fn start(
        events: Arc<EventLog>,
        handle: impl Fn(Request, Caller) -> Result<Value, Refusal> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::start_in(folder::path(), events, handle)
    }

    fn start_in(
        folder: PathBuf,
        events: Arc<EventLog>,
        handle: impl Fn(Request, Caller) -> Result<Value, Refusal> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        folder::make(&folder)?;
        folder::living(&folder)?;
        let socket = folder::socket(&folder, std::process::id());
        let listener = UnixListener::bind(&socket)?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o600))?;
        let (stopping, connections) = (AtomicBool::new(false), AtomicUsize::new(0));
        let desk = Arc::new(Desk { handle: Box::new(handle), events, stopping, connections });
        let accepting = Arc::clone(&desk);
        let thread = std::thread::Builder::new().name("tailwater/control".into()).spawn(move || {
            for connection in listener.incoming() {
                if accepting.stopping.load(Ordering::Acquire) {
                    return;
                }
                match connection {
                    Ok(connection) => receive(&accepting, connection),
                    // Out of descriptors, say: others may have some to give back.
                    Err(_) => std::thread::sleep(Duration::from_millis(10)),
                }
            }
        })?;
        Ok(Self { socket, desk, thread: Some(thread) })
    }
}

/// Sends a client away, or gives it a thread.
fn receive(desk: &Arc<Desk>, connection: UnixStream) {
    let admitted = connection.set_write_timeout(Some(SILENCE)).and_then(|()| admit(&connection));
    let caller = match admitted {
        Ok(Ok(caller)) => caller,
        Ok(Err(refusal)) => return drop(answer(&connection, Err(refusal))),
        Err(error) => return tracing::debug!(%error, "a client that cannot be told who it is"),
    };
    if desk.connections.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
        desk.connections.fetch_sub(1, Ordering::AcqRel);
        let refusal = Refusal::new("busy", format!("{CONNECTIONS_MAX} clients are connected already"));
        return drop(answer(&connection, Err(refusal.with_hint("end a subscription, or try again"))));
    }
    let serving = Arc::clone(desk);
    let thread = std::thread::Builder::new().name("tailwater/client".into()).spawn(move || {
        // A client that goes away in the middle is no concern of ours.
        if let Err(error) = converse(&serving, &connection, caller) {
            tracing::debug!(%error, "control connection ended");
        }
        serving.connections.fetch_sub(1, Ordering::AcqRel);
    });
    if let Err(error) = thread {
        desk.connections.fetch_sub(1, Ordering::AcqRel);
        tracing::warn!(%error, "no thread for a client");
    }
}

/// Only the owner of this process and root may talk to it, whatever the modes of folder and socket have become.
fn admit(connection: &UnixStream) -> io::Result<Result<Caller, Refusal>> {
    let credentials = socket_peercred(connection)?;
    let (uid, own) = (credentials.uid.as_raw(), rustix::process::geteuid().as_raw());
    if uid != own && uid != 0 {
        let refusal = Refusal::new("denied", format!("this process is user {own}'s, and you are user {uid}"));
        return Ok(Err(refusal.with_hint(format!("ask as user {own} or as root"))));
    }
    Ok(Ok(Caller { pid: credentials.pid.as_raw_nonzero().get(), uid }))
}

fn converse(desk: &Desk, connection: &UnixStream, caller: Caller) -> io::Result<()> {
    let mut lines = Lines::of(connection);
    while !desk.stopping.load(Ordering::Acquire) {
        let line = match lines.next(SILENCE)? {
            Line::Whole(line) => line,
            Line::TooLong => {
                let refusal = Refusal::new("syntax", format!("a request has at most {REQUEST_MAX} bytes"));
                return answer(connection, Err(refusal));
            }
            Line::End => return Ok(()),
        };
        match parse(&line) {
            Ok(Request::Subscribe { from }) => {
                stream(connection, &mut lines, &desk.events, from, &desk.stopping)?;
            }
            request => answer(connection, request.and_then(|request| (desk.handle)(request, caller)))?,
        }
    }
    Ok(())
}

/// Writes an answer.
pub(super) fn answer(mut connection: &UnixStream, outcome: Result<Value, Refusal>) -> io::Result<()> {
    let mut text = serde_json::to_string(&Answer::new(outcome))?;
    text.push('\n');
    connection.write_all(text.as_bytes())
}

impl Drop for Server {
    fn drop(&mut self) {
        self.desk.stopping.store(true, Ordering::Release);
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
    use std::io::{BufRead, BufReader};
    use tailwater_dataplane::live::{EVENTS_MAX, What};

    struct Client(BufReader<UnixStream>);

    impl Client {
        fn of(server: &Server) -> Self {
            let connection = UnixStream::connect(&server.socket).unwrap();
            connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            Self(BufReader::new(connection))
        }

        fn say(&mut self, text: &str) {
            self.0.get_mut().write_all(text.as_bytes()).unwrap();
        }

        fn hear(&mut self) -> String {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        }

        fn ask(&mut self, line: &str) -> String {
            self.say(&format!("{line}\n"));
            self.hear()
        }
    }

    fn server(name: &str) -> (Server, Arc<EventLog>, PathBuf) {
        let folder = std::env::temp_dir().join(format!("tailwater-server-{name}-{}", std::process::id()));
        let events = Arc::new(EventLog::default());
        let server = Server::start_in(folder.clone(), Arc::clone(&events), |request, _| match request {
            Request::Report => Ok(Value::from(42)),
            other => Err(Refusal::new("failed", format!("{other:?}"))),
        });
        (server.unwrap(), events, folder)
    }

    #[test]
    fn one_line_in_gives_one_line_out_and_the_socket_is_for_its_owner_only() {
        let (server, _, folder) = server("lines");
        assert_eq!(fs::metadata(&server.socket).unwrap().permissions().mode() & 0o777, 0o600);
        let mut client = Client::of(&server);
        assert_eq!(client.ask(r#"{"version":1,"op":"report"}"#), r#"{"version":1,"ok":42}"#);
        assert!(client.ask(r#"{"version":1,"op":"graph"}"#).contains(r#""kind":"failed""#));
        assert!(client.ask("nonsense").contains(r#""kind":"syntax""#));
        let still = client.ask(r#"{"version":1,"op":"report"}"#);
        assert_eq!(still, r#"{"version":1,"ok":42}"#, "an error must not end it");
        let socket = server.socket.clone();
        drop(server);
        assert!(!socket.exists());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_client_that_keeps_its_connection_keeps_nobody_waiting_and_too_many_are_refused() {
        let (server, _, folder) = server("many");
        let mut clients: Vec<Client> = (0..CONNECTIONS_MAX).map(|_| Client::of(&server)).collect();
        clients.iter_mut().rev().for_each(|client| {
            assert_eq!(client.ask(r#"{"version":1,"op":"report"}"#), r#"{"version":1,"ok":42}"#);
        });
        assert!(Client::of(&server).hear().contains(r#""kind":"busy""#));
        drop((clients, server));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn subscribers_get_events_in_order_from_the_number_they_name_until_they_unsubscribe() {
        let (server, events, folder) = server("events");
        for _ in 0..3 {
            events.record("test", 1, What::Started);
        }
        let mut client = Client::of(&server);
        assert_eq!(client.ask(r#"{"version":1,"op":"subscribe","from":2}"#), r#"{"version":1,"ok":{"from":2}}"#);
        assert!(client.hear().contains(r#""number":2"#) && client.hear().contains(r#""number":3"#));
        events.record("test", 1, What::Started);
        assert!(client.hear().contains(r#""number":4"#));
        assert_eq!(client.ask(r#"{"version":1,"op":"unsubscribe"}"#), r#"{"version":1,"ok":{"from":5}}"#);
        assert_eq!(client.ask(r#"{"version":1,"op":"report"}"#), r#"{"version":1,"ok":42}"#);
        for _ in 0..EVENTS_MAX {
            events.record("test", 1, What::Started);
        }
        assert!(client.ask(r#"{"version":1,"op":"subscribe","from":2}"#).contains(r#""kind":"too_old""#));
        drop(server);
        fs::remove_dir_all(&folder).unwrap();
    }
}
