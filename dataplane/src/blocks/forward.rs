//! `forward`: passes everything on. The empty block: what a block costs.

use crate::block::{Block, Context, Kind};
use crate::frame::Batch;

pub(crate) const KIND: Kind = Kind {
    name: "forward",
    summary: "pass every packet on unchanged",
    build: |_, _| Ok(Box::new(Forward)),
    ..Kind::PLAIN
};

struct Forward;

impl Block for Forward {
    fn process(&mut self, _batch: &mut Batch, _context: &mut Context<'_>) {}
}
