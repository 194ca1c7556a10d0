//! How far the clock of a Prometheus is from ours.

use std::time::Duration;

use forefend_domain::Timestamp;

/// Clocks this close are the same, whatever the step.
const SAME_MS: u64 = 1_000;

/// By how much the times of another are moved to be ours: nothing while the clocks agree to a step or a second, else whole steps, so that what is asked again
/// falls into the same steps. Moved again only when the difference has changed by more than that.
#[derive(Debug, Default)]
pub(super) struct ClockDifference {
    ahead_ms: i64,
}

impl ClockDifference {
    /// Takes a time that was told between two of ours. Says in words what is wrong, if anything is.
    pub(super) fn measured(
        &mut self,
        sent: Timestamp,
        received: Timestamp,
        theirs: Timestamp,
        step: Duration,
    ) -> Option<String> {
        let step_ms = u64::try_from(step.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 40);
        let unsure_ms = received.since(sent).as_millis() / 2;
        let middle = i128::from(sent.unix_ms()) + i128::try_from(unsure_ms).unwrap_or(0);
        let ahead = i128::from(theirs.unix_ms()) - middle;
        let tolerated = u128::from(step_ms.max(SAME_MS)) + unsure_ms;
        if ahead.unsigned_abs() <= tolerated {
            self.ahead_ms = 0;
            return None;
        }
        let held = i128::from(self.ahead_ms);
        if self.ahead_ms == 0 || (ahead - held).unsigned_abs() > tolerated {
            let step = i128::from(step_ms);
            let steps = (ahead + step.signum() * step / 2).div_euclid(step);
            self.ahead_ms = i64::try_from(steps * step).unwrap_or(0);
        }
        let by = Duration::from_millis(self.ahead_ms.unsigned_abs());
        let direction = if self.ahead_ms > 0 { "ahead of" } else { "behind" };
        Some(format!(
            "its clock is {by:?} {direction} ours, and its times are moved by that; set the clocks of both machines right"
        ))
    }

    /// A time of ours in the other's clock.
    pub(super) fn theirs(&self, ours: Timestamp) -> Timestamp {
        Timestamp::from_unix_ms(ours.unix_ms().saturating_add_signed(self.ahead_ms))
    }

    /// A time of the other in our clock.
    pub(super) fn ours(&self, theirs: Timestamp) -> Timestamp {
        Timestamp::from_unix_ms(theirs.unix_ms().saturating_add_signed(self.ahead_ms.saturating_neg()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    const STEP: Duration = Duration::from_secs(5);

    #[test]
    fn a_clock_that_is_off_is_told_and_made_up_for_in_whole_steps() {
        let mut clock = ClockDifference::default();
        let ask = |clock: &mut ClockDifference, theirs: u64| {
            clock.measured(at(100_000), at(100_200), at(theirs), STEP)
        };
        assert_eq!(ask(&mut clock, 104_000), None);
        assert_eq!(clock.ours(at(7)), at(7));
        let told = ask(&mut clock, 161_000).unwrap();
        assert!(told.starts_with("its clock is 60s ahead of ours"), "{told}");
        assert_eq!((clock.theirs(at(100_000)), clock.ours(at(160_000))), (at(160_000), at(100_000)));
        ask(&mut clock, 163_000).unwrap();
        assert_eq!(clock.theirs(at(0)), at(60_000), "a wobble moves nothing");
        assert!(ask(&mut clock, 40_000).unwrap().starts_with("its clock is 60s behind ours"));
        assert_eq!(ask(&mut clock, 100_000), None, "it was set right");
        assert_eq!(clock.theirs(at(3)), at(3));
    }

    #[test]
    fn a_slow_answer_says_little_about_the_clock() {
        let mut clock = ClockDifference::default();
        assert_eq!(clock.measured(at(100_000), at(120_000), at(101_000), STEP), None);
    }

    proptest! {
        #[test]
        fn times_are_off_by_less_than_is_tolerated(
            sent in 1_000_000u64..2_000_000_000, took in 0u64..5_000, ahead in -900_000i64..900_000, step in 1u64..60_000,
        ) {
            let mut clock = ClockDifference::default();
            let theirs = at((sent + took / 2).saturating_add_signed(ahead));
            let step = Duration::from_millis(step);
            let told = clock.measured(at(sent), at(sent + took), theirs, step);
            let off = clock.ours(theirs).unix_ms().abs_diff(sent + took / 2);
            prop_assert!(off <= step.as_millis() as u64 + 1_000 + took / 2 + 1, "{off}");
            prop_assert_eq!(told.is_some(), clock.theirs(at(sent)) != at(sent));
        }

        #[test]
        fn no_clock_is_too_odd(sent: u64, received: u64, theirs: u64, step: u64) {
            let mut clock = ClockDifference::default();
            clock.measured(at(sent), at(received), at(theirs), Duration::from_millis(step));
            let _ = (clock.ours(at(sent)), clock.theirs(at(u64::MAX)));
        }
    }
}
