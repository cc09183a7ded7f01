//! The capture block: what it writes, others can read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod rig;

use std::path::{Path, PathBuf};
use std::process::Command;

use rig::{Rig, ethernet, text, udp4};
use tailwater_dataplane::block::{Registry, Value};
use tailwater_dataplane::frame::{Batch, Region, RegionConfig};
use tailwater_dataplane::ledger::Ledger;
use tailwater_dataplane::port::Port;
use tailwater_dataplane::port::pcap::{PcapPort, ReplayConfig, Speed};

/// A folder which goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tailwater-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Fields of every packet, as tshark reads them.
fn tshark(file: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command.args(["-r", file, "-T", "fields", "-E", "separator=|"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().expect("tshark is installed by ci/setup");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
}

/// Every packet of a file, through the replaying port.
fn replayed(path: &str) -> Vec<Vec<u8>> {
    let region = Region::in_process(RegionConfig { chunks: 512, huge_pages: false, ..Default::default() }).unwrap();
    let mut pool = tailwater_dataplane::frame::Pool::new(region.clone());
    let config = ReplayConfig { path: path.into(), speed: Speed::Full, loops: 1 };
    let mut port = PcapPort::open(&region, "replay", Some(&config), None).unwrap();
    let (mut batch, mut ledger) = (Batch::default(), Ledger::default());
    let mut all = Vec::new();
    while !port.finished() {
        port.receive(&mut pool, &mut ledger, &mut batch, 32);
        batch.drain().for_each(|frame| {
            all.push(rig::content(&frame));
            pool.release(frame);
        });
    }
    all
}

#[test]
fn tshark_reads_packets_interfaces_direction_and_nanoseconds() {
    let folder = Folder::new("capture-tshark");
    let file = folder.file("a.pcapng");
    let packets = [udp4(53, &[1; 20]), ethernet(0x0806, &[0; 46]), udp4(9, &[7; 8000])];
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    {
        let mut rig =
            Rig::new("capture", &[("file", text(&file)), ("interfaces", text("d0, d1")), ("direction", text("in"))]);
        rig.now_ns = tailwater_dataplane::clock::now_ns();
        let mut batch = Batch::default();
        for (n, packet) in packets.iter().enumerate() {
            let mut frame = rig.frame(packet);
            frame.set_port([1, 0, 7][n]);
            batch.push(frame);
        }
        assert_eq!(rig.turn(batch)[0], packets, "passed on unchanged");
        assert_eq!(rig.counter("captured"), 3);
    }
    let fields =
        ["frame.len", "frame.interface_name", "frame.packet_flags_direction", "frame.time_epoch", "udp.dstport"];
    let read = tshark(&file, &fields);
    let column = |at: usize| read.iter().map(|line| line[at].clone()).collect::<Vec<_>>();
    assert_eq!(column(0), packets.iter().map(|packet| packet.len().to_string()).collect::<Vec<_>>());
    assert_eq!(column(1), ["d1", "d0", "port7"]);
    assert!(column(2).iter().all(|direction| direction.ends_with('1')), "inbound: {:?}", column(2));
    assert_eq!(column(4), ["53", "", "9"]);
    for time in column(3) {
        let seconds: f64 = time.parse().unwrap();
        assert!(seconds >= before - 1.0 && seconds < before + 600.0, "{time} is not now ({before})");
        assert_eq!(time.split_once('.').map(|(_, fraction)| fraction.len()), Some(9), "{time}");
    }
    assert_eq!(replayed(&file), packets);
}

#[test]
fn snap_length_cuts_what_is_kept_and_tells_the_whole_length() {
    let folder = Folder::new("capture-snap");
    let file = folder.file("a.pcapng");
    Rig::new("capture", &[("file", text(&file)), ("snap_bytes", Value::Integer(60))]).send(&[udp4(9, &[0; 5000])]);
    assert_eq!(tshark(&file, &["frame.len", "frame.cap_len"]), [["5042", "60"]]);
}

#[test]
fn only_what_matches_is_captured_and_no_more_than_asked_for() {
    let folder = Folder::new("capture-filter");
    let file = folder.file("a.pcapng");
    let parameters = [("file", text(&file)), ("expression", text("udp port 53")), ("count_max", Value::Integer(5))];
    {
        let mut rig = Rig::new("capture", &parameters);
        for _ in 0..4 {
            assert_eq!(rig.send(&[udp4(53, &[]), udp4(80, &[]), udp4(53, &[])])[0].len(), 3);
        }
        assert_eq!((rig.counter("captured"), rig.counter("filtered")), (5, 4));
    }
    assert_eq!(replayed(&file), vec![udp4(53, &[]); 5]);
}

#[test]
fn packets_that_find_the_queue_full_are_counted_and_passed_on() {
    let folder = Folder::new("capture-missed");
    let file = folder.file("a.pcapng");
    let mut rig = Rig::new("capture", &[("file", text(&file)), ("queue_packets", Value::Integer(1))]);
    let packets: Vec<Vec<u8>> = (0..200).map(|n| udp4(n, &[0; 1000])).collect();
    for _ in 0..50 {
        assert_eq!(rig.send(&packets)[0].len(), 200);
    }
    assert_eq!(rig.counter("captured") + rig.counter("missed"), 10_000);
    let captured = rig.counter("captured") as usize;
    drop(rig);
    assert_eq!(replayed(&file).len(), captured, "what was captured is in the file");
}

#[test]
fn files_go_on_at_their_size_and_the_oldest_is_removed() {
    let folder = Folder::new("capture-ring");
    let parameters = [
        ("file", text(&folder.file("a.pcapng"))),
        ("file_size_mb", Value::Integer(1)),
        ("files", Value::Integer(2)),
        ("queue_packets", Value::Integer(20_000)),
    ];
    {
        let mut rig = Rig::new("capture", &parameters);
        let packets: Vec<Vec<u8>> = (0..250).map(|n| udp4(n, &[0; 1400])).collect();
        (0..12).for_each(|_| drop(rig.send(&packets)));
        assert_eq!(rig.counter("captured"), 3000);
    }
    // 3000 packets of 1476 bytes, 1442 and a block's frame, make 4.2 MiB: five files.
    let mut names: Vec<_> =
        std::fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["a_00004.pcapng", "a_00005.pcapng"]);
    let packets: usize = names.iter().map(|name| replayed(&folder.file(name)).len()).sum();
    assert!(packets > 700 && packets < 1500, "{packets}");
}

#[test]
fn two_blocks_of_one_file_share_it() {
    let folder = Folder::new("capture-shared");
    let parameters = [("file", text(&folder.file("a.pcapng")))];
    {
        let (mut first, mut second) = (Rig::new("capture", &parameters), Rig::new("capture", &parameters));
        first.send(&[udp4(1, &[])]);
        second.send(&[udp4(2, &[])]);
    }
    assert_eq!(replayed(&folder.file("a.pcapng")).len(), 2);
}

#[test]
fn unwritable_files_and_wrong_parameters_are_refused_with_advice() {
    let refuse = |parameters: &[(&str, Value)]| {
        rig::build("capture", parameters, &Registry::builtin()).err().expect("refused").to_string()
    };
    let error = refuse(&[("file", text("/nowhere/at/all.pcapng"))]);
    assert!(error.contains("/nowhere/at/all.pcapng") && error.contains("make its folder"), "{error}");
    let error = refuse(&[("file", text("/tmp"))]);
    assert!(error.contains("name a file in it"), "{error}");
    let error = refuse(&[("file", text("/tmp/x.pcapng")), ("expression", text("udp prot"))]);
    assert!(error.contains("man pcap-filter"), "{error}");
    let error = refuse(&[("file", text("/tmp/x.pcapng")), ("files", Value::Integer(3))]);
    assert!(error.contains("file_size_mb"), "{error}");
    assert!(!Path::new("/tmp/x.pcapng").exists());
}
