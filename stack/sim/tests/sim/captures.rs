use std::fs::File;
use std::time::Duration;

use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use pcap_file::pcapng::{Block, PcapNgReader};
use tailwater_sim::LinkConfig;

use crate::networks::{ms, pair, stream};

/// Times and bytes of all packets, and the direction flags.
fn read(path: &std::path::Path) -> Vec<(Duration, Vec<u8>)> {
    let mut reader = PcapNgReader::new(File::open(path).unwrap()).unwrap();
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        if let (Block::EnhancedPacket(packet), _) = block.unwrap() {
            packets.push((packet.timestamp, packet.data.into_owned()));
        }
    }
    packets
}

#[test]
fn each_end_sees_what_it_sends_at_once_and_what_it_receives_later() {
    let folder = std::env::temp_dir().join(format!("tailwater-sim-capture-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let files = ["a", "b"].map(|name| folder.join(name));
    let (mut simulation, [a, b], link) = pair(1, LinkConfig { delay: ms(30), ..LinkConfig::default() });
    for (node, file) in [a, b].into_iter().zip(&files) {
        simulation.capture(link, node, File::create(file).unwrap()).unwrap();
    }
    stream(&mut simulation, a, b, "10.0.0.2:7000", 80_000, 1);
    simulation.run_for(Duration::from_secs(2)).unwrap();
    simulation.finish_captures().unwrap();
    let [at_a, at_b] = files.map(|file| read(&file));
    std::fs::remove_dir_all(&folder).unwrap();
    // A question, its answer, ten datagrams.
    assert_eq!((at_a.len(), at_b.len()), (12, 12));
    let udp = |packets: &[(Duration, Vec<u8>)]| -> Vec<Duration> {
        let is_udp = |bytes: &[u8]| {
            let headers = PacketHeaders::from_ethernet_slice(bytes).unwrap();
            matches!(headers.net, Some(NetHeaders::Ipv4(..)))
                && matches!(headers.transport, Some(TransportHeader::Udp(_)))
        };
        packets.iter().filter(|(_, bytes)| is_udp(bytes)).map(|(time, _)| *time).collect()
    };
    let (sent, received) = (udp(&at_a), udp(&at_b));
    assert_eq!((sent.len(), received.len()), (10, 10));
    assert!(sent.iter().zip(&received).all(|(sent, received)| *received == *sent + ms(30)));
}

#[test]
fn links_between_the_same_nodes_have_captures_of_their_own() {
    let mut simulation = tailwater_sim::Simulation::new(1);
    let (a, b) = (simulation.add_host("a"), simulation.add_host("b"));
    for n in 1..=3 {
        let [left, right] = [1, 2].map(|host| format!("10.0.{n}.{host}/24"));
        simulation.connect((a, &*left), (b, &*right), LinkConfig::default()).unwrap();
    }
    let names: Vec<&str> = simulation.links().map(|link| simulation.link_name(link)).collect();
    assert_eq!(names, ["a-b", "a-b.2", "a-b.3"]);
    let folder = std::env::temp_dir().join(format!("tailwater-sim-parallel-{}", std::process::id()));
    let files = tailwater_sim::seeds::capture_all(&folder, &mut simulation).unwrap();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), files.len());
    std::fs::remove_dir_all(&folder).unwrap();
}
