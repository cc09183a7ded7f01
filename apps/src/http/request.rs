//! A request's head (RFC 9112 §3, §5), parsed where it lies. Nothing is allocated.

use std::mem::MaybeUninit;

use super::range::Range;
use super::status::Status;

/// Bytes of a head at most; longer ones are refused (431).
pub(super) const HEAD_MAX: usize = 8 << 10;
/// Header fields at most, likewise.
const FIELDS_MAX: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Method {
    Get,
    Head,
    /// Anything else: 405.
    Other,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// As it came, percent-encoded, without query.
    pub(super) path: &'a str,
    /// The connection is to stay for further requests.
    pub(super) keeps_alive: bool,
    /// A client of HTTP/1.0, which has to be told that the connection stays.
    pub(super) is_old: bool,
    pub(super) range: Option<Range>,
}

/// What the bytes of a connection begin with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Parsed<'a> {
    /// A request, with the bytes that it takes.
    Whole(Request<'a>, usize),
    /// More must come.
    Partial,
    /// Nothing that can be answered otherwise.
    Refused(Status),
}

/// What a request's fields say.
#[derive(Default)]
struct Fields {
    hosts: usize,
    close: bool,
    keep_alive: bool,
    has_content: bool,
    malformed: bool,
    range: Option<Range>,
    if_range: bool,
}

/// Parses the head at the front of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Parsed<'_> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(len)) if len <= HEAD_MAX => match judge(&request) {
            Ok(request) => Parsed::Whole(request, len),
            Err(status) => Parsed::Refused(status),
        },
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_MAX => Parsed::Partial,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Parsed::Refused(Status::HeadTooLarge),
        Err(httparse::Error::Version) => Parsed::Refused(Status::VersionNotSupported),
        Err(_) => Parsed::Refused(Status::BadRequest),
    }
}

fn judge<'a>(request: &httparse::Request<'_, 'a>) -> Result<Request<'a>, Status> {
    let fields = Fields::of(request.headers);
    let is_old = request.version != Some(1);
    // RFC 9112 §3.2: a request of HTTP/1.1 names its host, once.
    if fields.malformed || fields.hosts > 1 || (fields.hosts == 0 && !is_old) {
        return Err(Status::BadRequest);
    }
    // RFC 9110 §9.3.1: content of a GET means nothing, and a server may refuse it rather than be led astray.
    if fields.has_content {
        return Err(Status::ContentTooLarge);
    }
    let method = match request.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        _ => Method::Other,
    };
    let path = match (request.path.and_then(path_of), method) {
        (Some(path), _) => path,
        // RFC 9112 §3.2.3, §3.2.4: of other methods the target may be no path.
        (None, Method::Other) => "/",
        (None, _) => return Err(Status::BadRequest),
    };
    // RFC 9112 §9.3.
    let keeps_alive = !fields.close && (!is_old || fields.keep_alive);
    // RFC 9110 §13.1.5: what we serve has no validators, so that none is the one that the client has.
    let range = fields.range.filter(|_| !fields.if_range);
    Ok(Request { method, path, keeps_alive, is_old, range })
}

