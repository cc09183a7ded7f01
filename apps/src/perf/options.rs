//! The command line of `perf`: iperf3's letters where they are free, for the same things.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};

use super::protocol::{PORT, STREAMS_MAX, Transactions};
use super::settings::{
    Direction, MESSAGE_MAX, OMIT_MAX_S, Settings, TCP_LEN, TCP_LEN_MAX, TIME_MAX_S, Transport, UDP_LEN_MAX,
    UDP_LEN_MIN, WINDOW_MAX, control,
};
use crate::failure::Failure;
use crate::hosting::Hosting;

/// RFC 862.
const ECHO_PORT: u16 = 7;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  tailwater perf -s -i eth1                        a server; `iperf3 -c` and `tailwater perf -c` are its clients
  tailwater perf -s -i eth1 --listen 10.1.0.1:5201 --one-off
  tailwater perf -c 10.1.0.1 -i eth1               send for ten seconds to a server there, ours or `iperf3 -s`
  tailwater perf -c 10.1.0.1 -i eth1 -R -P 4 -t 5  receive, on four connections
  tailwater perf -c fd00:1::1 -i eth1 --bidir -C bbr
  tailwater perf -c 10.1.0.1 -i eth1 -u -b 500M    datagrams at 500 Mbit/s: jitter and loss
  tailwater perf -c 10.1.0.1 -i eth1 -n 1G -J      one gigabyte; iperf3's JSON
  tailwater perf -c 10.1.0.1 -i eth1 --cores 2,3 -P 8    streams shared out over two workers
  tailwater perf -c 10.1.0.1 -i eth1 --rr -P 64          64-byte requests: how many a second, how long each
  tailwater perf -c 10.1.0.1 -i eth1 --crr 100,4K        a connection for each
  tailwater perf -c 10.1.0.1 -i eth1 --rr --peer echo -p 7    of any echo server, such as `tailwater echo --tcp`
  tailwater perf -c 10.1.0.1 -i eth1 --sweep --compare-kernel -t 2 --out results

Options are iperf3's, but for -i, which names the interface: the interval is --interval. By default only the
server's port, or the client's own ports, are taken from the kernel. On veth, let kernel peers compute their
checksums: `ethtool -K PEER tx off`.";

/// Options of `perf`.
#[derive(ClapArgs, Clone, Debug)]
pub(crate) struct Args {
    /// Be the server
    #[arg(short, long, required_unless_present = "client", conflicts_with = "client")]
    pub(super) server: bool,
    /// Be the client of this server: an address or a name
    #[arg(short, long, value_name = "HOST")]
    pub(super) client: Option<String>,
    /// Port of the server: 5201 unless given, 7 of an echo server
    #[arg(short, long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Seconds between reports; 0: none but the last
    #[arg(long, value_name = "SECS", default_value = "1", value_parser = interval)]
    pub(super) interval: Duration,
    /// Print iperf3's JSON document in place of text
    #[arg(short = 'J', long = "iperf-json")]
    pub(super) iperf_json: bool,
    #[command(flatten)]
    pub(super) serving: Serving,
    #[command(flatten)]
    pub(super) testing: Testing,
    #[command(flatten)]
    pub(super) asking: Asking,
    #[command(flatten)]
    pub(super) sweeping: Sweeping,
    #[command(flatten)]
    pub(super) hosting: Hosting,
}

/// Options of the server.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Server")]
pub(super) struct Serving {
    /// Address and port to listen at; `0.0.0.0` and `[::]`, port 5201, unless given. Give it again for further ones
    #[arg(long = "listen", value_name = "ADDR:PORT", conflicts_with = "client")]
    pub(super) listeners: Vec<SocketAddr>,
    /// End after one test
    #[arg(short = '1', long, conflicts_with = "client")]
    pub(super) one_off: bool,
}

