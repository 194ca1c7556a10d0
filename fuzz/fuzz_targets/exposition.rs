//! Whatever a cell sends: no panic, limits kept, and every error names a place in the body.
#![no_main]

use forefend_telemetry::exposition::{Format, Limits, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let limits = Limits { max_lines: 200, max_line_bytes: 300, max_samples: 50, max_broken_lines: 20 };
    for format in [Format::Text, Format::OpenMetrics] {
        let Ok(seen) = parse(body, format, &limits) else { continue };
        assert!(seen.len() <= limits.max_samples && seen.broken_lines <= limits.max_broken_lines);
        assert_eq!(seen.broken_lines > 0, seen.first_error.is_some());
        if let Some(error) = &seen.first_error {
            let line = body.split(|byte| *byte == b'\n').nth(error.line - 1).expect("a line of the body");
            assert!(error.column >= 1 && error.column <= line.len() + 1);
        }
        for (_, sample) in seen.samples() {
            assert!(!sample.name.is_empty());
            assert!(sample.labels.windows(2).all(|pair| pair[0].0 < pair[1].0), "sorted, none twice");
        }
    }
});
