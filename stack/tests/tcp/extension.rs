//! A layer above TCP may do what ARCHITECTURE.md says of `Extension`: write and read options, place text, set the window, rule over
//! segments, and learn of the end. A name begins with what the layer does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tailwater_stack::tcp::extension::{Extension, Placement, Ruling, SegmentView};
use tailwater_stack::tcp::{CloseReason, Connect, Listen, SynCookies, TcpEvent};
use tailwater_stack::testing::VecBuffer;
use tailwater_stack::wire::tcp_option::{OptionsWriter, find};
use tailwater_stack::{Config, Instant};

use crate::pair::{Faults, Net, Transfer, address};
use crate::script::*;

/// An option for experiments (RFC 6994).
const KIND: u8 = 253;

#[derive(Debug, Default)]
struct Seen {
    /// The peer's option, by what it carried.
    options: Vec<[u8; 2]>,
    text: Vec<u8>,
    acked: u32,
    finished: bool,
    closed: Option<CloseReason>,
}

#[derive(Debug)]
struct Layer {
    seen: Arc<Mutex<Seen>>,
    window: Option<u32>,
    takes: bool,
    refuses: Option<Ruling>,
}

impl Extension<VecBuffer> for Layer {
    fn write_options(&mut self, leaving: &SegmentView<'_>, to: &mut OptionsWriter) {
        let [.., high, low] = leaving.offset.to_be_bytes();
        assert!(to.put(&[KIND, 4, high, low]), "its room was kept free");
    }

    fn options_len_max(&self) -> usize {
        4
    }

    fn on_segment(&mut self, arrived: &SegmentView<'_>, _now: Instant) -> Ruling {
        let mut seen = self.seen.lock().unwrap();
        if let Some(&[high, low]) = find(arrived.options, KIND) {
            seen.options.push([high, low]);
        }
        seen.acked = arrived.acked;
        match self.refuses.filter(|_| arrived.len > 0) {
            Some(ruling) => ruling,
            None => Ruling::Go,
        }
    }

    fn place(&mut self, offset: u32, text: VecBuffer) -> Placement<VecBuffer> {
        if !self.takes {
            return Placement::Own(text);
        }
        let mut seen = self.seen.lock().unwrap();
        assert_eq!(offset as usize, seen.text.len());
        seen.text.extend(text.to_vec());
        Placement::Taken
    }

    fn receive_window(&self) -> Option<u32> {
        self.window
    }

    fn on_finished(&mut self) {
        self.seen.lock().unwrap().finished = true;
    }

    fn on_closed(&mut self, reason: CloseReason) {
        self.seen.lock().unwrap().closed = Some(reason);
    }
}

fn layer(seen: &Arc<Mutex<Seen>>) -> Layer {
    Layer { seen: Arc::clone(seen), window: None, takes: false, refuses: None }
}

/// An accepted connection with this layer.
fn accept(layer: impl Fn() -> Layer + Send + 'static) -> (Host, u32) {
    let mut host = Host::new();
    let listener = host.listen();
    host.stack.tcp_extend(listener, Box::new(move |_syn| Some(Box::new(layer()))));
    let mut syn = seg(SYN, 1_000, 0);
    syn.mss = Some(1_000);
    host.get(&syn);
    let answer = host.env.sent().unwrap();
    assert_eq!(answer[14 + 20 + 24..][..4], [KIND, 4, 0, 0], "also on the SYN,ACK");
    let first = u32::from_be_bytes(answer[14 + 20 + 4..][..4].try_into().unwrap()) + 1;
    host.get(&seg(ACK, 1_001, first));
    (host, first)
}

#[test]
fn a_layer_speaks_in_options_at_both_ends_and_full_segments_leave_room_for_them_rfc6691_s2() {
    let mut net = Net::new(1, Faults { loss: 20, ..Faults::NONE });
    let [client_seen, server_seen] = [(); 2].map(|()| Arc::new(Mutex::new(Seen::default())));
    let listener = net.stacks[1].tcp_listen("0.0.0.0:80".parse().unwrap(), Listen::default()).unwrap();
    let seen = Arc::clone(&server_seen);
    net.stacks[1].tcp_extend(listener, Box::new(move |_syn| Some(Box::new(layer(&seen)))));
    let remote = (address(1, false), 80).into();
    let connect = Connect { extension: Some(Box::new(layer(&client_seen))), ..Connect::to(remote) };
    let client = net.stacks[0].tcp_connect(connect, |_| true, &mut net.envs[0]).unwrap();
    let outcome = Transfer::new(client, [200_000, 100_000]).run(&mut net, Duration::from_secs(100));
    assert_eq!(outcome.received, [100_000, 200_000]);
    let (client_seen, server_seen) = (client_seen.lock().unwrap(), server_seen.lock().unwrap());
    assert!(client_seen.options.len() > 50 && server_seen.options.len() > 100);
    assert!(client_seen.finished && server_seen.finished);
    assert_eq!(client_seen.acked, 200_001);
}

