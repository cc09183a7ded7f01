//! Interfaces into a group and out of it.

use clap::Args as ClapArgs;
use tailwater_netlink::Link;

use super::outcome::Outcome;
use super::slow::Progress;
use super::{Target, check_privileges};
use crate::failure::Failure;

/// Options of `attach` and `detach`.
#[derive(ClapArgs, Debug)]
pub(super) struct Options {
    /// Interfaces; all must exist, or none is touched
    #[arg(value_name = "IF", required = true)]
    interfaces: Vec<String>,
    /// Only say what would be changed
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) fn attach(target: &mut Target, options: &Options) -> anyhow::Result<()> {
    if target.number == 0 {
        let hint = "`tailwater group GROUP detach IF` puts a member back into it";
        return Err(Failure::usage("group 0 is where interfaces are that were never attached", hint).into());
    }
    let links = target.netlink.links_by_name(&options.interfaces)?;
    set_group(target, links, target.number, "attach", options)
}

/// Only members: who types a wrong group or interface hears of it.
pub(super) fn detach(target: &mut Target, options: &Options) -> anyhow::Result<()> {
    if target.number == 0 {
        let hint = "interfaces leave group 0 by being attached to another";
        return Err(Failure::usage("nothing can be detached from the default group", hint).into());
    }
    let links = target.netlink.links_by_name(&options.interfaces)?;
    if let Some(link) = links.iter().find(|link| link.group != target.number) {
        let (name, group) = (&link.name, link.group);
        let hint = format!("nothing was changed; {name} is in group {group}");
        return Err(Failure::new(format!("{name} is no member of group {}", target.shown), hint).into());
    }
    set_group(target, links, 0, "detach", options)
}

fn set_group(target: &mut Target, links: Vec<Link>, group: u32, action: &str, options: &Options) -> anyhow::Result<()> {
    let action = action.to_owned();
    let names = links.iter().map(|link| link.name.clone());
    if options.dry_run {
        return Outcome::dry_run(target, action, names).print(options.json);
    }
    check_privileges()?;
    let ifindexes: Vec<u32> = links.iter().map(|link| link.ifindex).collect();
    let mut progress = Progress::new(&target.shown, links.len());
    let verdicts = target.netlink.set_groups(&ifindexes, group, &mut |done| progress.show(done))?;
    progress.finish();
    Outcome::of(target, action, names.zip(verdicts)).print(options.json)
}