/// Options of the client.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Client")]
pub(super) struct Testing {
    /// UDP in place of TCP
    #[arg(short, long, conflicts_with = "server")]
    pub(super) udp: bool,
    /// The server sends, the client receives
    #[arg(short = 'R', long, conflicts_with_all = ["server", "bidir"])]
    pub(super) reverse: bool,
    /// Both send
    #[arg(long, conflicts_with = "server")]
    pub(super) bidir: bool,
    /// Streams at the same time, in each direction
    #[arg(short = 'P', long, value_name = "N", default_value_t = 1, conflicts_with = "server",
          value_parser = clap::value_parser!(u16).range(1..=STREAMS_MAX as i64))]
    pub(super) parallel: u16,
    /// Seconds to send for
    #[arg(short, long, value_name = "SECS", default_value_t = 10, conflicts_with = "server",
          value_parser = clap::value_parser!(u64).range(1..=TIME_MAX_S))]
    pub(super) time: u64,
    /// Bytes to send in all, in place of a time; K, M, G: powers of 1024. With --rr and --crr: requests
    #[arg(short = 'n', long, value_name = "BYTES", conflicts_with_all = ["server", "time", "blocks"], value_parser = size)]
    pub(super) bytes: Option<u64>,
    /// Blocks to send in all, in place of a time
    #[arg(short = 'k', long, value_name = "N", conflicts_with_all = ["server", "time"], value_parser = size)]
    pub(super) blocks: Option<u64>,
    /// Bytes sent at a time (131072 unless given), or of a datagram (what a packet of the MTU holds)
    #[arg(short, long, value_name = "BYTES", conflicts_with = "server", value_parser = size)]
    pub(super) len: Option<u64>,
    /// Bits per second of each stream, 0 for no bound; with /N, N blocks at once. TCP: no bound, UDP: 1M unless given
    #[arg(short, long, value_name = "RATE[/N]", conflicts_with = "server", value_parser = rate)]
    pub(super) bitrate: Option<(u64, u32)>,
    /// Seconds at the beginning that do not count
    #[arg(short = 'O', long, value_name = "SECS", default_value_t = 0, conflicts_with = "server",
          value_parser = clap::value_parser!(u64).range(0..=OMIT_MAX_S))]
    pub(super) omit: u64,
    /// Congestion control at both ends: cubic, reno, bbr (version 1, as Linux has it), bbr3 (no kernel has it yet)
    #[arg(short = 'C', long, value_name = "NAME", conflicts_with = "server")]
    pub(super) congestion: Option<String>,
    /// Bytes of socket buffers, 512M at most
    #[arg(short, long, value_name = "BYTES", conflicts_with = "server", value_parser = size)]
    pub(super) window: Option<u64>,
    /// Bytes of payload per segment at most
    #[arg(short = 'M', long, value_name = "BYTES", conflicts_with = "server",
          value_parser = clap::value_parser!(u16).range(88..=9_216))]
    pub(super) set_mss: Option<u16>,
    /// Do not hold small segments back (no Nagle)
    #[arg(short = 'N', long, conflicts_with = "server")]
    pub(super) no_delay: bool,
    /// Traffic class of what both ends send, 0 to 255; the lower two bits, for ECN, are not set by it
    #[arg(short = 'S', long, value_name = "N", conflicts_with = "server")]
    pub(super) tos: Option<u8>,
    /// Datagrams are numbered with 64 bits
    #[arg(long, conflicts_with = "server")]
    pub(super) udp_counters_64bit: bool,
    /// Ask for the server's output, too
    #[arg(long, conflicts_with = "server")]
    pub(super) get_server_output: bool,
    /// A word to find this test by in its JSON
    #[arg(short = 'T', long, value_name = "TEXT", conflicts_with = "server")]
    pub(super) title: Option<String>,
    /// Only IPv4
    #[arg(short = '4', conflicts_with = "ipv6")]
    pub(super) ipv4: bool,
    /// Only IPv6
    #[arg(short = '6')]
    pub(super) ipv6: bool,
}

/// Options of the client that asks.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Requests and responses (TCP, from the client)")]
pub(super) struct Asking {
    /// One request at a time over each connection (-P of them), answered by as many bytes unless RESP is given; 64
    /// bytes unless given
    #[arg(long, value_name = "REQ[,RESP]", num_args = 0..=1, default_missing_value = "64", value_parser = messages,
          conflicts_with_all = ["server", "udp", "reverse", "bidir", "blocks", "len", "bitrate", "crr"])]
    rr: Option<(u32, u32)>,
    /// The same with a connection for each request: connect, request, response, close
    #[arg(long, value_name = "REQ[,RESP]", num_args = 0..=1, default_missing_value = "64", value_parser = messages,
          conflicts_with_all = ["server", "udp", "reverse", "bidir", "blocks", "len", "bitrate"])]
    crr: Option<(u32, u32)>,
    /// Who answers: `tailwater perf -s`, or any echo server
    #[arg(long, value_enum, default_value_t, conflicts_with = "server")]
    peer: PeerKind,
}

