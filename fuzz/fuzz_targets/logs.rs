//! Whatever stands in a log: no panic, bounds kept, and the same lines give the same metrics.
#![no_main]

use std::time::Duration;

use forefend_domain::Timestamp;
use forefend_telemetry::logs::{
    CellLogs, Counted, DrainOptions, LogLimit, LogOptions, Pattern, Severity, follow::Lines,
};
use libfuzzer_sys::fuzz_target;

fn logs() -> CellLogs {
    let drain = DrainOptions { max_templates: 8, max_children: 3, max_tokens: 6, ..DrainOptions::default() };
    let limits = vec![
        LogLimit { of: Counted::Lines(Pattern::new("a <*> b").expect("words")), per_second: 1.0 },
        LogLimit { of: Counted::AtLeast(Severity::Error), per_second: 1.0 },
    ];
    CellLogs::new(LogOptions { max_line_bytes: 100, drain, named: 3, novel_for: Duration::from_secs(2), limits })
}

fuzz_target!(|data: &[u8]| {
    let (mut one, mut other) = (logs(), logs());
    let mut at = Timestamp::from_unix_ms(1_800_000_000_000);
    let mut lines = Lines::new(80);
    lines.take_in(data, &mut |line, cut| {
        at = at + Duration::from_millis(300);
        one.bytes(at, line, cut);
        other.bytes(at, line, cut);
        let observed = one.sample(at, true);
        assert_eq!(observed, other.sample(at, true));
        assert!(observed.iter().all(|(spec, _, value)| spec.counter && value.is_none_or(|v| v >= 0.0)));
        assert!(one.counts().templates <= 8);
    });
});
