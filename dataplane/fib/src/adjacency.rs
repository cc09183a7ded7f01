//! Where a packet goes next: one 64-bit word per adjacency, so that no reader ever sees half of a change.
//!
//! ```text
//!    63      48 47                                    0
//!   +----------+---------------------------------------+
//!   | port + 1 | destination MAC                       |   forward
//!   +----------+--------+----------+-------------------+
//!   |     0    | kind   |    0     | own index, 24 bit |   anything else; all zero: unreachable
//!   +----------+--------+----------+-------------------+
//!               47    40            23               0
//! ```

use crate::error::FibError;
use crate::memory::Words;
use crate::next_hop::NextHop;
use crate::quiescence::Quiescence;
use crate::reuse::Indices;
use crate::sync::{Arc, AtomicU64, Ordering};

/// What to do with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Adjacency {
    /// Send out of `port` to `mac`.
    Forward { port: u16, mac: [u8; 6] },
    /// The neighbour's address is being asked for. `next_hop` names the entry, so that the asker can find interface
    /// and gateway.
    Unresolved { next_hop: NextHop },
    /// For this host: hand it to the kernel or the stack.
    Local,
    /// Drop without a word.
    Blackhole,
    /// Drop, and tell the sender that there is no route. Also what [`NextHop::NONE`] and withdrawn entries lead to.
    Unreachable,
    /// Drop, and tell the sender that it is forbidden.
    Prohibit,
}

/// Ports are numbered from 0 to this; the value above is reserved.
pub const PORT_MAX: u16 = u16::MAX - 1;

const PORT_SHIFT: u32 = 48;
const KIND_SHIFT: u32 = 40;
const UNREACHABLE: u64 = 0;
const UNRESOLVED: u64 = 1;
const LOCAL: u64 = 2;
const BLACKHOLE: u64 = 3;
const PROHIBIT: u64 = 4;

impl Adjacency {
    fn to_word(self) -> u64 {
        match self {
            Self::Forward { port, mac } => {
                let [a, b, c, d, e, f] = mac;
                u64::from(port + 1) << PORT_SHIFT | u64::from_be_bytes([0, 0, a, b, c, d, e, f])
            }
            Self::Unresolved { next_hop } => UNRESOLVED << KIND_SHIFT | u64::from(next_hop.value()),
            Self::Local => LOCAL << KIND_SHIFT,
            Self::Blackhole => BLACKHOLE << KIND_SHIFT,
            Self::Unreachable => UNREACHABLE << KIND_SHIFT,
            Self::Prohibit => PROHIBIT << KIND_SHIFT,
        }
    }

    #[inline]
    pub(crate) fn from_word(word: u64) -> Self {
        let [_, _, a, b, c, d, e, f] = word.to_be_bytes();
        match (word >> PORT_SHIFT) as u16 {
            0 => match word >> KIND_SHIFT {
                UNRESOLVED => Self::Unresolved { next_hop: NextHop::from_low_bits(word as u32) },
                LOCAL => Self::Local,
                BLACKHOLE => Self::Blackhole,
                PROHIBIT => Self::Prohibit,
                _ => Self::Unreachable,
            },
            port => Self::Forward { port: port - 1, mac: [a, b, c, d, e, f] },
        }
    }
}

/// An adjacency as it lies in the table, for a fast path that keeps it in a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdjacencyWord(u64);

impl AdjacencyWord {
    /// The port to send out of, if the packet is to be sent.
    #[inline]
    pub fn port(self) -> Option<u16> {
        ((self.0 >> PORT_SHIFT) as u16).checked_sub(1)
    }

    /// The destination MAC in the first six bytes; two zero bytes follow. Meaningful only with a port.
    #[inline]
    pub fn mac_and_two_more(self) -> [u8; 8] {
        (self.0 << 16).to_be_bytes()
    }

    /// What the word says.
    #[inline]
    pub fn adjacency(self) -> Adjacency {
        Adjacency::from_word(self.0)
    }
}

/// What readers see of the adjacencies.
pub(crate) struct AdjacencyTable {
    words: Words<AtomicU64>,
}

impl AdjacencyTable {
    /// The adjacency at `index`; unreachable if there is none.
    #[inline]
    pub(crate) fn load(&self, index: u32) -> Adjacency {
        self.load_word(index).adjacency()
    }

    #[inline]
    pub(crate) fn load_word(&self, index: u32) -> AdjacencyWord {
        let word = self.words.words().get(index as usize);
        AdjacencyWord(word.map_or(0, |word| word.load(Ordering::Relaxed)))
    }

