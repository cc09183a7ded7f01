//! `tailwater ctl pair` between two forwarders, with something on the wire between them that looks, repeats and forges.
//!
//! ```text
//!   gen                  near                        wire                      far                  sink
//!   g0 10.1.0.2 --- d0 [ l3fwd ] d1 10.3.0.1 --- w0 = bridge = w1 --- 10.3.0.2 e0 [ l3fwd ] e1 --- s0 10.2.0.2
//!                         encrypt                tcpdump, forger                  decrypt
//! ```
//!
//! The routers' own kernels have forwarding switched off, and packets fill the MTU of the outer links: 1500. The inner one
//! leaves room for what a pair adds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;
mod line;
mod load;
mod tap;

use std::sync::{Mutex, MutexGuard, PoisonError};

use common::assert_accounted;
use line::{Line, words};
use load::Load;
use tap::{Forger, Tap};

const ENCRYPTED: u16 = 0x88b5;
const COMPRESSED: u16 = 0x88b6;
const IP4: u16 = 0x0800;
/// Times that each pair comes and goes under load.
const ROUNDS: usize = 5;
/// Packets between two steps.
const PACKETS: u64 = 300;

/// Labs share two cores: one at a time is faster than all at once.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn pairs_come_and_go_under_load_without_a_packet_lost_changed_or_out_of_turn() {
    let _turn = alone();
    let line = Line::start(1540, "--cores 0", "--cores 0,1");
    let key = line.key_file(&[7; 32]);
    let load = Load::start(&line.lab);
    for (sort, ethertype) in [("encrypt", ENCRYPTED), ("compress", COMPRESSED)] {
        load.wait_for(PACKETS);
        Tap::of(&line.lab).expect(IP4, true);
        for round in 0..ROUNDS {
            let mut words = words(&["--strict", "port=d1"]);
            if sort == "encrypt" {
                words.push(format!("key_file={key}"));
            }
            let report = line.pair_json("insert", sort, &words);
            assert_eq!(report["steps"].as_array().unwrap().len(), 3, "{sort} {round}: {report:#}");
            load.wait_for(PACKETS);
            if round == 0 {
                Tap::of(&line.lab).expect(ethertype, false);
            }
            load.wait_for(PACKETS);
            line.pair_json("extract", sort, &[]);
            load.wait_for(PACKETS);
        }
        Tap::of(&line.lab).expect(IP4, true);
    }
    load.settle();
    for report in line.stop() {
        assert_accounted(&report);
        assert_eq!(report["dropped"].as_object().unwrap().len(), 0, "{report:#}");
    }
}

#[test]
fn frames_repeated_and_forged_on_the_wire_are_counted_under_their_names() {
    let _turn = alone();
    let line = Line::start(1600, "--cores 0", "--cores 0");
    let key = line.key_file(&[7; 32]);
    line.pair_json("insert", "encrypt", &words(&["port=d1", &format!("key_file={key}")]));
    let mut forger = Forger::on(&line.lab);
    let load = Load::start(&line.lab);
    let sealed = forger.take(ENCRYPTED);
    load.settle();
    let opened = line.far_counter("decrypt", "opened");
    let changed = |bytes: &[usize]| {
        let mut frame = sealed.clone();
        bytes.iter().for_each(|&at| frame[at] ^= 0x20);
        frame
    };
    // Source address 6, EtherType 12, version 15, key id 18, sender 20, counter 28, tag 36, what is sealed 52. A counter
    // that has been seen is a replay, whatever else has changed, so the tampered ones get another.
    let last = sealed.len() - 1;
    let tampered = [&[28][..], &[28, 6], &[28, 17], &[28, 36], &[28, 52], &[28, last], &[20]].map(changed);
    let forgeries = [
        (vec![sealed.clone(), sealed.clone(), changed(&[last])], "replayed", "decrypt_replayed"),
        (tampered.to_vec(), "tampered", "decrypt_tampered"),
        (vec![changed(&[18]); 2], "wrong_key", "decrypt_wrong_key"),
        (vec![changed(&[15])], "refused", "encapsulation_version"),
        (vec![sealed[..40].to_vec()], "refused", "encapsulation_truncated"),
    ];
    let (mut sent, mut refused) = (0, 0);
    for (frames, counter, _) in &forgeries {
        let before = line.far_counter("decrypt", counter);
        sent += frames.len();
        frames.iter().for_each(|frame| forger.send(frame));
        line.eventually_far("decrypt", counter, before + frames.len() as u64);
        refused += usize::from(*counter == "refused");
    }
    assert_eq!(line.far_counter("decrypt", "opened"), opened, "none of {sent} was let through");
    assert_eq!(line.far_counter("decrypt", "refused"), refused as u64);
    let [near, far] = line.stop();
    for report in [&near, &far] {
        assert_accounted(report);
    }
    let dropped = far["dropped"].as_object().unwrap();
    for (frames, _, reason) in &forgeries {
        assert_eq!(dropped.get(*reason).and_then(|n| n.as_u64()), Some(frames.len() as u64), "{reason}: {far:#}");
    }
    assert_eq!(dropped.len(), forgeries.len(), "and nothing else: {far:#}");
}

#[test]
fn what_one_end_refuses_is_taken_back_at_the_other() {
    let _turn = alone();
    let line = Line::start(1500, "--cores 0", "--cores 0");
    let (good, short) = (line.key_file(&[7; 32]), line.key_file(&[7; 31]));
    let before = [line.dump(line.near()), line.dump(line.far())];
    let unchanged = |what: &str| {
        assert_eq!([line.dump(line.near()), line.dump(line.far())], before, "{what}");
    };
    let refuse = |parameters: &[&str], said: &str| {
        let (code, _, stderr) = line.pair("insert", "encrypt", &words(parameters));
        assert!(code != Some(0) && stderr.contains(said), "{parameters:?}: {stderr}");
        unchanged(&format!("{parameters:?}"));
        stderr
    };
    refuse(&["port=d1", &format!("key_file={short}")], "31 bytes");
    let taken_back =
        refuse(&["port=d1", &format!("to:key_file={good}"), &format!("from:key_file={short}")], "31 bytes");
    assert!(taken_back.contains("taken back"), "{taken_back}");
    refuse(&["port=d9", &format!("key_file={good}")], "wants one of d0, d1");
    refuse(&[&format!("key_file={good}")], "port=NAME is one of d0, d1");
    refuse(&["port=d1", "kye_file=x", &format!("key_file={good}")], "key_file");
    let (code, _, stderr) = line.pair("extract", "encrypt", &[]);
    assert!(code == Some(1) && stderr.contains("no decrypt block"), "{stderr}");
    let dry = words(&["--dry-run", "port=d1", &format!("key_file={good}")]);
    assert_eq!(line.pair("insert", "encrypt", &dry).0, Some(0));
    unchanged("a dry run");
    let (code, _, stderr) = line.pair("insert", "encrypt", &words(&["port=d1", &format!("key_file={good}")]));
    assert!(code == Some(0) && stderr.contains("ip link set d1 mtu 1540"), "the link is too small: {stderr}");
    line.pair_json("extract", "encrypt", &[]);
    unchanged("in and out again");
    line.stop().iter().for_each(assert_accounted);
}

#[test]
fn a_process_that_forwards_in_the_kernel_takes_no_pair() {
    let _turn = alone();
    let line = Line::start_placed(1600, "--cores 0", "--cores 0", "xdp");
    let (code, _, stderr) = line.pair("insert", "compress", &words(&["port=d1"]));
    assert!(code == Some(1) && stderr.contains("--place user"), "{stderr}");
    line.stop().iter().for_each(assert_accounted);
}
