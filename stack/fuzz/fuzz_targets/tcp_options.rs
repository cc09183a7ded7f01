//! TCP options of any bytes: parsed the same when written again, and nothing panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tailwater_stack::wire::tcp_option::{OPTIONS_LEN_MAX, OptionsWriter, TcpOptions, options};

fuzz_target!(|bytes: &[u8]| {
    let bytes = &bytes[..bytes.len().min(OPTIONS_LEN_MAX)];
    assert!(options(bytes).count() <= OPTIONS_LEN_MAX);
    let parsed = TcpOptions::parse(bytes);
    assert!(parsed.window_scale.is_none_or(|shift| shift <= 14));
    let mut writer = OptionsWriter::new(OPTIONS_LEN_MAX);
    parsed.write(&mut writer);
    let again = TcpOptions::parse(writer.as_bytes());
    // All of them together may be too long to write; what was written is what was read.
    if writer.room() > 0 {
        assert_eq!(again.timestamps, parsed.timestamps);
        assert_eq!(again.mss, parsed.mss);
    }
});
