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
        read_path(&mut section, &mut there)?;
        let mut back = there;
        if let Some(mut section) = section.table("back")? {
            read_path(&mut section, &mut back)?;
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
fn read_path(section: &mut Section<'_>, path: &mut LinkConfig) -> Result<(), ScenarioError> {
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
    set(&mut path.loss, read_loss(section)?);
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
    Ok(())
}

fn read_loss(section: &mut Section<'_>) -> Result<Option<LossModel>, ScenarioError> {
    let share = section.quantity("loss", quantity::share)?;
    let burst = section.integer("loss_burst_packets")?;
    if let Some(mut states) = section.table("gilbert_elliott")? {
        let model = LossModel::GilbertElliott {
            enter: states.need("enter", quantity::share)?,
            leave: states.need("leave", quantity::share)?,
            good: states.quantity("good", quantity::share)?.unwrap_or(0.0),
            bad: states.quantity("bad", quantity::share)?.unwrap_or(1.0),
        };
        states.finish()?;
        return Ok(Some(model));
    }
    Ok(share.map(|share| LossModel::bursts(share, burst.unwrap_or(0) as f64)))
}
