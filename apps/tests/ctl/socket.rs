//! Who may speak at the control socket, and what bad manners lead to.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tailwater_lab::Lab;

use crate::common::{RunFolder, assert_accounted, outcome, summary, tailwater};
use crate::line::Line;

fn add(name: &str) -> Value {
    json!([{ "op": "add", "node": { "name": name, "kind": "counter" } }])
}

#[test]
fn other_users_are_refused_whatever_the_modes_of_the_files() {
    let (lab, folder) = (Lab::pair(1, 1500).unwrap(), RunFolder::new("ctl-users"));
    let forwarder = folder.start(lab.dut(), "l3fwd -i d0 --place user --idle sleep -j");
    let socket = folder.socket(&forwarder);
    let copy = std::env::temp_dir().join(format!("tailwater-ctl-nobody-{}", std::process::id()));
    std::fs::copy(tailwater(), &copy).unwrap();
    let nobody = |words: &[&str]| {
        let drop = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        let environment = format!("TAILWATER_RUN_DIR={}", folder.0.display());
        outcome(lab.dut().program("setpriv").args(drop).arg("env").arg(environment).arg(&copy).args(words))
    };
    let (code, _, stderr) = nobody(&["ctl", "dump"]);
    assert!(code == Some(1) && stderr.contains("not permitted") && stderr.contains("as root"), "{stderr}");
    let open = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    open(&folder.0, 0o755);
    open(&socket, 0o666);
    let path = socket.display().to_string();
    for words in [&["ctl", "--socket", &path, "dump"][..], &["ctl", "--socket", &path, "add", "x", "counter"]] {
        let (code, stdout, stderr) = nobody(words);
        assert!(code == Some(1) && stdout.is_empty(), "{stdout}");
        assert!(stderr.contains("user 0's, and you are user 65534") && stderr.contains("ask as user 0"), "{stderr}");
    }
    assert_eq!(Line::to(&socket).dump()["version"], 1);
    std::fs::remove_file(&copy).unwrap();
    summary(forwarder);
}

#[test]
fn of_two_clients_with_the_same_base_one_wins_and_the_other_is_told_the_version() {
    let (lab, folder) = (Lab::pair(1, 1500).unwrap(), RunFolder::new("ctl-race"));
    let forwarder = folder.start(lab.dut(), "l3fwd -i d0 --place user --idle sleep -j");
    let socket = folder.socket(&forwarder);
    for round in 1..=20u64 {
        let ask = |name: String| {
            let mut line = Line::to(&socket);
            line.ask(json!({ "op": "change", "base": round, "operations": add(&name) }))
        };
        let [one, other] = std::thread::scope(|scope| {
            let racers = [format!("a{round}"), format!("b{round}")].map(|name| scope.spawn(|| ask(name)));
            racers.map(|racer| racer.join().unwrap())
        });
        let (won, lost) = if one["ok"].is_object() { (one, other) } else { (other, one) };
        assert_eq!(won["ok"]["version"], round + 1, "{won} {lost}");
        assert_eq!(
            (lost["error"]["kind"].as_str(), lost["error"]["current"].as_u64()),
            (Some("conflict"), Some(round + 1))
        );
    }
    assert_eq!(Line::to(&socket).dump()["graph"]["node"].as_array().unwrap().len(), 21);
    assert_accounted(&summary(forwarder));
}

#[test]
fn half_lines_noise_and_endless_lines_change_nothing_and_keep_nobody_waiting() {
    let (lab, folder) = (Lab::pair(1, 1500).unwrap(), RunFolder::new("ctl-noise"));
    let forwarder = folder.start(lab.dut(), "l3fwd -i d0 --place user --idle sleep -j");
    let socket = folder.socket(&forwarder);
    let before = Line::to(&socket).dump();
    let whole = json!({ "version": 1, "op": "change", "operations": add("half") }).to_string();
    for cut in [1, whole.len() / 2, whole.len()] {
        // Without its end a line is no request, however complete it looks.
        Line::to(&socket).write(&whole.as_bytes()[..cut]);
    }
    // One that says half a line and stays.
    let mut silent = Line::to(&socket);
    silent.write(b"{\"version\":1,");
    let mut line = Line::to(&socket);
    for noise in [
        "",
        "{}",
        "[1,2",
        "\u{0}\u{1}\u{2}",
        "null",
        r#"{"version":1,"op":"change"}"#,
        r#"{"version":1,"op":"unsubscribe"}"#,
    ] {
        assert!(line.ask_raw(noise)["error"]["kind"].is_string(), "{noise}");
    }
    let deep = format!("{{\"version\":1,\"op\":{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(line.ask_raw(&deep)["error"]["kind"], "syntax");
    let mut endless = Line::to(&socket);
    endless.write(&vec![b'x'; (1 << 20) + 1]);
    assert!(endless.read().contains("at most"));
    assert_eq!(Line::to(&socket).dump(), before);
    assert_accounted(&summary(forwarder));
}

#[test]
fn subscriber_that_does_not_read_holds_nothing_up_and_is_told_that_it_fell_behind() {
    let (lab, folder) = (Lab::pair(1, 1500).unwrap(), RunFolder::new("ctl-slow"));
    let forwarder = folder.start(lab.dut(), "l3fwd -i d0 --place user --idle sleep -j");
    let socket = folder.socket(&forwarder);
    let mut slow = Line::to(&socket);
    assert_eq!(slow.ask(json!({ "op": "subscribe" }))["ok"]["from"], 2);
    let mut line = Line::to(&socket);
    line.change(json!([{ "op": "insert", "node": { "name": "slow", "kind": "impair" }, "edge": "rx:d0 -> route" }]));
    // Far more than a socket and the record hold together.
    for n in 1..=4000 {
        line.change(json!([{ "op": "set", "name": "slow", "key": "delay_us", "value": n }]));
    }
    let mut next = 2;
    let last = loop {
        let event: Value = match slow.read() {
            end if end.is_empty() => break Value::Null,
            event => serde_json::from_str(&event).unwrap(),
        };
        if event["error"].is_object() {
            break event;
        }
        assert_eq!(event["ok"]["number"], next, "in order, without gaps");
        next += 1;
    };
    assert_eq!(last["error"]["kind"], "too_old", "after {next}");
    assert!(next < 4000, "it was not slow");
    assert!(slow.read().is_empty(), "and cut off");
    let oldest: u64 = line.ask(json!({ "op": "subscribe", "from": 1 }))["error"]["message"]
        .as_str()
        .and_then(|message| message.split(' ').nth(2)?.parse().ok())
        .unwrap();
    assert_eq!(line.ask(json!({ "op": "subscribe", "from": oldest }))["ok"]["from"], oldest);
    assert_accounted(&summary(forwarder));
}
