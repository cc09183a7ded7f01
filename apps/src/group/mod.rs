//! `tailwater group`: operations on whole kernel interface groups (`IFLA_GROUP`), in a few system calls however many
//! members there are.
//!
//! | file | what |
//! |---|---|
//! | `plain` | the shortest command lines, read without clap |
//! | `change` | up and MTU by the kernel's group request, down by one request per member |
//! | `address` | addresses on members |
//! | `membership` | into the group, and out of it |
//! | `show` | groups and their members |
//! | `outcome` | what became of each interface, as text, JSON and exit code |
//! | `slow` | progress of what takes longer than two seconds |

mod address;
mod change;
mod membership;
mod outcome;
mod plain;
mod show;
mod slow;

use clap::{Args as ClapArgs, Subcommand};
use tailwater_netlink::{Control, Error as NetlinkError, Group, Link, LinkChange, group_by_name, group_names};
use tailwater_xdp::Host;

use crate::failure::Failure;

pub(crate) use plain::plain_args;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  tailwater group                                    groups that have members or a name
  tailwater group uplinks                            members of one, by its name or number
  tailwater group 7 attach eth1 eth2                 puts interfaces into group 7
  tailwater group 7 mtu 9000                         all members, in one request to the kernel
  tailwater group 7 down --dry-run                   what would be changed
  tailwater group 7 address add 10.0.0.1/32          the same address on every member
  tailwater group 7 address add --one-each 10.0.1.1/30 10.0.1.5/30

A group reaches no further than this network namespace. Nothing is touched when a name is mistyped or the group is
empty. Group 0 is every interface in no other group, loopback included: changing it needs --default-group. Members that
refuse are named with the reason, the others are changed, and the exit code is 1.";

/// An interface with less cannot carry IPv4 (RFC 791 §3.2).
const MTU_BYTES_MIN: u32 = 68;

/// Options of `group`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    /// Number of the group, or its name in iproute2's file of groups (/etc/iproute2/group)
    #[arg(value_name = "GROUP")]
    group: Option<String>,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Show every group that has members or a name
    List {
        /// Print JSON
        #[arg(short, long)]
        json: bool,
    },
    /// Show the members
    Show {
        /// Print JSON
        #[arg(short, long)]
        json: bool,
    },
    /// Set all members up
    Up(ChangeOptions),
    /// Set all members down
    Down(ChangeOptions),
    /// Set the MTU of all members
    Mtu {
        /// Largest IP packet
        #[arg(value_name = "BYTES", value_parser = clap::value_parser!(u32).range(i64::from(MTU_BYTES_MIN)..))]
        bytes: u32,
        #[command(flatten)]
        options: ChangeOptions,
    },
    /// Addresses of the members
    Address {
        #[command(subcommand)]
        action: address::Action,
    },
    /// Put interfaces into the group
    Attach(membership::Options),
    /// Put interfaces back into the default group; each must be a member
    Detach(membership::Options),
}

/// How to change all members.
#[derive(ClapArgs, Clone, Copy, Debug, Default)]
struct ChangeOptions {
    /// One request for each member instead of the kernel's own group request; `down` always works so
    #[arg(long)]
    per_member: bool,
    #[command(flatten)]
    caution: Caution,
}

/// Options of every change of all members.
#[derive(ClapArgs, Clone, Copy, Debug, Default)]
struct Caution {
    /// Only say what would be changed
    #[arg(long)]
    dry_run: bool,
    /// Group 0 is meant: every interface that is in no other group
    #[arg(long)]
    default_group: bool,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let Args { group, json, action } = args;
    let (word, action) = match (group, action) {
        (None, None) => return show::groups(json),
        (None, Some(Action::List { json: too })) => return show::groups(json || too),
        (None, Some(_)) => {
            return Err(Failure::usage(
                "which group?",
                "`tailwater group GROUP COMMAND`; `tailwater group` lists them",
            )
            .into());
        }
        (Some(word), action) => (word, action),
    };
    let mut target = Target::find(&word)?;
    match action {
        None => show::members(&mut target, json),
        Some(Action::Show { json: too }) => show::members(&mut target, json || too),
        Some(Action::List { .. }) => {
            Err(Failure::usage("list shows all groups", "`show` shows the members of one").into())
        }
        Some(Action::Up(options)) => change::run(&mut target, LinkChange::Up, options),
        Some(Action::Down(options)) => change::run(&mut target, LinkChange::Down, options),
        Some(Action::Mtu { bytes, options }) => change::run(&mut target, LinkChange::Mtu(bytes), options),
        Some(Action::Address { action }) => address::run(&mut target, action),
        Some(Action::Attach(options)) => membership::attach(&mut target, &options),
        Some(Action::Detach(options)) => membership::detach(&mut target, &options),
    }
}

/// The group that a command is about.
struct Target {
    netlink: Control,
    number: u32,
    /// As it was given, with the number where that is another word.
    shown: String,
}

impl Target {
    /// Refuses an unknown name, with those it may have been meant for.
    fn find(word: &str) -> anyhow::Result<Self> {
        let number = group_by_name(word)?;
        let shown = if word == number.to_string() { word.to_owned() } else { format!("{word} ({number})") };
        Ok(Self { netlink: Control::open()?, number, shown })
    }

    /// The group to change, if it may be.
    fn changeable(&self, caution: Caution) -> anyhow::Result<Group> {
        if caution.default_group {
            return Ok(Group::or_default(self.number));
        }
        Group::new(self.number).map_err(|error| {
            Failure::usage(error.to_string(), "--default-group changes them all, loopback included").into()
        })
    }

    /// Its members, of which there must be one at least.
    fn members(&mut self) -> anyhow::Result<Vec<Link>> {
        let members = self.netlink.links_in_group(self.number)?;
        if members.is_empty() {
            return Err(NetlinkError::EmptyGroup { group: self.number }.into());
        }
        Ok(members)
    }
}

/// The name of a group in iproute2's file.
fn name_of(number: u32) -> Option<String> {
    group_names().into_iter().find_map(|(known, name)| (known == number).then_some(name))
}

/// The kernel would refuse each request by itself, without saying what is missing.
fn check_privileges() -> anyhow::Result<()> {
    if Host::ask().missing_capabilities.contains(&"CAP_NET_ADMIN") {
        let hint = "run as root, or give this program cap_net_admin";
        return Err(Failure::new("not permitted: CAP_NET_ADMIN missing", hint).into());
    }
    Ok(())
}
