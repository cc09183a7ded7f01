//! `ctl graph`: what flows along each edge of a running graph.

use serde_json::Value;
use tailwater_lab::Lab;

use crate::common::{DEADLINE, RunFolder, outcome, summary};

#[test]
fn graph_shows_what_flows_along_each_edge_as_data_and_as_a_drawing() {
    let lab = Lab::router(1, 1500).unwrap();
    let folder = RunFolder::new("graph");
    let forwarder = folder.start(lab.dut(), "l3fwd -i d0 -i d1 --place user --idle sleep -j");
    let ctl = |words: &str| {
        let (code, stdout, stderr) = outcome(folder.command(lab.dut(), &format!("ctl {words}")));
        assert_eq!(code, Some(0), "{words}: {stderr}");
        stdout
    };
    ctl("insert copies tee rx:d0");
    let mut pinger = lab.gen_side().program("ping").args(["-i0.002", "10.2.0.2"]).spawn().unwrap();
    pinger.wait_for("gets replies", |line| line.contains("time="), DEADLINE).unwrap();
    let flow: Value = serde_json::from_str(&ctl("graph --interval 0.5 -j")).unwrap();
    let pps = |from: &str, output: &str, to: &str| {
        let edges = flow["edges"].as_array().unwrap().iter();
        let mut edges = edges.filter(|edge| edge["from"] == from && edge["output"] == output && edge["to"] == to);
        edges.next().unwrap_or_else(|| panic!("no edge from {from} to {to} in {flow:#}"))["pps"].as_f64().unwrap()
    };
    let requests = pps("rx:d0", "", "copies");
    assert!(requests > 0.0);
    assert_eq!(pps("copies", "out", "route"), requests);
    assert_eq!(pps("copies", "copy", "nowhere"), requests, "an unbound output is not hidden");
    assert!(pps("route", "out", "tx:*") >= requests && pps("tx:*", "", "tx:d1") > 0.0, "{flow:#}");
    let drawing = ctl("graph --interval 0.2 --dot");
    assert!(drawing.starts_with("digraph tailwater {\n") && drawing.ends_with("}\n"), "{drawing}");
    assert!(drawing.contains("\"copies\" -> \"route\" [label=\"out\\n"), "{drawing}");
    assert!(ctl("graph --interval 0.2").contains("copies.out -> route"));
    pinger.stop();
    summary(forwarder);
}
