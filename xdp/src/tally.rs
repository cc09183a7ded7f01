//! Reading per-CPU `struct tally` values.

/// Sums packets and bytes over the CPUs' values.
pub(crate) fn sum(cpus: &[Vec<u8>]) -> (u64, u64) {
    let word = |value: &[u8], at: usize| {
        let bytes = value.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_ne_bytes)
    };
    cpus.iter().fold((0, 0), |(packets, bytes), value| (packets + word(value, 0), bytes + word(value, 8)))
}
