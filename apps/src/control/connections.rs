//! Connections as data: what `tailwater ss` asks for and gets.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tailwater_dataplane::service::{Census, CensusFilter, CensusListener, CensusPage, CensusQuery};
use tailwater_dataplane::worker::Control;
use tailwater_stack::tcp::{State, TcpSnapshot};

use super::Refusal;

/// Connections of an answer unless asked otherwise.
const LIMIT: usize = 1_024;

/// Every state that a connection can be listed in.
pub(crate) const STATES: [State; 10] = [
    State::SynSent,
    State::SynReceived,
    State::Established,
    State::FinWait1,
    State::FinWait2,
    State::CloseWait,
    State::Closing,
    State::LastAck,
    State::TimeWait,
    State::Closed,
];

/// Which connections, and where to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectionsQuery {
    /// In one of these states, by name; any if none is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) states: Vec<String>,
    /// With this port at either end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<u16>,
    /// 4 or 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) family: Option<u8>,
    /// Connections of one answer at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<usize>,
    /// `next` of the last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<Position>,
}

/// Where an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) worker: usize,
    pub(crate) place: usize,
}

/// Some of the connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Connections {
    /// With TCP of their own; 0 where the command has none.
    pub(crate) workers: usize,
    /// On each worker's first answer.
    pub(crate) listeners: Vec<Listener>,
    pub(crate) connections: Vec<Connection>,
    /// Where the next answer begins; not there after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<Position>,
}

/// A worker's listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listener {
    pub(crate) worker: usize,
    pub(crate) local: SocketAddr,
    pub(crate) half_open: usize,
    pub(crate) waiting: usize,
}

/// A connection. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Connection {
    pub(crate) worker: usize,
    pub(crate) state: String,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// Received and not read; written and not acknowledged; of it, never sent.
    pub(crate) recv_q: u32,
    pub(crate) send_q: u32,
    pub(crate) unsent: u32,
    pub(crate) congestion: String,
    pub(crate) phase: String,
    pub(crate) cwnd: u32,
    pub(crate) ssthresh: Option<u32>,
    pub(crate) in_flight: u32,
    pub(crate) lost: u32,
    pub(crate) sacked: u32,
    pub(crate) in_recovery: bool,
    pub(crate) reordering_seen: bool,
    pub(crate) srtt_us: Option<f64>,
    pub(crate) rttvar_us: f64,
    pub(crate) min_rtt_us: Option<f64>,
    pub(crate) rto_ms: f64,
    pub(crate) backoff: u8,
    pub(crate) probes_out: u8,
    pub(crate) timer: Option<Timer>,
    pub(crate) mss: u32,
    pub(crate) pmtu: u32,
    pub(crate) snd_wnd: u32,
    pub(crate) rcv_wnd: u32,
    pub(crate) rcv_buffer: u32,
    /// Ours and the peer's.
    pub(crate) wscale: Option<(u8, u8)>,
    pub(crate) sack: bool,
    pub(crate) timestamps: bool,
    pub(crate) ecn: bool,
    pub(crate) bytes_delivered: u64,
    pub(crate) bytes_resent: u64,
    pub(crate) bytes_lost: u64,
    pub(crate) bytes_received: u64,
    /// Bytes a second: what congestion control paces at, and what it believes that the path carries.
    pub(crate) pacing_rate: Option<u64>,
    pub(crate) bandwidth: Option<u64>,
    /// `passive` or `active`, by who opened it.
    pub(crate) opened: String,
    /// Complete, and not accepted; let go of by the application.
    pub(crate) waiting: bool,
    pub(crate) orphan: bool,
    pub(crate) age_ms: u64,
    pub(crate) last_sent_ms: u64,
    pub(crate) last_heard_ms: u64,
}

/// What is due next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Timer {
    pub(crate) name: String,
    pub(crate) in_ms: f64,
}

impl ConnectionsQuery {
    fn filter(&self) -> Result<CensusFilter, Refusal> {
        let mut states = 0;
        for name in &self.states {
            states |= CensusFilter::state(state(name).map_err(|why| Refusal::new("syntax", why))?);
        }
        let ipv4 = match self.family {
            None => None,
            Some(4) => Some(true),
            Some(6) => Some(false),
            Some(other) => return Err(Refusal::new("syntax", format!("there is no IPv{other}; 4 and 6 are"))),
        };
        Ok(CensusFilter { states, port: self.port, ipv4 })
    }

    /// Asks the workers, one after the other, for so many connections.
    pub(crate) fn answer(&self, census: &Census, controls: &[std::sync::Arc<Control>]) -> Result<Connections, Refusal> {
        let (filter, limit) = (self.filter()?, self.limit.unwrap_or(LIMIT));
        let Position { worker, place } = self.from.unwrap_or_default();
        let mut answer = Connections { workers: census.workers(), ..Connections::default() };
        let query = CensusQuery { worker, from: place, limit, filter };
        let page = census.page(controls, query).map_err(|error| Refusal::new("failed", error.to_string()))?;
        let following = (worker + 1 < census.workers()).then_some(Position { worker: worker + 1, place: 0 });
        answer.next = page.next.map(|place| Position { worker, place }).or(following);
        answer.take(worker, &page);
        Ok(answer)
    }
}

