//! Files: what they mean, and what is said about wrong ones.

use std::time::Duration;

use tailwater_sim::scenario::{Scenario, ScenarioError};

const GOOD: &str = r#"
seed = 7
duration = "3 s"
hosts = ["client{1..2}", "server"]
routers = ["gateway"]

[[link]]
repeat = 2
ends = ["client{n} 10.0.{n}.1/24", "gateway 10.0.{n}.254/24"]
delay = "1 ms"

[[link]]
ends = ["gateway 10.1.0.254/24 fd01::fe/64", "server 10.1.0.1/24 fd01::1/64"]
rate = "20 Mbit/s"
delay = "10 ms"
capture = true
queue = "60 kB"
back = { rate = "5 Mbit/s", delay = "30 ms" }

[[flow]]
name = "video{n}"
repeat = 2
kind = "udp"
from = "client{n}"
to = "server"
rate = "4 Mbit/s"

[[flow]]
name = "ask"
kind = "udp-requests"
from = "client1"
to = "server"
pause = "20 ms"
start = "1 s"
stop = "2 s"

[[flow]]
name = "ping"
kind = "ping"
from = "client2"
to = "server"
interval = "100 ms"
"#;

fn parse(text: &str) -> Result<Scenario, ScenarioError> {
    Scenario::parse(text)
}

#[test]
fn a_file_becomes_a_network_with_flows() {
    let scenario = parse(GOOD).unwrap();
    assert_eq!(
        (scenario.seed, scenario.duration, scenario.sample),
        (7, Duration::from_secs(3), Duration::from_millis(15))
    );
    let mut built = scenario.build(scenario.seed).unwrap();
    assert_eq!(built.captures.len(), 2);
    built.simulation.run_until(scenario.end()).unwrap();
    let flows = built.simulation.flows();
    let names: Vec<&str> = flows.keys().map(String::as_str).collect();
    assert_eq!(names, ["ask", "ping", "video1", "video2"]);
    for name in ["video1", "video2"] {
        assert_eq!(flows[name].sent_packets, 1_250);
        assert!(flows[name].received_packets > 1_240);
    }
    // 1 + 10 there, 30 + 1 back, and the pause.
    let ask = &flows["ask"];
    assert!((14..=17).contains(&ask.received_packets), "{}", ask.received_packets);
    assert!(ask.rtt.min() >= Duration::from_millis(42));
    assert!(flows["ping"].received_packets > 25);
}

/// The error of GOOD with `from` replaced by `to`, which must be there.
fn broken(from: &str, to: &str) -> ScenarioError {
    assert!(GOOD.contains(from), "{from}");
    parse(&GOOD.replacen(from, to, 1)).err().unwrap_or_else(|| panic!("{to} was accepted"))
}

/// Line of GOOD on which `text` stands, from 1.
fn line_of(text: &str) -> usize {
    GOOD[..GOOD.find(text).unwrap()].matches('\n').count() + 1
}

