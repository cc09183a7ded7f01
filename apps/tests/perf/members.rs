//! Whatever iperf3's document of a test says, ours says, too, in the same place and as a value of the same kind.

use std::collections::BTreeSet;

use serde_json::Value;
use tailwater_lab::Lab;

use crate::common::{DEADLINE, eventually};
use crate::ends::*;

/// What the kernel has made of its sockets' buffers: there are no such sockets.
const BUFFERS: [&str; 2] = ["/start/sndbuf_actual number", "/start/rcvbuf_actual number"];

/// Of a sender at the other end a client knows only what that tells it: iperf3 has zeros here.
const OF_THE_SENDER: [&str; 5] = [
    "/end/streams/*/sender/max_snd_cwnd number",
    "/end/streams/*/sender/max_snd_wnd number",
    "/end/streams/*/sender/max_rtt number",
    "/end/streams/*/sender/min_rtt number",
    "/end/streams/*/sender/mean_rtt number",
];

/// Paths of all values and their kinds, such as `/end/streams/*/sender/bytes number`.
fn members(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    let kind = match value {
        Value::Object(object) => {
            object.iter().for_each(|(name, value)| members(value, &format!("{path}/{name}"), found));
            return;
        }
        Value::Array(array) => {
            array.iter().for_each(|value| members(value, &format!("{path}/*"), found));
            return;
        }
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Bool(_) => "true or false",
        Value::Null => "null",
    };
    found.insert(format!("{path} {kind}"));
}

/// iperf3 at both ends, over the kernels' TCP and UDP: the documents of client and server.
fn stock(lab: &Lab, words: &str) -> [Value; 2] {
    let server = lab.dut().program("iperf3").args(["-s", "-J", "-1", "-p", "5301"]).spawn().unwrap();
    eventually("iperf3 listens", || {
        lab.dut().program("ss").args(["-Hltn", "sport = :5301"]).run(DEADLINE).unwrap().contains("5301")
    });
    let client = iperf3(lab, &format!("-c 10.1.0.1 -p 5301 {words}"));
    let said = server.wait(DEADLINE).unwrap().stdout;
    [client, serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))]
}

/// What `theirs` has and ours lacks, without what is left out on purpose.
fn missing(theirs: &Value, ours: &Value, words: &str) -> Vec<String> {
    let [mut all, mut has] = [BTreeSet::new(), BTreeSet::new()];
    members(theirs, "", &mut all);
    members(ours, "", &mut has);
    assert!(all.len() > 50, "{words}: {theirs:#}");
    let elsewhere: &[&str] = if words == "client -R" { &OF_THE_SENDER } else { &[] };
    all.retain(|path| !has.contains(path) && !BUFFERS.iter().chain(elsewhere).any(|known| known == path));
    all.into_iter().map(|path| format!("{words}: {path}")).collect()
}

#[test]
fn documents_have_every_member_that_those_of_iperf3_have() {
    let lab = Lab::pair(1, 1500).unwrap();
    let cases = ["", "-R", "--bidir", "-P 2", "-u -b 10M", "-u -b 10M -R", "-u -b 10M --bidir"];
    let cases = cases.map(|words| (words, stock(&lab, &format!("-t 1 -i 0.5 {words}"))));
    let theirs = iperf3_server(&lab);
    let mut lacking = Vec::new();
    for (words, [client, _]) in &cases {
        let ours = perf(&lab, &format!("-c 10.1.0.2 -t 1 --interval 0.5 {words}"));
        lacking.extend(missing(client, &ours, &format!("client {words}")));
    }
    drop(theirs);
    let server = Server::start(&lab, "");
    for (n, (words, [_, theirs])) in cases.iter().enumerate() {
        iperf3(&lab, &format!("-c 10.1.0.1 -t 1 -i 0.5 {words}"));
        let ours = server.tests(n + 1).pop().unwrap();
        lacking.extend(missing(theirs, &ours, &format!("server {words}")));
    }
    assert!(lacking.is_empty(), "{lacking:#?}");
    server.stop();
}
