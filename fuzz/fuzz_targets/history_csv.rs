//! Whatever a table of samples holds: no panic, and every error names its place.
#![no_main]

use forefend_telemetry::history::{LoadOptions, parse_csv};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let options = LoadOptions { max_rows: 100, ..LoadOptions::default() };
    match parse_csv(text, &options) {
        Ok(Some(history)) => {
            for series in history.cells.values().flat_map(|cell| cell.series.values()) {
                assert!(series.samples.windows(2).all(|pair| pair[0].0 < pair[1].0));
                assert!(series.samples.iter().all(|(_, value)| value.is_finite()));
            }
        }
        Ok(None) => {}
        Err(complaint) => assert!(!complaint.place.is_empty() && !complaint.remedy.is_empty()),
    }
});
