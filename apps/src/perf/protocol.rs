//! iperf3's control protocol, as esnet/iperf's wiki describes it ("The Iperf3 Protocol and State Machine") and as its
//! releases 3.1 to 3.20 speak it.
//!
//! ```text
//!   client                                    server
//!     | control connection: cookie              |      streams: as many further connections (TCP), each beginning with
//!     |---------------------------------------->|      the same cookie; or flows (UDP), each beginning with a datagram
//!     |<------------------------ PARAM_EXCHANGE |      that is answered
//!     | length, parameters (JSON)               |
//!     |---------------------------------------->|
//!     |<------------------------ CREATE_STREAMS |
//!     |==== streams ===========================>|
//!     |<-------------- TEST_START, TEST_RUNNING |
//!     |<=== data, either way or both ==========>|
//!     | TEST_END                                |
//!     |---------------------------------------->|
//!     |<---------------------- EXCHANGE_RESULTS |
//!     | length, results (JSON)                  |
//!     |<--------------------------------------->|
//!     |<----------------------- DISPLAY_RESULTS |
//!     | IPERF_DONE                              |
//!     |---------------------------------------->|
//! ```
//!
//! States are one byte, lengths four, high byte first.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::cpu::CpuUse;

/// Where a server listens unless told otherwise.
pub(super) const PORT: u16 = 5_201;
/// Bytes of a cookie: 36 characters and a zero.
pub(super) const COOKIE_LEN: usize = 37;
/// Longest parameters that are read, in bytes; iperf3 (3.17) has the same bound.
pub(super) const PARAMETERS_MAX: usize = 8 << 10;
/// Longest results that are read, in bytes, but for the other end's output: 256 streams, many times over.
pub(super) const RESULTS_MAX: usize = 4 << 20;
/// Streams of one test and direction at most, as in iperf3.
pub(super) const STREAMS_MAX: usize = 128;
/// First datagram of a UDP stream, and its answer, as they lie on the wire: "9876" and "6789".
pub(super) const UDP_HELLO: [u8; 4] = 0x3637_3839u32.to_le_bytes();
pub(super) const UDP_ANSWER: [u8; 4] = 0x3938_3736u32.to_le_bytes();
/// The same of releases before 3.11.
pub(super) const UDP_HELLO_OLD: [u8; 4] = 123_456_789u32.to_le_bytes();
pub(super) const UDP_ANSWER_OLD: [u8; 4] = 987_654_321u32.to_le_bytes();

/// What both ends do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i8)]
pub(super) enum State {
    TestStart = 1,
    TestRunning = 2,
    TestEnd = 4,
    ParamExchange = 9,
    CreateStreams = 10,
    ServerTerminate = 11,
    ClientTerminate = 12,
    ExchangeResults = 13,
    DisplayResults = 14,
    IperfDone = 16,
    /// Ours, in place of `CreateStreams`: the server answers requests ([`Transactions`]). iperf3 has no such state, and
    /// knows nothing of the parameter.
    AnswerRequests = 64,
    AccessDenied = -1,
    ServerError = -2,
}

impl State {
    pub(super) fn of(byte: u8) -> Option<Self> {
        use State::*;
        let all = [
            TestStart,
            TestRunning,
            TestEnd,
            ParamExchange,
            CreateStreams,
            ServerTerminate,
            ClientTerminate,
            ExchangeResults,
            DisplayResults,
            IperfDone,
            AnswerRequests,
            AccessDenied,
            ServerError,
        ];
        all.into_iter().find(|state| state.byte() == byte)
    }

    pub(super) const fn byte(self) -> u8 {
        self as i8 as u8
    }
}

/// Error numbers that go with `ServerError`, as iperf3 reads them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum Fault {
    /// The parameters cannot be read, or ask for what there is not.
    Parameters = 114,
    /// The results cannot be read.
    Results = 117,
    CongestionControl = 134,
    /// A stream did not come, or ended early.
    Stream = 206,
}

impl Fault {
    /// State, number, and the system's error number, which we have none of.
    pub(super) fn message(self) -> Vec<u8> {
        let mut message = vec![State::ServerError.byte()];
        message.extend((self as u32).to_be_bytes());
        message.extend(0u32.to_be_bytes());
        message
    }
}

/// What is known of the number that came with `ServerError`.
pub(super) fn describe_fault(number: u32) -> String {
    let known = match number {
        114 => "it could not take the parameters",
        116 | 117 => "the results could not be exchanged",
        119 => "the client gave up",
        121 => "it is busy with another test",
        122..=127 | 130 => "it could not set an option of a stream",
        134 => "it does not have the congestion control asked for",
        142 => "it wants a user name and a password",
        144 => "no data came in time",
        200..=208 => "a stream could not be set up, or broke",
        _ => return format!("error {number}"),
    };
    format!("{known} (error {number})")
}

