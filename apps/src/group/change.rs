//! Up, down and MTU of all members.

use tailwater_netlink::{Error as NetlinkError, Group, LinkChange};

use super::outcome::{Outcome, Way};
use super::slow::{Progress, while_waiting};
use super::{ChangeOptions, Target, check_privileges};
use crate::output;

pub(super) fn run(target: &mut Target, change: LinkChange, options: ChangeOptions) -> anyhow::Result<()> {
    let group = target.changeable(options.caution)?;
    let outcome = match options {
        ChangeOptions { caution, .. } if caution.dry_run => {
            let members = target.members()?;
            Outcome::dry_run(target, words(change), members.into_iter().map(|link| link.name))
        }
        ChangeOptions { per_member: true, .. } => per_member(target, change)?,
        // For this the kernel's own request takes twice as long (`Control::change_links`).
        _ if change == LinkChange::Down => per_member(target, change)?,
        ChangeOptions { caution, .. } => by_group_request(target, group, change, caution.json)?,
    };
    outcome.print(options.caution.json)
}

fn words(change: LinkChange) -> String {
    match change {
        LinkChange::Up => "up".into(),
        LinkChange::Down => "down".into(),
        LinkChange::Mtu(bytes) => format!("mtu {bytes}"),
    }
}

/// The kernel changes all members under one lock. It stops at the first that refuses and does not say which: then each
/// gets a request of its own, which is no change to those that are done.
fn by_group_request(target: &mut Target, group: Group, change: LinkChange, named: bool) -> anyhow::Result<Outcome> {
    let action = words(change);
    match while_waiting(&format!("group {}: {action}", target.shown), || target.netlink.change_group(group, change)) {
        Ok(()) if named => {
            let members = target.netlink.links_in_group(target.number)?;
            Ok(Outcome::done(target, action, Way::GroupRequest, members.into_iter().map(|link| link.name)))
        }
        // Listing thousands of members costs as much as changing them.
        Ok(()) => Ok(Outcome::done(target, action, Way::GroupRequest, [])),
        Err(NetlinkError::Refused { source, .. }) => {
            check_privileges()?;
            output::note(format_args!("group {}: a member refused ({source}); going on one by one", target.shown));
            per_member(target, change)
        }
        Err(error) => Err(error.into()),
    }
}

fn per_member(target: &mut Target, change: LinkChange) -> anyhow::Result<Outcome> {
    check_privileges()?;
    let members = target.members()?;
    let ifindexes: Vec<u32> = members.iter().map(|link| link.ifindex).collect();
    let mut progress = Progress::new(&target.shown, members.len());
    let verdicts = target.netlink.change_links(&ifindexes, change, &mut |done| progress.show(done))?;
    progress.finish();
    Ok(Outcome::of(target, words(change), members.into_iter().map(|link| link.name).zip(verdicts)))
}
