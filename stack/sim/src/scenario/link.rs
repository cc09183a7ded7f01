//! `[[link]]`.

use std::ops::Range;

use tailwater_impair::LossModel;
use tailwater_stack::Cidr;

use super::ENTRIES_MAX;
use super::error::ScenarioError;
use super::expand::Text;
use super::section::Section;
use crate::addressing;
use crate::link::LinkConfig;
use crate::quantity;
use crate::red::Red;

/// RFC 791 §3.2, and the largest that anything here carries.
const MTU: Range<u64> = 68..65_536;

pub(super) struct EndSpec {
    pub(super) node: Text,
    pub(super) addresses: Vec<Cidr>,
}

pub(super) struct LinkSpec {
    pub(super) ends: Vec<EndSpec>,
    pub(super) there: LinkConfig,
    pub(super) back: LinkConfig,
    pub(super) capture: bool,
    pub(super) span: Range<usize>,
}

impl LinkSpec {
    /// One, or as many as `repeat` says.
    pub(super) fn read(mut section: Section<'_>) -> Result<Vec<Self>, ScenarioError> {
        let text = section.text();
        let span = section.span();
        let ends = section.list("ends")?;
        if ends.len() != 2 {
            return Err(section.missing("ends", "a link has two ends: [\"a 10.0.0.1/24\", \"b 10.0.0.2/24\"]"));
        }
        let repeat = repeat(&mut section)?;
        let capture = section.flag("capture")?.unwrap_or(false);
        let mut there = LinkConfig::default();
        if let Some(mtu) = section.integer("mtu")? {
            if !MTU.contains(&mtu) {
                return Err(ScenarioError::at(text, span, format!("'mtu' is {mtu}: expected 68 to 65535")));
            }
            there.mtu = mtu as usize;
        }
        let mut loss = LossKeys::default();
        read_path(&mut section, &mut there, &mut loss)?;
        let mut back = there;
        if let Some(mut section) = section.table("back")? {
            read_path(&mut section, &mut back, &mut loss)?;
            section.finish()?;
        }
        section.finish()?;
        let link = |n| {
            let ends = ends.iter().map(|end| read_end(text, &end.with(n))).collect::<Result<_, _>>()?;
            Ok(Self { ends, there, back, capture, span: span.clone() })
        };
        (1..=repeat).map(link).collect()
    }
}

/// How many a table stands for.
pub(super) fn repeat(section: &mut Section<'_>) -> Result<u64, ScenarioError> {
    let repeat = section.integer("repeat")?.unwrap_or(1);
    if repeat > ENTRIES_MAX as u64 {
        return Err(section.missing("repeat", &format!("a number up to {ENTRIES_MAX}")));
    }
    Ok(repeat)
}

/// `name`, then addresses.
fn read_end(text: &str, end: &Text) -> Result<EndSpec, ScenarioError> {
    let mut words = end.value.split_whitespace();
    let node = Text { value: words.next().unwrap_or_default().to_owned(), span: end.span.clone() };
    let wrong = |error: addressing::ConnectError| ScenarioError::at(text, end.span.clone(), error.to_string());
    let addresses = words.map(addressing::parse).collect::<Result<_, _>>().map_err(wrong)?;
    Ok(EndSpec { node, addresses })
}

/// What one direction does, over what is there already.
fn read_path(section: &mut Section<'_>, path: &mut LinkConfig, loss: &mut LossKeys) -> Result<(), ScenarioError> {
    fn set<T>(place: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *place = value;
        }
    }
    set(&mut path.rate_bps, section.quantity("rate", quantity::rate)?);
    set(&mut path.delay, section.quantity("delay", quantity::time)?);
    set(&mut path.jitter, section.quantity("jitter", quantity::time)?);
    set(&mut path.duplicate, section.quantity("duplicate", quantity::share)?);
    set(&mut path.reorder, section.quantity("reorder", quantity::share)?);
    set(&mut path.reorder_gap_packets, section.integer("reorder_gap_packets")?);
    set(&mut path.corrupt, section.quantity("corrupt", quantity::share)?);
    set(&mut path.queue.bytes_max, section.quantity("queue", quantity::size)?);
    set(&mut path.queue.ecn, section.flag("ecn")?);
    path.loss = loss.read(section)?;
    if let Some(mut red) = section.table("red")? {
        let min_bytes = red.need("min", quantity::size)?;
        let max_bytes = red.need("max", quantity::size)?;
        let probability_max = red.quantity("probability", quantity::share)?.unwrap_or(0.1);
        if min_bytes >= max_bytes {
            let message = "'min' of red is not below 'max'";
            return Err(ScenarioError::at(red.text(), red.span(), message));
        }
        red.finish()?;
        path.queue.red = Some(Red { min_bytes, max_bytes, probability_max });
    }
    check_path(section, path)
}

