use std::time::Duration;

use tailwater_sim::workload::Pings;
use tailwater_sim::{ConnectError, LinkConfig, LinkId, NodeId, Simulation};

use crate::networks::{assert_conserved, ms, ping, stream};

const SECOND: Duration = Duration::from_secs(1);

/// `a 10.0.0.1 - r1 - 10.9.0.0/24 - r2 - 10.1.0.1 b`, each link with 10 ms.
fn line(last_mtu: usize) -> (Simulation, [NodeId; 2], [LinkId; 3]) {
    let mut simulation = Simulation::new(1);
    let (a, b) = (simulation.add_host("a"), simulation.add_host("b"));
    let (r1, r2) = (simulation.add_router("r1"), simulation.add_router("r2"));
    let link = LinkConfig { delay: ms(10), ..LinkConfig::default() };
    let first = simulation.connect((a, "10.0.0.1/24 fd00::1/64"), (r1, "10.0.0.254/24 fd00::fe/64"), link);
    let middle = simulation.connect((r1, "10.9.0.1/24 fd09::1/64"), (r2, "10.9.0.2/24 fd09::2/64"), link);
    let last = LinkConfig { mtu: last_mtu, ..link };
    let last = simulation.connect((r2, "10.1.0.254/24 fd01::fe/64"), (b, "10.1.0.1/24 fd01::1/64"), last);
    (simulation, [a, b], [first.unwrap(), middle.unwrap(), last.unwrap()])
}

#[test]
fn packets_find_their_way_over_routers_in_both_families() {
    for address in ["10.1.0.1", "fd01::1"] {
        let (mut simulation, [a, _], _) = line(1_500);
        let to: std::net::IpAddr = address.parse().unwrap();
        ping(&mut simulation, a, Pings { count: 3, ..Pings::to(to) });
        simulation.run_for(5 * SECOND).unwrap();
        let ping = &simulation.flows()["ping"];
        assert_eq!(ping.received_packets, 3, "{address}");
        assert!(ping.rtt.min() >= ms(59) && ping.rtt.min() <= ms(61), "{:?}", ping.rtt.min());
    }
}

#[test]
fn routers_answer_for_themselves_and_say_when_a_hop_limit_ends() {
    let (mut simulation, [a, _], _) = line(1_500);
    ping(&mut simulation, a, Pings { count: 2, ..Pings::to([10, 9, 0, 2]) });
    simulation.run_for(3 * SECOND).unwrap();
    assert_eq!(simulation.flows()["ping"].received_packets, 2);
    for (hop_limit, arrives) in [(1, false), (2, false), (3, true)] {
        let (mut simulation, [a, _], _) = line(1_500);
        ping(&mut simulation, a, Pings { count: 1, hop_limit: Some(hop_limit), ..Pings::to([10, 1, 0, 1]) });
        simulation.run_for(3 * SECOND).unwrap();
        let ping = &simulation.flows()["ping"];
        assert_eq!((ping.received_packets == 1, ping.failed == 1), (arrives, !arrives), "{hop_limit}");
    }
}

#[test]
fn an_address_that_nobody_has_is_reported() {
    let (mut simulation, [a, _], _) = line(1_500);
    ping(&mut simulation, a, Pings { count: 2, ..Pings::to([192, 0, 2, 1]) });
    simulation.run_for(3 * SECOND).unwrap();
    let ping = &simulation.flows()["ping"];
    assert_eq!((ping.received_packets, ping.failed), (0, 2));
}

