//! Lines about listeners and connections. Their columns are fixed, so that the first can be printed before the last is
//! known.

use serde_json::Value;

use crate::control::{Connection, Identity, Listener};

/// Over everything.
pub(super) const HEADINGS: &str =
    "state         recv-q  send-q  local                        peer                         worker  process";

/// Names that `ss` has made shorter.
fn short(state: &str) -> &str {
    match state {
        "established" => "estab",
        "syn-received" => "syn-recv",
        state => state,
    }
}

fn columns(whose: &Identity, state: &str, queues: (u64, u64), local: &str, peer: &str, worker: usize) -> String {
    let Identity { command, pid, .. } = whose;
    let (recv_q, send_q) = queues;
    format!("{state:<12} {recv_q:>7} {send_q:>7}  {local:<28} {peer:<28} {worker:>6}  {command}/{pid}")
}

/// In the queues' places: connections that wait to be accepted, and those whose handshake is not complete.
pub(super) fn listener(whose: &Identity, listener: &Listener) -> String {
    let Listener { worker, local, half_open, waiting } = listener;
    columns(whose, "listen", (*waiting as u64, *half_open as u64), &local.to_string(), "*", *worker)
}

pub(super) fn connection(whose: &Identity, connection: &Connection) -> String {
    let Connection { worker, state, local, remote, recv_q, send_q, .. } = connection;
    let queues = (u64::from(*recv_q), u64::from(*send_q));
    columns(whose, short(state), queues, &local.to_string(), &remote.to_string(), *worker)
}

/// As `ss -i` has it, what is zero or unknown left out.
pub(super) fn details(c: &Connection) -> String {
    let mut words = vec![format!("{}:{}", c.congestion, c.phase)];
    let mut say = |name: &str, value: Option<String>| words.extend(value.map(|value| format!("{name}:{value}")));
    let some = |n: u64| (n > 0).then(|| n.to_string());
    let rate = |rate: u64| format!("{:.1}Mbps", rate as f64 * 8.0 / 1e6);
    say("wscale", c.wscale.map(|(ours, theirs)| format!("{theirs},{ours}")));
    say("rto", Some(format!("{:.0}", c.rto_ms)));
    say("backoff", some(c.backoff.into()));
    say("rtt", c.srtt_us.map(|srtt| format!("{:.3}/{:.3}", srtt / 1e3, c.rttvar_us / 1e3)));
    say("minrtt", c.min_rtt_us.map(|rtt| format!("{:.3}", rtt / 1e3)));
    say("mss", Some(c.mss.to_string()));
    say("pmtu", Some(c.pmtu.to_string()));
    say("cwnd", Some(c.cwnd.to_string()));
    say("ssthresh", c.ssthresh.map(|ssthresh| ssthresh.to_string()));
    say("unacked", some(c.in_flight.into()));
    say("unsent", some(c.unsent.into()));
    say("lost", some(c.lost.into()));
    say("sacked", some(c.sacked.into()));
    say("bytes_delivered", some(c.bytes_delivered));
    say("bytes_resent", some(c.bytes_resent));
    say("bytes_lost", some(c.bytes_lost));
    say("bytes_received", some(c.bytes_received));
    say("pacing_rate", c.pacing_rate.map(rate));
    say("bandwidth", c.bandwidth.map(rate));
    say("snd_wnd", Some(c.snd_wnd.to_string()));
    say("rcv_wnd", Some(c.rcv_wnd.to_string()));
    say("probes", some(c.probes_out.into()));
    say("timer", c.timer.as_ref().map(|timer| format!("({},{:.0}ms)", timer.name, timer.in_ms)));
    say("lastsnd", Some(c.last_sent_ms.to_string()));
    say("lastrcv", Some(c.last_heard_ms.to_string()));
    say("age", Some(c.age_ms.to_string()));
    let flags = [
        (c.timestamps, "ts"),
        (c.sack, "sack"),
        (c.ecn, "ecn"),
        (c.in_recovery, "recovery"),
        (c.reordering_seen, "reordering"),
        (c.waiting, "waiting"),
        (c.orphan, "orphan"),
    ];
    words.extend(flags.iter().filter(|(is, _)| *is).map(|(_, name)| (*name).to_owned()));
    words.push(c.opened.clone());
    words.join(" ")
}

/// With whose it is.
pub(super) fn tagged(whose: &Identity, state: &str, mut of: Value) -> Value {
    if let Some(fields) = of.as_object_mut() {
        fields.insert("state".to_owned(), state.into());
        fields.insert("pid".to_owned(), whose.pid.into());
        fields.insert("command".to_owned(), whose.command.clone().into());
    }
    of
}
