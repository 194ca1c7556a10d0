use std::time::{Instant, SystemTime, UNIX_EPOCH};

use forefend_domain::{Timestamp, ports::Clock};

/// The wall clock as it was at the start, carried on by the monotonic one: a step of the wall clock doesn't reach us.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SteadyClock {
    start: Timestamp,
    at: Instant,
}

impl SteadyClock {
    pub(crate) fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ms = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
        Self { start: Timestamp::from_unix_ms(ms), at: Instant::now() }
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        self.start + self.at.elapsed()
    }
}
