//! `counter`: counts packets and bytes and passes them on.

use crate::block::{Block, Context, ImportError, Kind, State};
use crate::frame::Batch;

pub(crate) const KIND: Kind = Kind {
    name: "counter",
    summary: "count packets and bytes",
    state: Some("counter"),
    build: |_, _| Ok(Box::new(Counter::default())),
    ..Kind::PLAIN
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

    fn export(&mut self) -> Option<State<'_>> {
        Some(State::lend(KIND.name, self))
    }

    fn import(&mut self, state: State<'_>) -> Result<(), ImportError> {
        state.exchange(KIND.name, self)
    }
}