/// Identifies a test: its control connection and its streams begin with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Cookie(pub(super) [u8; COOKIE_LEN]);

impl Cookie {
    /// 36 characters of an alphabet of 32, of random bits.
    pub(super) fn new(mut random: impl FnMut() -> u64) -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut cookie = [0; COOKIE_LEN];
        // Twelve characters of five bits each.
        for twelve in cookie[..COOKIE_LEN - 1].chunks_mut(12) {
            let mut bits = random();
            for character in twelve {
                *character = ALPHABET[(bits % 32) as usize];
                bits /= 32;
            }
        }
        Self(cookie)
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(COOKIE_LEN);
        f.write_str(&String::from_utf8_lossy(&self.0[..end]))
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// JSON with its length in front.
pub(super) fn framed(json: &[u8]) -> Vec<u8> {
    let mut message = (json.len() as u32).to_be_bytes().to_vec();
    message.extend(json);
    message
}

/// What the client asks for. Unknown members are ignored, as iperf3 does; missing and zero ones are not set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Parameters {
    #[serde(skip_serializing_if = "is_default")]
    pub(super) tcp: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) udp: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) sctp: bool,
    #[serde(deserialize_with = "whole")]
    pub(super) omit: u64,
    #[serde(deserialize_with = "whole", skip_serializing_if = "is_default")]
    pub(super) time: u64,
    #[serde(deserialize_with = "whole", skip_serializing_if = "is_default")]
    pub(super) num: u64,
    #[serde(deserialize_with = "whole", skip_serializing_if = "is_default")]
    pub(super) blockcount: u64,
    #[serde(rename = "MSS", deserialize_with = "whole", skip_serializing_if = "is_default")]
    pub(super) mss: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) nodelay: bool,
    #[serde(deserialize_with = "whole")]
    pub(super) parallel: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) reverse: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) bidirectional: bool,
    #[serde(deserialize_with = "whole", skip_serializing_if = "is_default")]
    pub(super) window: u64,
    #[serde(deserialize_with = "whole")]
    pub(super) len: u64,
    /// Bits per second and stream.
    #[serde(deserialize_with = "whole", skip_serializing_if = "is_default")]
    pub(super) bandwidth: u64,
    #[serde(deserialize_with = "whole", skip_serializing_if = "is_default")]
    pub(super) burst: u64,
    /// Microseconds.
    #[serde(deserialize_with = "whole")]
    pub(super) pacing_timer: u64,
    #[serde(rename = "TOS", deserialize_with = "whole", skip_serializing_if = "is_default")]
    pub(super) tos: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) congestion: Option<String>,
    #[serde(deserialize_with = "whole", skip_serializing_if = "is_default")]
    pub(super) get_server_output: u64,
    #[serde(deserialize_with = "whole", skip_serializing_if = "is_default")]
    pub(super) udp_counters_64bit: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) authtoken: Option<String>,
    pub(super) client_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tailwater_transactions: Option<Transactions>,
}

/// Requests that the server answers, instead of bulk data. Each connection begins with the cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Transactions {
    /// Bytes of a request, 1 or more.
    pub(super) request: u32,
    /// Bytes of its response, 1 or more.
    pub(super) response: u32,
    /// One request per connection, which the client closes behind the response.
    pub(super) close: bool,
}

/// What each end found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Results {
    /// Percent of one CPU.
    pub(super) cpu_util_total: f64,
    pub(super) cpu_util_user: f64,
    pub(super) cpu_util_system: f64,
    /// 1: this end sends and counts what it sent again; 0: sends and does not count; -1: does not send.
    #[serde(deserialize_with = "counted")]
    pub(super) sender_has_retransmits: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) congestion_used: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server_output_text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server_output_json: Option<serde_json::Value>,
    pub(super) streams: Vec<StreamResults>,
}

impl Results {
    pub(super) fn with_cpu(self, used: CpuUse) -> Self {
        let CpuUse { total, user, system } = used;
        Self { cpu_util_total: total, cpu_util_user: user, cpu_util_system: system, ..self }
    }
}