impl Connections {
    fn take(&mut self, worker: usize, page: &CensusPage) {
        self.listeners.extend(page.listeners.iter().map(|listener| Listener::of(worker, listener)));
        self.connections.extend(page.connections.iter().map(|snapshot| Connection::of(worker, snapshot)));
    }
}

impl Listener {
    fn of(worker: usize, listener: &CensusListener) -> Self {
        let CensusListener { at, half_open, waiting } = *listener;
        Self { worker, local: at, half_open, waiting }
    }
}

impl Connection {
    fn of(worker: usize, snapshot: &TcpSnapshot) -> Self {
        let micros = |duration: Duration| duration.as_nanos() as f64 / 1e3;
        let millis = |duration: Duration| duration.as_millis() as u64;
        Self {
            worker,
            state: snapshot.state.name().to_ascii_lowercase(),
            local: snapshot.local,
            remote: snapshot.remote,
            recv_q: snapshot.receive_queue,
            send_q: snapshot.send_queue,
            unsent: snapshot.unsent,
            congestion: snapshot.congestion.name.to_owned(),
            phase: snapshot.congestion.phase.to_owned(),
            cwnd: snapshot.cwnd,
            ssthresh: snapshot.congestion.ssthresh,
            in_flight: snapshot.in_flight,
            lost: snapshot.lost,
            sacked: snapshot.sacked,
            in_recovery: snapshot.in_recovery,
            reordering_seen: snapshot.reordering_seen,
            srtt_us: snapshot.srtt.map(micros),
            rttvar_us: micros(snapshot.rttvar),
            min_rtt_us: snapshot.min_rtt.map(micros),
            rto_ms: micros(snapshot.rto) / 1e3,
            backoff: snapshot.backoff,
            probes_out: snapshot.probes_out,
            timer: snapshot.timer.map(|(name, left)| Timer { name: name.to_owned(), in_ms: micros(left) / 1e3 }),
            mss: snapshot.smss,
            pmtu: snapshot.path_mtu,
            snd_wnd: snapshot.snd_wnd,
            rcv_wnd: snapshot.rcv_wnd,
            rcv_buffer: snapshot.receive_buffer,
            wscale: snapshot.window_scale,
            sack: snapshot.sack,
            timestamps: snapshot.timestamps,
            ecn: snapshot.ecn,
            bytes_delivered: snapshot.delivered,
            bytes_resent: snapshot.retransmitted,
            bytes_lost: snapshot.lost_total,
            bytes_received: snapshot.received,
            pacing_rate: snapshot.congestion.pacing_rate,
            bandwidth: snapshot.congestion.bandwidth,
            opened: if snapshot.passive { "passive" } else { "active" }.to_owned(),
            waiting: snapshot.waiting,
            orphan: snapshot.orphan,
            age_ms: millis(snapshot.age),
            last_sent_ms: millis(snapshot.since_sent),
            last_heard_ms: millis(snapshot.since_heard),
        }
    }
}

/// The state of that name, written large or small.
pub(crate) fn state(name: &str) -> Result<State, String> {
    let found = STATES.into_iter().find(|state| state.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        let names: Vec<String> = STATES.iter().map(|state| state.name().to_ascii_lowercase()).collect();
        format!("there is no state {name:?}; there are {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_their_names_in_the_list_and_each_a_bit() {
        assert_eq!(state("established"), Ok(State::Established));
        assert_eq!(state("TIME-WAIT"), Ok(State::TimeWait));
        assert!(state("open").unwrap_err().contains("established, "));
        let bits = STATES.iter().map(|&state| CensusFilter::state(state)).fold(0, |all: u16, bit| {
            assert_eq!(all & bit, 0);
            all | bit
        });
        assert_eq!(bits.count_ones() as usize, STATES.len());
    }

    #[test]
    fn filters_that_make_no_sense_are_refused() {
        let query = |text: &str| serde_json::from_str::<ConnectionsQuery>(text);
        let filter = query(r#"{"states":["established"],"port":80,"family":6}"#).unwrap().filter().unwrap();
        assert_eq!((filter.port, filter.ipv4), (Some(80), Some(false)));
        assert_eq!(query(r#"{"family":5}"#).unwrap().filter().unwrap_err().kind, "syntax");
        assert_eq!(query(r#"{"states":["x"]}"#).unwrap().filter().unwrap_err().kind, "syntax");
        assert!(query(r#"{"prot":80}"#).is_err());
    }
}
