//! The files that come along run, and do what their comments say.

use std::path::PathBuf;
use std::time::Duration;

use tailwater_sim::scenario::Scenario;
use tailwater_stack::Instant;

fn example(name: &str) -> Scenario {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    Scenario::parse(&text).unwrap_or_else(|error| panic!("{}: {error}: {}", path.display(), error.excerpt))
}

#[test]
fn hundred_stacks_carry_what_they_are_offered() {
    let scenario = example("hundred-stacks.toml");
    let mut simulation = scenario.build(scenario.seed).unwrap().simulation;
    simulation.run_until(Instant::ZERO + Duration::from_millis(200)).unwrap();
    let flows = simulation.flows();
    assert_eq!(flows.len(), 100);
    for (name, flow) in flows {
        // 10 Mbit/s of 1448 bytes are 863 a second.
        assert!(flow.sent_packets >= 172 && flow.missing_packets() < 20, "{name}: {}", flow.missing_packets());
    }
}

#[test]
fn hundred_stacks_have_ten_megabits_of_tcp_a_second_each() {
    let text = r#"
duration = "1 s"
hosts = ["a{1..50}", "b{1..50}"]
[[link]]
repeat = 50
ends = ["a{n} 10.0.{n}.1/24", "b{n} 10.0.{n}.2/24"]
rate = "12 Mbit/s"
delay = "5 ms"
[[flow]]
repeat = 50
name = "a{n} to b{n}"
kind = "tcp"
from = "a{n}"
to = "b{n}"
bytes = "1250 kB"
[[flow]]
repeat = 50
name = "b{n} to a{n}"
kind = "tcp"
from = "b{n}"
to = "a{n}"
bytes = "1250 kB"
"#;
    let scenario = Scenario::parse(text).unwrap_or_else(|error| panic!("{error}: {}", error.excerpt));
    let mut simulation = scenario.build(scenario.seed).unwrap().simulation;
    simulation.run_until(scenario.end()).unwrap();
    let flows = simulation.flows();
    assert_eq!(flows.len(), 100);
    for (name, flow) in flows {
        assert_eq!((flow.received_bytes, flow.wrong_bytes, flow.ended_badly), (1_250_000, 0, 0), "{name}");
    }
}

#[test]
fn the_bottleneck_is_full_and_early_detection_works() {
    let scenario = example("bottleneck.toml");
    let mut simulation = scenario.build(scenario.seed).unwrap().simulation;
    simulation.run_until(scenario.end()).unwrap();
    let bottleneck = simulation.links().find(|&link| simulation.link_name(link) == "left-right").unwrap();
    let [there, back] = simulation.link_counters(bottleneck);
    assert!(there.early_dropped > 100 && there.lost > 0, "{there:?}");
    assert_eq!(back.early_dropped, 0);
    let flows = simulation.flows();
    assert!(flows["web"].received_packets > 80, "{}", flows["web"].received_packets);
    assert!(flows["ping"].rtt.max() > flows["ping"].rtt.min() + Duration::from_millis(10));
}
