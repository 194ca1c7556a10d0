//! Whatever the kernel's files hold: no panic, and nothing that is no number.
#![no_main]

use forefend_telemetry::host::{cgroup, process};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = process::parse_stat(text);
    let _ = process::parse_status(text);
    let _ = process::parse_io(text);
    let _ = process::parse_fd_limit(text);
    let _ = cgroup::parse_limit(text);
    assert!(cgroup::parse_cpu_max(text).is_none_or(|cpus| cpus.is_finite() && cpus > 0.0));
    assert!(cgroup::parse_pressure(text).is_none_or(|share| (0.0..=1.0).contains(&share)));
});
