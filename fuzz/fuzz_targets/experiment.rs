//! Files of experiments of any bytes: read or refused with a place, never a panic; what is accepted keeps its levels in range.

#![no_main]

use std::time::Duration;

use forefend_chaos::experiment::parse_bytes;
use forefend_domain::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match parse_bytes(bytes, "fuzz.yaml") {
        Ok(experiment) => {
            assert_eq!(experiment.is_drill(), experiment.faults.is_empty());
            assert!(experiment.steady_state().contains_key(experiment.service()));
            for fault in &experiment.faults {
                assert!(fault.fault.check().is_ok());
                for t in [Duration::ZERO, fault.after, fault.ends() / 2, fault.ends()] {
                    assert!(fault.level(t).is_none_or(|level| (0.0..=1.0).contains(&level)));
                }
                assert!(fault.level(fault.ends()).is_none());
            }
            let day = Timestamp::from_unix_ms(1_795_000_000_000);
            let _ = experiment.blocked(day, day + experiment.lasts());
            let _ = experiment.schedule.next(None, day);
        }
        Err(errors) => assert!(!errors.problems.is_empty() && !errors.to_string().is_empty()),
    }
});
