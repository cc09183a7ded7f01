//! `end`: where captured packets have arrived. Counts them as delivered.

use tailwater_dataplane::block::{Block, Context, Kind};
use tailwater_dataplane::frame::Batch;

pub(super) const KIND: Kind = Kind {
    name: "end",
    summary: "take packets in for good",
    outputs: &[],
    build: |_, _| Ok(Box::new(End)),
    ..Kind::PLAIN
};

struct End;

impl Block for End {
    fn process(&mut self, batch: &mut Batch, context: &mut Context<'_>) {
        batch.drain().for_each(|frame| context.deliver(frame));
    }
}
