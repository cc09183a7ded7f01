//! Groups and their members, for people and for programs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use tailwater_netlink::{Address, Control, Link, group_names};

use super::{Target, name_of};
use crate::output;
use crate::table::Table;

#[derive(Default, Serialize)]
struct GroupLine {
    group: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    members: usize,
    /// Members that are administratively up.
    up: usize,
}

/// Every group that has members or a name.
pub(super) fn groups(json: bool) -> anyhow::Result<()> {
    let links = Control::open()?.links()?;
    let groups = count(&links, group_names());
    if json {
        output::line(serde_json::to_string(&groups)?);
        return Ok(());
    }
    let mut table = Table::new(&["group", "name", "members", "up"]);
    for GroupLine { group, name, members, up } in groups {
        table.row(vec![group.to_string(), name.unwrap_or_default(), members.to_string(), up.to_string()]);
    }
    output::line(table.lines().join("\n"));
    Ok(())
}

fn count(links: &[Link], names: Vec<(u32, String)>) -> Vec<GroupLine> {
    let mut groups: BTreeMap<u32, GroupLine> = BTreeMap::new();
    let new = |group| GroupLine { group, ..GroupLine::default() };
    for (group, name) in names {
        groups.entry(group).or_insert_with(|| new(group)).name.get_or_insert(name);
    }
    for link in links {
        let line = groups.entry(link.group).or_insert_with(|| new(link.group));
        line.members += 1;
        line.up += usize::from(link.up);
    }
    groups.into_values().collect()
}

#[derive(Serialize)]
struct Member {
    interface: String,
    ifindex: u32,
    up: bool,
    state: String,
    mtu: u32,
    mac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    addresses: Vec<String>,
}

#[derive(Serialize)]
struct GroupReport {
    group: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    members: Vec<Member>,
}

/// The members of one group. One without members is as much an error as in a change.
pub(super) fn members(target: &mut Target, json: bool) -> anyhow::Result<()> {
    let report = report(target)?;
    if json {
        output::line(serde_json::to_string(&report)?);
        return Ok(());
    }
    let mut table = Table::new(&["interface", "index", "state", "mtu", "mac", "kind", "addresses"]);
    for Member { interface, ifindex, state, mtu, mac, kind, addresses, .. } in report.members {
        let (kind, addresses) = (kind.unwrap_or_default(), addresses.join(","));
        table.row(vec![interface, ifindex.to_string(), state, mtu.to_string(), mac, kind, addresses]);
    }
    output::line(table.lines().join("\n"));
    Ok(())
}

/// The addresses of one group's members.
pub(super) fn addresses(target: &mut Target, json: bool) -> anyhow::Result<()> {
    let report = report(target)?;
    if json {
        output::line(serde_json::to_string(&report)?);
        return Ok(());
    }
    for Member { interface, addresses, .. } in report.members {
        output::line(format_args!("{interface} {}", addresses.join(" ")).to_string().trim_end());
    }
    Ok(())
}

fn report(target: &mut Target) -> anyhow::Result<GroupReport> {
    let links = target.members()?;
    let addresses = target.netlink.addresses()?;
    let members = links.into_iter().map(|link| member(link, &addresses)).collect();
    Ok(GroupReport { group: target.number, name: name_of(target.number), members })
}

/// `addresses` are in order of interface index.
fn member(link: Link, addresses: &[Address]) -> Member {
    let from = addresses.partition_point(|address| address.ifindex < link.ifindex);
    let own = addresses.iter().skip(from).take_while(|address| address.ifindex == link.ifindex);
    let mac: Vec<String> = link.mac.iter().map(|byte| format!("{byte:02x}")).collect();
    Member {
        ifindex: link.ifindex,
        up: link.up,
        state: link.operational_state.to_uppercase(),
        mtu: link.mtu_bytes,
        mac: mac.join(":"),
        kind: link.kind,
        addresses: own.map(|address| cidr(address.ip, address.prefix_len)).collect(),
        interface: link.name,
    }
}

pub(super) fn cidr(ip: IpAddr, prefix_len: u8) -> String {
    format!("{ip}/{prefix_len}")
}
