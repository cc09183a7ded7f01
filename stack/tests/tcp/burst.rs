//! Several segments at once, and segments that are recognized.

use std::net::Ipv4Addr;

use tailwater_stack::{Cidr, DropReason, InterfaceId};

use crate::script::*;

#[test]
fn text_in_order_is_acknowledged_once_at_the_end_of_a_burst() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.stack.begin_burst();
    for n in 0..20 {
        host.get(&seg(ACK, 1_001 + n * 1_000, first).text(&[0; 1_000]));
    }
    assert_eq!(host.all(), []);
    host.stack.end_burst(&mut host.env);
    let [ack] = &host.all()[..] else { panic!("one acknowledgement") };
    assert_eq!((ack.ack, host.read(id).len()), (21_001, 20_000));
    host.assert_books();
}

#[test]
fn an_answer_in_a_burst_carries_its_acknowledgement_and_the_window_after_reading() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.stack.begin_burst();
    for n in 0..4 {
        host.get(&seg(ACK, 1_001 + n * 1_000, first).text(&[0; 1_000]));
    }
    let read = host.read(id).len();
    host.send(id, b"pong");
    assert_eq!((read, host.all()), (4_000, vec![]));
    host.stack.end_burst(&mut host.env);
    let [answer] = &host.all()[..] else { panic!("one segment") };
    assert_eq!((answer.text.as_slice(), answer.ack), (&b"pong"[..], 5_001));
    host.wait_ms(60);
    host.expect_nothing();
}

#[test]
fn who_has_had_a_turn_in_a_burst_and_receives_more_has_another_at_its_end() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.stack.begin_burst();
    for (answers, ack) in [(true, 3_001), (false, 5_001)] {
        for n in 0..2 {
            host.get(&seg(ACK, ack - 2_000 + n * 1_000, first).text(&[0; 1_000]));
        }
        assert_eq!((host.read(id).len(), host.all()), (2_000, vec![]));
        if answers {
            host.stack.tcp_answered(id, &mut host.env);
        } else {
            host.stack.end_burst(&mut host.env);
        }
        assert_eq!(host.expect().ack, ack);
    }
    assert!(host.stack.is_quiet());
    host.assert_books();
}

#[test]
fn each_segment_behind_a_gap_is_acknowledged_at_once_in_a_burst_too_rfc5681_s4_2() {
    let mut host = Host::new();
    let (_, first) = host.accept();
    host.stack.begin_burst();
    for n in 1..4 {
        host.get(&seg(ACK, 1_001 + n * 1_000, first).text(&bytes(0, 1_000)));
        assert_eq!(host.expect().ack, 1_001, "a duplicate acknowledgement for each");
    }
    host.get(&seg(ACK, 1_001, first).text(&bytes(0, 1_000)));
    assert_eq!(host.expect().ack, 5_001, "the gap is filled");
    host.stack.end_burst(&mut host.env);
    host.expect_nothing();
}

#[test]
fn once_a_gap_is_filled_a_burst_is_acknowledged_once_without_sack_too() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.get(&seg(ACK, 2_001, first).text(&[0; 1_000]));
    // A second time: without SACK there is nothing to report of that either.
    host.get(&seg(ACK, 2_001, first).text(&[0; 1_000]));
    host.get(&seg(ACK, 1_001, first).text(&[0; 1_000]));
    host.all();
    host.stack.begin_burst();
    for n in 2..20 {
        host.get(&seg(ACK, 1_001 + n * 1_000, first).text(&[0; 1_000]));
    }
    assert_eq!(host.all(), []);
    host.stack.end_burst(&mut host.env);
    assert_eq!(host.all().len(), 1);
    assert_eq!(host.read(id).len(), 20_000);
}

#[test]
fn a_connection_that_ends_in_a_burst_has_no_turn_at_its_end() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.stack.begin_burst();
    host.get(&seg(ACK, 1_001, first).text(b"hi"));
    host.read(id);
    host.get(&seg(RST, 1_003, 0));
    host.stack.end_burst(&mut host.env);
    host.expect_nothing();
    assert_eq!(host.state(id), "gone");
    host.assert_books();
}

#[test]
fn a_segment_that_is_recognized_must_have_a_right_checksum() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.get(&seg(ACK, 1_001, first).text(b"recognized"));
    let mut frame = seg(ACK, 1_011, first).text(b"from here on").frame(PORT);
    let last = frame.len() - 1;
    frame[last] ^= 1;
    let verdict = host.frame(&frame);
    assert!(matches!(verdict, tailwater_stack::Verdict::Discarded(DropReason::TcpChecksum)), "{verdict:?}");
    assert_eq!(host.read(id), b"recognized");
}

#[test]
fn a_segment_that_was_recognized_is_not_ours_any_more_without_its_address() {
    let mut host = Host::new();
    let (_, first) = host.accept();
    host.get(&seg(ACK, 1_001, first).text(b"recognized"));
    let ours: Vec<Cidr> = host.stack.addresses(InterfaceId(0)).to_vec();
    for address in ours {
        host.stack.remove_address(InterfaceId(0), address.address());
    }
    assert_eq!(host.refusal(&seg(ACK, 1_011, first).text(b"late")), DropReason::AddressNotOurs);
    let another = Cidr::new(Ipv4Addr::new(10, 9, 8, 7), 24).unwrap();
    host.stack.add_address(InterfaceId(0), another).unwrap();
    assert_eq!(host.refusal(&seg(ACK, 1_011, first).text(b"late")), DropReason::AddressNotOurs);
}
