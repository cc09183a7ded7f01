//! `counter`: counts packets and bytes and passes them on.

use crate::block::{Block, Context, ImportError, Kind, OUT, PacketType, State};
use crate::frame::Batch;

pub(crate) const KIND: Kind = Kind {
    name: "counter",
    summary: "count packets and bytes",
    input: PacketType::Any,
    outputs: OUT,
    parameters: &[],
    polled: false,
    build: |_, _| Ok(Box::new(Counter::default())),
};

#[derive(Default)]
struct Counter {
    packets: u64,
    bytes: u64,
}

impl Block for Counter {
    fn process(&mut self, batch: &mut Batch, _context: &mut Context<'_>) {
        self.packets += batch.len() as u64;
        self.bytes += batch.iter().map(|frame| frame.total_len() as u64).sum::<u64>();
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        report("packets", self.packets);
        report("bytes", self.bytes);
    }

    fn export(&mut self) -> Option<State> {
        Some(State { kind: KIND.name, content: Box::new(std::mem::take(self)) })
    }

    fn import(&mut self, state: State) -> Result<(), ImportError> {
        match state.content.downcast::<Counter>() {
            Ok(counted) => {
                *self = *counted;
                Ok(())
            }
            Err(_) => Err(ImportError::Kind { found: state.kind, wanted: KIND.name }),
        }
    }
}
