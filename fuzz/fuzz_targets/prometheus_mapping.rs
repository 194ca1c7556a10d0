//! Whatever a mapping of expressions to metrics holds: no panic.
#![no_main]

use forefend_telemetry::history::prometheus::Mapping;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(queries) = Mapping::parse(text).and_then(|mapping| mapping.queries()) {
        assert!(!queries.is_empty());
    }
});
