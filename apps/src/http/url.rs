//! `http://HOST[:PORT][/PATH]` (RFC 9110 §4.2.1).

use std::net::{SocketAddr, ToSocketAddrs};

use crate::failure::Failure;

/// Port where none is given.
const PORT: u16 = 80;

/// Where to ask for what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Url {
    /// As the `Host` field has it.
    pub(super) host: String,
    name: String,
    port: u16,
    /// Path and query.
    pub(super) target: String,
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.host, self.target)
    }
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wanted = || "wanted http://HOST[:PORT]/PATH".to_owned();
        if text.starts_with("https://") {
            return Err("only http: is spoken; there is no TLS".to_owned());
        }
        let rest = text.strip_prefix("http://").ok_or_else(wanted)?;
        let rest = rest.split('#').next().unwrap_or_default();
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(at);
        let (name, port) = match authority.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((name, port))) => (name, port.strip_prefix(':').or(port.is_empty().then_some(""))),
            Some(None) => return Err(wanted()),
            None => authority.rsplit_once(':').map_or((authority, Some("")), |(name, port)| (name, Some(port))),
        };
        let port = match port.ok_or_else(wanted)? {
            "" => PORT,
            digits => digits.parse().ok().filter(|&port| port != 0).ok_or_else(wanted)?,
        };
        let printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if name.is_empty() || name.contains(['@', '[']) || !printable(authority) || !printable(target) {
            return Err(wanted());
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { host: authority.to_owned(), name: name.to_owned(), port, target })
    }

    /// The server's address, of the family that is wanted.
    pub(super) fn resolve(&self, wanted: impl Fn(&SocketAddr) -> bool) -> anyhow::Result<SocketAddr> {
        let name = &self.name;
        match (name.as_str(), self.port).to_socket_addrs().map(|mut all| all.find(|at| wanted(at))) {
            Ok(Some(address)) => Ok(address),
            Ok(None) => Err(Failure::usage(format!("{name} has no address of that family"), "drop -4 or -6").into()),
            Err(error) => Err(Failure::usage(format!("cannot resolve {name}: {error}"), "give an address").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_port_and_target_are_told_apart() {
        let parts = |text: &str| {
            let Url { host, name, port, target } = Url::parse(text).unwrap();
            (host, name, port, target)
        };
        let owned = |host: &str, name: &str, port, target: &str| (host.into(), name.into(), port, target.into());
        assert_eq!(parts("http://10.1.0.1"), owned("10.1.0.1", "10.1.0.1", 80, "/"));
        assert_eq!(parts("http://a:8080/b?c=/d#e"), owned("a:8080", "a", 8080, "/b?c=/d"));
        assert_eq!(parts("http://[fd00::1]:81/x"), owned("[fd00::1]:81", "fd00::1", 81, "/x"));
        assert_eq!(parts("http://[fd00::1]"), owned("[fd00::1]", "fd00::1", 80, "/"));
        assert_eq!(parts("http://a?q"), owned("a", "a", 80, "/?q"));
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for text in [
            "",
            "a",
            "http://",
            "http:///x",
            "http://a:0",
            "http://a:x",
            "http://a:65536",
            "http://[fd00::1",
            "http://[::1]x/",
            "ftp://a",
            "https://a",
            "http://a/b c",
            "http://user@a/",
            "http://a/\r\nX: y",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_need_no_resolver() {
        let url = Url::parse("http://[fd00::1]:81/").unwrap();
        assert_eq!(url.resolve(|_| true).unwrap(), "[fd00::1]:81".parse().unwrap());
        assert!(url.resolve(SocketAddr::is_ipv4).is_err());
    }
}
