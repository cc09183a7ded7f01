//! When a mirror lists routes that are in doubt. Lists those of the namespace it runs in, needs no privilege.

use super::*;
use crate::request::RTM_DELROUTE;
use crate::socket::Message;

/// A mirror that has told everything, last listed for `listed_for`, and hears nothing more.
fn settled(listed_for: Duration) -> Mirror {
    let mut mirror = Mirror::open(Limits::default()).unwrap();
    while mirror.try_next().unwrap().is_some() {}
    mirror.notifications = Netlink::open(&[], REQUEST_BUFFER_BYTES).unwrap();
    let now = Instant::now();
    mirror.tables.doubt = crate::doubt::Doubt::default();
    mirror.tables.doubt.rest(now, now + listed_for);
    mirror
}

/// That `fd01::/64` via `::2` is no more, in the main table.
fn ipv6_removal() -> Vec<u8> {
    let mut payload = vec![10, 64, 0, 0, TABLE_MAIN as u8, 4, 0, 1, 0, 0, 0, 0];
    let destination = [0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let gateway = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    for (kind, address) in [(1u16, destination), (5, gateway)] {
        payload.extend(20u16.to_ne_bytes());
        payload.extend(kind.to_ne_bytes());
        payload.extend(address);
    }
    payload
}

#[test]
fn routes_in_doubt_are_not_listed_while_the_last_listing_is_rested_from() {
    let mut mirror = settled(Duration::from_secs(3600));
    mirror.tables.doubt.cast(false);
    while mirror.try_next().unwrap().is_some() {}
    assert!(mirror.listing_due_in().is_some_and(|due_in| due_in > Duration::from_secs(3600)));
    let listings = mirror.counters().listings;
    mirror.tables.stale.ipv6_routes = true;
    while mirror.try_next().unwrap().is_some() {}
    assert!(mirror.counters().listings > listings, "for another reason at once");
    assert_eq!(mirror.listing_due_in(), None);
}

#[test]
fn a_waiting_reader_wakes_up_for_routes_in_doubt() {
    let mut mirror = settled(Duration::from_millis(1));
    mirror.tables.doubt.cast(false);
    let deadline = Instant::now() + Duration::from_secs(60);
    while mirror.next(Some(Duration::from_secs(60))).unwrap() != Some(Event::Resynchronised) {
        assert!(Instant::now() < deadline, "slept on");
    }
    assert_eq!(mirror.listing_due_in(), None);
}

#[test]
fn a_removal_while_ipv6_routes_were_listed_leaves_them_in_doubt() {
    let mut mirror = settled(Duration::from_secs(3600));
    let payload = ipv6_removal();
    let removal = Message { kind: RTM_DELROUTE, flags: 0, sequence: 0, payload: &payload };
    mirror.tables.notified(removal);
    assert_eq!(mirror.listing_due_in(), None, "nothing was listed meanwhile");
    mirror.list(Stale { ipv4_routes: true, ..Stale::NOTHING }).unwrap();
    mirror.tables.notified(removal);
    assert_eq!(mirror.listing_due_in(), None, "other routes were listed");
    mirror.list(Stale { ipv6_routes: true, ..Stale::NOTHING }).unwrap();
    mirror.tables.notified(removal);
    assert!(mirror.listing_due_in().is_some());
}
