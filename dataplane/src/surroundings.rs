//! What a block may want to know of, and do to, the process around it.

use std::sync::Arc;

use tailwater_xdp::{HashKey, Place, RegisteredEthertype, Shared};

use crate::block::Services;

/// The placement and the steering programs of a running dataplane; found among a block's [`Services`]. A graph built
/// without a runtime has none.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where transit is forwarded.
    pub place: Place,
    /// Maps of the steering programs; `None` where no interface uses XDP.
    pub shared: Option<Shared>,
}

impl Surroundings {
    /// Those of a block that is built with `services`.
    pub fn of(services: &Services) -> Option<Arc<Self>> {
        services.find()
    }

    /// Has the steering programs send frames of this EtherType to the workers, while the value returned is there. `None`
    /// where there is no program, and all frames come anyway.
    pub fn register_ethertype(&self, ethertype: u16) -> Result<Option<RegisteredEthertype>, tailwater_xdp::Error> {
        self.shared.as_ref().map(|shared| shared.register_ethertype(ethertype)).transpose()
    }

    /// The key by which the steering programs spread flows over the workers.
    pub fn flow_key(&self) -> Option<HashKey> {
        self.shared.as_ref().map(Shared::hash_key)
    }
}
