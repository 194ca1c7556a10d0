//! Whatever answers in the name of a Prometheus: no panic, and no more values than bytes.
#![no_main]

use forefend_telemetry::prometheus::values_in;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|answer: &[u8]| {
    if let Ok(values) = values_in(answer) {
        assert!(values <= answer.len());
    }
});