/// Who answers requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum PeerKind {
    /// `tailwater perf -s`
    #[default]
    Perf,
    /// Any server that sends back what it gets (RFC 862), the kernel's or `tailwater echo --tcp`
    Echo,
}

/// Options of the sweep.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Sweep (from the client)")]
pub(super) struct Sweeping {
    /// Measure message sizes from 64 bytes to 64 KiB, sending and receiving, each for -t seconds
    #[arg(long, conflicts_with_all = ["server", "udp", "reverse", "bidir", "blocks", "len", "rr", "crr"])]
    pub(super) sweep: bool,
    /// Bytes of the messages; powers of two unless given
    #[arg(long, value_name = "BYTES,...", value_delimiter = ',', requires = "sweep", value_parser = size,
          default_values = ["64", "128", "256", "512", "1K", "2K", "4K", "8K", "16K", "32K", "64K"])]
    pub(super) sizes: Vec<u64>,
    /// Measure this host's kernel the same way, in turn: runs `iperf3`
    #[arg(long, requires = "sweep")]
    pub(super) compare_kernel: bool,
    /// Folder for sweep.json and the plots
    #[arg(long, value_name = "DIR", default_value = ".", requires = "sweep")]
    pub(super) out: PathBuf,
}

impl Args {
    pub(super) fn port(&self) -> u16 {
        self.port.unwrap_or(if self.asking.peer == PeerKind::Echo { ECHO_PORT } else { PORT })
    }

    /// The test that is asked for.
    pub(super) fn settings(&self, udp_len: usize) -> anyhow::Result<Settings> {
        let echo = self.asking.peer == PeerKind::Echo;
        let asked = |(request, response): (u32, u32), close| Transactions { request, response, close };
        let (rr, crr) = (self.asking.rr, self.asking.crr);
        let transactions = rr.map(|sizes| asked(sizes, false)).or(crr.map(|sizes| asked(sizes, true)));
        if echo && transactions.is_none_or(|asked| asked.request != asked.response) {
            let hint = "give --rr or --crr, with one size: what is sent comes back";
            return Err(Failure::usage("an echo server answers requests with as many bytes", hint).into());
        }
        Ok(Settings { transactions, echo, ..self.testing.settings(udp_len)? })
    }

    /// Where a server listens.
    pub(super) fn listeners(&self) -> Vec<SocketAddr> {
        if !self.serving.listeners.is_empty() {
            return self.serving.listeners.clone();
        }
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let wanted = |ip: &IpAddr| (!self.testing.ipv4 || ip.is_ipv4()) && (!self.testing.ipv6 || ip.is_ipv6());
        any.into_iter().filter(wanted).map(|ip| SocketAddr::new(ip, self.port())).collect()
    }

    /// Whom the client calls.
    pub(super) fn remote(&self, name: &str) -> anyhow::Result<SocketAddr> {
        let Testing { ipv4, ipv6, .. } = self.testing;
        let wanted = |at: &SocketAddr| (!ipv4 || at.is_ipv4()) && (!ipv6 || at.is_ipv6());
        match (name, self.port()).to_socket_addrs().map(|mut all| all.find(wanted)) {
            Ok(Some(at)) => Ok(at),
            Ok(None) => Err(Failure::usage(format!("{name} has no address of that family"), "drop -4 or -6").into()),
            Err(error) => Err(Failure::usage(format!("cannot resolve {name}: {error}"), "give an address").into()),
        }
    }

