//! Taking a pair out: sender, silence, receiver.

use super::account::Account;
use super::end::End;
use super::insert::undone;
use super::quiet::stands_still;
use super::{Extract, Options};
use crate::failure::Failure;

impl Extract {
    pub(super) fn run(&self, options: Options) -> anyhow::Result<()> {
        let from = End::find("from", &self.from, options.dry_run)?;
        let to = End::find("to", &self.to, options.dry_run)?;
        let workers = to.links()?.workers;
        let mut account = Account::new(options.json);
        let receiver = self.check(&to, self.sort.receiver())?;
        if !receiver {
            let hint = "`tailwater ctl list` shows the blocks; --as is for a pair that has a name of its own";
            return Err(Failure::new(format!("no {} block at {}", self.sort.receiver(), to.title()), hint).into());
        }
        let sender = self.check(&from, self.sort.sender())?;
        self.open_up(&to, &mut account)?;
        let sent = match sender {
            true => Some(from.extract(self.block(self.sort.sender()))?),
            false => None,
        };
        match &sent {
            Some(changed) => account.step(&from, "sender out", changed.clone()),
            None => account.note(format!("there is no sender any more at {}", from.title())),
        }
        if !options.dry_run {
            self.wait(&to, workers, &mut account)?;
        }
        match (to.extract(self.block(self.sort.receiver())), sent) {
            (Ok(changed), _) => account.step(&to, "no frame came for it any more, receiver out", changed),
            (Err(error), Some(sent)) => return Err(undone(&from, "extraction of the sender", &sent, error)),
            (Err(error), None) => return Err(error),
        }
        account.close()
    }

    /// Whether the block is there. One of another kind under its name is none of ours.
    fn check(&self, end: &End, kind: &'static str) -> anyhow::Result<bool> {
        match end.block(self.block(kind))? {
            None => Ok(false),
            Some(node) if node.kind == kind => Ok(true),
            Some(node) => {
                let message = format!("{:?} at {} is a {} block, not {kind}", node.name, end.title(), node.kind);
                Err(Failure::new(message, "--as is for a pair that has a name of its own").into())
            }
        }
    }

    /// Without its sender the receiver gets plain frames: they must pass.
    fn open_up(&self, to: &End, account: &mut Account) -> anyhow::Result<()> {
        let name = self.block(self.sort.receiver());
        let plain = to.block(name)?.and_then(|node| node.parameters.get("plain").cloned());
        if plain.is_some_and(|plain| plain.to_string() == "drop") {
            account.step(to, "plain frames pass again", to.set(name, "plain", "pass")?);
        }
        Ok(())
    }

    fn wait(&self, to: &End, workers: usize, account: &mut Account) -> anyhow::Result<()> {
        let name = self.block(self.sort.receiver());
        let count = || Ok(to.counters(name, workers)?.map(|counters| self.sort.encapsulated(&counters)));
        if stands_still(count)? {
            return Ok(());
        }
        account.close()?;
        let hint = "the sender is out, the receiver was left in; stop the other sender and run the same command again";
        Err(Failure::new(format!("frames for {name} keep coming to {}", to.title()), hint).into())
    }

    fn block(&self, kind: &'static str) -> &str {
        self.called.as_deref().unwrap_or(kind)
    }
}
