//! A filter expression (`man pcap-filter`), compiled to classic BPF and run by libpcap. Running a program touches nothing
//! but the program and the packet, in any thread.

use super::libpcap::Program;
use crate::block::ParameterError;
use crate::frame::Frame;

/// A filter program for Ethernet frames. The empty expression takes every packet.
pub(crate) struct Filter {
    program: Program,
}

impl Filter {
    /// Compiles an expression, the value of parameter `key`. Host names in it are resolved now, which may take seconds.
    pub(crate) fn compile(key: &str, expression: &str) -> Result<Self, ParameterError> {
        let refused = |message: String| ParameterError::Value {
            key: key.to_owned(),
            value: format!("{expression:?}"),
            wanted: format!("{message}; see `man pcap-filter`, for example \"udp port 53\" or \"ip6 and not icmp6\""),
        };
        Ok(Self { program: Program::compile(expression).map_err(refused)? })
    }

    /// Whether the packet matches. Of a packet in several chunks the program sees the first one's bytes and the whole
    /// one's length; like any packet cut by a snap length, it does not match where the program needs more.
    #[inline]
    pub(crate) fn matches(&self, frame: &Frame) -> bool {
        self.matches_bytes(frame.bytes(), frame.total_len())
    }

    /// Whether a packet of `wire_len` bytes that starts with `bytes` matches.
    #[inline]
    pub(crate) fn matches_bytes(&self, bytes: &[u8], wire_len: usize) -> bool {
        self.program.accepts(bytes, wire_len as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_the_whole_packets_and_loads_stop_at_the_buffers_end() {
        let long = Filter::compile("expression", "greater 1000").unwrap();
        assert!(long.matches_bytes(&[0; 60], 1000));
        assert!(!long.matches_bytes(&[0; 60], 999));
        let beyond = Filter::compile("expression", "ether[60] = 0").unwrap();
        assert!(!beyond.matches_bytes(&[0; 60], 1000));
        assert!(beyond.matches_bytes(&[0; 61], 1000));
    }

    #[test]
    fn programs_compile_and_run_in_many_threads_at_once() {
        std::thread::scope(|scope| {
            for port in 1..9u8 {
                scope.spawn(move || {
                    for _ in 0..50 {
                        let filter = Filter::compile("expression", &format!("ether[0] = {port}")).unwrap();
                        assert!(filter.matches_bytes(&[port; 60], 60));
                        assert!(!filter.matches_bytes(&[port + 1; 60], 60));
                    }
                });
            }
        });
    }
}
