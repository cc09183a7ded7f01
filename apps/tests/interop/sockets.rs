//! Sockets of ours for threads, opened to the kernel's.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};

use tailwater_dataplane::runtime::{InterfaceConfig, RuntimeConfig};
use tailwater_dataplane::service::Host;
use tailwater_dataplane::socket::{SocketConfig, Sockets};
use tailwater_lab::Lab;

use crate::peer::*;

/// A kernel server on c0 that sends one connection back what it gets.
fn kernel_echo(lab: &Lab, at: SocketAddr) {
    let listener = lab.client().enter(|| TcpListener::bind(at).unwrap()).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut room = [0; 65_536];
        // An error is the end, too; then the other end misses something and says so.
        while let Ok(n @ 1..) = stream.read(&mut room) {
            if stream.write_all(&room[..n]).is_err() {
                return;
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
    });
}

#[test]
fn streams_opened_to_the_kernel_come_back_whole_in_jumbo_segments() {
    let lab = Lab::pair(1, 9000).unwrap();
    let (sockets, service) = Sockets::new(SocketConfig::default());
    let config = RuntimeConfig {
        interfaces: vec![InterfaceConfig::named("d0")],
        cores: vec![0],
        frames_kept: 2_048,
        ..RuntimeConfig::default()
    };
    let (runtime, presence) = lab.dut().enter(|| Host::new(service).local_ports(64).start(&config)).unwrap().unwrap();
    let mut sent = vec![0; 8 << 20];
    pattern(0, &mut sent);
    for at in ["10.1.0.2:7000", "[fd00:1::2]:7000"] {
        let at = at.parse().unwrap();
        kernel_echo(&lab, at);
        let mut stream = sockets.connect(at).unwrap();
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        let mut got = Vec::new();
        std::thread::scope(|scope| {
            let mut writer = stream.try_clone().unwrap();
            let sent = &sent;
            scope.spawn(move || {
                writer.write_all(sent).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            stream.read_to_end(&mut got).unwrap();
        });
        assert!(got == sent, "{at}: {} bytes came back, or changed", got.len());
    }
    drop(presence);
    let report = runtime.stop().unwrap();
    assert_eq!((report.frames_missing, report.frames_strayed), (Some(0), 0));
    // More than fits a segment of 1500 bytes came with each.
    let [received, bytes] = {
        let ports = report.workers.iter().flat_map(|worker| &worker.ports);
        ports
            .fold([0, 0], |[packets, bytes], port| [packets + port.counters.rx_packets, bytes + port.counters.rx_bytes])
    };
    assert!(bytes > 16 << 20 && bytes / received > 1_500, "{bytes} bytes in {received} packets");
}
