//! `trace`: single packets followed through a running forwarder and a running service.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use tailwater_lab::{Lab, LabConfig, Topology};

use crate::common::{RunFolder, outcome, summary};

fn quiet_lab() -> Lab {
    let config = LabConfig { queues: 2, ipv6: false, static_neighbours: true, ..LabConfig::default() };
    Lab::build(Topology::Router, &config).unwrap()
}

/// Traces while a program makes traffic, which goes on until the trace has what it wants.
fn trace(lab: &Lab, folder: &RunFolder, words: &str, traffic: &str) -> Vec<Value> {
    let mut traffic = traffic.split(' ');
    let program = lab.gen_side().program(traffic.next().unwrap()).args(traffic).spawn().unwrap();
    let (code, stdout, stderr) = outcome(folder.command(lab.dut(), &format!("trace -j --timeout 30 {words}")));
    program.stop();
    assert_eq!(code, Some(0), "{stderr}");
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `d0 received, route passed out, d1 sent`, and the bytes before and after the second step.
fn way(packet: &Value) -> String {
    let step = |step: &Value| {
        let did = match &step["did"] {
            Value::String(did) => did.clone(),
            did => {
                let (did, with) = did.as_object().unwrap().iter().next().unwrap();
                format!("{did} {}", with.as_object().unwrap().values().next().unwrap().as_str().unwrap())
            }
        };
        format!("{} {did}", step["at"].as_str().unwrap())
    };
    packet["steps"].as_array().unwrap().iter().map(step).collect::<Vec<_>>().join(", ")
}

fn byte(step: &Value, when: usize, at: usize) -> u8 {
    u8::from_str_radix(&step["bytes"][when].as_str().unwrap()[2 * at..2 * at + 2], 16).unwrap()
}

#[test]
fn forwarded_dropped_and_answered_packets_are_followed_through_a_router() {
    let lab = quiet_lab();
    let folder = RunFolder::new("trace");
    let forwarder = folder.start(lab.dut(), "l3fwd -i d0 -i d1 --place user --cores 0,1 --idle sleep -j");
    let passed = trace(&lab, &folder, "3 -f icmp[icmptype]==icmp-echo", "ping -i0.01 10.2.0.2");
    assert_eq!(passed.len(), 3);
    for packet in &passed {
        assert_eq!(way(packet), "d0 received, route passed out, d1 sent", "{packet:#}");
        let step = &packet["steps"][1];
        assert_eq!((byte(step, 0, 22), byte(step, 1, 22)), (64, 63), "time to live: {step:#}");
        assert_eq!((byte(step, 0, 4), byte(step, 1, 4)), (1, 2), "destination's MAC address: {step:#}");
        assert!(step["cycles"].as_u64().unwrap() > 0 && packet["complete"] == true, "{packet:#}");
    }
    let lost = trace(&lab, &folder, "1", "ping -i0.01 10.99.0.1");
    assert_eq!(
        way(&lost[0]),
        "d0 received, route made out, route dropped no_route, d0 sent",
        "and the error it caused"
    );
    let answered = trace(&lab, &folder, "1 -f icmp[icmptype]==icmp-echo", "ping -i0.01 -t1 10.2.0.2");
    let seen = way(&answered[0]);
    assert!(seen.contains("route made out") && seen.contains("route dropped ttl_exceeded"), "{seen}");
    assert!(seen.ends_with("d0 sent"), "the error goes back: {seen}");
    let (code, text, stderr) = outcome(folder.command(lab.dut(), "trace 1 --timeout 0.2 -f nonsense"));
    assert!(code == Some(2) && stderr.contains("malformed filter"), "{stderr} {text}");
    let (code, _, stderr) = outcome(folder.command(lab.dut(), "trace 1 --timeout 0.2 -f tcp"));
    assert!(code == Some(1) && stderr.contains("no packet came that was wanted"), "{stderr}");
    let (_, text, _) = {
        let program = lab.gen_side().program("ping").args(["-i0.01", "10.2.0.2"]).spawn().unwrap();
        let told = outcome(folder.command(lab.dut(), "trace 1 --timeout 30 -f icmp[icmptype]==icmp-echo"));
        program.stop();
        told
    };
    assert!(
        text.contains("10.1.0.2 > 10.2.0.2 ttl 63 icmp echo request   (changed: bytes 4-5, 10-11, 22, 24"),
        "{text}"
    );
    crate::common::assert_accounted(&summary(forwarder));
}

#[test]
fn a_service_answers_in_the_frame_that_it_got_and_one_trace_runs_at_a_time() {
    let lab = Lab::pair(1, 1500).unwrap();
    let folder = RunFolder::new("trace-echo");
    let echo = folder.start(lab.dut(), "echo --udp -i d0 --listen 10.1.0.1:7000 --idle sleep -j");
    let connection = UnixStream::connect(folder.socket(&echo)).unwrap();
    let mut answers = BufReader::new(&connection).lines();
    let mut ask = |request: &str| -> Value {
        (&connection).write_all(format!("{{\"version\":1,\"op\":{request}}}\n").as_bytes()).unwrap();
        serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap()
    };
    assert_eq!(ask(r#""trace","count":1,"filter":"tcp""#)["ok"], true);
    let (code, _, stderr) = outcome(folder.command(lab.dut(), "trace 1 --timeout 0.1"));
    assert!(code == Some(1) && stderr.contains("somebody else is tracing"), "{stderr}");
    assert_eq!(ask(r#""traced""#)["ok"]["done"], false);
    assert_eq!(ask(r#""traced","end":true"#)["ok"]["done"], true);
    assert_eq!(ask(r#""traced""#)["error"]["kind"], "failed");
    let sender = lab.client().program("bash");
    let sender = sender.args(["-c", "while sleep 0.01; do echo hello > /dev/udp/10.1.0.1/7000; done"]).spawn().unwrap();
    let (code, stdout, stderr) = outcome(folder.command(lab.dut(), "trace -j 1 -f udp --timeout 30"));
    sender.stop();
    assert_eq!(code, Some(0), "{stderr}");
    let packet: Value = serde_json::from_str(stdout.trim()).unwrap();
    assert_eq!(way(&packet), "d0 received, stack passed out, d0 sent", "{packet:#}");
    let step = &packet["steps"][1];
    assert_eq!((byte(step, 0, 29), byte(step, 1, 29)), (2, 1), "addresses change places: {step:#}");
    summary(echo);
}

#[test]
fn a_tracer_that_is_killed_leaves_the_process_as_it_was() {
    let lab = quiet_lab();
    let folder = RunFolder::new("trace-killed");
    let forwarder = folder.start(lab.dut(), "l3fwd -i d0 -i d1 --place user --cores 0,1 --idle sleep -j");
    let program = lab.gen_side().program("ping").args(["-i0.005", "10.2.0.2"]).spawn().unwrap();
    for _ in 0..3 {
        let tracer = folder.command(lab.dut(), "trace 1000 -f icmp").spawn().unwrap();
        sleep(Duration::from_millis(150));
        tracer.kill();
    }
    program.stop();
    crate::common::assert_accounted(&summary(forwarder));
}
