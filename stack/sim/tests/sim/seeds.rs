use std::time::Duration;

use tailwater_sim::seeds::{self, Failure};

use crate::networks::busy;

/// Datagrams arrive at most once each, and once more for each time that a link has sent one twice.
fn nothing_is_made_up(simulation: &mut tailwater_sim::Simulation) -> Result<(), String> {
    simulation.run_for(Duration::from_secs(6)).unwrap();
    let made_up = simulation.flows().values().map(|flow| flow.duplicates).sum::<u64>();
    let counters = simulation.links().flat_map(|link| simulation.link_counters(link));
    let duplicated = counters.map(|counters| counters.duplicated).sum::<u64>();
    if made_up > duplicated {
        return Err(format!("{made_up} came again, {duplicated} were sent twice"));
    }
    for (name, flow) in simulation.flows() {
        if flow.received_packets > flow.sent_packets {
            return Err(format!("{name} received {} of {}", flow.received_packets, flow.sent_packets));
        }
    }
    // Not of each flow: an answer of ARP has no checksum, and one that was corrupted sends everything to nobody.
    let sums = |of: fn(&tailwater_sim::Flow) -> u64| simulation.flows().values().map(of).sum::<u64>();
    let (received, sent) = (sums(|flow| flow.received_packets), sums(|flow| flow.sent_packets));
    if received < sent / 4 { Err(format!("only {received} of {sent} were received")) } else { Ok(()) }
}

#[test]
fn datagrams_arrive_once_over_links_that_do_everything() {
    seeds::check("datagrams arrive once", 20, busy, nothing_is_made_up);
}

#[test]
fn the_first_seed_that_fails_is_named_and_its_captures_show_the_same_run() {
    let property = |simulation: &mut tailwater_sim::Simulation| {
        simulation.run_for(Duration::from_millis(300)).unwrap();
        let digest = simulation.digest();
        if simulation.seed() == 5 { Err(format!("{digest:x}")) } else { Ok(()) }
    };
    let failure = seeds::try_all(1..20, busy, property).unwrap_err();
    assert_eq!(failure.seed, 5);
    let folder = std::env::temp_dir().join(format!("tailwater-sim-seeds-{}", std::process::id()));
    let files = seeds::capture(&folder, busy(5), |simulation| {
        let again = property(simulation);
        assert_eq!(again, Err(failure.message.clone()));
        again
    });
    let files = files.unwrap();
    assert_eq!(files.len(), 8);
    assert!(files.iter().all(|file| std::fs::metadata(file).unwrap().len() > 200));
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(seeds::try_all(6..10, busy, property), Ok::<(), Failure>(()));
}

#[test]
fn a_panic_names_its_seed_and_leaves_captures_too() {
    let property = |simulation: &mut tailwater_sim::Simulation| {
        simulation.run_for(Duration::from_millis(300)).unwrap();
        assert_ne!(simulation.seed(), 5, "not with this one");
        Ok(())
    };
    let failure = seeds::try_all(1..20, busy, property).unwrap_err();
    assert_eq!(failure.seed, 5);
    assert!(failure.message.starts_with("panicked: ") && failure.message.contains("not with this one"), "{failure:?}");
    let folder = std::env::temp_dir().join(format!("tailwater-sim-panic-{}", std::process::id()));
    let files = seeds::capture(&folder, busy(5), property).unwrap();
    assert!(files.iter().all(|file| std::fs::metadata(file).unwrap().len() > 200));
    std::fs::remove_dir_all(&folder).unwrap();
}