/// Refuses what would have no effect, or not the one that it seems to have.
fn check_path(section: &Section<'_>, path: &LinkConfig) -> Result<(), ScenarioError> {
    if path.queue.ecn && path.queue.red.is_none() {
        let hint = "add red = { min = \"15 kB\", max = \"60 kB\" }, or leave ecn out";
        return Err(section.wrong_at(&["ecn"], "nothing is marked by ecn without red").hint(hint));
    }
    if path.reorder > 0.0 && path.delay.is_zero() {
        let hint = "a frame overtakes others by skipping their delay: give one such as delay = \"5 ms\"";
        return Err(section.wrong_at(&["reorder", "delay"], "nothing is reordered without a delay").hint(hint));
    }
    if path.jitter > path.delay {
        let hint = "the delay varies by the jitter either way: give a delay at least as long";
        return Err(section.wrong_at(&["jitter", "delay"], "the jitter is longer than the delay").hint(hint));
    }
    Ok(())
}

/// Who is lost, as the keys say it; what the way back does not say is as on the way there.
#[derive(Default)]
struct LossKeys {
    share: Option<f64>,
    burst_packets: Option<u64>,
    states: Option<LossModel>,
}

impl LossKeys {
    fn read(&mut self, section: &mut Section<'_>) -> Result<LossModel, ScenarioError> {
        let share = section.quantity("loss", quantity::share)?;
        let burst_packets = section.integer("loss_burst_packets")?;
        let states = section.table("gilbert_elliott")?.map(read_states).transpose()?;
        if states.is_some() && (share.is_some() || burst_packets.is_some()) {
            let keys = ["loss", "loss_burst_packets"];
            let hint = "leave out either loss and loss_burst_packets, or gilbert_elliott";
            return Err(section.wrong_at(&keys, "gilbert_elliott says already who is lost").hint(hint));
        }
        if states.is_some() {
            *self = Self { states, ..Self::default() };
        } else if share.is_some() {
            let burst_packets = burst_packets.or(self.burst_packets);
            *self = Self { share, burst_packets, states: None };
        } else if burst_packets.is_some() {
            if self.share.is_none() {
                let hint = "say how much is lost: loss = \"1 %\"";
                return Err(section.wrong_at(&["loss_burst_packets"], "there are no bursts without loss").hint(hint));
            }
            self.burst_packets = burst_packets;
        }
        let bursts = |share| LossModel::bursts(share, self.burst_packets.unwrap_or(0) as f64);
        Ok(self.states.or(self.share.map(bursts)).unwrap_or_default())
    }
}

fn read_states(mut states: Section<'_>) -> Result<LossModel, ScenarioError> {
    let model = LossModel::GilbertElliott {
        enter: states.need("enter", quantity::share)?,
        leave: states.need("leave", quantity::share)?,
        good: states.quantity("good", quantity::share)?.unwrap_or(0.0),
        bad: states.quantity("bad", quantity::share)?.unwrap_or(1.0),
    };
    states.finish()?;
    Ok(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(keys: &str) -> [LossModel; 2] {
        let text = format!("[[link]]\nends = [\"a\", \"b\"]\n{keys}\n");
        let document = super::super::section::parse(&text).unwrap();
        let section = Section::top(&text, &document).tables("link").unwrap().remove(0);
        let link = LinkSpec::read(section).unwrap().remove(0);
        [link.there.loss, link.back.loss]
    }

    #[test]
    fn the_way_back_keeps_of_the_loss_what_it_does_not_say() {
        let bursts = LossModel::bursts;
        assert_eq!(losses(""), [LossModel::default(); 2]);
        assert_eq!(losses("loss = \"1 %\"\nloss_burst_packets = 4"), [bursts(0.01, 4.0); 2]);
        let both = "loss = \"1 %\"\nloss_burst_packets = 4\n";
        assert_eq!(losses(&format!("{both}back = {{ loss = \"3 %\" }}")), [bursts(0.01, 4.0), bursts(0.03, 4.0)]);
        assert_eq!(
            losses(&format!("{both}back = {{ loss_burst_packets = 2 }}")),
            [bursts(0.01, 4.0), bursts(0.01, 2.0)]
        );
        let states = "gilbert_elliott = { enter = \"1 %\", leave = \"10 %\" }";
        let model = LossModel::GilbertElliott { enter: 0.01, leave: 0.1, good: 0.0, bad: 1.0 };
        assert_eq!(losses(states), [model; 2]);
        assert_eq!(losses(&format!("{both}back = {{ {states} }}")), [bursts(0.01, 4.0), model]);
        assert_eq!(losses(&format!("{states}\nback = {{ loss = \"3 %\" }}")), [model, bursts(0.03, 0.0)]);
    }
}