#[test]
fn errors_say_where_and_what_would_be_right() {
    let cases = [
        ("delay = \"1 ms\"", "dealy = \"1 ms\"", "there is no key 'dealy' here", "did you mean 'delay'?"),
        ("\"1 ms\"", "\"1 m\"", "expected a time such as", ""),
        ("\"1 ms\"", "1", "of type integer: expected a time", ""),
        ("rate = \"20 Mbit/s\"", "rate = \"20 Mbps\"", "expected a rate such as", ""),
        ("kind = \"udp\"", "kind = \"upd\"", "there is no kind 'upd'", "did you mean 'udp'?"),
        ("to = \"server\"", "to = \"sever\"", "there is no node 'sever'", "did you mean 'server'?"),
        ("to = \"server\"", "to = \"gateway\"", "'gateway' is no host", ""),
        ("10.0.{n}.1/24", "10.0.{n}.1", "write 10.0.0.1/24", ""),
        ("10.0.{n}.1/24", "10.0.0.1/24", "10.0.0.1/24 is taken", ""),
        (
            "10.1.0.254/24 fd01::fe/64\", \"server",
            "10.1.0.254/24 fd01::fe/64\", \"srvr",
            "no node 'srvr'",
            "did you mean",
        ),
        ("duration = \"3 s\"", "# nothing", "'duration' is missing: expected a time", ""),
        ("capture = true", "capture = 1", "of type integer: expected true or false", ""),
        ("queue = \"60 kB\"", "red = { min = \"9 kB\", max = \"3 kB\" }", "'min' of red is not below 'max'", ""),
        ("queue = \"60 kB\"", "mtu = 60", "'mtu' is 60: expected 68 to 65535", ""),
        ("\"server\"]", "\"server\", \"server\"]", "'server' is the name of two nodes", ""),
        ("client{1..2}", "client{1..}", "is no range of names", "c{1..50}"),
        ("rate = \"4 Mbit/s\"", "# no rate", "'rate' is missing: expected a rate", ""),
        ("queue = \"60 kB\"", "loss_burst_packets = 3", "no bursts without loss", "loss = \"1 %\""),
        ("rate = \"5 Mbit/s\", ", "loss_burst_packets = 3, ", "no bursts without loss", "loss = \"1 %\""),
        (
            "queue = \"60 kB\"",
            "loss = \"1 %\"\ngilbert_elliott = { enter = \"1 %\", leave = \"9 %\" }",
            "says already who is lost",
            "leave out either",
        ),
        ("queue = \"60 kB\"", "ecn = true", "nothing is marked by ecn without red", "add red = "),
        ("delay = \"10 ms\"", "reorder = \"5 %\"", "nothing is reordered without a delay", "delay = \"5 ms\""),
        (
            "delay = \"1 ms\"",
            "delay = \"1 ms\"\njitter = \"2 ms\"",
            "the jitter is longer than the delay",
            "at least as long",
        ),
        ("delay = \"30 ms\"", "jitter = \"20 ms\"", "the jitter is longer than the delay", "at least as long"),
        (
            "kind = \"udp\"\nfrom = \"client{n}\"\nto = \"server\"\nrate = \"4 Mbit/s\"",
            "kind = \"tcp\"\nfrom = \"client{n}\"\nto = \"server\"\nsend_buffer = \"0 B\"",
            "'send_buffer' is \"0 B\": expected at least 1 B",
            "",
        ),
        (
            "rate = \"4 Mbit/s\"",
            "rate = \"4 Mbit/s\"\nsize = \"8 B\"",
            "'size' is \"8 B\": expected 16 B to 65507 B",
            "",
        ),
        ("interval = \"100 ms\"", "interval = \"0 s\"", "'interval' is \"0 s\": expected at least 1 us", ""),
        ("pause = \"20 ms\"", "timeout = \"0 s\"", "'timeout' is \"0 s\": expected at least 1 us", ""),
        ("interval = ", "intervall = ", "there is no key 'intervall' here", "did you mean 'interval'?"),
    ];
    for (from, to, message, hint) in cases {
        let error = broken(from, to);
        assert!(error.message.contains(message), "{to}: {error}");
        assert!(error.hint.contains(hint), "{to}: {}", error.hint);
    }
}

#[test]
fn errors_name_the_line_and_show_it() {
    let error = broken("rate = \"20 Mbit/s\"", "rate = \"20 Mbps\"");
    assert_eq!((error.line, error.column), (line_of("rate = \"20"), 8));
    assert_eq!(error.excerpt, "rate = \"20 Mbps\"");
    let error = broken("interval = ", "intervall = ");
    assert_eq!((error.line, error.column), (line_of("interval = "), 1));
    let error = parse("duration = \"1 s\nhosts = []").err().unwrap();
    assert_eq!(error.line, 1);
}

#[test]
fn a_flow_needs_an_address_of_its_family() {
    let error = broken("to = \"server\"", "to = \"client1\"\nipv6 = true");
    assert!(error.message.contains("'client1' has no IPv6 address"), "{error}");
}

const INSTANT: &str = r#"
duration = "1 s"
hosts = ["a", "b"]

[[link]]
ends = ["a 10.0.0.1/24", "b 10.0.0.2/24"]

[[flow]]
name = "ask"
kind = "udp-requests"
from = "a"
to = "b"
"#;

#[test]
fn a_flow_that_never_waits_on_a_way_that_takes_no_time_is_refused() {
    for kind in ["udp-requests", "tcp-requests", "tcp"] {
        let text = INSTANT.replace("udp-requests", kind);
        let error = parse(&text).err().unwrap();
        assert!(error.message.contains("takes time, and this flow never waits"), "{error}");
        assert!(error.hint.contains("a delay or a rate"), "{}", error.hint);
        assert_eq!(error.excerpt, "[[flow]]");
        for (from, to) in [
            ("[[flow]]", "delay = \"1 us\"\n[[flow]]"),
            ("[[flow]]", "back = { rate = \"1 Gbit/s\" }\n[[flow]]"),
            ("to = \"b\"", if kind == "tcp" { "to = \"b\"\nbytes = \"1 MB\"" } else { "to = \"b\"\npause = \"1 ms\"" }),
        ] {
            assert!(parse(&text.replace(from, to)).is_ok(), "{kind}: {to}");
        }
    }
}

#[test]
fn a_ring_of_switches_is_refused() {
    let network = |links: &[[&str; 2]]| {
        let mut text = "duration = \"1 s\"\nhosts = [\"a\"]\nswitches = [\"s{1..3}\"]\n".to_owned();
        for [a, b] in links {
            text += &format!("[[link]]\nends = [\"{a}\", \"{b}\"]\ndelay = \"1 ms\"\n");
        }
        parse(&text)
    };
    let two_ways = [["a 10.0.0.1/24", "s1"], ["a 10.0.0.2/24", "s2"], ["s1", "s2"], ["s2", "s3"]];
    assert!(network(&two_ways).is_ok());
    for links in [&[["s1", "s2"], ["s2", "s3"], ["s3", "s1"]][..], &[["s1", "s2"], ["s2", "s1"]], &[["s1", "s1"]]] {
        let error = network(links).err().unwrap();
        assert!(error.message.contains("closes a ring of switches"), "{error}");
        assert_eq!(error.line, 1 + 3 * links.len(), "the last link does it");
        assert!(error.hint.contains("leave a link out"), "{}", error.hint);
    }
}

