//! Putting a pair in: receiver, sender, and perhaps no more plain frames.

use std::io::Read;

use anyhow::Context;
use tailwater_dataplane::block::Value;

use super::account::Account;
use super::end::End;
use super::quiet::stands_still;
use super::settings::Settings;
use super::{Insert, Options};
use crate::control::{Changed, Link, Links};
use crate::failure::Failure;

pub(super) const AFTER_HELP: &str = "\
Examples:
  head -c 32 /dev/urandom > link.key; chmod 600 link.key
  tailwater ctl pair insert encrypt --from 4711 'route -> tx:*' --to 4712 'rx:d0 -> route' port=d1 key_file=link.key
  tailwater ctl pair insert compress --from 4711 'route -> tx:*' --to /tmp/far.sock 'rx:d0 -> route' port=d1

A path is the same on both hosts, unless it is given as from:key_file=PATH and to:key_file=PATH. `tailwater ctl kinds
encrypt decrypt` describes the parameters. port= names the link to the receiver; other links' frames stay plain.
session= is drawn by chance and flow_key= is taken from the receiving process unless given.";

/// Bytes of a session that is drawn by chance.
const SESSION_LEN: usize = 16;

impl Insert {
    pub(super) fn run(&self, options: Options) -> anyhow::Result<()> {
        let [from, to] = [("from", &self.from), ("to", &self.to)]
            .map(|(side, words)| End::find(side, words.first().map_or("", String::as_str), options.dry_run));
        let (from, to) = (from?, to?);
        if from.is(&to) {
            return Err(Failure::usage("both ends are the same process", "").into());
        }
        let links = [from.links()?, to.links()?];
        let settings = self.settings(&from, &to, &links)?;
        let mut account = Account::new(options.json);
        self.perform(&from, &to, settings, &mut account)?;
        if !options.dry_run {
            from.links()?
                .links
                .iter()
                .filter_map(|link| tight(link, &links[0].links))
                .for_each(|note| account.note(note));
            if self.strict {
                self.shut(&to, links[1].workers, &mut account)?;
            }
        }
        account.close()
    }

    fn settings(&self, from: &End, to: &End, [from_links, to_links]: &[Links; 2]) -> anyhow::Result<Settings> {
        let kinds = [from.kind(self.sort.sender())?, to.kind(self.sort.receiver())?];
        let mut settings = Settings::split(&self.parameters, &kinds[0], &kinds[1])?;
        if self.edge(&self.from).contains("tx:*") && from_links.links.len() > 1 && !settings.from.contains_key("port") {
            let names: Vec<&str> = from_links.links.iter().map(|link| link.name.as_str()).collect();
            let hint = format!("port=NAME is one of {}; port= takes all of them", names.join(", "));
            return Err(Failure::usage("which link leads to the receiver?", hint).into());
        }
        if let Some(flow_key) = &to_links.flow_key {
            settings.from.entry("flow_key".into()).or_insert_with(|| Value::Text(flow_key.clone()));
        }
        if self.sort.has_session() {
            let session = settings.from.get("session").or(settings.to.get("session")).cloned();
            let session = session.map_or_else(|| draw_session().map(Value::Text), Ok)?;
            for side in [&mut settings.from, &mut settings.to] {
                side.entry("session".into()).or_insert_with(|| session.clone());
            }
        }
        Ok(settings)
    }

    fn perform(&self, from: &End, to: &End, settings: Settings, account: &mut Account) -> anyhow::Result<()> {
        let (sender, receiver) = (self.sort.sender(), self.sort.receiver());
        let received = to.insert(self.block(receiver), receiver, self.edge(&self.to), settings.to)?;
        account.step(to, "receiver in, plain frames pass", received.clone());
        match from.insert(self.block(sender), sender, self.edge(&self.from), settings.from) {
            Ok(changed) => account.step(from, "sender in", changed),
            Err(error) => return Err(undone(to, "receiver", &received, error)),
        }
        Ok(())
    }

    /// Waits for the last plain frame, then has the receiver drop what is plain.
    fn shut(&self, to: &End, workers: usize, account: &mut Account) -> anyhow::Result<()> {
        let name = self.block(self.sort.receiver());
        let plain = || Ok(to.counters(name, workers)?.and_then(|counters| counters.get("plain").copied()));
        if !stands_still(plain)? {
            account.close()?;
            let hint = format!("others send plain frames there, too; `tailwater ctl set {name} plain=drop` drops them");
            return Err(Failure::new("plain frames keep coming, and still pass; the pair is in", hint).into());
        }
        account.step(to, "no plain frame came any more, from now on they are dropped", to.set(name, "plain", "drop")?);
        Ok(())
    }

    fn block(&self, kind: &'static str) -> &str {
        self.called.as_deref().unwrap_or(kind)
    }

    fn edge<'a>(&self, words: &'a [String]) -> &'a str {
        words.get(1).map_or("", String::as_str)
    }
}

/// Takes back what was done at the first end, because of an error at the second.
pub(super) fn undone(first: &End, what: &str, changed: &Changed, error: anyhow::Error) -> anyhow::Error {
    if changed.change.dry_run {
        return error;
    }
    match first.take_back(changed) {
        Ok(_) => error.context(format!("the {what} was taken back at {}", first.title())),
        Err(left) => error.context(format!("the {what} could not be taken back at {}: {left:#}", first.title())),
    }
}

/// A link that is too small for packets that came by another one.
fn tight(link: &Link, before: &[Link]) -> Option<String> {
    let largest = before.iter().filter(|other| other.name != link.name).map(|other| other.room).max()?;
    let wanted = largest + link.mtu.saturating_sub(link.room);
    (link.room < link.mtu && link.room < largest).then(|| {
        let Link { name, mtu, room } = link;
        format!(
            "{name} has MTU {mtu}, which now leaves {room} bytes to packets: larger ones are fragmented or refused; \
             `ip link set {name} mtu {wanted}` at both ends avoids that"
        )
    })
}

fn draw_session() -> anyhow::Result<String> {
    let mut bytes = [0; SESSION_LEN];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.context("no random session from /dev/urandom; give one as session=WORDS")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, mtu: u32, room: u32) -> Link {
        Link { name: name.into(), mtu, room }
    }

    #[test]
    fn a_link_that_leaves_too_little_is_told_with_the_mtu_it_wants() {
        let before = [link("d0", 1500, 1500), link("d1", 1500, 1500)];
        let note = tight(&link("d1", 1500, 1460), &before).unwrap();
        assert!(note.contains("leaves 1460 bytes") && note.contains("d1 mtu 1540"), "{note}");
        assert_eq!(tight(&link("d1", 1540, 1500), &before), None);
        assert_eq!(tight(&link("d0", 1500, 1500), &before), None, "nothing is added to its frames");
        assert_eq!(tight(&link("d1", 1500, 1460), &before[1..]), None, "there is no other link");
    }

    #[test]
    fn sessions_are_drawn_by_chance() {
        let sessions = [draw_session().unwrap(), draw_session().unwrap()];
        assert!(sessions[0] != sessions[1] && sessions.iter().all(|session| session.len() == 2 * SESSION_LEN));
    }
}
