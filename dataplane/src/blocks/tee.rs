//! `tee`: passes every packet on and sends a copy of it to a second output.
//!
//! In: any. Out: `out` with the packets themselves, `copy` with the copies, in the same order. A copy for which no frame
//! is free is lost as `no_frame`; the packet itself is not.

use crate::block::{Block, Context, ImportError, Kind, PacketType, Pin, State};
use crate::frame::Batch;

pub(crate) const KIND: Kind = Kind {
    name: "tee",
    summary: "pass every packet on, and a copy to a second output",
    outputs: &[Pin { name: "out", carries: PacketType::Any }, Pin { name: "copy", carries: PacketType::Any }],
    state: Some("tee"),
    build: |_, _| Ok(Box::new(Tee::default())),
    ..Kind::PLAIN
};

const COPY: usize = 1;

#[derive(Default)]
struct Tee {
    copied: u64,
    uncopied: u64,
}

impl Block for Tee {
    fn process(&mut self, batch: &mut Batch, context: &mut Context<'_>) {
        for frame in batch.iter() {
            match context.duplicate(frame) {
                Some(copy) => {
                    self.copied += 1;
                    context.emit(COPY, copy);
                }
                None => self.uncopied += 1,
            }
        }
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        report("copied", self.copied);
        report("uncopied", self.uncopied);
    }

    fn export(&mut self) -> Option<State<'_>> {
        Some(State::lend(KIND.name, self))
    }

    fn import(&mut self, state: State<'_>) -> Result<(), ImportError> {
        state.exchange(KIND.name, self)
    }
}
