//! One rtnetlink socket: requests with their answers, or a stream of notifications.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use netlink_packet_core::{
    ErrorBuffer, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv, sockopt};
use rustix::param::page_size;

use crate::error::{Error, Result};

/// The kernel fills dump datagrams up to 32 KiB when the reader offers that much. A buffer of this size is mapped, not
/// taken from the heap: pages that no answer reaches cost nothing.
const DATAGRAM_BYTES_MAX: usize = 256 * 1024;
/// The kernel fills the first datagram of a dump before it knows of any buffer: a page, or of large pages this much
/// (`NLMSG_GOODSIZE`). The next one, which a glance may never read, it fills as large as the buffer for the one before.
const FIRST_DATAGRAM_BYTES_MAX: usize = 8 * 1024;
/// rtnetlink answers within the system call; this only guards against a hung kernel.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_HEADER_LEN: usize = 16;
/// Flag of an error: the request is not quoted in full, only its header.
const NLM_F_CAPPED: u16 = 0x100;
/// Flag of an error: attributes follow the quoted request.
const NLM_F_ACK_TLVS: u16 = 0x200;
/// Attribute of an error: the reason in words.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// The kernel's no: a code, and perhaps a sentence.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) source: io::Error,
    pub(crate) said: Option<String>,
}

pub(crate) type Verdict = std::result::Result<(), Refusal>;

/// A message of the kernel, header fields first.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// How a dump ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dump {
    Complete,
    /// The table changed meanwhile (`NLM_F_DUMP_INTR`): what was listed may miss or repeat entries.
    Interrupted,
    /// The table asked for does not exist.
    Absent,
    /// The reader had enough; there may be more.
    Enough,
}

pub(crate) enum Received {
    Datagram(usize),
    /// Nothing there now.
    Empty,
    /// The kernel dropped notifications because the buffer was full.
    Overflow,
}