#[test]
fn a_layer_takes_text_which_is_not_the_applications_then() {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = Arc::clone(&seen);
    let (mut host, first) = accept(move || Layer { takes: true, ..layer(&shared) });
    let [TcpEvent::Accepted { connection, .. }] = host.events[..] else { panic!() };
    host.get(&seg(ACK, 2_001, first).text(&bytes(1_000, 1_000)));
    assert!(seen.lock().unwrap().text.is_empty(), "in order only");
    host.get(&seg(ACK, 1_001, first).text(&bytes(0, 1_000)));
    assert_eq!(seen.lock().unwrap().text, bytes(0, 2_000));
    assert_eq!(host.stack.tcp_readable(connection), 0);
    host.env.transmitted.clear();
    // The layer's buffers are its own.
    host.forget_taken(2);
}

#[test]
fn a_layer_sets_the_window() {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = Arc::clone(&seen);
    let (mut host, first) = accept(move || Layer { window: Some(5_000), ..layer(&shared) });
    host.get(&seg(ACK, 1_001, first).text(&bytes(0, 1_000)));
    let ack = host.env.sent().unwrap();
    assert_eq!(u16::from_be_bytes([ack[14 + 20 + 14], ack[14 + 20 + 15]]), 5_000);
}

#[test]
fn a_layer_refuses_a_segment_which_is_dropped_or_resets() {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = Arc::clone(&seen);
    let (mut host, first) = accept(move || Layer { refuses: Some(Ruling::Drop), ..layer(&shared) });
    let text = seg(ACK, 1_001, first).text(b"no");
    assert_eq!(host.refusal(&text), tailwater_stack::DropReason::TcpExtensionRefused);
    let shared = Arc::clone(&seen);
    let (mut host, first) = accept(move || Layer { refuses: Some(Ruling::Reset), ..layer(&shared) });
    host.get(&seg(ACK, 1_001, first).text(b"no"));
    assert_eq!(seen.lock().unwrap().closed, Some(CloseReason::Reset));
    assert_eq!(host.env.sent().unwrap()[14 + 20 + 13] & RST, RST);
}

#[test]
fn a_layer_drops_an_answer_to_our_syn_which_then_never_came() {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let mut host = Host::new();
    let layer = Layer { refuses: Some(Ruling::Drop), ..layer(&seen) };
    let connect =
        Connect { local_port: PORT, extension: Some(Box::new(layer)), ..Connect::to((PEER, PEER_PORT).into()) };
    let id = host.stack.tcp_connect(connect, |_| true, &mut host.env).unwrap();
    let syn = host.env.sent().unwrap();
    let first = u32::from_be_bytes(syn[14 + 20 + 4..][..4].try_into().unwrap()) + 1;
    let refused = seg(SYN | ACK, 1_000, first).text(b"no");
    assert_eq!(host.refusal(&refused), tailwater_stack::DropReason::TcpExtensionRefused);
    assert_eq!((host.state(id), host.env.sent()), ("SYN-SENT", None));
    // Another is taken as the first.
    host.get(&seg(SYN | ACK, 7_000, first));
    assert_eq!(host.state(id), "ESTABLISHED");
    let ack = host.env.sent().unwrap();
    assert_eq!(u32::from_be_bytes(ack[14 + 20 + 8..][..4].try_into().unwrap()), 7_001);
}

#[test]
fn a_layer_is_not_made_for_a_connection_by_cookie_nor_promised_by_its_syn_ack_rfc4987_s3_6() {
    // The SYN's options, which a layer is made from, are not kept.
    let mut config = Config::default();
    config.tcp.syn_cookies = SynCookies::Always;
    let mut host = Host::with(config);
    let listener = host.listen();
    host.stack.tcp_extend(listener, Box::new(|_syn| panic!("asked for a layer")));
    // Reading an answer with the layer's option in it would fail.
    let (id, first) = host.accept_with(&seg(SYN, 1_000, 0).raw_options(&[KIND, 4, 0, 0]));
    // What comes later may say it again, and is too late.
    host.get(&seg(ACK, 1_001, first).text(b"plain").raw_options(&[KIND, 4, 0, 0]));
    assert_eq!(host.read(id), b"plain");
    host.send(id, b"also");
    assert_eq!(host.expect().text, b"also");
}