    fn store(&self, index: u32, adjacency: Adjacency) {
        if let Some(word) = self.words.words().get(index as usize) {
            word.store(adjacency.to_word(), Ordering::Release);
        }
    }
}

/// The one who changes the adjacencies.
pub struct Adjacencies {
    table: Arc<AdjacencyTable>,
    indices: Indices,
}

impl Adjacencies {
    pub(crate) fn new(quiescence: Arc<Quiescence>, adjacencies_max: usize) -> Result<Self, FibError> {
        let value_max = NextHop::GROUP as usize;
        if adjacencies_max > value_max {
            return Err(FibError::Limit { what: "adjacencies_max", value: adjacencies_max, value_max });
        }
        let first = NextHop::FIRST_FREE;
        let slots = (adjacencies_max + first as usize).min(value_max);
        let table = Arc::new(AdjacencyTable { words: Words::zeroed(slots)? });
        for (next_hop, adjacency) in [
            (NextHop::LOCAL, Adjacency::Local),
            (NextHop::BLACKHOLE, Adjacency::Blackhole),
            (NextHop::UNREACHABLE, Adjacency::Unreachable),
            (NextHop::PROHIBIT, Adjacency::Prohibit),
        ] {
            table.store(next_hop.value(), adjacency);
        }
        Ok(Self { table, indices: Indices::new(quiescence, "adjacencies", first, slots as u32) })
    }

    pub(crate) fn table(&self) -> Arc<AdjacencyTable> {
        Arc::clone(&self.table)
    }

    /// A new adjacency, unresolved.
    pub fn add(&mut self) -> Result<NextHop, FibError> {
        let next_hop = NextHop::from_low_bits(self.indices.take()?);
        self.table.store(next_hop.value(), Adjacency::Unresolved { next_hop });
        Ok(next_hop)
    }

    /// The neighbour behind `next_hop` answers at `mac` on `port`.
    pub fn resolve(&mut self, next_hop: NextHop, port: u16, mac: [u8; 6]) -> Result<(), FibError> {
        if port > PORT_MAX {
            return Err(FibError::Limit { what: "port", value: port.into(), value_max: PORT_MAX.into() });
        }
        self.set(next_hop, Adjacency::Forward { port, mac })
    }

    /// The neighbour behind `next_hop` no longer answers.
    pub fn unresolve(&mut self, next_hop: NextHop) -> Result<(), FibError> {
        self.set(next_hop, Adjacency::Unresolved { next_hop })
    }

    fn set(&mut self, next_hop: NextHop, adjacency: Adjacency) -> Result<(), FibError> {
        self.indices.check(next_hop.value())?;
        self.table.store(next_hop.value(), adjacency);
        Ok(())
    }

    /// Withdraws an adjacency that no prefix and no group points to any more. Packets that still hold it find it
    /// unreachable, never another neighbour: its index is used again only when no reader can hold it.
    pub fn remove(&mut self, next_hop: NextHop) -> Result<(), FibError> {
        self.indices.check(next_hop.value())?;
        self.table.store(next_hop.value(), Adjacency::Unreachable);
        self.indices.retire(next_hop.value())
    }

    /// The adjacency as readers see it.
    pub fn adjacency(&self, next_hop: NextHop) -> Option<Adjacency> {
        self.indices.check(next_hop.value()).ok().map(|()| self.table.load(next_hop.value()))
    }

    /// Adjacencies in use, the four fixed ones aside.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn adjacencies() -> impl Strategy<Value = Adjacency> {
        prop_oneof![
            (0..=PORT_MAX, any::<[u8; 6]>()).prop_map(|(port, mac)| Adjacency::Forward { port, mac }),
            (0..=NextHop::MAX).prop_map(|index| Adjacency::Unresolved { next_hop: NextHop::from_low_bits(index) }),
            Just(Adjacency::Local),
            Just(Adjacency::Blackhole),
            Just(Adjacency::Unreachable),
            Just(Adjacency::Prohibit),
        ]
    }

    proptest! {
        #[test]
        fn every_adjacency_survives_its_word(adjacency in adjacencies()) {
            prop_assert_eq!(Adjacency::from_word(adjacency.to_word()), adjacency);
        }

        #[test]
        fn any_word_reads_as_some_adjacency(word: u64) {
            let _ = Adjacency::from_word(word);
        }
    }
}
