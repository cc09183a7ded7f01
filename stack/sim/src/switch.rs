//! A learning Ethernet switch (IEEE 802.1D §7.8): no delay of its own; its queues are those of its links.

use hashbrown::HashMap;

use foldhash::fast::FixedState;
use tailwater_stack::MacAddress;
use tailwater_stack::wire::ethernet;

/// Stations a switch remembers. When full it learns no more, and floods to those it does not know.
pub(crate) const STATIONS_MAX: usize = 65_536;

#[derive(Debug)]
pub(crate) struct Switch {
    stations: HashMap<MacAddress, usize, FixedState>,
    /// Times that a station was not remembered.
    pub(crate) table_full: u64,
}

/// Where a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Forward {
    /// To this port.
    To(usize),
    /// To every port but the one it came from.
    Flood,
    /// The station is where the frame came from, or it is no frame.
    Nowhere,
}

impl Switch {
    pub(crate) fn new() -> Self {
        Self { stations: HashMap::with_hasher(FixedState::with_seed(0)), table_full: 0 }
    }

    pub(crate) fn on_frame(&mut self, from: usize, frame: &[u8]) -> Forward {
        let Ok(link) = ethernet::parse(frame) else { return Forward::Nowhere };
        if link.source.is_station() {
            self.learn(link.source, from);
        }
        match self.stations.get(&link.destination) {
            Some(&port) if port == from => Forward::Nowhere,
            Some(&port) => Forward::To(port),
            None => Forward::Flood,
        }
    }

    fn learn(&mut self, station: MacAddress, port: usize) {
        if let Some(known) = self.stations.get_mut(&station) {
            *known = port;
        } else if self.stations.len() < STATIONS_MAX {
            self.stations.insert(station, port);
        } else {
            self.table_full += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(to: u8, from: u8) -> [u8; 14] {
        let mut frame = [0; 14];
        frame[0..6].copy_from_slice(&[2, 0, 0, 0, 0, to]);
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, from]);
        frame
    }

    #[test]
    fn unknown_stations_are_flooded_to_and_known_ones_found() {
        let mut switch = Switch::new();
        assert_eq!(switch.on_frame(0, &frame(2, 1)), Forward::Flood);
        assert_eq!(switch.on_frame(1, &frame(1, 2)), Forward::To(0));
        assert_eq!(switch.on_frame(0, &frame(2, 1)), Forward::To(1));
        assert_eq!(switch.on_frame(1, &frame(2, 3)), Forward::Nowhere);
        assert_eq!(switch.on_frame(5, &frame(9, 1)), Forward::Flood);
        assert_eq!(switch.on_frame(1, &frame(1, 2)), Forward::To(5), "the station has moved");
    }

    #[test]
    fn groups_are_flooded_and_garbage_is_not() {
        let mut switch = Switch::new();
        let mut group = frame(0, 1);
        group[..6].fill(0xff);
        assert_eq!(switch.on_frame(0, &group), Forward::Flood);
        assert_eq!(switch.on_frame(0, &[0; 3]), Forward::Nowhere);
    }
}
