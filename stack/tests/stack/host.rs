//! One host under test, whose books are checked when it goes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tailwater_stack::testing::{TestEnv, VecBuffer};
use tailwater_stack::{
    Buffer, Cidr, Config, Datagram, DropReason, InterfaceConfig, InterfaceId, Route, Sent, SocketId, Stack, Verdict,
};

use crate::frames::{OUR_MAC, OURS, OURS6, PEER, PEER_MAC, PEER6, assert_valid};

pub(crate) struct Host {
    pub(crate) stack: Stack<VecBuffer>,
    pub(crate) env: TestEnv,
    pub(crate) port: InterfaceId,
    /// Frames handed to the stack by the test, and got back from it in verdicts.
    given: usize,
    taken: usize,
}

impl Host {
    /// Owns its interface; knows no neighbour.
    pub(crate) fn new() -> Self {
        Self::with(Config::default(), InterfaceConfig::exclusive(OUR_MAC, 1500))
    }

    pub(crate) fn with(config: Config, interface: InterfaceConfig) -> Self {
        let mut stack = Stack::new(config, 7);
        let port = stack.add_interface(interface);
        stack.add_address(port, Cidr::new(OURS, 24).unwrap()).unwrap();
        stack.add_address(port, Cidr::new(OURS6, 64).unwrap()).unwrap();
        for (prefix, gateway) in [(Cidr::default_v4(), IpAddr::from(PEER)), (Cidr::default_v6(), IpAddr::from(PEER6))] {
            stack.add_route(Route { prefix, gateway: Some(gateway), interface: port }).unwrap();
        }
        Self { stack, env: TestEnv::default(), port, given: 0, taken: 0 }
    }

    /// Knows its peer.
    pub(crate) fn acquainted() -> Self {
        let mut host = Self::new();
        host.meet_peer();
        host
    }

    pub(crate) fn meet_peer(&mut self) {
        for address in [IpAddr::from(PEER), IpAddr::from(PEER6)] {
            assert!(self.stack.set_neighbour(self.port, address, PEER_MAC, &mut self.env));
        }
    }

    pub(crate) fn receive(&mut self, frame: &[u8]) -> Verdict<VecBuffer> {
        self.receive_buffer(VecBuffer::from_bytes(frame))
    }

    pub(crate) fn receive_buffer(&mut self, buffer: VecBuffer) -> Verdict<VecBuffer> {
        self.given += buffer.frames();
        let verdict = self.stack.ingest(self.port, buffer, &mut self.env);
        match &verdict {
            Verdict::Datagram(datagram) => self.taken += datagram.buffer().frames(),
            Verdict::EchoReply(reply) => {
                self.taken += reply.buffer().frames();
                assert!(reply.payload_len() >= reply.payload().len());
            }
            _ => {}
        }
        verdict
    }

    /// Receives a frame that must be dropped, and says why it was.
    pub(crate) fn refusal(&mut self, frame: &[u8]) -> DropReason {
        let before = self.stack.ledger().discarded_total();
        let verdict = self.receive(frame);
        let Verdict::Discarded(reason) = verdict else { panic!("not dropped: {verdict:?}") };
        assert!(self.stack.ledger().discarded_total() > before);
        assert!(self.env.take_drops().contains(&reason));
        reason
    }

    /// Receives a frame that must reach a socket.
    pub(crate) fn datagram(&mut self, frame: &[u8]) -> Datagram<VecBuffer> {
        match self.receive(frame) {
            Verdict::Datagram(datagram) => datagram,
            other => panic!("not delivered: {other:?}"),
        }
    }

    pub(crate) fn bind(&mut self, address: &str) -> SocketId {
        self.stack.udp_bind(address.parse().unwrap(), None).unwrap()
    }

    pub(crate) fn send(&mut self, socket: SocketId, to: &str, payload: &[u8]) -> Result<Sent, DropReason> {
        let to: SocketAddr = to.parse().unwrap();
        self.given += 1;
        self.stack.udp_send(socket, to, VecBuffer::from_bytes(payload), &mut self.env)
    }

    pub(crate) fn reply(&mut self, datagram: Datagram<VecBuffer>) -> Result<Sent, DropReason> {
        self.given += datagram.buffer().frames();
        self.stack.udp_reply(datagram, &mut self.env)
    }

    /// Hands over a buffer outside the other helpers.
    pub(crate) fn give(&mut self, buffer: VecBuffer) -> VecBuffer {
        self.given += buffer.frames();
        buffer
    }

    /// The next frame sent, which must be valid.
    pub(crate) fn sent(&mut self) -> Option<Vec<u8>> {
        let frame = self.env.sent()?;
        assert_valid(&frame);
        Some(frame)
    }

    pub(crate) fn only_sent(&mut self) -> Vec<u8> {
        let frame = self.sent().expect("nothing sent");
        assert_eq!(self.env.transmitted.len(), 0, "sent more than one frame");
        frame
    }

    /// Lets time pass, with every timer due on the way.
    pub(crate) fn wait(&mut self, time: Duration) {
        let end = self.env.now + time;
        for _ in 0..10_000 {
            match self.stack.poll_timeout() {
                Some(due) if due <= end => {
                    self.env.now = self.env.now.max(due);
                    self.stack.on_timeout(&mut self.env);
                }
                _ => {
                    self.env.now = end;
                    return;
                }
            }
        }
        panic!("timers never settle");
    }

    pub(crate) fn assert_books(&self) {
        let held = self.stack.held();
        let ledger = self.stack.ledger();
        assert!(ledger.is_balanced(held), "{held} held, {ledger:?}");
        let came = self.given + self.env.allocated;
        let went = self.taken + self.env.returned + self.env.left;
        assert!(came >= went && (came - went >= held), "{came} came, {went} went, {held} held");
        if held == 0 {
            assert_eq!(came, went, "buffers came and went");
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_books();
        }
    }
}

#[test]
fn a_host_that_did_nothing_has_empty_books() {
    let host = Host::new();
    assert_eq!(host.stack.ledger().drops().count(), 0);
    assert_eq!(host.stack.poll_timeout(), None);
    assert!(!VecBuffer::from_bytes(&[1]).is_empty());
}
