//! The CPUs of this machine.

use std::fs;

/// CPUs in one listing at most; more than any kernel is built for.
const CPUS_MAX: usize = 8192;

/// Numbers of the CPUs which are switched on.
pub(crate) fn online() -> Vec<usize> {
    let text = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let cpus = parse(&text);
    // Without sysfs there is still the CPU that runs this.
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// The kernel's notation for sets of CPUs: `0-3,8,10-11`.
fn parse(text: &str) -> Vec<usize> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            cpus.extend((first..=last).take(CPUS_MAX));
        }
    }
    cpus
}

/// The same as text.
pub(crate) fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_single_cpus_are_read() {
        assert_eq!(parse("0-2,5,7-8\n"), [0, 1, 2, 5, 7, 8]);
        assert_eq!(parse("0\n"), [0]);
        assert_eq!(parse(""), [0usize; 0]);
    }
}
