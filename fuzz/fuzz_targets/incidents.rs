//! Whatever a file of incidents holds: no panic, every error names its place, and what is read is in order.
#![no_main]

use forefend_telemetry::history::parse_incidents;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| match parse_incidents(text) {
    Ok(incidents) => {
        assert!(incidents.windows(2).all(|pair| pair[0].began <= pair[1].began));
        assert!(incidents.iter().all(|incident| incident.ended.is_none_or(|ended| ended >= incident.began)));
    }
    Err(complaint) => assert!(!complaint.place.is_empty() && !complaint.remedy.is_empty()),
});
