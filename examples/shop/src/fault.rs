use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// What `POST /fault` takes. Fields that are left out leave that fault as it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Memory to lose per second, in bytes; 0 stops the leak but frees nothing. At most 1 GiB.
    pub leak_bytes_per_s: Option<u64>,
    /// Time added to every answer, in milliseconds.
    pub delay_ms: Option<f64>,
    /// How fast that time grows, in milliseconds per second; 0 when left out.
    pub delay_ms_per_s: Option<f64>,
    /// Where it stops growing, in milliseconds; 60 000 when left out.
    pub max_delay_ms: Option<f64>,
    /// Ends every fault first and frees what was leaked.
    #[serde(default)]
    pub release: bool,
}

/// What `GET /fault` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultState {
    /// Memory lost per second.
    pub leak_bytes_per_s: u64,
    /// Memory held by the leak.
    pub leaked_bytes: u64,
    /// Time added to an answer now.
    pub delay_ms: f64,
}

/// The faults in force.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    leak_bytes_per_s: u64,
    owed_bytes: f64,
    leaked: Vec<Vec<u8>>,
    creep: Option<Creep>,
}

#[derive(Debug)]
struct Creep {
    since: Instant,
    delay_ms: f64,
    delay_ms_per_s: f64,
    max_delay_ms: f64,
}

/// Leaked at a time: large enough that the allocator maps it apart, small enough that the leak looks steady.
const CHUNK_BYTES: usize = 1 << 20;
const MAX_LEAK_BYTES_PER_S: u64 = 1 << 30;
const MAX_DELAY_MS: f64 = 60_000.0;
const PAGE_BYTES: usize = 4096;

impl Faults {
    /// Sets what `fault` names, as of `now`.
    pub(crate) fn set(&mut self, fault: &Fault, now: Instant) -> Result<(), String> {
        let in_range = |name: &str, ms: f64| {
            if (0.0..=MAX_DELAY_MS).contains(&ms) {
                Ok(ms)
            } else {
                Err(format!("{name} is a number from 0 to {MAX_DELAY_MS}, not {ms}"))
            }
        };
        let delay_ms = in_range("delay_ms", fault.delay_ms.unwrap_or(0.0))?;
        let delay_ms_per_s = in_range("delay_ms_per_s", fault.delay_ms_per_s.unwrap_or(0.0))?;
        let max_delay_ms = in_range("max_delay_ms", fault.max_delay_ms.unwrap_or(MAX_DELAY_MS))?;
        if let Some(leak) = fault.leak_bytes_per_s.filter(|leak| *leak > MAX_LEAK_BYTES_PER_S) {
            return Err(format!("leak_bytes_per_s is at most {MAX_LEAK_BYTES_PER_S}, not {leak}"));
        }
        if fault.release {
            *self = Self::default();
        }
        if let Some(leak) = fault.leak_bytes_per_s {
            self.leak_bytes_per_s = leak;
        }
        if fault.delay_ms.is_some() || fault.delay_ms_per_s.is_some() {
            self.creep = Some(Creep { since: now, delay_ms, delay_ms_per_s, max_delay_ms });
        }
        Ok(())
    }

    /// The time to add to an answer.
    pub(crate) fn delay(&self, now: Instant) -> Duration {
        let Some(creep) = &self.creep else { return Duration::ZERO };
        let grown = creep.delay_ms_per_s * now.saturating_duration_since(creep.since).as_secs_f64();
        Duration::from_secs_f64((creep.delay_ms + grown).min(creep.max_delay_ms) / 1000.0)
    }

    /// Leaks what `passed` is worth, touching every page, so that the memory is really taken.
    pub(crate) fn leak(&mut self, passed: Duration) {
        self.owed_bytes += self.leak_bytes_per_s as f64 * passed.as_secs_f64();
        while self.owed_bytes >= CHUNK_BYTES as f64 {
            self.owed_bytes -= CHUNK_BYTES as f64;
            let mut chunk = vec![0u8; CHUNK_BYTES];
            for byte in chunk.iter_mut().step_by(PAGE_BYTES) {
                // Anything but zero: equal pages could be merged, and zeroed ones need not be backed at all.
                *byte = 0xA5;
            }
            self.leaked.push(std::hint::black_box(chunk));
        }
    }

    pub(crate) fn state(&self, now: Instant) -> FaultState {
        FaultState {
            leak_bytes_per_s: self.leak_bytes_per_s,
            leaked_bytes: (self.leaked.len() * CHUNK_BYTES) as u64,
            delay_ms: self.delay(now).as_secs_f64() * 1000.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_creeps_up_to_its_limit_and_is_cleared() {
        let (mut faults, start) = (Faults::default(), Instant::now());
        let fault = Fault {
            delay_ms: Some(5.0),
            delay_ms_per_s: Some(10.0),
            max_delay_ms: Some(30.0),
            ..Fault::default()
        };
        faults.set(&fault, start).unwrap();
        assert_eq!(faults.delay(start), Duration::from_millis(5));
        assert_eq!(faults.delay(start + Duration::from_secs(1)), Duration::from_millis(15));
        assert_eq!(faults.delay(start + Duration::from_secs(60)), Duration::from_millis(30));
        faults.set(&Fault { release: true, ..Fault::default() }, start).unwrap();
        assert_eq!(faults.delay(start + Duration::from_secs(60)), Duration::ZERO);
    }

    #[test]
    fn the_leak_is_paid_in_whole_chunks_and_freed() {
        let (mut faults, start) = (Faults::default(), Instant::now());
        faults.set(&Fault { leak_bytes_per_s: Some(8 << 20), ..Fault::default() }, start).unwrap();
        for _ in 0..10 {
            faults.leak(Duration::from_millis(50));
        }
        assert_eq!(faults.state(start).leaked_bytes, 4 << 20);
        faults.set(&Fault { release: true, ..Fault::default() }, start).unwrap();
        assert_eq!(faults.state(start), FaultState { leak_bytes_per_s: 0, leaked_bytes: 0, delay_ms: 0.0 });
    }

    #[test]
    fn nonsense_is_refused_and_changes_nothing() {
        let (mut faults, start) = (Faults::default(), Instant::now());
        for bad in [
            Fault { delay_ms: Some(-1.0), release: true, ..Fault::default() },
            Fault { delay_ms: Some(f64::NAN), ..Fault::default() },
            Fault { leak_bytes_per_s: Some(u64::MAX), ..Fault::default() },
        ] {
            assert!(faults.set(&bad, start).is_err());
        }
        assert_eq!(faults.delay(start), Duration::ZERO);
    }
}