impl Fields {
    fn of(headers: &[httparse::Header<'_>]) -> Self {
        let mut fields = Self::default();
        for &httparse::Header { name, value } in headers {
            // By length first: most fields are none of ours.
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => fields.hosts += 1,
                5 if name.eq_ignore_ascii_case("range") => fields.range = Range::parse(value),
                8 if name.eq_ignore_ascii_case("if-range") => fields.if_range = true,
                10 if name.eq_ignore_ascii_case("connection") => fields.connection(value),
                14 if name.eq_ignore_ascii_case("content-length") => match number(value) {
                    Some(len) => fields.has_content |= len > 0,
                    None => fields.malformed = true,
                },
                17 if name.eq_ignore_ascii_case("transfer-encoding") => fields.has_content = true,
                _ => {}
            }
        }
        fields
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
}

/// The path of a target in origin form, or in absolute form (RFC 9112 §3.2.1, §3.2.2).
fn path_of(target: &str) -> Option<&str> {
    let from_path = match target.as_bytes() {
        [b'/', ..] => target,
        _ => {
            let (scheme, rest) = target.split_once("://")?;
            let at = rest.find(['/', '?']).unwrap_or(rest.len());
            let known = scheme.eq_ignore_ascii_case("http") && at > 0;
            known.then(|| rest.get(at..).filter(|path| path.starts_with('/')).unwrap_or("/"))?
        }
    };
    from_path.split(['?', '#']).next()
}

/// Digits and nothing else (RFC 9110 §8.6).
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Request<'_> {
        match parse(text.as_bytes()) {
            Parsed::Whole(request, len) => {
                assert_eq!(len, text.len());
                request
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn refused(text: &str) -> Status {
        match parse(text.as_bytes()) {
            Parsed::Refused(status) => status,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn connections_stay_as_version_and_field_say() {
        assert!(whole("GET / HTTP/1.1\r\nHost: a\r\n\r\n").keeps_alive);
        assert!(!whole("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n").keeps_alive);
        assert!(!whole("GET / HTTP/1.0\r\n\r\n").keeps_alive);
        let old = whole("HEAD /a?b=/c HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        assert!(old.keeps_alive && old.is_old);
        assert_eq!((old.method, old.path), (Method::Head, "/a"));
    }

    #[test]
    fn a_request_behind_another_is_left_for_later() {
        let two = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
        let Parsed::Whole(first, len) = parse(two) else { panic!() };
        let Parsed::Whole(second, rest) = parse(&two[len..]) else { panic!() };
        assert_eq!((first.path, second.path, len + rest), ("/1", "/2", two.len()));
        assert_eq!(parse(&two[..20]), Parsed::Partial);
        assert_eq!(parse(b""), Parsed::Partial);
    }

    #[test]
    fn targets_have_a_path_in_origin_and_absolute_form() {
        let path = |target: &str| path_of(target).map(str::to_owned);
        assert_eq!(path("/a/b?c"), Some("/a/b".into()));
        assert_eq!(path("http://host:80/a?b"), Some("/a".into()));
        assert_eq!(path("HTTP://host"), Some("/".into()));
        assert_eq!(path("http://host?q"), Some("/".into()));
        assert!(["*", "host:80", "a/b", "ftp://host/", "http:///a", ""].iter().all(|target| path(target).is_none()));
    }

    #[test]
    fn what_cannot_be_understood_is_refused_by_its_name() {
        assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), Status::BadRequest, "no host");
        assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), Status::BadRequest);
        assert_eq!(refused("GET * HTTP/1.1\r\nHost: a\r\n\r\n"), Status::BadRequest);
        assert_eq!(refused("nonsense\r\n\r\n"), Status::BadRequest);
        assert_eq!(refused("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), Status::VersionNotSupported);
        assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"), Status::ContentTooLarge);
        assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n"), Status::BadRequest);
        let fields = "X: y\r\n".repeat(FIELDS_MAX + 1);
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\n{fields}\r\n")), Status::HeadTooLarge);
        let long = "y".repeat(HEAD_MAX);
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\nX: {long}")), Status::HeadTooLarge);
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n")), Status::HeadTooLarge);
    }

    #[test]
    fn a_part_of_what_the_client_has_is_none_of_ours_rfc9110_s13_1_5() {
        let range = |fields: &str| whole(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).range;
        assert_eq!(range("Range: bytes=1-\r\n"), Some(Range::From { first: 1, last: None }));
        assert_eq!(range("If-Range: \"x\"\r\nRange: bytes=1-\r\n"), None);
        assert_eq!(range("Range: bytes=1-\r\nif-range: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), None);
    }

    #[test]
    fn other_methods_are_told_apart_from_nonsense() {
        assert_eq!(whole("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").method, Method::Other);
        assert_eq!(whole("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").method, Method::Other);
    }
}
