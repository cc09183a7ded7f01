//! The place of a port that has yet to join, or has left: nothing comes in, nothing goes out.

use super::{Capabilities, Port, PortCounters};
use crate::frame::{Batch, Pool};
use crate::ledger::Ledger;

/// A place without a port. Its name is empty.
#[derive(Debug, Default)]
pub struct Vacant {
    capabilities: Capabilities,
}

impl Port for Vacant {
    fn name(&self) -> &str {
        ""
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn set_number(&mut self, _number: u16) {}

    fn receive(&mut self, _pool: &mut Pool, _ledger: &mut Ledger, _batch: &mut Batch, _max: usize) -> usize {
        0
    }

    fn transmit(&mut self, _pool: &mut Pool, _batch: &mut Batch) -> usize {
        0
    }

    fn tx_room(&mut self, _wanted: usize) -> usize {
        0
    }

    fn flush(&mut self, _pool: &mut Pool) {}

    fn is_down(&self) -> bool {
        true
    }

    fn counters(&self) -> PortCounters {
        PortCounters::default()
    }

    fn close(&mut self, _pool: &mut Pool) {}
}
