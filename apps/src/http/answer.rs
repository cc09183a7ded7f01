//! An answer as it comes: its head, then so many bytes of body (RFC 9112 §6.3).

use super::request::number;

/// Bytes of a head at most.
const HEAD_MAX: usize = 64 << 10;
/// Header fields at most.
const FIELDS_MAX: usize = 128;

/// How much belongs to the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Length {
    /// So many bytes.
    Known(u64),
    /// Until the server ends the connection.
    UntilClose,
}

/// A head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) code: u16,
    pub(super) length: Length,
    /// The server ends the connection behind it.
    pub(super) closes: bool,
}

/// Why an answer is of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("the server's answer is not HTTP: {0}")]
    Head(httparse::Error),
    #[error("the head of the server's answer is longer than {HEAD_MAX} bytes")]
    TooLong,
    #[error("the server's Content-Length makes no sense")]
    Length,
    #[error("the server sends its answer in chunks, which this client does not read")]
    Chunked,
}

/// Parses the head at the front of `bytes`: with the bytes that it takes, or `None` if more must come.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(bytes).map_err(Malformed::Head)? {
        httparse::Status::Complete(len) => judge(&response).map(|head| Some((head, len))),
        httparse::Status::Partial if bytes.len() > HEAD_MAX => Err(Malformed::TooLong),
        httparse::Status::Partial => Ok(None),
    }
}

fn judge(response: &httparse::Response<'_, '_>) -> Result<Head, Malformed> {
    let code = response.code.unwrap_or_default();
    let (mut length, mut close, mut keep_alive) = (None, false, false);
    for httparse::Header { name, value } in response.headers.iter() {
        if name.eq_ignore_ascii_case("content-length") {
            let len = number(value).ok_or(Malformed::Length)?;
            if length.is_some_and(|other| other != len) {
                return Err(Malformed::Length);
            }
            length = Some(len);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Malformed::Chunked);
        } else if name.eq_ignore_ascii_case("connection") {
            for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                close |= option.eq_ignore_ascii_case(b"close");
                keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
    }
    let length = match (code, length) {
        // RFC 9112 §6.3: these have none, whatever they say.
        (100..=199 | 204 | 304, _) => Length::Known(0),
        (_, Some(len)) => Length::Known(len),
        (_, None) => Length::UntilClose,
    };
    let stays = !close && (response.version == Some(1) || keep_alive);
    Ok(Head { code, length, closes: !stays || length == Length::UntilClose })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        let (head, len) = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(len, text.len());
        head
    }

    #[test]
    fn length_and_end_of_the_connection_follow_from_the_head() {
        let known = head("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n");
        assert_eq!(known, Head { code: 200, length: Length::Known(7), closes: false });
        assert!(head("HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\n").closes);
        assert!(head("HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n").closes);
        assert!(!head("HTTP/1.0 200 OK\r\nContent-Length: 7\r\nConnection: keep-alive\r\n\r\n").closes);
        assert_eq!(head("HTTP/1.1 200 OK\r\n\r\n"), Head { code: 200, length: Length::UntilClose, closes: true });
        assert_eq!(head("HTTP/1.1 304 \r\nContent-Length: 7\r\n\r\n").length, Length::Known(0));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-"), Ok(None));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), Err(Malformed::Length));
        let twice = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(parse(twice), Err(Malformed::Length));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(Malformed::Chunked));
        assert!(matches!(parse(b"SSH-2.0-OpenSSH\r\n\r\n"), Err(Malformed::Head(_))));
        assert_eq!(
            parse(format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(HEAD_MAX)).as_bytes()),
            Err(Malformed::TooLong)
        );
    }
}
