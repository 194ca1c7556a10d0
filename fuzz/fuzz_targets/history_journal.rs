//! Whatever a journal of the history holds: no panic, and what is whole and what is torn add up.
#![no_main]

use forefend_telemetry::history::store::read_journal;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(end) = read_journal(bytes, |_| Ok(())) {
        assert_eq!(end.whole_bytes + end.torn_bytes, bytes.len());
        // What was whole stays so without what was torn.
        let again = read_journal(&bytes[..end.whole_bytes], |_| Ok(())).expect("it was one before");
        assert_eq!((again.whole_bytes, again.torn_bytes), (end.whole_bytes, 0));
    }
});
