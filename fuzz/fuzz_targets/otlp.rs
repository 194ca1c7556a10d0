//! Whatever a sender sends: no panic, limits kept, quantiles that are numbers.
#![no_main]

use forefend_telemetry::{
    inflate,
    otlp::{Encoding, decode_logs, decode_metrics},
    pushed::{PushLimits, PushedLog},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let limits = PushLimits { max_bytes: 16_384, max_points: 50, max_part_bytes: 1_024, max_labels: 5, ..PushLimits::default() };
    if let Ok(plain) = inflate::gzip(body, limits.max_bytes) {
        assert!(plain.len() <= limits.max_bytes);
    }
    for encoding in [Encoding::Protobuf, Encoding::Json] {
        if let Ok(decoded) = decode_metrics(body, encoding, &limits) {
            for series in &decoded.taken {
                assert!(series.labels.len() <= limits.max_labels && series.points.len() == 1);
                if let Some((quantile, buckets)) = &series.quantile {
                    assert!(buckets.quantile(*quantile).is_none_or(f64::is_finite));
                }
            }
        }
        if let Ok(decoded) = decode_logs(body, encoding, &limits) {
            assert!(decoded.taken.len() <= limits.max_points);
            assert!(decoded.taken.iter().all(|record| record.body.len() <= PushedLog::MAX_BODY_BYTES));
        }
    }
});
