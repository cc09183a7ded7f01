//! Single changes, one claim each.

use tailwater_dataplane::graph::GraphSpec;

use crate::plant::{Plant, extract, insert};

fn wire() -> GraphSpec {
    GraphSpec::default().edge("rx:a", "tx:b")
}

#[test]
fn block_is_inserted_into_a_running_edge_and_taken_out_again() {
    let (mut plant, mut outsides) = Plant::start(wire(), 1);
    let before = plant.dump();
    let change = plant.change([insert("count", "counter", &[], "rx:a -> tx:b")]).unwrap();
    assert_eq!((change.version, change.diff.added.len(), change.stalls.len()), (2, 1, 1));
    for _ in 0..100 {
        outsides[0].step(true);
    }
    outsides[0].settle();
    assert_eq!(plant.counter("count", "packets"), outsides[0].sent);
    plant.change([extract("count")]).unwrap();
    assert_eq!(plant.dump(), before);
    outsides[0].step(true);
    outsides[0].settle();
    assert!(outsides[0].astray.is_empty());
    plant.stop(outsides);
}
