//! Events as they happen.

use tailwater_dataplane::live::{Event, What};

use super::print::{lines, stall_words};
use crate::control::{Peer, Request, Subscribed};
use crate::output;

pub(super) fn events(peer: &Peer, from: Option<u64>, count: Option<u64>, json: bool) -> anyhow::Result<()> {
    let mut conversation = peer.converse()?;
    let Subscribed { .. } = conversation.ask(Request::Subscribe { from })?;
    conversation.be_patient()?;
    let mut seen = 0;
    while count.is_none_or(|count| seen < count) {
        let event: Event = conversation.next()?;
        seen += 1;
        match json {
            true => output::line(serde_json::to_string(&event)?),
            false => print(&event),
        }
    }
    Ok(())
}

fn print(event: &Event) {
    let Event { number, version, who, .. } = event;
    let by = if who.is_empty() { String::new() } else { format!(", by {who}") };
    let (what, details) = match &event.what {
        What::Started => ("started".to_owned(), Vec::new()),
        What::Changed { diff, stalls } => (format!("changed; {}", stall_words(stalls)), lines(diff)),
        What::Undone { diff, stalls } => (format!("undone; {}", stall_words(stalls)), lines(diff)),
        What::Refused { code, message } => (format!("refused ({code}): {message}"), Vec::new()),
        What::PortJoined { name, port, .. } => (format!("{name} joined as port {port}"), Vec::new()),
        What::PortLeft { name, why, .. } => (format!("{name} left: {why}"), Vec::new()),
        What::PortRefused { name, why, .. } => (format!("{name} could not join: {why}"), Vec::new()),
        What::PortRenamed { from, to, .. } => (format!("{from} is called {to} now"), Vec::new()),
    };
    output::line(format_args!("{number}: version {version} {what}{by}"));
    details.iter().for_each(|line| output::line(format_args!("    {line}")));
}
