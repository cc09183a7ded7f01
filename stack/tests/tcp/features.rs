//! What TCP claims to implement, and that something shows it: a test whose name ends in the section.

use std::collections::BTreeMap;
use std::path::Path;

/// Where a feature is asked for, as the names of tests have it.
const FEATURES: [(&str, &str); 33] = [
    ("rfc9293_s3_5", "handshake, also of two SYNs that cross"),
    ("rfc9293_s3_6", "half-close, and the states of closing"),
    ("rfc9293_s3_10_7_4", "segments that arrive"),
    ("rfc6093_s6", "urgent text"),
    ("rfc7323_s2", "window scaling"),
    ("rfc7323_s4_3", "timestamps"),
    ("rfc7323_s5_3", "PAWS"),
    ("rfc2018_s", "SACK"),
    ("rfc2883_s4", "D-SACK"),
    ("rfc8985_s6_2", "RACK"),
    ("rfc8985_s7", "tail loss probes"),
    ("rfc9937_s6_2", "PRR"),
    ("rfc6298_s5", "retransmission timer"),
    ("rfc5682_s2_1", "F-RTO"),
    ("rfc9438_s4", "CUBIC"),
    ("rfc9406_s4_2", "HyStart++"),
    ("rfc5681_s3_1", "Reno"),
    ("bbr_draft_s4_3", "BBR"),
    ("bbr3_draft_s5_3", "BBR version 3"),
    ("rfc3168_s6_1", "ECN"),
    ("rfc6928_s2", "initial window"),
    ("rfc9002_s7_7", "pacing"),
    ("rfc9293_s3_7_4", "Nagle"),
    ("rfc9293_s3_8_6_3", "delayed acknowledgements"),
    ("rfc9293_s3_8_4", "keep-alive"),
    ("rfc9293_s3_8_6_1", "zero-window probes"),
    ("rfc5482_s3_1", "user timeout"),
    ("rfc5961_s", "resets, SYNs and data of attackers"),
    ("rfc5927_s", "ICMP of attackers"),
    ("rfc6528_s3", "initial sequence numbers"),
    ("rfc4987_s3_6", "SYN cookies"),
    ("rfc6691_s2", "MSS"),
    ("rfc8899_s5", "path MTU by probing"),
];
/// Those of which one section is all there is to show.
const OTHERS: [&str; 7] =
    ["rfc6056_s3_3_3", "rfc1337_s3", "rfc6191_s2", "rfc1191_s6_4", "rfc4821_s7", "rfc3522_s3_2", "rfc3708_s3"];

/// Names of the tests in the files of a folder.
fn tests_in(folder: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut tests = BTreeMap::new();
    for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        let (attributes, functions) = (text.lines(), text.lines().skip(1));
        for (_, function) in attributes.zip(functions).filter(|(attribute, _)| attribute.trim() == "#[test]") {
            let name = function.trim().trim_start_matches("fn ").split('(').next().unwrap();
            tests.insert(name.to_owned(), file.display().to_string());
        }
    }
    tests
}

#[test]
fn every_feature_has_a_test_that_names_its_section() {
    let tests: Vec<_> = ["tcp", "congestion"].into_iter().flat_map(tests_in).collect();
    assert!(tests.len() > 150, "{} tests", tests.len());
    let features = FEATURES.iter().map(|(section, about)| (*section, *about));
    for (section, about) in features.chain(OTHERS.iter().map(|section| (*section, ""))) {
        assert!(tests.iter().any(|(name, _)| name.contains(section)), "{section} {about}");
    }
}
