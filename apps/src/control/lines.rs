//! Lines from a client that may be slow, endless, or gone.

use std::io::{self, BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::protocol::REQUEST_MAX;

/// The lines of one connection.
pub(super) struct Lines<'a> {
    reader: BufReader<&'a UnixStream>,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A whole line, without its end.
    Whole(String),
    /// More bytes than a line may have.
    TooLong,
    /// The client has gone. What it had begun to write counts for nothing.
    End,
}

impl<'a> Lines<'a> {
    pub(super) fn of(connection: &'a UnixStream) -> Self {
        Self { reader: BufReader::new(connection) }
    }

    /// Whether something has come, or the end has.
    pub(super) fn is_ready(&self) -> io::Result<bool> {
        if !self.reader.buffer().is_empty() {
            return Ok(true);
        }
        let mut set = [rustix::event::PollFd::new(self.reader.get_ref(), rustix::event::PollFlags::IN)];
        Ok(rustix::event::poll(&mut set, Some(&rustix::event::Timespec::default()))? > 0)
    }

    /// The next line, if it is complete within `patience`.
    pub(super) fn next(&mut self, patience: Duration) -> io::Result<Line> {
        let end = Instant::now() + patience;
        let mut line = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.reader.get_ref().set_read_timeout(Some(left))?;
            let come = self.reader.fill_buf()?;
            if come.is_empty() {
                return Ok(Line::End);
            }
            let (taken, complete) = match come.iter().position(|&byte| byte == b'\n') {
                Some(at) => (at, true),
                None => (come.len(), false),
            };
            line.extend_from_slice(&come[..taken]);
            self.reader.consume(taken + usize::from(complete));
            if line.len() > REQUEST_MAX {
                return Ok(Line::TooLong);
            }
            if complete {
                return Ok(Line::Whole(String::from_utf8_lossy(&line).into_owned()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn only_whole_lines_count() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut lines = Lines::of(&server);
        assert!(!lines.is_ready().unwrap());
        client.write_all(b"one\ntwo\nthr").unwrap();
        assert!(lines.is_ready().unwrap());
        assert_eq!(lines.next(SOON).unwrap(), Line::Whole("one".into()));
        assert_eq!(lines.next(SOON).unwrap(), Line::Whole("two".into()));
        drop(client);
        assert_eq!(lines.next(SOON).unwrap(), Line::End, "half a line is nothing");
    }

    #[test]
    fn endless_and_unfinished_lines_are_cut_off() {
        let (client, server) = UnixStream::pair().unwrap();
        let mut lines = Lines::of(&server);
        let writer = std::thread::spawn(move || {
            let mut client = client;
            let _ = client.write_all(&vec![b'x'; REQUEST_MAX + (1 << 16)]);
            client
        });
        assert_eq!(lines.next(SOON).unwrap(), Line::TooLong);
        server.shutdown(std::net::Shutdown::Both).unwrap();
        writer.join().unwrap();
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(b"half").unwrap();
        let kind = Lines::of(&server).next(Duration::from_millis(10)).unwrap_err().kind();
        assert!(matches!(kind, io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock), "{kind:?}");
    }
}
