//! An answer: its head (RFC 9112 §4, RFC 9110 §6.6.1) and what of the body is still to be sent.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use super::content::{Body, Content, Found};
use super::request::{Method, Request};
use super::status::Status;

/// How long a date is good for, in ns.
const DATE_NS: u64 = 1_000_000_000;

/// What is answered to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Response {
    pub(super) status: Status,
    pub(super) media_type: &'static str,
    /// Bytes of the body's whole.
    pub(super) whole_len: u64,
    /// Those that are sent, by offset.
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) body: Body,
    /// Only the head is asked for.
    pub(super) head_only: bool,
    /// The connection ends behind it.
    pub(super) closes: bool,
    /// The client would not expect that the connection stays (HTTP/1.0).
    pub(super) says_that_it_stays: bool,
}

impl Response {
    /// What `content` has for a request.
    pub(super) fn to(request: &Request<'_>, content: &Content) -> Self {
        if request.method == Method::Other {
            return Self::refusal(Status::MethodNotAllowed).for_request(request);
        }
        let Some(found) = content.find(request.path) else {
            return Self::refusal(Status::NotFound).for_request(request);
        };
        // RFC 9110 §14.2: a range is for GET alone.
        match request.range.filter(|_| request.method == Method::Get).map(|range| range.of(found.len)) {
            None => Self::part(Status::Ok, found, 0..found.len),
            Some(Some(range)) => Self::part(Status::PartialContent, found, range),
            Some(None) => Self { whole_len: found.len, ..Self::refusal(Status::RangeNotSatisfiable) },
        }
        .for_request(request)
    }

    /// An error, with its name as the body.
    pub(super) fn refusal(status: Status) -> Self {
        let text = status.line();
        let found = Found { body: Body::Text(text), len: text.len() as u64, media_type: "text/plain; charset=utf-8" };
        Self { closes: status.ends_connection(), ..Self::part(status, found, 0..text.len() as u64) }
    }

    fn part(status: Status, found: Found, range: std::ops::Range<u64>) -> Self {
        let Found { body, len, media_type } = found;
        let (from, to) = (range.start, range.end);
        let (head_only, closes, says_that_it_stays) = (false, false, false);
        Self { status, media_type, whole_len: len, from, to, body, head_only, closes, says_that_it_stays }
    }

    fn for_request(self, request: &Request<'_>) -> Self {
        let closes = self.closes || !request.keeps_alive;
        let head_only = request.method == Method::Head;
        Self { closes, head_only, says_that_it_stays: !closes && request.is_old, ..self }
    }

    /// Bytes of the body that follow the head.
    pub(super) fn body_len(&self) -> u64 {
        if self.head_only { 0 } else { self.to - self.from }
    }

    /// Writes the head.
    pub(super) fn write_head(&self, date: &[u8], head: &mut Vec<u8>) {
        // Writing to a vector does not fail.
        let _ = write!(head, "HTTP/1.1 {}\r\nServer: tailwater\r\nDate: ", self.status.line());
        head.extend_from_slice(date);
        let (from, to, media_type) = (self.from, self.to, self.media_type);
        let _ = write!(head, "\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n", to - from);
        let _ = match self.status {
            Status::Ok => write!(head, "Accept-Ranges: bytes\r\n"),
            Status::PartialContent => write!(head, "Content-Range: bytes {from}-{}/{}\r\n", to - 1, self.whole_len),
            Status::RangeNotSatisfiable => write!(head, "Content-Range: bytes */{}\r\n", self.whole_len),
            Status::MethodNotAllowed => write!(head, "Allow: GET, HEAD\r\n"),
            _ => Ok(()),
        };
        let ending: &[u8] = match (self.closes, self.says_that_it_stays) {
            (true, _) => b"Connection: close\r\n\r\n",
            (false, true) => b"Connection: keep-alive\r\n\r\n",
            (false, false) => b"\r\n",
        };
        head.extend_from_slice(ending);
    }
}

/// The time as a head has it (RFC 9110 §5.6.7), made once a second.
#[derive(Debug, Default)]
pub(super) struct Date {
    text: Vec<u8>,
    made_ns: Option<u64>,
}

impl Date {
    /// At `now_ns` of the worker's clock.
    pub(super) fn at(&mut self, now_ns: u64) -> &[u8] {
        if self.made_ns.is_none_or(|made_ns| now_ns.saturating_sub(made_ns) >= DATE_NS) {
            self.made_ns = Some(now_ns);
            let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.text.clear();
            write_date(since_1970.as_secs(), &mut self.text);
        }
        &self.text
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn write_date(unix_secs: u64, to: &mut Vec<u8>) {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, secs) = (unix_secs / 86_400, unix_secs % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (secs / 3_600, secs / 60 % 60, secs % 60);
    let (name, month) = (DAYS[(days % 7) as usize], MONTHS[month as usize % 12]);
    // Writing to a vector does not fail.
    let _ = write!(to, "{name}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT");
}

/// Year, month from 0 on and day from 1 on, of a day counted from 1970-01-01 on in the Gregorian calendar. Years are
/// counted from March on, so that the leap day is the last: its months then have 153 days in each five.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    // From 0000-03-01 on.
    let days = days + 719_468;
    let (era, day_of_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let (year, month) = if from_march < 10 { (0, from_march + 2) } else { (1, from_march - 10) };
    (era * 400 + year_of_era + year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(request: &[u8], content: &Content) -> String {
        let super::super::request::Parsed::Whole(request, _) = super::super::request::parse(request) else { panic!() };
        let mut head = Vec::new();
        Response::to(&request, content).write_head(b"now", &mut head);
        String::from_utf8(head).unwrap()
    }

    #[test]
    fn heads_say_what_follows_and_whether_the_connection_stays() {
        let content = Content::load(None, Some(100)).unwrap();
        assert_eq!(
            head(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &content),
            "HTTP/1.1 200 OK\r\nServer: tailwater\r\nDate: now\r\nContent-Type: application/octet-stream\r\n\
             Content-Length: 100\r\nAccept-Ranges: bytes\r\n\r\n"
        );
        let part = head(b"GET / HTTP/1.1\r\nHost: a\r\nRange: bytes=90-\r\nConnection: close\r\n\r\n", &content);
        assert!(part.starts_with("HTTP/1.1 206 ") && part.ends_with("Connection: close\r\n\r\n"), "{part}");
        assert!(part.contains("Content-Length: 10\r\nContent-Range: bytes 90-99/100\r\n"), "{part}");
        let none = head(b"GET / HTTP/1.1\r\nHost: a\r\nRange: bytes=100-\r\n\r\n", &content);
        assert!(none.starts_with("HTTP/1.1 416 ") && none.contains("Content-Range: bytes */100\r\n"), "{none}");
        let old = head(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", &content);
        assert!(old.ends_with("Connection: keep-alive\r\n\r\n"), "{old}");
        let post = head(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", &content);
        assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("Allow: GET, HEAD\r\n"), "{post}");
    }

    #[test]
    fn head_requests_get_the_length_and_no_body() {
        let content = Content::load(None, Some(100)).unwrap();
        let request = Request { method: Method::Head, path: "/", keeps_alive: true, is_old: false, range: None };
        let response = Response::to(&request, &content);
        assert_eq!((response.body_len(), response.to - response.from), (0, 100));
        assert!(!response.closes);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let date = |secs| {
            let mut text = Vec::new();
            write_date(secs, &mut text);
            String::from_utf8(text).unwrap()
        };
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(date(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
    }
}
