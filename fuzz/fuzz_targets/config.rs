//! Configuration files of any bytes: read or refused with a place, never a panic; what is accepted converts.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match forefend_config::parse_bytes(bytes, "fuzz.yaml") {
        Ok(config) => {
            for service in config.services() {
                assert!(service.policy.check().is_ok());
                assert!(config.home_weights(&service.id).is_some());
            }
        }
        Err(errors) => assert!(!errors.problems.is_empty() && !errors.to_string().is_empty()),
    }
});
