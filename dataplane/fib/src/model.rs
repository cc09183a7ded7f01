//! Every interleaving, up to a bound on preemptions, of a reader with a writer that replaces nodes and reuses their memory.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p tailwater-fib --lib model
//! ```

use loom::thread;

use crate::arena::{Arena, UNIT_WORDS};
use crate::next_hop::NextHop;
use crate::prefix::{Address, Prefix};
use crate::quiescence::Quiescence;
use crate::sync::Arc;
use crate::trie::{Painter, Trie};

/// An address small enough for the model: one root bit, one level of nodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(transparent)]
struct Tiny(u16);

impl Address for Tiny {
    const LEN_MAX: u8 = 9;
    const ROOT_BITS: u8 = 1;
    const ROOT_DECIDES_MOST: bool = true;
    const ZERO: Self = Self(0);

    fn root_index(self) -> usize {
        usize::from(self.0 >> 8) & 1
    }

    fn octet(self, _depth: u8) -> u8 {
        self.0 as u8
    }

    fn masked(self, len: u8) -> Self {
        Self(self.0 & 511 & (511 << (9 - len)))
    }
}

const LEFT: Tiny = Tiny(0b0_0000_0001);
const RIGHT: Tiny = Tiny(0b1_0000_0001);

fn hop(value: u32) -> NextHop {
    NextHop::new(value).unwrap()
}

fn prefix(addr: Tiny, len: u8) -> Prefix<Tiny> {
    Prefix::new(addr, len).unwrap()
}

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 100_000;
    builder.check(model);
}

fn tables() -> (Arc<Quiescence>, Arc<Trie<Tiny>>, Painter) {
    const UNITS_MAX: u32 = 64;
    const { assert!(UNIT_WORDS == 4) };
    let quiescence = Quiescence::with_seats(1);
    let painter = Painter::new(Arena::new(Arc::clone(&quiescence), UNITS_MAX));
    (quiescence, Arc::new(Trie::new(UNITS_MAX).unwrap()), painter)
}

#[test]
fn a_reader_never_sees_another_prefix_in_a_reused_node() {
    check(|| {
        let (quiescence, trie, mut painter) = tables();
        painter.cover(&trie, prefix(LEFT, 9), hop(1)).unwrap();
        let seat = quiescence.seat().unwrap();
        let reader = {
            let trie = Arc::clone(&trie);
            thread::spawn(move || {
                let first = trie.lookup(LEFT);
                assert!(first == hop(1) || first == hop(2), "{first:?}");
                seat.quiescent();
                let second = trie.lookup(LEFT);
                assert!(second == hop(2) || second == first, "{first:?} then {second:?}");
            })
        };
        // The first node of LEFT goes; RIGHT's node takes its room if the reader cannot be in it.
        painter.cover(&trie, prefix(LEFT, 9), hop(2)).unwrap();
        painter.cover(&trie, prefix(RIGHT, 9), hop(9)).unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn a_reader_that_comes_online_is_waited_for() {
    check(|| {
        let (quiescence, trie, mut painter) = tables();
        painter.cover(&trie, prefix(LEFT, 9), hop(1)).unwrap();
        let reader = {
            let trie = Arc::clone(&trie);
            thread::spawn(move || {
                let seat = quiescence.seat().unwrap();
                let found = trie.lookup(LEFT);
                assert!(found == hop(1) || found == hop(2), "{found:?}");
                seat.offline();
            })
        };
        painter.cover(&trie, prefix(LEFT, 9), hop(2)).unwrap();
        painter.cover(&trie, prefix(RIGHT, 9), hop(9)).unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn an_address_between_a_route_and_the_default_route_never_sees_a_default_from_elsewhen() {
    check(|| {
        let (quiescence, trie, mut painter) = tables();
        painter.cover(&trie, prefix(LEFT, 0), hop(1)).unwrap();
        painter.cover(&trie, prefix(LEFT, 1), hop(2)).unwrap();
        let seat = quiescence.seat().unwrap();
        let reader = {
            let trie = Arc::clone(&trie);
            thread::spawn(move || {
                let found = trie.lookup(LEFT);
                // The default route was 1 only while the longer route was there to hide it.
                assert!(found == hop(2) || found == hop(3), "{found:?}");
                drop(seat);
            })
        };
        painter.cover(&trie, prefix(LEFT, 0), hop(3)).unwrap();
        painter.uncover(&trie, prefix(LEFT, 1), None).unwrap();
        reader.join().unwrap();
    });
}
