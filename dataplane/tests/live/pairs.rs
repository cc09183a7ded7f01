//! Pairs put in, changed, replaced and taken out of a running graph: every packet comes through as it was sent.
//!
//! ```text
//!   rx:a --> [encrypt | compress] --> middle --> [decrypt | decompress] --> tx:b
//! ```

use std::os::unix::fs::PermissionsExt;

use tailwater_dataplane::block::Value;
use tailwater_dataplane::graph::{GraphSpec, NodeSpec};
use tailwater_dataplane::live::{ChangeError, Operation};

use super::plant::{Outside, Plant, edge, extract, replace};

const WORKERS: usize = 2;

/// Key files that go with the test.
struct Keys(Vec<std::path::PathBuf>);

impl Keys {
    fn new(name: &str, keys: &[&[u8]]) -> Self {
        let write = |(at, content): (usize, &&[u8])| {
            let path = std::env::temp_dir().join(format!("tailwater-live-{name}-{at}-{}.key", std::process::id()));
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        Self(keys.iter().enumerate().map(write).collect())
    }

    fn value(&self, at: usize) -> Value {
        Value::Text(self.0[at].to_str().unwrap().into())
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.0.iter().for_each(|path| drop(std::fs::remove_file(path)));
    }
}

fn spec() -> GraphSpec {
    GraphSpec::default().node("middle", "counter", &[]).edge("rx:a", "middle").edge("middle", "tx:b")
}

fn insert(kind: &str, into: &str, parameters: &[(&str, Value)]) -> Operation {
    let parameters = parameters.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    Operation::Insert { node: NodeSpec { name: kind.into(), kind: kind.into(), parameters }, edge: edge(into) }
}

fn set(name: &str, key: &str, value: &Value) -> Operation {
    Operation::Set { name: name.into(), key: key.into(), value: value.clone() }
}

fn run(outsides: &mut [Outside], steps: usize) {
    for _ in 0..steps {
        outsides.iter_mut().for_each(|outside| outside.step(true));
    }
}

fn settle(outsides: &mut [Outside]) {
    for outside in outsides {
        outside.settle();
        assert!(outside.astray.is_empty(), "lost, repeated or out of turn: {:?}", outside.astray);
        assert_eq!(outside.received, outside.sent);
    }
}

#[test]
fn pairs_come_and_go_receiver_first_in_and_last_out_without_a_packet_lost() {
    let keys = Keys::new("come-and-go", &[&[1; 32]]);
    let (mut plant, mut outsides) = Plant::start(spec(), WORKERS);
    let key = [("key_file", keys.value(0))];
    for round in 0..20 {
        for (sender, receiver, parameters) in [("encrypt", "decrypt", &key[..]), ("compress", "decompress", &[])] {
            run(&mut outsides, 5);
            plant.change([insert(receiver, "middle -> tx:b", parameters)]).unwrap();
            run(&mut outsides, 5);
            plant.change([insert(sender, "rx:a -> middle", parameters)]).unwrap();
            run(&mut outsides, 5);
            let (sent, got) = if sender == "encrypt" { ("sealed", "opened") } else { ("stored", "stored") };
            settle(&mut outsides);
            assert!(plant.counter(sender, sent) > 0 && plant.counter(receiver, got) > 0, "{sender}, round {round}");
            run(&mut outsides, 5);
            plant.change([extract(sender)]).unwrap();
            run(&mut outsides, 5);
            settle(&mut outsides);
            plant.change([extract(receiver)]).unwrap();
        }
    }
    settle(&mut outsides);
    plant.stop(outsides);
}

#[test]
fn replacing_undoing_and_changing_keys_repeats_no_nonce_and_forgets_no_window() {
    let keys = Keys::new("rekey", &[&[1; 32], &[2; 32]]);
    let (mut plant, mut outsides) = Plant::start(spec(), WORKERS);
    let key = [("key_file", keys.value(0))];
    plant.change([insert("decrypt", "middle -> tx:b", &key), insert("encrypt", "rx:a -> middle", &key)]).unwrap();
    for round in 0..20 {
        run(&mut outsides, 3);
        // A nonce used twice would be dropped as replayed: the receiver remembers every counter.
        plant.change([replace("encrypt", None, round % 3 == 0)]).unwrap();
        run(&mut outsides, 3);
        plant.change([replace("decrypt", None, false)]).unwrap();
        run(&mut outsides, 3);
        let next = keys.value((round + 1) % 2);
        plant.change([set("decrypt", "key_file", &next)]).unwrap();
        run(&mut outsides, 3);
        plant.change([set("encrypt", "key_file", &next)]).unwrap();
        run(&mut outsides, 3);
        if round % 4 == 0 {
            plant.live.undo(None, false, "test").unwrap();
            run(&mut outsides, 3);
            plant.change([set("encrypt", "key_file", &next)]).unwrap();
        }
    }
    settle(&mut outsides);
    let counters = ["wrong_key", "tampered", "replayed", "too_old", "refused"];
    assert_eq!(counters.map(|counter| plant.counter("decrypt", counter)), [0; 5]);
    let sent: u64 = outsides.iter().map(|outside| outside.sent).sum();
    assert_eq!(plant.counter("decrypt", "opened"), sent);
    assert!(plant.counter("decrypt", "previous_key") > 0, "frames were on their way while the key changed");
    plant.stop(outsides);
}

#[test]
fn keys_that_cannot_be_are_refused_and_leave_the_graph_as_it_was() {
    let keys = Keys::new("refused", &[&[1; 32], &[2; 31], &[3; 32]]);
    let (mut plant, mut outsides) = Plant::start(spec(), WORKERS);
    let (good, short, other) = (keys.value(0), keys.value(1), keys.value(2));
    let refused = plant.change([insert("decrypt", "middle -> tx:b", &[("key_file", short.clone())])]);
    assert!(refused.unwrap_err().to_string().contains("31 bytes"));
    let key = [("key_file", good)];
    plant.change([insert("decrypt", "middle -> tx:b", &key), insert("encrypt", "rx:a -> middle", &key)]).unwrap();
    let before = plant.dump();
    run(&mut outsides, 5);
    for name in ["encrypt", "decrypt"] {
        let refused = plant.change([set(name, "key_file", &short)]);
        assert!(matches!(refused, Err(ChangeError::Parameter { .. })), "{refused:?}");
    }
    let refused = plant.change([set("encrypt", "port", &Value::Text("b".into()))]);
    assert!(refused.unwrap_err().to_string().contains("cannot be changed"));
    let parameters = [("key_file".to_owned(), other)].into();
    let replaced = Operation::Replace { name: "decrypt".into(), kind: None, parameters, drop_state: false };
    let refused = plant.change([replaced]);
    assert!(refused.unwrap_err().to_string().contains("another key"));
    assert_eq!(plant.dump(), before);
    run(&mut outsides, 5);
    settle(&mut outsides);
    plant.stop(outsides);
}
