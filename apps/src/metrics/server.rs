//! A web server for one page, with bounds on everything: connections at once, bytes of a request, time for both ways.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::page::{self, Format};
use crate::failure::Failure;
use crate::snapshot::{Counts, Snapshot};

/// Connections at once; more are turned away.
const CONNECTIONS_MAX: usize = 8;
/// Longest request head, in bytes: a scraper's has some hundred.
const HEAD_MAX: usize = 8192;
const HEADERS_MAX: usize = 64;
/// From accepting a connection to its end.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the rest of a request is read after an answer, so that the answer is not lost with it.
const LINGER: Duration = Duration::from_millis(200);
/// Pause after the system refused a connection for want of something.
const RECOVERY: Duration = Duration::from_millis(100);

/// What becomes of connections.
#[derive(Debug, Default)]
struct Tally {
    served: AtomicU64,
    refused_busy: AtomicU64,
    cut_slow: AtomicU64,
    bad_requests: AtomicU64,
}

impl Tally {
    fn counts(&self) -> Counts {
        let Self { served, refused_busy, cut_slow, bad_requests } = self;
        let count = |name: &str, n: &AtomicU64| (format!("metrics_{name}"), n.load(Ordering::Relaxed));
        Counts::from([
            count("served", served),
            count("refused_busy", refused_busy),
            count("cut_slow", cut_slow),
            count("bad_requests", bad_requests),
        ])
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// An address at which nobody is answered yet.
pub(crate) struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
}

/// An address at which the page is served, until dropped.
pub(crate) struct Serving {
    address: SocketAddr,
    tally: Arc<Tally>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Takes the address, before anything is done that must be undone.
    pub(crate) fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let refused = |error: io::Error| {
            let hint = "give --metrics another address or port; `ss -ltnp` shows who has this one";
            Failure::new(format!("cannot serve metrics at {address}: {error}"), hint)
        };
        let listener = TcpListener::bind(address).map_err(refused)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Begins to answer with what `snapshot` gives; without one the process is stopping.
    pub(crate) fn serve(
        self,
        snapshot: impl Fn() -> Option<Snapshot> + Send + Sync + 'static,
    ) -> anyhow::Result<Serving> {
        let Self { listener, address } = self;
        let (tally, stopping) = (Arc::<Tally>::default(), Arc::<AtomicBool>::default());
        let site = Arc::new(Site { snapshot, tally: Arc::clone(&tally), open: AtomicUsize::new(0) });
        let stop = Arc::clone(&stopping);
        let thread = std::thread::Builder::new().name("tailwater/http".into());
        let thread = thread.spawn(move || accept_on(&listener, &site, &stop))?;
        Ok(Serving { address, tally, stopping, thread: Some(thread) })
    }
}

impl Serving {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What became of the connections so far.
    pub(crate) fn counts(&self) -> impl Fn() -> Counts + Send + Sync + 'static {
        let tally = Arc::clone(&self.tally);
        move || tally.counts()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the thread; where that fails it ends with the process.
        let mut address = self.address;
        if address.ip().is_unspecified() {
            let loopback: std::net::IpAddr = match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            };
            address.set_ip(loopback);
        }
        let woken = TcpStream::connect_timeout(&address, LINGER).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            // A panic has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}

/// What all connections share.
struct Site<F> {
    snapshot: F,
    tally: Arc<Tally>,
    open: AtomicUsize,
}

fn accept_on<F>(listener: &TcpListener, site: &Arc<Site<F>>, stopping: &AtomicBool)
where
    F: Fn() -> Option<Snapshot> + Send + Sync + 'static,
{
    for connection in listener.incoming() {
        if stopping.load(Ordering::Acquire) {
            return;
        }
        let Ok(connection) = connection else {
            std::thread::sleep(RECOVERY);
            continue;
        };
        if site.open.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
            site.open.fetch_sub(1, Ordering::AcqRel);
            count(&site.tally.refused_busy);
            // Few bytes into an empty buffer: this does not wait.
            let _ = (&connection).write_all(Answer::text(503, "too many scrapers at once\n").head().as_bytes());
            continue;
        }
        let of_thread = Arc::clone(site);
        let thread = std::thread::Builder::new().name("tailwater/scrape".into()).spawn(move || {
            of_thread.attend(&connection);
            of_thread.open.fetch_sub(1, Ordering::AcqRel);
        });
        if thread.is_err() {
            site.open.fetch_sub(1, Ordering::AcqRel);
            count(&site.tally.refused_busy);
        }
    }
}

impl<F: Fn() -> Option<Snapshot>> Site<F> {
    /// One request, one answer.
    fn attend(&self, connection: &TcpStream) {
        let end = Instant::now() + PATIENCE;
        let answer = match read_head(connection, end) {
            Ok(head) => self.answer(&head),
            Err(error) if is_timeout(&error) => return count(&self.tally.cut_slow),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Answer::text(431, "request too long\n"),
            // Gone, or never said anything: a port scan, or our own wake-up.
            Err(_) => return,
        };
        let sent = write_all(connection, answer.head().as_bytes(), end)
            .and_then(|()| write_all(connection, answer.body.as_bytes(), end));
        match sent {
            Err(error) if is_timeout(&error) => count(&self.tally.cut_slow),
            Err(_) => {}
            Ok(()) if answer.status == 200 => count(&self.tally.served),
            Ok(()) => count(&self.tally.bad_requests),
        }
        part(connection);
    }

