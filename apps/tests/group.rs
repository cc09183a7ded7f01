//! `tailwater group`: what it changes, what it says, and what it never touches.
//!
//! Members are m0, m1 ... in group 7 of the namespace `dut`: bridges, which need no second end.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{DEADLINE, command, outcome, tailwater};
use serde_json::Value;
use tailwater_lab::{Lab, Namespace};

/// A network whose device under test has `count` members in group 7.
fn lab(count: u32) -> Lab {
    let lab = Lab::pair(1, 1500).unwrap();
    let lines: String = (0..count).map(|at| format!("link add m{at} group 7 type bridge\n")).collect();
    lab.dut().ip_batch(&lines).unwrap();
    lab
}

/// Runs it, which must succeed.
fn group(namespace: &Namespace, words: &str) -> String {
    command(namespace, &format!("group {words}")).run(DEADLINE).unwrap()
}

/// Runs it, which must fail with this code and say all of `wanted`.
fn refused(namespace: &Namespace, words: &str, code: i32, wanted: &[&str]) -> String {
    let (status, stdout, stderr) = outcome(command(namespace, &format!("group {words}")));
    assert_eq!(status, Some(code), "{words}: {stdout}{stderr}");
    wanted.iter().for_each(|wanted| assert!(stderr.contains(wanted), "{words}: {wanted:?} is missing from\n{stderr}"));
    stdout
}

/// What `ip` says of every interface, counters apart.
fn links(namespace: &Namespace) -> Value {
    serde_json::from_str(&namespace.ip("-j address show").unwrap()).unwrap()
}

fn member<'a>(links: &'a Value, name: &str) -> &'a Value {
    links.as_array().unwrap().iter().find(|link| link["ifname"] == name).unwrap()
}

fn is_up(link: &Value) -> bool {
    link["flags"].as_array().unwrap().iter().any(|flag| flag == "UP")
}

fn addresses(link: &Value) -> Vec<String> {
    let all = link["addr_info"].as_array().unwrap().iter().filter(|address| address["scope"] == "global");
    all.map(|address| format!("{}/{}", address["local"].as_str().unwrap(), address["prefixlen"])).collect()
}

#[test]
fn every_change_reaches_all_members_and_nobody_else() {
    let lab = lab(20);
    let dut = lab.dut();
    dut.ip("link add other type bridge").unwrap();
    for way in ["", " --per-member"] {
        let other = member(&links(dut), "other").clone();
        assert!(group(dut, &format!("7 up{way}")).contains("group 7: up"));
        group(dut, &format!("7 mtu 1400{way}"));
        let after = links(dut);
        for at in 0..20 {
            let link = member(&after, &format!("m{at}"));
            assert!(is_up(link) && link["mtu"] == 1400, "{way}: {link}");
        }
        assert_eq!(member(&after, "other"), &other);
        group(dut, &format!("7 down{way}"));
        group(dut, &format!("7 mtu 1500{way}"));
        let after = links(dut);
        assert!((0..20).all(|at| !is_up(member(&after, &format!("m{at}")))), "{way}");
    }
}

#[test]
fn groups_of_other_namespaces_are_out_of_reach() {
    let lab = lab(2);
    lab.client().ip("link add m0 group 7 type bridge").unwrap();
    let before = links(lab.client());
    group(lab.dut(), "7 up");
    group(lab.dut(), "7 mtu 1400");
    assert_eq!(links(lab.client()), before);
}

#[test]
fn interfaces_come_and_go_by_name() {
    let lab = lab(2);
    let dut = lab.dut();
    dut.ip_batch("link add n0 type bridge\nlink add n1 type bridge\n").unwrap();
    assert!(group(dut, "7 attach n0 n1").contains("2 interfaces"));
    assert_eq!(member(&links(dut), "n0")["group"], "7");
    group(dut, "7 detach n0 m0");
    let after = links(dut);
    assert_eq!(["n0", "n1", "m0", "m1"].map(|name| member(&after, name)["group"] == "7"), [false, true, false, true]);
}

