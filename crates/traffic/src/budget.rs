//! The retry budget: how much of what was already sent may be sent again.

use std::cell::Cell;

use crate::wire::RetryBudget;

/// What one retry costs, in hundredths.
const RETRY: u64 = 100;
/// Seconds' worth of the minimum, and retries earned by requests, that can be saved up: a burst, not a storm.
const SAVED_SECONDS: u64 = 10;
const SAVED_RETRIES: u64 = 100;

/// One worker's part of a service's budget: a token bucket filled by requests and by time.
#[derive(Debug)]
pub(crate) struct Budget {
    hundredths: Cell<u64>,
    filled_ms: Cell<u64>,
    workers: u64,
}

impl Budget {
    /// Begins with one second's worth of the minimum.
    pub(crate) fn new(budget: &RetryBudget, workers: usize, now_ms: u64) -> Self {
        let workers = workers as u64;
        let hundredths = Cell::new(u64::from(budget.min_per_second) * RETRY / workers);
        Self { hundredths, filled_ms: Cell::new(now_ms), workers }
    }

    /// A request came.
    pub(crate) fn deposit(&self, budget: &RetryBudget) {
        let most = (SAVED_RETRIES + u64::from(budget.min_per_second) * SAVED_SECONDS) * RETRY;
        self.hundredths.set((self.hundredths.get() + u64::from(budget.percent)).min(most));
    }

    /// Whether one more retry is allowed now; spends it.
    pub(crate) fn withdraw(&self, budget: &RetryBudget, now_ms: u64) -> bool {
        let idle_ms = now_ms.saturating_sub(self.filled_ms.get()).min(SAVED_SECONDS * 1_000);
        // Hundredths of a retry for so many milliseconds: rate · 100 / 1 000 · ms.
        let earned = idle_ms * u64::from(budget.min_per_second) / (10 * self.workers);
        if earned > 0 {
            self.filled_ms.set(now_ms);
        }
        let saved = self.hundredths.get() + earned;
        let allowed = saved >= RETRY;
        self.hundredths.set(if allowed { saved - RETRY } else { saved });
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_requests_may_be_retried_and_no_more() {
        let rule = RetryBudget { percent: 20, min_per_second: 0 };
        let budget = Budget::new(&rule, 1, 1_000);
        assert!(!budget.withdraw(&rule, 1_000));
        for _ in 0..50 {
            budget.deposit(&rule);
        }
        let allowed = (0..50).filter(|_| budget.withdraw(&rule, 1_000)).count();
        assert_eq!(allowed, 10);
    }

    #[test]
    fn the_minimum_is_there_without_traffic_and_savings_are_bounded() {
        let rule = RetryBudget { percent: 100, min_per_second: 3 };
        let budget = Budget::new(&rule, 1, 5_000);
        assert_eq!((0..50).filter(|_| budget.withdraw(&rule, 5_000)).count(), 3);
        for _ in 0..1_000_000 {
            budget.deposit(&rule);
        }
        assert_eq!((0..1_000).filter(|_| budget.withdraw(&rule, 5_000)).count(), 130);
    }
}
