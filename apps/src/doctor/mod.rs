//! `tailwater doctor`: what the host and its interfaces can do, and what stands in the way. Changes nothing.
//!
//! | file | what |
//! |---|---|
//! | `host` | kernel, privileges, memory, forwarding |
//! | `interface` | one interface |
//! | `offload` | checksums that the kernel leaves to hardware which is not there |

mod host;
mod interface;
mod offload;

use clap::Args as ClapArgs;
use serde::Serialize;
use tailwater_netlink::Control;

use host::HostReport;
use interface::InterfaceReport;

use crate::output;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  tailwater doctor                every interface of this network namespace
  tailwater doctor eth1 -j        one, as JSON

\"!\" marks what stands in the way of something; the hint says what to do. Nothing is changed, attached or opened.";

/// Options of `doctor`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    /// Interfaces to look at; all but loopback unless given
    #[arg(value_name = "IF")]
    interfaces: Vec<String>,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

/// One thing found out.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// What about.
    pub(crate) topic: &'static str,
    /// What is so.
    pub(crate) state: String,
    /// What to do about it, if it stands in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

impl Finding {
    pub(crate) fn fine(topic: &'static str, state: impl Into<String>) -> Self {
        Self { topic, state: state.into(), hint: None }
    }

    pub(crate) fn obstacle(topic: &'static str, state: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { topic, state: state.into(), hint: Some(hint.into()) }
    }

    fn print(&self) {
        let mark = if self.hint.is_some() { '!' } else { ' ' };
        output::line(format_args!("{mark} {:<18} {}", self.topic, self.state));
        self.hint.iter().for_each(|hint| output::line(format_args!("{:21}hint: {hint}", "")));
    }
}

#[derive(Serialize)]
struct Report {
    host: HostReport,
    interfaces: Vec<InterfaceReport>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let mut netlink = Control::open()?;
    let links = match args.interfaces.as_slice() {
        [] => netlink.links()?.into_iter().filter(|link| !link.loopback).collect(),
        names => names.iter().map(|name| netlink.link_by_name(name)).collect::<Result<Vec<_>, _>>()?,
    };
    let all = netlink.links()?;
    let mut interfaces = Vec::new();
    for link in &links {
        interfaces.push(interface::look(&netlink, link, &all)?);
    }
    let report = Report { host: host::look(), interfaces };
    if args.json {
        output::line(serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    output::line(format_args!("host"));
    report.host.findings.iter().for_each(Finding::print);
    for interface in &report.interfaces {
        output::line(format_args!("\n{} ({})", interface.name, interface.verdict));
        interface.findings.iter().for_each(Finding::print);
    }
    Ok(())
}