    pub(super) fn interval_ns(&self) -> u64 {
        u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Testing {
    /// Without requests; `udp_len` is what a datagram holds unless told otherwise.
    fn settings(&self, udp_len: usize) -> anyhow::Result<Settings> {
        let transport = if self.udp { Transport::Udp } else { Transport::Tcp };
        let (shortest, longest, usual) = match transport {
            Transport::Tcp => (1, TCP_LEN_MAX, TCP_LEN),
            Transport::Udp => (UDP_LEN_MIN, UDP_LEN_MAX, udp_len),
        };
        let len = self.len.unwrap_or(usual as u64);
        if !(shortest as u64..=longest as u64).contains(&len) {
            let hint = format!("give -l from {shortest} to {longest}");
            return Err(Failure::usage(format!("blocks of {len} bytes cannot be sent"), hint).into());
        }
        let window = self.window.unwrap_or(0);
        if window > WINDOW_MAX {
            let hint = format!("give -w up to {}M", WINDOW_MAX >> 20);
            return Err(Failure::usage(format!("socket buffers of {window} bytes are not granted"), hint).into());
        }
        let congestion = self.congestion.as_deref().map(control).transpose();
        let congestion = congestion.map_err(|why| Failure::usage(why, "give -C with one of these"))?;
        let (rate, burst) = self.bitrate.unwrap_or((if self.udp { 1_000_000 } else { 0 }, 1));
        let untimed = self.bytes.is_some() || self.blocks.is_some();
        Ok(Settings {
            transport,
            direction: match (self.reverse, self.bidir) {
                (true, _) => Direction::Reverse,
                (_, true) => Direction::Both,
                _ => Direction::Forward,
            },
            parallel: self.parallel.into(),
            len: len as usize,
            omit: Duration::from_secs(self.omit),
            time: if untimed { Duration::ZERO } else { Duration::from_secs(self.time) },
            bytes: self.bytes.unwrap_or(0),
            blocks: self.blocks.unwrap_or(0),
            rate,
            burst,
            mss: self.set_mss.unwrap_or(0),
            nodelay: self.no_delay,
            window: window as u32,
            tos: self.tos.unwrap_or(0),
            congestion,
            counters_64bit: self.udp_counters_64bit,
            server_output: self.get_server_output,
            title: self.title.clone(),
            transactions: None,
            echo: false,
        })
    }
}

/// Seconds, 0 for never.
fn interval(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(0.0) => Ok(Duration::ZERO),
        Ok(secs) if (0.1..=3_600.0).contains(&secs) => Ok(Duration::from_secs_f64(secs)),
        _ => Err("wanted seconds from 0.1 to 3600, or 0 for no reports".to_owned()),
    }
}

/// Sizes of a request and of its response.
fn messages(text: &str) -> Result<(u32, u32), String> {
    let (request, response) = text.split_once(',').unwrap_or((text, text));
    let bytes = |text: &str| size(text).ok().filter(|&n| n <= u64::from(MESSAGE_MAX)).map(|n| n as u32);
    let both = bytes(request).zip(bytes(response));
    both.ok_or_else(|| "wanted bytes of a request, and perhaps of a response: 64, or 100,4K; 1M at most".to_owned())
}

/// A number with a prefix of powers of 1024.
fn size(text: &str) -> Result<u64, String> {
    with_prefix(text, 1024.0).filter(|&n| n > 0).ok_or("wanted a number above 0, such as 1500, 64K or 1.5G".to_owned())
}

/// A rate with a prefix of powers of 1000, and perhaps a burst.
fn rate(text: &str) -> Result<(u64, u32), String> {
    let wanted = || "wanted bits per second, such as 0, 500M, 1.5G or 10M/20".to_owned();
    let (rate, burst) = text.split_once('/').unwrap_or((text, "1"));
    let burst = burst.parse().ok().filter(|burst| (1..=1_000).contains(burst)).ok_or_else(wanted)?;
    Ok((with_prefix(rate, 1000.0).ok_or_else(wanted)?, burst))
}

fn with_prefix(text: &str, base: f64) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match &text[digits.len()..] {
        "" => 0,
        "k" | "K" => 1,
        "m" | "M" => 2,
        "g" | "G" => 3,
        "t" | "T" => 4,
        _ => return None,
    };
    let number = digits.parse::<f64>().ok()? * base.powi(power);
    (0.0..=9e15).contains(&number).then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_and_rates_decimal_prefixes() {
        assert_eq!([size("64K"), size("1.5G"), size("7")], [Ok(65_536), Ok(1_610_612_736), Ok(7)]);
        assert_eq!(
            [rate("500M"), rate("0"), rate("1.5g/20")],
            [Ok((500_000_000, 1)), Ok((0, 1)), Ok((1_500_000_000, 20))]
        );
        assert!(["0", "-1", "1X", "", "K", "1e99", "nan"].iter().all(|text| size(text).is_err()));
        assert_eq!([messages("64"), messages("1,4K")], [Ok((64, 64)), Ok((1, 4_096))]);
        assert!(["", "0", "1,0", "2M", "1,2,3"].iter().all(|text| messages(text).is_err()));
        assert!(["-1", "1M/0", "1M/9999", "fast"].iter().all(|text| rate(text).is_err()));
    }
}
