//! Status codes that are answered (RFC 9110 §15).

/// How a request went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Status {
    Ok,
    PartialContent,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    ContentTooLarge,
    RangeNotSatisfiable,
    HeadTooLarge,
    VersionNotSupported,
}

impl Status {
    /// Code and reason, as a status line has them.
    pub(super) const fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::PartialContent => "206 Partial Content",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::ContentTooLarge => "413 Content Too Large",
            Self::RangeNotSatisfiable => "416 Range Not Satisfiable",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }

    pub(super) const fn is_error(self) -> bool {
        !matches!(self, Self::Ok | Self::PartialContent)
    }

    /// Where the next request begins is not known any more, or should not be: the connection ends behind the answer.
    pub(super) const fn ends_connection(self) -> bool {
        matches!(self, Self::BadRequest | Self::ContentTooLarge | Self::HeadTooLarge | Self::VersionNotSupported)
    }
}