/// What one end found on one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct StreamResults {
    #[serde(deserialize_with = "whole")]
    pub(super) id: u64,
    #[serde(deserialize_with = "whole")]
    pub(super) bytes: u64,
    /// -1: not counted. iperf3 writes that as a number without a sign, too.
    #[serde(deserialize_with = "counted")]
    pub(super) retransmits: i64,
    /// Seconds.
    pub(super) jitter: f64,
    /// Datagrams that did not come, of all since the test began.
    #[serde(deserialize_with = "counted")]
    pub(super) errors: i64,
    /// Of these, those before the end of the omission. Releases before 3.14 do not say.
    #[serde(deserialize_with = "counted_if_told", skip_serializing_if = "Option::is_none")]
    pub(super) omitted_errors: Option<i64>,
    /// Datagrams since the test began.
    #[serde(deserialize_with = "whole")]
    pub(super) packets: u64,
    #[serde(deserialize_with = "counted_if_told", skip_serializing_if = "Option::is_none")]
    pub(super) omitted_packets: Option<i64>,
    /// Seconds.
    pub(super) start_time: f64,
    pub(super) end_time: f64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A number that is not negative; large ones arrive in the notation of floating point.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = f64::deserialize(deserializer)?;
    if (0.0..=9e15).contains(&number) {
        return Ok(number as u64);
    }
    Err(serde::de::Error::custom(format!("{number} is out of range")))
}

/// A number, or -1 for none, however that is written.
fn counted<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let number = f64::deserialize(deserializer)?;
    Ok(if (0.0..=9e15).contains(&number) { number as i64 } else { -1 })
}

fn counted_if_told<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    counted(deserializer).map(Some)
}

/// The number by which both ends know the stream that was opened at this place, from 0 on. iperf3 leaves 2 out.
pub(super) const fn stream_id(place: usize) -> u64 {
    if place == 0 { 1 } else { place as u64 + 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_iperf3_are_read_with_members_that_are_not_known() {
        let text = r#"{"tcp":true,"omit":0,"time":1,"num":0,"blockcount":0,"parallel":4,"reverse":true,"len":131072,
            "bandwidth":1e+15,"pacing_timer":1000,"client_version":"3.12","skip_rx_copy":1}"#;
        let parameters: Parameters = serde_json::from_str(text).unwrap();
        let wanted = Parameters {
            tcp: true,
            time: 1,
            parallel: 4,
            reverse: true,
            len: 131_072,
            bandwidth: 1_000_000_000_000_000,
            pacing_timer: 1_000,
            client_version: "3.12".into(),
            ..Parameters::default()
        };
        assert_eq!(parameters, wanted);
    }

    #[test]
    fn numbers_below_zero_beyond_all_measure_and_of_other_types_are_refused() {
        for text in [r#"{"len":-1}"#, r#"{"num":1e300}"#, r#"{"parallel":"many"}"#, r#"{"tcp":1}"#, "7", "{"] {
            assert!(serde_json::from_str::<Parameters>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn results_of_an_iperf3_that_does_not_count_retransmissions_are_read() {
        let text = r#"{"cpu_util_total":6.5,"cpu_util_user":1.9,"cpu_util_system":4.6,"sender_has_retransmits":0,
            "streams":[{"id":1,"bytes":125976,"retransmits":18446744073709551615,"jitter":0,"errors":0,"packets":87,
            "start_time":0,"end_time":1.000096}]}"#;
        let results: Results = serde_json::from_str(text).unwrap();
        let StreamResults { retransmits, bytes, omitted_errors, omitted_packets, .. } = results.streams[0];
        assert_eq!((retransmits, bytes, omitted_errors, omitted_packets), (-1, 125_976, None, None));
    }

    #[test]
    fn what_is_not_set_is_not_sent() {
        let json = serde_json::to_value(Parameters { tcp: true, ..Parameters::default() }).unwrap();
        assert!(json.get("reverse").is_none() && json.get("udp").is_none() && json["tcp"] == true, "{json}");
    }

    #[test]
    fn states_survive_the_way_through_a_byte() {
        for byte in 0..=u8::MAX {
            assert!(State::of(byte).is_none_or(|state| state.byte() == byte));
        }
        assert_eq!((State::of(0xff), State::of(0xfe)), (Some(State::AccessDenied), Some(State::ServerError)));
        assert_eq!((State::of(3), State::of(0)), (None, None));
    }

    #[test]
    fn cookie_has_36_characters_and_a_zero() {
        let mut n = 0u64;
        let cookie = Cookie::new(|| {
            n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
            n
        });
        let shown = cookie.to_string();
        assert_eq!((shown.len(), cookie.0[36]), (36, 0));
        assert!(shown.bytes().all(|byte| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte)), "{shown}");
    }

    #[test]
    fn stream_numbers_leave_two_out() {
        assert_eq!([0, 1, 2, 3].map(stream_id), [1, 3, 4, 5]);
    }
}
