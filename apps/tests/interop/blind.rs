//! Segments that an attacker puts into a live connection (RFC 5961), by guesses that are better than any real one's: the
//! addresses, ports and timestamps are right, only the numbers are not.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use tailwater_lab::Lab;

use crate::common::{RunFolder, eventually};
use crate::peer::*;
use crate::raw::{ACK, CLIENT, FIN, Link, RST, SYN, Segment};

const ROUNDS: u32 = 20;
/// Beyond any window: it has no more than 2^30 bytes.
const FAR: u32 = 0x6000_0000;

/// Echoes `len` bytes and waits until everything is acknowledged; the last segment that came from the server.
fn exchange(stream: &mut TcpStream, link: &mut Link, round: u32, len: usize) -> Segment {
    let mut sent = vec![0; len];
    pattern(u64::from(round) << 20, &mut sent);
    link.seen();
    stream.write_all(&sent).unwrap();
    let mut got = vec![0; len];
    stream.read_exact(&mut got).unwrap();
    assert!(got == sent, "round {round}: the echo changed");
    let port = stream.local_addr().unwrap().port();
    let (mut last, mut echoed) = (None, 0);
    eventually("the server's last segment is seen", || {
        for segment in link.seen().into_iter().filter(|segment| segment.ports == (7_000, port)) {
            echoed += segment.text.len();
            last = Some(segment);
        }
        echoed >= len
    });
    last.unwrap()
}

/// What the attacker sends after `last`, with what the server must do: the number that its answers are counted by, or
/// nothing.
fn guesses(last: &Segment) -> [(&'static str, Segment); 8] {
    let expected = last.ack;
    let next = last.seq.wrapping_add(last.text.len() as u32);
    let right = Segment {
        ports: (last.ports.1, last.ports.0),
        seq: expected,
        ack: next,
        flags: ACK,
        // Not before those of the client's acknowledgements that are still to come.
        timestamps: last.timestamps.map(|(value, echo)| (echo.wrapping_add(1_000), value)),
        text: Vec::new(),
    };
    let text = b"injected".to_vec();
    [
        ("reset in the window", Segment { seq: expected.wrapping_add(1_000), flags: RST, ..right.clone() }),
        (
            "reset at the next byte but one",
            Segment { seq: expected.wrapping_add(1), flags: RST | ACK, ..right.clone() },
        ),
        ("reset far away", Segment { seq: expected.wrapping_add(FAR), flags: RST, ..right.clone() }),
        ("SYN in the window", Segment { seq: expected.wrapping_add(10), flags: SYN, ..right.clone() }),
        ("SYN at the next byte", Segment { flags: SYN, ..right.clone() }),
        (
            "text that acknowledges too much",
            Segment { ack: next.wrapping_add(100_000), text: text.clone(), ..right.clone() },
        ),
        (
            "text that acknowledges too little",
            Segment { ack: next.wrapping_sub(FAR), text: text.clone(), ..right.clone() },
        ),
        ("text and end far away", Segment { seq: expected.wrapping_add(FAR), flags: ACK | FIN, text, ..right }),
    ]
}

/// Why guesses are challenged, and how many of each round are.
const CHALLENGED: [(&str, u64); 3] =
    [("tcp_reset_unacceptable", 2), ("tcp_syn_unexpected", 2), ("tcp_ack_unacceptable", 2)];

#[test]
fn resets_syns_and_text_with_guessed_numbers_are_refused_and_the_stream_stays_whole() {
    let lab = Lab::pair(1, 1500).unwrap();
    let folder = RunFolder::new("blind");
    let server = folder.start(lab.dut(), "echo --tcp -j -i d0 --listen 10.1.0.1:7000");
    let mut link = Link::on(&lab);
    let mut stream = connect(&lab, "10.1.0.1:7000");
    let count = |name: &str| {
        let report = folder.json(&lab, "-j");
        match report["dropped"][name].as_u64() {
            Some(drops) => drops,
            None => counter(&report, name),
        }
    };
    for round in 0..ROUNDS {
        let last = exchange(&mut stream, &mut link, round, 20_000);
        link.send(guesses(&last).map(|(_, segment)| segment.frame(CLIENT)));
        let rounds = u64::from(round + 1);
        eventually("the guesses are refused", || CHALLENGED.iter().all(|&(why, each)| count(why) == each * rounds));
    }
    exchange(&mut stream, &mut link, ROUNDS, 200_000);
    let each = u64::from(ROUNDS);
    let refused: u64 = CHALLENGED.iter().map(|&(_, in_round)| in_round * each).sum();
    // One in a while is challenged, and not each.
    assert!((1..refused).contains(&count("tcp_challenge_acks")));
    assert!(count("tcp_out_of_window") >= 2 * each);
    // The one reset that counts is the peer's own: at exactly the next byte.
    let last = exchange(&mut stream, &mut link, ROUNDS + 1, 10);
    let exact = Segment { ports: (last.ports.1, last.ports.0), seq: last.ack, flags: RST, ..Segment::default() };
    link.send([exact.frame(CLIENT)]);
    eventually("the connection is over", || count("tcp_failed") == 1);
    let ended = stream.write_all(b"anybody there?").and_then(|()| stream.read_exact(&mut [0; 14]));
    assert!(matches!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof));
    stop(server);
}

#[test]
fn segments_to_no_connection_bring_none_about() {
    let lab = Lab::pair(1, 1500).unwrap();
    let server = echo(&lab, "--listen 10.1.0.1:7000");
    let mut link = Link::on(&lab);
    // Acknowledgements that look like the end of a handshake nobody began.
    let forged = |n: u32| Segment {
        ports: (30_000 + n as u16, 7_000),
        seq: n.wrapping_mul(0x9e37_79b9),
        ack: n.wrapping_mul(0x85eb_ca6b),
        flags: ACK,
        text: b"hello".to_vec(),
        ..Segment::default()
    };
    for first in (0..2_000).step_by(50) {
        link.send((first..first + 50).map(|n| forged(n).frame(CLIENT)));
    }
    let mut stream = connect(&lab, "10.1.0.1:7000");
    stream.write_all(b"still there").unwrap();
    stream.read_exact(&mut [0; 11]).unwrap();
    drop(stream);
    let report = stop(server);
    assert_eq!(counter(&report, "echo_connections"), 1);
    assert_eq!(counter(&report, "tcp_syn_cookies_accepted"), 0);
}