pub(crate) struct Netlink {
    socket: Socket,
    buffer: Vec<u8>,
    /// The most that a read has offered: as large are the datagrams of every dump from then on.
    offered: usize,
    sequence: u32,
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread, where it stays for good.
    /// `groups` are `RTNLGRP_*` numbers.
    pub(crate) fn open(groups: &[u32], receive_buffer_bytes: usize) -> Result<Self> {
        let doing = |doing| move |source| Error::Socket { doing, source };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(doing("open a socket"))?;
        socket.bind(&SocketAddr::new(0, 0)).map_err(doing("bind"))?;
        // Beyond net.core.rmem_max only with CAP_NET_ADMIN; without it, take what is allowed.
        if sockopt::set_socket_recv_buffer_size_force(&socket, receive_buffer_bytes).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, receive_buffer_bytes)
                .map_err(|errno| doing("size the receive buffer")(errno.into()))?;
        }
        // Kernels before 4.20 do not check; their dumps list more, which readers must filter anyway.
        let _ = socket.set_netlink_get_strict_chk(true);
        // Reasons in words, and requests not quoted back; kernels before 4.12 know neither.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        for group in groups {
            socket.add_membership(*group).map_err(doing("subscribe to a group"))?;
        }
        Ok(Self { socket, buffer: vec![0; DATAGRAM_BYTES_MAX], offered: 0, sequence: 0 })
    }

    /// Bytes the kernel queues for this socket before it drops; it counts its own overhead too.
    pub(crate) fn receive_buffer_bytes(&self) -> usize {
        sockopt::socket_recv_buffer_size(&self.socket).unwrap_or(0)
    }

    /// Takes one datagram if one is there; its messages are in [`Self::messages`].
    pub(crate) fn receive(&mut self) -> Result<Received> {
        self.receive_at_most(DATAGRAM_BYTES_MAX)
    }

    fn receive_at_most(&mut self, bytes_max: usize) -> Result<Received> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let buffer = self.buffer.get_mut(..bytes_max).unwrap_or_default();
        match recv(&self.socket, buffer, flags) {
            // A message larger than the buffer is as good as lost.
            Ok((_, length)) if length > bytes_max => Ok(Received::Overflow),
            Ok((_, length)) => {
                self.offered = self.offered.max(bytes_max);
                Ok(Received::Datagram(length))
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Received::Empty),
            Err(Errno::NOBUFS) => Ok(Received::Overflow),
            Err(errno) => Err(Error::Socket { doing: "receive", source: errno.into() }),
        }
    }

    pub(crate) fn messages(&self, length: usize) -> Messages<'_> {
        Messages { rest: self.buffer.get(..length).unwrap_or_default() }
    }

    /// Waits until something can be received. `None` waits for ever. False when time ran out.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(Error::Socket { doing: "wait", source: errno.into() }),
        }
    }

    /// Sends requests in one system call, each with its own sequence number and an acknowledgement
    /// asked for, and returns the kernel's verdict on each, in order.
    pub(crate) fn execute<M: NetlinkSerializable>(
        &mut self,
        doing: &'static str,
        requests: Vec<(M, u16)>,
    ) -> Result<Vec<Verdict>> {
        let mut datagram = Vec::new();
        let first = self.sequence.wrapping_add(1);
        let count = requests.len();
        for (request, flags) in requests {
            self.sequence = self.sequence.wrapping_add(1);
            append(&mut datagram, request, flags | NLM_F_REQUEST | NLM_F_ACK, self.sequence);
        }
        self.send(doing, &datagram)?;
        let mut verdicts: Vec<Option<Verdict>> = Vec::new();
        verdicts.resize_with(count, || None);
        let mut missing = count;
        while missing > 0 {
            let length = self.answer(doing, DATAGRAM_BYTES_MAX)?;
            for message in self.messages(length) {
                let index = message.sequence.wrapping_sub(first) as usize;
                if message.kind == NLMSG_ERROR
                    && let Some(verdict @ None) = verdicts.get_mut(index)
                {
                    *verdict = Some(verdict_of(&message));
                    missing -= 1;
                }
            }
        }
        Ok(verdicts.into_iter().flatten().collect())
    }

    /// Lists a table: every message of it goes to `each`.
    pub(crate) fn dump<M: NetlinkSerializable>(
        &mut self,
        doing: &'static str,
        request: M,
        mut each: impl FnMut(Message<'_>),
    ) -> Result<Dump> {
        self.dump_until(doing, request, |message| {
            each(message);
            ControlFlow::Continue(())
        })
    }

    /// Lists a table until `each` breaks off, then answers [`Dump::Enough`]. The kernel has made little more than what
    /// was read; the rest is made and thrown away before the socket's next request, or never if that does not come.
    pub(crate) fn dump_until<M: NetlinkSerializable>(
        &mut self,
        doing: &'static str,
        request: M,
        each: impl FnMut(Message<'_>) -> ControlFlow<()>,
    ) -> Result<Dump> {
        self.dump_offering(DATAGRAM_BYTES_MAX, doing, request, each)
    }

    /// [`dump_until`](Self::dump_until) for what is most likely among the first few, and a request of which the kernel does
    /// not size the answers: more than a page for one entry and the list ends there, as if it were complete.
    pub(crate) fn glance<M: NetlinkSerializable>(
        &mut self,
        doing: &'static str,
        request: M,
        each: impl FnMut(Message<'_>) -> ControlFlow<()>,
    ) -> Result<Dump> {
        self.dump_offering(page_size().min(FIRST_DATAGRAM_BYTES_MAX), doing, request, each)
    }

    fn dump_offering<M: NetlinkSerializable>(
        &mut self,
        first_bytes_max: usize,
        doing: &'static str,
        request: M,
        mut each: impl FnMut(Message<'_>) -> ControlFlow<()>,
    ) -> Result<Dump> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut datagram = Vec::new();
        append(&mut datagram, request, NLM_F_REQUEST | NLM_F_DUMP, self.sequence);
        self.send(doing, &datagram)?;
        let mut interrupted = false;
        let mut bytes_max = first_bytes_max.max(self.offered);
        loop {
            let length = self.answer(doing, bytes_max)?;
            bytes_max = DATAGRAM_BYTES_MAX;
            for message in self.messages(length) {
                if message.sequence != self.sequence {
                    continue;
                }
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                let verdict = match message.kind {
                    NLMSG_DONE | NLMSG_ERROR => verdict_of(&message),
                    _ if each(message).is_break() => return Ok(Dump::Enough),
                    _ => continue,
                };
                return match verdict {
                    Ok(()) if interrupted => Ok(Dump::Interrupted),
                    Ok(()) => Ok(Dump::Complete),
                    Err(refusal) if refusal.source.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
                        Ok(Dump::Absent)
                    }
                    Err(refusal) => Err(Error::refused(doing, refusal)),
                };
            }
        }
    }

    fn send(&mut self, doing: &'static str, datagram: &[u8]) -> Result<()> {
        // Whatever an earlier, failed exchange left behind would only confuse this one.
        while let Received::Datagram(_) = self.receive()? {}
        let kernel = SocketAddr::new(0, 0);
        match self.socket.send_to(datagram, &kernel, 0) {
            Ok(sent) if sent == datagram.len() => Ok(()),
            Ok(_) => Err(Error::Socket { doing, source: io::ErrorKind::WriteZero.into() }),
            Err(source) => Err(Error::Socket { doing, source }),
        }
    }

    fn answer(&mut self, doing: &'static str, bytes_max: usize) -> Result<usize> {
        let timeout_ms = ANSWER_TIMEOUT.as_millis() as u64;
        let mut deadline = None;
        loop {
            match self.receive_at_most(bytes_max)? {
                Received::Datagram(length) => return Ok(length),
                Received::Overflow => {
                    return Err(Error::Socket { doing, source: Errno::NOBUFS.into() });
                }
                Received::Empty => {}
            }
            let now = Instant::now();
            let left = deadline.get_or_insert(now + ANSWER_TIMEOUT).saturating_duration_since(now);
            if left.is_zero() {
                return Err(Error::NoAnswer { doing, timeout_ms });
            }
            self.wait(Some(left))?;
        }
    }
}

fn append<M: NetlinkSerializable>(datagram: &mut Vec<u8>, request: M, flags: u16, sequence: u32) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    message.finalize();
    let start = datagram.len();
    // Messages start on 4 byte boundaries; attributes already do.
    datagram.resize(start + message.buffer_len().next_multiple_of(4), 0);
    if let Some(space) = datagram.get_mut(start..start + message.buffer_len()) {
        message.serialize(space);
    }
}

