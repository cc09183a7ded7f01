//! EtherTypes registered as encapsulations: frames of these go to the workers, each flow inside to its own.
//!
//! The program reads the four from the settings map; here they are counted, because every worker's block registers its
//! own and the last one to go takes the EtherType with it.

use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::shared::Shared;

/// Encapsulations there can be at once, as in `bpf/types.h`.
pub(crate) const ETHERTYPES_MAX: usize = 4;
/// IEEE 802.3 §3.2.6: lower numbers are lengths.
const ETHERTYPE_MIN: u16 = 0x0600;

/// The EtherTypes, and how often each is registered.
#[derive(Debug, Default)]
pub(crate) struct Ethertypes(Mutex<[(u16, usize); ETHERTYPES_MAX]>);

impl Ethertypes {
    /// Counts one in, and shows the program all there are.
    fn enter(&self, ethertype: u16, show: impl FnOnce(u64)) -> Result<()> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = slots.iter().position(|&(known, count)| count > 0 && known == ethertype);
        let full = Error::Full { map: "ethertypes", entries_max: ETHERTYPES_MAX as u32 };
        let at = known.or_else(|| slots.iter().position(|&(_, count)| count == 0)).ok_or(full)?;
        slots[at] = (ethertype, slots[at].1 + 1);
        show(word(&slots));
        Ok(())
    }

    fn leave(&self, ethertype: u16, show: impl FnOnce(u64)) {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.iter_mut().find(|slot| slot.1 > 0 && slot.0 == ethertype) {
            slot.1 -= 1;
        }
        show(word(&slots));
    }
}

/// All of them as the program reads them: four numbers in network order, zero for none, changed by one store.
fn word(slots: &[(u16, usize); ETHERTYPES_MAX]) -> u64 {
    let mut bytes = [0; 8];
    for (out, (ethertype, count)) in bytes.chunks_exact_mut(2).zip(slots) {
        if *count > 0 {
            out.copy_from_slice(&ethertype.to_be_bytes());
        }
    }
    u64::from_ne_bytes(bytes)
}

/// An EtherType that is steered to the workers as long as this value, or another for the same one, is there.
#[derive(Debug)]
pub struct RegisteredEthertype {
    shared: Shared,
    ethertype: u16,
}

impl RegisteredEthertype {
    pub(crate) fn new(shared: &Shared, ethertype: u16) -> Result<Self> {
        Error::in_range("EtherType", ethertype.into(), ETHERTYPE_MIN.into(), u16::MAX.into())?;
        shared.ethertypes().enter(ethertype, |word| shared.show_ethertypes(word))?;
        Ok(Self { shared: shared.clone(), ethertype })
    }
}

impl Drop for RegisteredEthertype {
    fn drop(&mut self) {
        self.shared.ethertypes().leave(self.ethertype, |word| self.shared.show_ethertypes(word));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(change: impl FnOnce(&mut dyn FnMut(u64))) -> [u8; 8] {
        let mut bytes = [0xff; 8];
        change(&mut |word| bytes = word.to_ne_bytes());
        bytes
    }

    #[test]
    fn an_ethertype_stays_until_its_last_holder_goes() {
        let types = Ethertypes::default();
        types.enter(0x88b5, |_| {}).unwrap();
        types.enter(0x88b6, |_| {}).unwrap();
        let both = [0x88, 0xb5, 0x88, 0xb6, 0, 0, 0, 0];
        assert_eq!(shown(|show| types.enter(0x88b5, show).unwrap()), both);
        assert_eq!(shown(|show| types.leave(0x88b5, show)), both);
        assert_eq!(shown(|show| types.leave(0x88b5, show)), [0, 0, 0x88, 0xb6, 0, 0, 0, 0]);
        assert_eq!(shown(|show| types.enter(0x0801, show).unwrap()), [8, 1, 0x88, 0xb6, 0, 0, 0, 0]);
    }

    #[test]
    fn a_fifth_one_is_refused_and_changes_nothing() {
        let types = Ethertypes::default();
        (1..=4).for_each(|n| types.enter(0x1000 + n, |_| {}).unwrap());
        assert!(matches!(types.enter(0x2000, |_| panic!("shown")), Err(Error::Full { .. })));
        types.enter(0x1004, |_| {}).unwrap();
    }
}
