//! The two forwarders and the clients of their control sockets.

use serde_json::Value;
use tailwater_lab::{Lab, Namespace, Process};

use super::common::{RunFolder, eventually, outcome, summary};

pub(crate) struct Line {
    pub(crate) lab: Lab,
    folder: RunFolder,
    near: Process,
    far: Process,
}

pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Line {
    /// Both forward in user space, with these options more; the link between them has this MTU.
    pub(crate) fn start(mtu: u32, near: &str, far: &str) -> Self {
        Self::start_placed(mtu, near, far, "user")
    }

    /// As `start`; the far one forwards where `place` says.
    pub(crate) fn start_placed(mtu: u32, near: &str, far: &str, place: &str) -> Self {
        let lab = Lab::line(1, 1500).unwrap();
        for (namespace, names) in [(lab.near(), &["d1"][..]), (lab.wire(), &["w0", "w1", "wire"]), (lab.far(), &["e0"])]
        {
            for name in names {
                namespace.ip(&format!("link set {name} mtu {mtu}")).unwrap();
            }
        }
        let kernel = u8::from(place == "xdp");
        for (namespace, forwards) in [(lab.near(), 0), (lab.far(), kernel)] {
            namespace.sysctl("net.ipv4.ip_forward", forwards).unwrap();
            namespace.sysctl("net.ipv6.conf.all.forwarding", forwards).unwrap();
        }
        // A veth takes what XDP redirects only while its peer has a NAPI.
        lab.wire().offload("w1", &["gro"], true).unwrap();
        lab.sink().offload("s0", &["gro"], true).unwrap();
        let folder = RunFolder::new(&format!("pair-{}", lab.near().name()));
        let common = "--mode native --idle sleep -j";
        let near = folder.start(lab.near(), &format!("l3fwd -i d0 -i d1 --place user {common} {near}"));
        let far = folder.start(lab.far(), &format!("l3fwd -i e0 -i e1 --place {place} {common} {far}"));
        Self { lab, folder, near, far }
    }

    pub(crate) fn near(&self) -> &Process {
        &self.near
    }

    pub(crate) fn far(&self) -> &Process {
        &self.far
    }

    /// A key file for both ends.
    pub(crate) fn key_file(&self, key: &[u8]) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.0.join(format!("{}-bytes.key", key.len()));
        std::fs::write(&path, key).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// `ctl pair VERB SORT` with these words more; the far end is named by its socket, as one behind ssh would be.
    pub(crate) fn pair(&self, verb: &str, sort: &str, more: &[String]) -> (Option<i32>, String, String) {
        let socket = self.folder.socket(&self.far).to_str().unwrap().to_owned();
        let edges: &[&str] = if verb == "insert" { &["route -> tx:*", "rx:e0 -> route"] } else { &[] };
        let mut program = self.folder.command(self.lab.near(), &format!("ctl pair {verb} {sort}"));
        program = program.args(["--from".to_owned(), self.near.pid().to_string()]);
        program = program.args(edges.first()).args(["--to", &socket]).args(edges.get(1));
        outcome(program.args(more))
    }

    /// As `pair`, which must succeed; what it says with `-j`.
    pub(crate) fn pair_json(&self, verb: &str, sort: &str, more: &[String]) -> Value {
        let (code, stdout, stderr) = self.pair(verb, sort, &[&["-j".to_owned()], more].concat());
        assert_eq!(code, Some(0), "{verb} {sort}: {stdout}{stderr}");
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }

    pub(crate) fn dump(&self, process: &Process) -> String {
        let (code, stdout, stderr) = self.ctl(self.lab.near(), &format!("ctl --pid {} dump", process.pid()));
        assert_eq!(code, Some(0), "{stderr}");
        stdout
    }

    fn ctl(&self, namespace: &Namespace, words: &str) -> (Option<i32>, String, String) {
        outcome(self.folder.command(namespace, words))
    }

    /// A counter of a block at the far end, over all workers.
    pub(crate) fn far_counter(&self, block: &str, counter: &str) -> u64 {
        let (code, stdout, stderr) = self.ctl(self.lab.far(), &format!("ctl --pid {} -j list", self.far.pid()));
        assert_eq!(code, Some(0), "{stderr}");
        let blocks: Value = serde_json::from_str(&stdout).unwrap();
        let found = blocks.as_array().unwrap().iter().find(|one| one["name"] == block);
        found.unwrap_or_else(|| panic!("no {block}: {blocks:#}"))["counters"][counter].as_u64().unwrap_or(0)
    }

    /// Waits until a counter at the far end has come to `wanted`, and no further.
    pub(crate) fn eventually_far(&self, block: &str, counter: &str, wanted: u64) {
        eventually(counter, || self.far_counter(block, counter) >= wanted);
        assert_eq!(self.far_counter(block, counter), wanted, "{counter}");
    }

    /// Stops both; their summaries, near and far.
    pub(crate) fn stop(self) -> [Value; 2] {
        let Self { lab, folder, near, far } = self;
        let reports = [summary(near), summary(far)];
        drop((lab, folder));
        reports
    }
}