/// `NLMSG_ERROR` and `NLMSG_DONE` both start with 0 or a negative errno.
fn verdict_of(message: &Message<'_>) -> Verdict {
    match ErrorBuffer::new_checked(message.payload).ok().and_then(|buffer| buffer.code()) {
        None => Ok(()),
        Some(code) => {
            let source = io::Error::from_raw_os_error(code.get().saturating_neg());
            Err(Refusal { source, said: words_of(message) })
        }
    }
}

/// The reason in words, which follows the code and the request quoted back.
fn words_of(message: &Message<'_>) -> Option<String> {
    if message.kind != NLMSG_ERROR || message.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let quoted = message.payload.get(4..)?;
    let quoted_len = match message.flags & NLM_F_CAPPED {
        0 => u32::from_ne_bytes(quoted.get(..4)?.try_into().ok()?) as usize,
        _ => NLMSG_HEADER_LEN,
    };
    let attributes = NlasIterator::new(quoted.get(quoted_len.next_multiple_of(4)..)?);
    let words = attributes.flatten().find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)?;
    let words = String::from_utf8_lossy(words.value());
    Some(words.trim_end_matches('\0').to_owned()).filter(|words| !words.is_empty())
}

/// The messages of one datagram; stops at the first that is malformed.
pub(crate) struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let buffer = NetlinkBuffer::new_checked(self.rest).ok()?;
        let length = buffer.length() as usize;
        let message = Message {
            kind: buffer.message_type(),
            flags: buffer.flags(),
            sequence: buffer.sequence_number(),
            payload: self.rest.get(NLMSG_HEADER_LEN..length)?,
        };
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error of EINVAL for a request with 4 bytes of body, with the reason in words after it.
    fn refusal(capped: bool) -> Vec<u8> {
        let mut payload = (-22i32).to_ne_bytes().to_vec();
        payload.extend(20u32.to_ne_bytes());
        payload.extend([0; 12]);
        if !capped {
            payload.extend([0xff; 4]);
        }
        let words = b"mtu too large\0";
        payload.extend((4 + words.len() as u16).to_ne_bytes());
        payload.extend(NLMSGERR_ATTR_MSG.to_ne_bytes());
        payload.extend(words);
        payload.resize(payload.len().next_multiple_of(4), 0);
        payload
    }

    fn said(flags: u16, payload: &[u8]) -> Option<String> {
        let verdict = verdict_of(&Message { kind: NLMSG_ERROR, flags, sequence: 1, payload });
        verdict.err().and_then(|refusal| refusal.said)
    }

    #[test]
    fn reason_in_words_is_found_behind_the_quoted_request() {
        assert_eq!(said(NLM_F_ACK_TLVS | NLM_F_CAPPED, &refusal(true)).as_deref(), Some("mtu too large"));
        assert_eq!(said(NLM_F_ACK_TLVS, &refusal(false)).as_deref(), Some("mtu too large"));
    }

    #[test]
    fn refusal_without_words_or_cut_short_has_a_code_only() {
        assert_eq!(said(0, &refusal(true)), None);
        let whole = refusal(true);
        for length in 4..whole.len() {
            let _ = said(NLM_F_ACK_TLVS | NLM_F_CAPPED, &whole[..length]);
            let _ = said(NLM_F_ACK_TLVS, &whole[..length]);
        }
        assert_eq!(said(NLM_F_ACK_TLVS, &whole[..6]), None);
    }
}
