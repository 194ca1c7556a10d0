//! Whatever a sender sends: no panic, limits kept, every point taken or counted as refused.
#![no_main]

use forefend_telemetry::{
    pushed::{CountsAs, PushLimits},
    remote_write::{Version, decode, decode_plain},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let limits = PushLimits { max_bytes: 4_096, max_points: 50, max_part_bytes: 1_024, max_labels: 5, ..PushLimits::default() };
    for version in [Version::V1, Version::V2] {
        let _ = decode(body, version, &limits);
        let Ok(decoded) = decode_plain(body, version, &limits) else { continue };
        let counted = decoded.taken.iter().filter(|series| series.counts_as != CountsAs::Part);
        let taken: usize = counted.map(|series| series.points.len()).sum();
        assert!(taken as u64 + decoded.refused.tally.all() <= limits.max_points as u64);
        assert_eq!(decoded.refused.tally.is_empty(), decoded.refused.first.is_none());
        for series in &decoded.taken {
            assert!(series.labels.len() <= limits.max_labels && !series.points.is_empty());
            assert!(series.labels.windows(2).all(|pair| pair[0].0 < pair[1].0), "sorted, none twice");
        }
    }
});