#[test]
fn a_mistyped_name_touches_nothing() {
    let lab = lab(4);
    let dut = lab.dut();
    dut.ip("link add uplink7 type bridge").unwrap();
    let before = links(dut);
    refused(dut, "7 attach d0 uplnik7", 1, &["no interface named 'uplnik7'", "did you mean uplink7"]);
    refused(dut, "7 detach m0 uplink7", 1, &["uplink7 is no member of group 7", "is in group 0"]);
    refused(dut, "uplnks down", 1, &["no interface group named 'uplnks'", "`tailwater group` lists groups"]);
    refused(dut, "defualt up", 1, &["no interface group named 'defualt'", "did you mean default"]);
    refused(dut, "8 up", 1, &["group 8 has no members", "nothing was changed"]);
    refused(dut, "8 up --per-member", 1, &["group 8 has no members"]);
    refused(dut, "8 show", 1, &["group 8 has no members"]);
    refused(dut, "8 address add 10.0.0.1/32", 1, &["group 8 has no members"]);
    refused(dut, "7 mtu 10", 2, &["68"]);
    refused(dut, "7 upp", 2, &["upp"]);
    refused(dut, "up", 2, &["which group?"]);
    refused(dut, "7 address add 10.0.0.1", 2, &["prefix length"]);
    assert_eq!(links(dut), before);
}

#[test]
fn the_default_group_is_changed_only_on_purpose() {
    let lab = lab(2);
    let dut = lab.dut();
    let before = links(dut);
    for words in ["0 down", "default down", "0 mtu 1400 --per-member", "0 address add 10.7.0.1/32"] {
        refused(dut, words, 2, &["group 0 is every interface", "--default-group"]);
    }
    refused(dut, "0 attach m0", 2, &["detach"]);
    refused(dut, "0 detach m0", 2, &["default group"]);
    assert_eq!(links(dut), before);
    group(dut, "default mtu 1400 --default-group");
    let after = links(dut);
    assert_eq!((&member(&after, "d0")["mtu"], &member(&after, "m0")["mtu"]), (&1400.into(), &1500.into()));
}

#[test]
fn who_refuses_is_named_with_the_reason_and_the_others_are_changed() {
    let lab = lab(3);
    let dut = lab.dut();
    // Of a tap's 65535 bytes the Ethernet header takes 14; a bridge has them all.
    dut.ip_batch("tuntap add t7 mode tap\nlink set t7 group 7\nlink add z group 7 type bridge\n").unwrap();
    for way in ["", " --per-member"] {
        let wanted = ["t7: Invalid argument (os error 22): mtu greater than device maximum", "1 of 5 refused"];
        refused(dut, &format!("7 mtu 65530{way}"), 1, &wanted);
        let after = links(dut);
        let mtus = ["m0", "m2", "z", "t7"].map(|name| member(&after, name)["mtu"].as_u64().unwrap());
        assert_eq!(mtus, [65530, 65530, 65530, 1500], "{way}");
        group(dut, "7 mtu 1500");
    }
    let stdout = refused(dut, "7 mtu 65530 -j", 1, &["1 of 5 refused"]);
    let outcome: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(outcome["done"].as_array().unwrap().len(), 4, "{outcome}");
    assert_eq!(outcome["refused"][0]["interface"], "t7", "{outcome}");
}

#[test]
fn a_dry_run_names_the_members_and_changes_none() {
    let lab = lab(3);
    let dut = lab.dut();
    dut.ip("link add n0 type bridge").unwrap();
    let before = links(dut);
    for words in ["7 up", "7 mtu 1400", "7 down --per-member", "7 detach m0 m1 m2", "7 address add 10.0.0.1/32"] {
        let said = group(dut, &format!("{words} --dry-run"));
        assert!(said.contains("would change 3 interfaces") && said.contains("m0") && said.contains("m2"), "{said}");
    }
    assert!(group(dut, "7 attach n0 --dry-run").contains("would change 1 interface"));
    assert_eq!(links(dut), before);
}