// RFC 1191: the first datagrams are refused by the second router, which tells the path MTU; the sender then fragments.
#[test]
fn a_narrow_link_is_learnt_of_by_icmp() {
    for address in ["10.1.0.1:7000", "[fd01::1]:7000"] {
        let (mut simulation, [a, b], _) = line(1_300);
        let to: std::net::SocketAddr = address.parse().unwrap();
        let config = tailwater_sim::workload::UdpSourceConfig {
            to,
            rate_bps: 1_000_000,
            size: 1_400,
            start: Duration::ZERO,
            stop: Some(3 * SECOND),
        };
        let any = std::net::SocketAddr::new(if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 7_000);
        simulation.add_workload(b, tailwater_sim::workload::UdpSink::new("large", any));
        simulation.add_workload(a, tailwater_sim::workload::UdpSource::new("large", config));
        simulation.run_for(5 * SECOND).unwrap();
        let large = &simulation.flows()["large"];
        let missing = large.missing_packets();
        // 89 datagrams a second: those of one round trip are lost.
        assert!((1..=8).contains(&missing), "{missing} of {}", large.sent_packets);
    }
}

#[test]
fn a_switch_sends_to_whom_it_knows_only() {
    let mut simulation = Simulation::new(1);
    let switch = simulation.add_switch("s");
    let hosts: Vec<NodeId> = (0..4).map(|n| simulation.add_host(format!("h{n}"))).collect();
    let links: Vec<LinkId> = (1..)
        .zip(&hosts)
        .map(|(n, &host)| {
            simulation.connect((host, &*format!("10.0.0.{n}/24")), switch, LinkConfig::default()).unwrap()
        })
        .collect();
    stream(&mut simulation, hosts[0], hosts[1], "10.0.0.2:7000", 8_000_000, 2);
    simulation.run_for(3 * SECOND).unwrap();
    assert_eq!(simulation.flows()["to 10.0.0.2:7000"].received_packets, 2_000);
    for bystander in &links[2..] {
        // The question for the address, at most with a repetition.
        assert!(simulation.link_counters(*bystander)[1].delivered <= 2);
    }
    assert_conserved(&simulation);
}

#[test]
fn networks_that_make_no_sense_are_refused_with_advice() {
    let mut simulation = Simulation::new(1);
    let (a, b, s) = (simulation.add_host("a"), simulation.add_host("b"), simulation.add_switch("s"));
    let link = LinkConfig::default();
    let refused = [
        (simulation.connect((a, "10.0.0.1"), s, link), "write 10.0.0.1/24"),
        (simulation.connect(a, s, link), "write 'a 10.0.0.1/24'"),
        (simulation.connect((a, "10.0.0.1/24"), (s, "10.0.0.2/24"), link), "leave them out"),
        (simulation.connect((a, "224.0.0.1/24"), s, link), "give a unicast address"),
    ];
    for (result, advice) in refused {
        assert!(result.unwrap_err().to_string().contains(advice), "{advice}");
    }
    simulation.connect((a, "10.0.0.1/24"), s, link).unwrap();
    let taken = simulation.connect((b, "10.0.0.1/24"), s, link);
    assert!(matches!(taken, Err(ConnectError::Taken(_))));
}

#[test]
fn hosts_can_be_added_while_others_talk() {
    let (mut simulation, [a, _], _) = line(1_500);
    ping(&mut simulation, a, Pings { count: 5, ..Pings::to([10, 2, 0, 1]) });
    simulation.run_for(2 * SECOND + ms(500)).unwrap();
    let (c, r3) = (simulation.add_host("c"), simulation.add_router("r3"));
    let link = LinkConfig::default();
    simulation.connect((r3, "10.9.1.1/24"), (a, "10.9.1.2/24"), link).unwrap();
    simulation.connect((r3, "10.2.0.254/24"), (c, "10.2.0.1/24"), link).unwrap();
    simulation.with_host(a, |host| {
        let route = tailwater_stack::Route {
            prefix: tailwater_stack::Cidr::new([10, 2, 0, 0], 24).unwrap(),
            gateway: Some([10, 9, 1, 1].into()),
            interface: tailwater_stack::InterfaceId(1),
        };
        host.stack.add_route(route).unwrap();
    });
    simulation.run_for(5 * SECOND).unwrap();
    let ping = &simulation.flows()["ping"];
    assert_eq!((ping.sent_packets, ping.received_packets, ping.failed), (5, 2, 3));
}
