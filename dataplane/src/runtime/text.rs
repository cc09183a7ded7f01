//! How TCP text leaves by an interface, as its settings are now.

use std::sync::Arc;

use tailwater_netlink::Link;
use tailwater_xdp::Probe;

use crate::port::af_xdp::{TextSwitch, TextWay};

/// What decides. `ethtool` changes both while packets flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Settings {
    /// [`Probe::leaves_sums_undone`].
    leaves_sums_undone: bool,
    tx_queues: u32,
    /// [`Probe::tso`].
    tso: bool,
}

impl Settings {
    /// Whether trains may be longer than IP can tell: a device that cuts them could not.
    fn long(self) -> bool {
        !self.tso && kernel_cuts_long_trains()
    }

    fn way(self) -> TextWay {
        match self {
            Self { leaves_sums_undone: true, .. } => TextWay::Ring,
            Self { tx_queues: 0 | 1, .. } => TextWay::Trains,
            Self { .. } => TextWay::Socket,
        }
    }
}

impl From<&Probe> for Settings {
    fn from(probe: &Probe) -> Self {
        Self { leaves_sums_undone: probe.leaves_sums_undone(), tx_queues: probe.tx_queues, tso: probe.tso }
    }
}

/// Packets beyond 64 KiB are usual within the kernel since 6.3, over both versions of IP; packet sockets take them, in pages of higher
/// orders, since 6.6.
fn kernel_cuts_long_trains() -> bool {
    let uname = rustix::system::uname();
    version(uname.release().to_str().unwrap_or_default()) >= Some((6, 6))
}

/// `6.18.44-something`: the first two numbers.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The way that text leaves, and why.
pub(super) struct Text {
    pub(super) switch: Arc<TextSwitch>,
    settings: Settings,
}

impl Text {
    pub(super) fn of(probe: &Probe) -> Self {
        let settings = Settings::from(probe);
        Self { switch: Arc::new(TextSwitch::new(settings.way(), settings.long())), settings }
    }

    /// Looks at the interface again. The kernel tells of a link whose features have changed.
    pub(super) fn tend(&mut self, link: &Link) {
        let settings = match Probe::interface(link.ifindex) {
            Ok(probe) => Settings::from(&probe),
            Err(error) => {
                tracing::debug!(%error, interface = link.name, "how its settings are now is not known");
                return;
            }
        };
        if settings == self.settings {
            return;
        }
        self.settings = settings;
        self.switch.set(settings.way(), settings.long());
        tracing::info!(interface = link.name, "its settings have changed: {}", self.why());
    }

    pub(super) fn why(&self) -> &'static str {
        match self.settings.way() {
            TextWay::Trains => "the kernel copies, so it cuts what leaves as TCP (GSO)",
            TextWay::Socket => {
                "the kernel copies, so it cuts what leaves as TCP (GSO); as there are several transmit queues and it chooses \
                 among them, all TCP text leaves that way, which keeps its order"
            }
            TextWay::Ring => {
                "TCP leaves segment by segment, because the driver would leave sums of larger packets undone (`ethtool -K IF \
                 tx off` lets the kernel sum and cut them)"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trains_and_the_ring_are_used_side_by_side_only_where_there_is_one_queue() {
        let way = |leaves_sums_undone, tx_queues| Settings { leaves_sums_undone, tx_queues, tso: false }.way();
        assert_eq!([way(false, 0), way(false, 1), way(false, 2)], [TextWay::Trains, TextWay::Trains, TextWay::Socket]);
        assert_eq!([way(true, 1), way(true, 2)], [TextWay::Ring; 2]);
    }

    #[test]
    fn kernels_are_told_apart_by_the_first_two_numbers() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("6.3-rc1"), Some((6, 3)));
        assert_eq!([version(""), version("6"), version("x.y")], [None; 3]);
        assert!(version("6.10.0") > Some((6, 3)) && version("5.19.1") < Some((6, 3)));
    }
}
