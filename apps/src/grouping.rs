//! Options of commands that use all interfaces of a kernel interface group, and follow its members.

use clap::Args;
use tailwater_netlink::{Control, Error as NetlinkError, group_by_name};
use tailwater_xdp::PORTS_MAX;

use crate::failure::Failure;
use crate::output;

/// Places for interfaces with a group, at least.
const PLACES_MIN: usize = 16;
/// Descriptors of all rings of one kind together, roughly.
const DESCRIPTORS: usize = 16_384;
/// Descriptors of a ring, at most and at least, where nobody chose.
const RING_SIZE_MAX: usize = 2048;
const RING_SIZE_MIN: usize = 64;

/// Which group, and how large it may become.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Grouping {
    /// Use the interfaces of a kernel interface group (`tailwater group`), by number or name, besides those of -i.
    /// Members that come up in it later join, those that leave it leave
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Interfaces at once, at most; memory is reserved for as many. Twice those of the start unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=PORTS_MAX as i64), requires = "group")]
    max_interfaces: Option<u32>,
}

/// Who is in the group.
#[derive(Default)]
pub(crate) struct Members {
    pub(crate) group: Option<u32>,
    pub(crate) names: Vec<String>,
}

impl Grouping {
    /// Whether a group is followed.
    pub(crate) fn is_wanted(&self) -> bool {
        self.group.is_some()
    }

    /// The members that can be used now, without those that are named besides.
    pub(crate) fn members(&self, named: &[String]) -> anyhow::Result<Members> {
        let Some(word) = &self.group else { return Ok(Members::default()) };
        let group = group_by_name(word)?;
        if group == 0 {
            let hint = "`tailwater group GROUP attach IF` makes a group of the interfaces that are meant";
            return Err(Failure::usage("group 0 is every interface that nobody put into a group", hint).into());
        }
        let all = Control::open()?.links_in_group(group)?;
        if all.is_empty() {
            return Err(NetlinkError::EmptyGroup { group }.into());
        }
        let (up, down): (Vec<_>, Vec<_>) = all.into_iter().partition(|link| link.up && link.mac.len() == 6);
        if up.is_empty() {
            let hint = format!("`tailwater group {word} up` sets all members up");
            return Err(
                Failure::new(format!("no member of group {word} is an Ethernet interface that is up"), hint).into()
            );
        }
        if !down.is_empty() {
            output::note(format_args!("group {word}: {} members are down, and join when they come up", down.len()));
        }
        let names = up.into_iter().map(|link| link.name).filter(|name| !named.contains(name)).collect();
        Ok(Members { group: Some(group), names })
    }

    /// Places for this many interfaces and those that join.
    pub(crate) fn places(&self, now: usize) -> anyhow::Result<usize> {
        if !self.is_wanted() {
            return Ok(now);
        }
        let most = PORTS_MAX as usize;
        let places = self.max_interfaces.map_or((2 * now).max(PLACES_MIN).min(most.max(now)), |n| n as usize);
        if now > places || now > most {
            let message = format!("{now} interfaces are more than the {} there are places for", places.min(most));
            return Err(Failure::usage(message, format!("--max-interfaces takes up to {most}")).into());
        }
        Ok(places)
    }
}

/// Descriptors of a ring that suit this many interfaces: a power of two.
pub(crate) fn ring_size(interfaces: usize) -> u32 {
    let share = (DESCRIPTORS / interfaces.max(1)).clamp(RING_SIZE_MIN, RING_SIZE_MAX);
    1 << share.ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_shorter_the_more_interfaces_there_are() {
        assert_eq!([1, 2, 16, 17, 64, 256, 100_000].map(ring_size), [2048, 2048, 1024, 512, 256, 64, 64]);
    }

    #[test]
    fn there_are_places_for_twice_as_many_as_at_the_start_within_bounds() {
        let places = |max_interfaces, now| Grouping { group: Some("7".into()), max_interfaces }.places(now);
        assert_eq!([1, 20, 200].map(|now| places(None, now).unwrap()), [16, 40, 256]);
        assert_eq!(places(Some(3), 3).unwrap(), 3);
        assert!(places(Some(3), 4).unwrap_err().to_string().contains("4 interfaces are more than the 3"));
        assert!(places(None, 257).is_err());
        assert_eq!(Grouping::default().places(300).unwrap(), 300, "without a group nothing is reserved");
    }
}