#[test]
fn what_no_frame_has_room_for_is_sent_in_fragments() {
    for (kind, addresses) in [("ping", ""), ("udp-requests", "pause = \"100 ms\""), ("udp", "rate = \"1 Mbit/s\"")]
        .into_iter()
        .flat_map(|(kind, keys)| [(kind, keys.to_owned()), (kind, format!("{keys}\nipv6 = true"))])
    {
        for size in ["1400 B", "1490 B", "8 kB", "65 kB"] {
            let text = format!(
                "duration = \"2 s\"\nhosts = [\"a\", \"b\"]\n[[link]]\nends = [\"a 10.0.0.1/24 fd00::1/64\", \"b \
                 10.0.0.2/24 fd00::2/64\"]\ndelay = \"5 ms\"\n[[flow]]\nname = \"large\"\nkind = \"{kind}\"\nfrom = \
                 \"a\"\nto = \"b\"\nsize = \"{size}\"\nstop = \"1 s\"\n{addresses}\n"
            );
            let scenario = parse(&text).unwrap();
            let mut simulation = scenario.build(1).unwrap().simulation;
            // And what left last has its time to arrive.
            simulation.run_until(scenario.end() + Duration::from_millis(500)).unwrap();
            let flow = &simulation.flows()["large"];
            assert!(flow.sent_packets > 0, "{kind} of {size}");
            let (received, failed) = (flow.received_packets, flow.failed);
            assert_eq!((received, failed), (flow.sent_packets, 0), "{kind} of {size}, {addresses}");
        }
    }
}

/// `hosts` pairs, with `each` flows of a kind between the two of each.
fn many(hosts: u64, each: u64, kind: &str) -> String {
    let mut text = format!(
        "duration = \"10 ms\"\nhosts = [\"a{{1..{hosts}}}\", \"b{{1..{hosts}}}\"]\n[[link]]\nrepeat = {hosts}\nends = [\"a{{n}} \
         10.0.{{n}}.1/24\", \"b{{n}} 10.0.{{n}}.2/24\"]\ndelay = \"1 ms\"\n"
    );
    for host in 1..=hosts {
        text += &format!(
            "[[flow]]\nrepeat = {each}\nname = \"{host} {{n}}\"\nfrom = \"a{host}\"\nto = \"b{host}\"\nstart = \"1 s\"\n{kind}\n"
        );
    }
    text
}

#[test]
fn there_may_be_more_flows_than_ports_but_not_to_one_host() {
    let scenario = parse(&many(70, 1_000, "kind = \"udp\"\nrate = \"1 Mbit/s\"")).unwrap();
    let mut simulation = scenario.build(1).unwrap().simulation;
    simulation.run_until(scenario.end()).unwrap();
    assert_eq!(simulation.flows().len(), 70_000);
    let error = parse(&many(1, 70_000, "kind = \"tcp\"")).err().unwrap();
    assert!(error.message.contains("more flows lead to 'b1' than there are ports"), "{error}");
    assert!(parse(&many(1, 64, "kind = \"ping\"")).is_ok());
    let error = parse(&many(1, 65, "kind = \"ping\"")).err().unwrap();
    assert!(error.message.contains("more than 64 flows of pings leave 'a1'"), "{error}");
}

#[test]
fn every_one_of_many_connections_to_a_host_finds_its_listener() {
    let text = many(1, 1_500, "kind = \"tcp\"\nbytes = \"1 B\"").replace("\"10 ms\"", "\"5 s\"");
    let scenario = parse(&text).unwrap();
    let mut simulation = scenario.build(1).unwrap().simulation;
    simulation.run_until(scenario.end()).unwrap();
    assert!(simulation.flows().values().all(|flow| flow.received_bytes == 1));
}

#[test]
fn more_nodes_links_or_flows_than_a_file_may_have_are_refused_where_they_begin() {
    for (text, what, line) in [
        ("hosts = [\"a{1..60000}\", \"b{1..60000}\"]", "nodes", 2),
        (
            "hosts = []\n[[link]]\nrepeat = 60000\nends = [\"a\", \"b\"]\n[[link]]\nrepeat = 60000\nends = [\"a\", \"b\"]",
            "links",
            6,
        ),
    ] {
        let error = parse(&format!("duration = \"1 s\"\n{text}\n")).err().unwrap();
        assert!(error.message.contains(&format!("more than 100000 {what}")), "{error}");
        assert_eq!(error.line, line, "{error}");
    }
}
