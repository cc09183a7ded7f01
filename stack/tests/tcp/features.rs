//! What TCP claims to implement, and that something shows it: the code cites the section, and a test that runs and asserts has a
//! name that ends in it.

use std::path::{Path, PathBuf};

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
    ["rfc6056_s3_3_3", "rfc1337_s3", "rfc6191_s2", "rfc1191_s6", "rfc4821_s7", "rfc3522_s3_2", "rfc3708_s3"];

struct Test {
    name: String,
    body: String,
}

impl Test {
    /// What the name ends in: one section or several.
    fn sections(&self) -> impl Iterator<Item = String> {
        let at = ["_rfc", "_bbr_draft", "_bbr3_draft"].iter().filter_map(|mark| self.name.find(mark)).min();
        let cited = at.map_or("", |at| &self.name[at + 1..]);
        let document = cited.split("_s").next().unwrap_or_default();
        let sections = cited.split("_and_s").map(move |part| part.strip_prefix(document).unwrap_or(part));
        sections.filter(|section| !section.is_empty()).map(move |section| {
            let number = section.trim_start_matches("_s");
            assert!(number.split('_').all(|n| n.parse::<u8>().is_ok()), "{} does not end in a section", self.name);
            format!("{document}_s{number}")
        })
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Rust files of a folder and those in it.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let (folders, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|path| path.is_dir());
    let rust = files.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    rust.chain(folders.iter().flat_map(|folder| files_in(folder))).collect()
}

/// The tests that run, of a folder that is a test of its own.
fn tests_in(folder: &Path) -> Vec<Test> {
    let main = std::fs::read_to_string(folder.join("main.rs")).unwrap();
    let is_module = |file: &PathBuf| main.contains(&format!("mod {};", file.file_stem().unwrap().display()));
    let mut tests = Vec::new();
    for file in files_in(folder).iter().filter(|file| is_module(file)) {
        let text = std::fs::read_to_string(file).unwrap();
        // One with another attribute, such as `ignore`, has no function in the next line.
        for item in text.split("#[test]\n").skip(1) {
            let Some(name) = item.trim_start().strip_prefix("fn ").and_then(|rest| rest.split('(').next()) else {
                continue;
            };
            let body = item.split("\n}").next().unwrap_or_default();
            tests.push(Test { name: name.to_owned(), body: body.to_owned() });
        }
    }
    tests
}

/// `3_8_4` is of `3_8`, and not of `3_80`.
fn is_of(section: &str, whole: &str) -> bool {
    section.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('_') || whole.ends_with("_s"))
}

/// Whether the code names the section: `RFC 9293 §3.8.4`.
fn is_cited(section: &str, code: &str) -> bool {
    let Some((number, section)) = section.strip_prefix("rfc").and_then(|cited| cited.split_once("_s")) else {
        return true;
    };
    let citation = format!("RFC {number} §{}", section.replace('_', "."));
    code.split(&citation)
        .skip(1)
        .any(|rest| section.is_empty() || !rest.starts_with(|next: char| next.is_ascii_digit()))
}

#[test]
fn every_feature_is_cited_and_shown() {
    let code: String = files_in(&folder("src")).iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let tests: Vec<_> =
        ["tests/tcp", "tests/congestion"].into_iter().flat_map(|name| tests_in(&folder(name))).collect();
    assert!(tests.len() > 150, "{} tests", tests.len());
    let features = FEATURES.iter().map(|(section, about)| (*section, *about));
    for (section, about) in features.chain(OTHERS.iter().map(|section| (*section, ""))) {
        assert!(is_cited(section, &code), "no code cites {section} {about}");
        let shows = |test: &&Test| test.body.contains("assert") && test.sections().any(|of| is_of(&of, section));
        assert!(tests.iter().any(|test| shows(&test)), "no test shows {section} {about}");
    }
}

#[test]
fn sections_are_told_apart() {
    let test = |name: &str| Test { name: name.to_owned(), body: String::new() }.sections().collect::<Vec<_>>();
    assert_eq!(test("a_segment_counts"), [""; 0]);
    assert_eq!(test("a_probe_rfc9293_s3_8_6_1"), ["rfc9293_s3_8_6_1"]);
    assert_eq!(test("a_mark_rfc3168_s6_1_4_and_s6_1_5"), ["rfc3168_s6_1_4", "rfc3168_s6_1_5"]);
    assert_eq!(test("a_round_bbr3_draft_s5_3_4"), ["bbr3_draft_s5_3_4"]);
    assert!(is_of("rfc9293_s3_8_4", "rfc9293_s3_8") && is_of("rfc2018_s4", "rfc2018_s"));
    assert!(!is_of("rfc9293_s3_80", "rfc9293_s3_8") && !is_of("rfc9293_s3", "rfc9293_s3_8"));
    assert!(is_cited("rfc9293_s3_8", "// RFC 9293 §3.8.4") && !is_cited("rfc9293_s3_8", "// RFC 9293 §3.80"));
}