    fn answer(&self, head: &[u8]) -> Answer {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        if !matches!(request.parse(head), Ok(httparse::Status::Complete(_))) {
            return Answer::text(400, "this is not HTTP\n");
        }
        let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default();
        match (request.method, path) {
            (Some("GET"), "/metrics") => {}
            (_, "/metrics") => return Answer::text(405, "only GET is served\n"),
            _ => return Answer::text(404, "there is only /metrics\n"),
        }
        let accept = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("accept"));
        let format =
            Format::accepted(accept.map_or("", |header| std::str::from_utf8(header.value).unwrap_or_default()));
        let Some(snapshot) = (self.snapshot)() else { return Answer::text(503, "this process is stopping\n") };
        match page::write(&snapshot, format) {
            Ok(body) => Answer { status: 200, content_type: format.content_type(), body },
            Err(error) => Answer::text(500, &format!("the page cannot be written: {error}\n")),
        }
    }
}

struct Answer {
    status: u16,
    content_type: &'static str,
    body: String,
}

impl Answer {
    fn text(status: u16, body: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.to_owned() }
    }

    fn head(&self) -> String {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed\r\nAllow: GET",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "Internal Server Error",
        };
        let Self { status, content_type, body } = self;
        let len = body.len();
        format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n"
        )
    }
}

/// Everything up to the empty line, or as much as fits: what cannot be a request is told by the parser.
fn read_head(mut connection: &TcpStream, end: Instant) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD_MAX];
    let mut len = 0;
    loop {
        connection.set_read_timeout(Some(left(end)?))?;
        match connection.read(&mut head[len..])? {
            0 if len == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            0 => break,
            n => len += n,
        }
        if head[..len].windows(4).any(|four| four == b"\r\n\r\n") {
            break;
        }
        if len == HEAD_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    head.truncate(len);
    Ok(head)
}

/// As `Write::write_all`, but all of it by `end`.
fn write_all(mut connection: &TcpStream, mut bytes: &[u8], end: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        connection.set_write_timeout(Some(left(end)?))?;
        let n = connection.write(bytes)?;
        bytes = &bytes[n..];
    }
    Ok(())
}

/// Closes without resetting the connection while the answer is on its way: what is unread would do that.
fn part(mut connection: &TcpStream) {
    let closed = connection.shutdown(Shutdown::Write).and_then(|()| connection.set_read_timeout(Some(LINGER)));
    if closed.is_ok() {
        let _ = connection.read(&mut [0; HEAD_MAX]);
    }
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::sample;

    fn serving() -> Serving {
        let endpoint = Endpoint::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        endpoint.serve(|| Some(sample::snapshot(1000))).unwrap()
    }

    fn ask(serving: &Serving, request: &str) -> String {
        let mut connection = TcpStream::connect(serving.address()).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    fn counted(serving: &Serving, name: &str, at_least: u64) -> u64 {
        let end = Instant::now() + 2 * PATIENCE;
        loop {
            let n = serving.counts()()[&format!("metrics_{name}")];
            if n >= at_least || Instant::now() > end {
                return n;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn the_page_is_served_in_the_format_asked_for_and_nothing_else_is() {
        let serving = serving();
        let page = ask(&serving, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(page.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{page}");
        assert!(page.contains("\ntailwater_packets_received_total 2400000\n"), "{page}");
        let page =
            ask(&serving, "GET /metrics?x=1 HTTP/1.1\r\nACCEPT: application/openmetrics-text; version=1.0.0\r\n\r\n");
        assert!(page.contains("Content-Type: application/openmetrics-text") && page.ends_with("# EOF\n"), "{page}");
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("GET /metrics/ HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405"),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", "405"),
            ("{\"version\":1,\"op\":\"report\"}\r\n\r\n", "400"),
        ] {
            let answer = ask(&serving, request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        }
        assert_eq!((counted(&serving, "served", 2), counted(&serving, "bad_requests", 5)), (2, 5));
    }

    #[test]
    fn a_request_without_end_is_refused_when_it_is_too_long() {
        let serving = serving();
        let answer = ask(&serving, &format!("GET /metrics HTTP/1.1\r\nX: {}", "y".repeat(HEAD_MAX)));
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }

    #[test]
    fn slow_clients_are_cut_and_too_many_turned_away() {
        let serving = serving();
        let silent: Vec<_> = (0..CONNECTIONS_MAX).map(|_| TcpStream::connect(serving.address()).unwrap()).collect();
        silent.iter().for_each(|mut connection| connection.write_all(b"GET /met").unwrap());
        let answer = ask(&serving, "");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert_eq!(counted(&serving, "refused_busy", 1), 1);
        assert_eq!(counted(&serving, "cut_slow", CONNECTIONS_MAX as u64), CONNECTIONS_MAX as u64);
        let page = ask(&serving, "GET /metrics HTTP/1.1\r\n\r\n");
        assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    }

    #[test]
    fn an_address_that_is_taken_is_an_error_with_a_hint() {
        let serving = serving();
        let error = Endpoint::bind(serving.address()).err().unwrap();
        assert!(error.to_string().contains("cannot serve metrics at 127.0.0.1:"), "{error}");
        let address = serving.address();
        drop(serving);
        Endpoint::bind(address).unwrap();
    }
}