#[test]
fn addresses_go_onto_every_member_or_one_to_each() {
    let lab = lab(3);
    let dut = lab.dut();
    group(dut, "7 address add 10.9.0.1/32 fd00:9::1/128");
    let after = links(dut);
    (0..3).for_each(|at| assert_eq!(addresses(member(&after, &format!("m{at}"))), ["10.9.0.1/32", "fd00:9::1/128"]));
    let listed = group(dut, "7 address list");
    assert_eq!(listed.lines().count(), 3);
    assert!(listed.lines().all(|line| line.ends_with("10.9.0.1/32 fd00:9::1/128")), "{listed}");
    // Twice is refused by each member, and nothing is lost by it.
    refused(dut, "7 address add 10.9.0.1/32", 1, &["m0 10.9.0.1/32", "m2 10.9.0.1/32", "3 of 3 refused"]);
    group(dut, "7 address del 10.9.0.1/32 fd00:9::1/128");
    refused(
        dut,
        "7 address add --one-each 10.1.0.1/30 10.1.0.5/30",
        1,
        &["2 addresses", "3 members", "nothing was changed"],
    );
    let file = std::env::temp_dir().join(format!("tailwater-group-{}", std::process::id()));
    std::fs::write(&file, "10.1.0.1/30\n10.1.0.5/30\n10.1.0.9/30\n").unwrap();
    group(dut, &format!("7 address add --one-each --from {}", file.display()));
    std::fs::remove_file(&file).unwrap();
    let after = links(dut);
    let dealt = ["m0", "m1", "m2"].map(|name| addresses(member(&after, name)).concat());
    assert_eq!(dealt, ["10.1.0.1/30", "10.1.0.5/30", "10.1.0.9/30"]);
}

#[test]
fn names_come_from_the_file_of_iproute2() {
    let lab = lab(2);
    let file = std::env::temp_dir().join(format!("tailwater-groups-{}", std::process::id()));
    std::fs::write(&file, "0 default\n7 uplinks\n0x9 racks # none yet\n").unwrap();
    let named = |words: &str| {
        let script = format!(
            "mount --bind {} /etc/iproute2/group && exec {} group {words}",
            file.display(),
            tailwater().display()
        );
        outcome(lab.dut().program("unshare").args(["-m", "sh", "-c", &script]))
    };
    assert_eq!(named("uplinks up"), (Some(0), "group uplinks (7): up, all members\n".into(), String::new()));
    let (status, _, stderr) = named("uplikns down");
    assert!(status == Some(1) && stderr.contains("did you mean uplinks"), "{stderr}");
    let (status, _, stderr) = named("racks down");
    assert!(status == Some(1) && stderr.contains("group 9 has no members"), "{stderr}");
    let (_, listed, _) = named("list -j");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let expected = serde_json::json!([
        { "group": 0, "name": "default", "members": listed[0]["members"], "up": listed[0]["up"] },
        { "group": 7, "name": "uplinks", "members": 2, "up": 2 },
        { "group": 9, "name": "racks", "members": 0, "up": 0 },
    ]);
    assert_eq!(listed, expected);
    let (_, shown, _) = named("uplinks show -j");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["name"], shown["members"].as_array().map(Vec::len)), (&"uplinks".into(), Some(2)));
    assert_eq!((&shown["members"][0]["interface"], &shown["members"][0]["mtu"]), (&"m0".into(), &1500.into()));
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn without_privileges_everything_can_be_shown_and_nothing_changed() {
    let lab = lab(2);
    let copy = std::env::temp_dir().join(format!("tailwater-group-nobody-{}", std::process::id()));
    std::fs::copy(tailwater(), &copy).unwrap();
    let nobody = |words: &str| {
        let drop = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        outcome(lab.dut().program("setpriv").args(drop).arg(&copy).args(words.split(' ')))
    };
    let before = links(lab.dut());
    for words in ["group 7 up", "group 7 down --per-member", "group 7 attach d0", "group 7 address add 10.0.0.1/32"] {
        let (status, _, stderr) = nobody(words);
        assert!(status == Some(1) && stderr.contains("CAP_NET_ADMIN"), "{words}: {stderr}");
    }
    assert_eq!(nobody("group 7 show").0, Some(0));
    assert_eq!(links(lab.dut()), before);
    std::fs::remove_file(&copy).unwrap();
}
