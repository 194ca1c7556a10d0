use std::{
    f64::consts::{LN_2, LN_10},
    time::Duration,
};

use forefend_domain::{Probability, TimeToFailure};

/// Points of the time grid.
const POINTS: usize = 48;

/// The last point over the first.
const SPAN: f64 = 2_000.0;

/// The 47th root of [`SPAN`].
const RATIO: f64 = 1.1755326087381612;

/// Each point over the first.
const FACTORS: [f64; POINTS] = {
    let mut factors = [1.0; POINTS];
    let mut i = 1;
    while i < POINTS {
        factors[i] = factors[i - 1] * RATIO;
        i += 1;
    }
    factors
};

/// How far beyond the horizon the curve speaks, in horizons.
const REACH: f64 = 4.0;

/// Cumulative hazard of one cell or one cause on a log-spaced time grid: `P(fail ≤ t) = 1 − exp(−H(t))`.
///
/// Hazards of independent causes add, which is why causes are combined here and not as probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    times_s: [f64; POINTS],
    hazard: [f64; POINTS],
}

/// What [`MAX_HAZARD`] comes to.
const MOST: f64 = 1.0 - 1.03e-12;

/// Probabilities are taken no nearer to 0 and 1 than this where odds are formed.
const LEAST_ODDS: f64 = 1e-12;

const MINUS_LN_9_TENTHS: f64 = 0.105_360_515_657_826_3;

/// A probability of 1 has an infinite hazard; this is 1 − 1e-12 and keeps sums finite.
const MAX_HAZARD: f64 = 27.6;

impl Curve {
    /// The grid for a horizon, with no hazard on it.
    #[must_use]
    pub fn new(horizon: Duration) -> Self {
        let end = horizon.as_secs_f64().max(1e-3) * REACH;
        let start = end / SPAN;
        Self { hazard: [0.0; POINTS], times_s: FACTORS.map(|factor| start * factor) }
    }

    /// The log odds of having failed by each time of the grid, no nearer to never and always than [`LEAST_ODDS`].
    pub(crate) fn log_odds(&self) -> [f64; POINTS] {
        self.hazard.map(log_odds_of_hazard)
    }

    /// With these log odds of having failed by each time of the grid; the probabilities come with it. What should rise but falls is
    /// lifted, as in [`Self::with_probabilities`].
    pub(crate) fn with_log_odds(mut self, mut of: impl FnMut(usize) -> f64) -> (Self, Vec<(f64, f64)>) {
        let (mut least, mut likeliest) = (0.0f64, 0.0f64);
        let mut points = Vec::with_capacity(POINTS);
        for (n, (t, hazard)) in self.times_s.iter().zip(&mut self.hazard).enumerate() {
            let odds = of(n).exp();
            // 1 − p = 1 / (1 + odds).
            let h = odds.ln_1p().min(MAX_HAZARD);
            // NaN is passed over.
            if h > least {
                (least, likeliest) = (h, (odds / (1.0 + odds)).min(MOST));
            }
            *hazard = least;
            points.push((*t, likeliest));
        }
        (self, points)
    }

    /// How far it speaks, in seconds.
    pub(crate) fn reach_s(&self) -> f64 {
        self.times_s[POINTS - 1]
    }

    /// The same number of failures expected of every second.
    #[must_use]
    pub(crate) fn with_rate(mut self, per_second: f64) -> Self {
        for (t, hazard) in self.times_s.iter().zip(&mut self.hazard) {
            *hazard = (per_second * t).min(MAX_HAZARD);
        }
        self
    }

    /// The times of the grid in seconds, ascending.
    #[must_use]
    pub fn times_s(&self) -> &[f64] {
        &self.times_s
    }

    /// A cause with these probabilities of having struck by each time of the grid.
    ///
    /// Anything that should rise but falls (rounding) is lifted to what it was before.
    #[must_use]
    pub fn with_probabilities(mut self, mut p: impl FnMut(f64) -> f64) -> Self {
        let mut least = 0.0f64;
        for (t, hazard) in self.times_s.iter().zip(&mut self.hazard) {
            let p = p(*t).clamp(0.0, 1.0);
            let h = if p.is_nan() { least } else { (-(-p).ln_1p()).min(MAX_HAZARD) };
            least = least.max(h);
            *hazard = least;
        }
        self
    }

    /// Adds the hazard of an independent cause on the same grid.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.hazard.iter_mut().zip(&other.hazard) {
            *mine = (*mine + theirs).min(MAX_HAZARD);
        }
    }

    /// Takes, time by time, the larger hazard: for causes that are different views of the same thing.
    pub fn envelop(&mut self, other: &Self) {
        for (mine, theirs) in self.hazard.iter_mut().zip(&other.hazard) {
            *mine = mine.max(*theirs);
        }
    }

    /// Cumulative hazard at `t_s`, between grid points by straight line; beyond the grid, its end.
    #[must_use]
    pub fn hazard_at(&self, t_s: f64) -> f64 {
        let i = self.times_s.partition_point(|t| *t < t_s);
        match (i.checked_sub(1), self.times_s.get(i)) {
            (None, _) => self.hazard[0] * (t_s / self.times_s[0]).clamp(0.0, 1.0),
            (Some(last), None) => self.hazard[last],
            (Some(low), Some(high_t)) => {
                let share = (t_s - self.times_s[low]) / (high_t - self.times_s[low]);
                self.hazard[low] + share * (self.hazard[i] - self.hazard[low])
            }
        }
    }

    /// P(fail ≤ t).
    #[must_use]
    pub fn probability_within(&self, time: Duration) -> Probability {
        Probability::clamped(-(-self.hazard_at(time.as_secs_f64())).exp_m1(), Probability::ZERO)
    }

    /// What [`Self::with_probabilities`] would say of a time, if these never fall: they are asked at the times of the grid beside it alone.
    #[must_use]
    pub(crate) fn probability_by(&self, time: Duration, p: impl Fn(f64) -> f64) -> Probability {
        let i = self.times_s.partition_point(|t| *t < time.as_secs_f64());
        let mut beside = self.clone();
        for n in [i.saturating_sub(1), i.min(POINTS - 1)] {
            beside.hazard[n] = (-(-p(self.times_s[n]).clamp(0.0, 1.0)).ln_1p()).min(MAX_HAZARD);
        }
        beside.probability_within(time)
    }

    /// The time by which it has failed with probability `p`; `None`: beyond what the curve speaks for.
    #[must_use]
    pub fn quantile(&self, p: f64) -> Option<Duration> {
        self.reached(-(-p).ln_1p())
    }

    /// When the cumulative hazard is so much.
    fn reached(&self, wanted: f64) -> Option<Duration> {
        // It never falls.
        if self.hazard[POINTS - 1] < wanted {
            return None;
        }
        let i = self.hazard.iter().position(|h| *h >= wanted)?;
        let (t0, h0) =
            i.checked_sub(1).map_or((0.0, 0.0), |before| (self.times_s[before], self.hazard[before]));
        let rise = self.hazard[i] - h0;
        let share = if rise > 0.0 { (wanted - h0) / rise } else { 1.0 };
        Some(Duration::from_secs_f64(t0 + share * (self.times_s[i] - t0)))
    }

    /// The three quantiles that people and decisions use.
    #[must_use]
    pub fn time_to_failure(&self) -> TimeToFailure {
        let [p10, p50, p90] = [MINUS_LN_9_TENTHS, LN_2, LN_10].map(|hazard| self.reached(hazard));
        TimeToFailure { p10, p50, p90 }
    }

    /// P(fail ≤ t) from [`points`](Self::points) of a curve, 0 to 1; between two, its hazard goes straight on, and after the last it stays.
    #[must_use]
    pub fn at(points: &[(f64, f64)], t_s: f64) -> f64 {
        let hazard = |p: f64| (-(-p).ln_1p()).min(MAX_HAZARD);
        let i = points.partition_point(|(t, _)| *t < t_s);
        let before = i.checked_sub(1).and_then(|i| points.get(i)).copied().unwrap_or((0.0, 0.0));
        let Some(after) = points.get(i) else { return before.1 };
        let share = ((t_s - before.0) / (after.0 - before.0)).clamp(0.0, 1.0);
        let (low, high) = (hazard(before.1), hazard(after.1));
        -(-(low + share * (high - low))).exp_m1()
    }

    /// `(seconds, P(fail by then))` for plots.
    #[must_use]
    pub fn points(&self) -> Vec<(f64, f64)> {
        self.times_s.iter().zip(&self.hazard).map(|(t, h)| (*t, -(-h).exp_m1())).collect()
    }
}

/// The log odds of a probability.
pub(crate) fn log_odds(p: f64) -> f64 {
    let p = p.clamp(LEAST_ODDS, 1.0 - LEAST_ODDS);
    (p / (1.0 - p)).ln()
}

/// The log odds of 1 − exp(−h), which are ln(exp(h) − 1).
fn log_odds_of_hazard(h: f64) -> f64 {
    if !(1e-11..0.05).contains(&h) {
        return log_odds(-(-h).exp_m1());
    }
    // The series ends below the rounding of a number: the next part is 3e-11 times less than the last.
    let hh = h * h;
    h.ln() + 0.5 * h + hh * (1.0 / 24.0 - hh * (1.0 / 2_880.0 - hh / 181_440.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn probability_grows_and_quantiles_are_ordered(rate in 1e-6f64..10.0, step_at in 0.1f64..500.0) {
            let mut curve = Curve::new(Duration::from_secs(60)).with_probabilities(|t| 1.0 - (-rate * t).exp());
            curve.add(&Curve::new(Duration::from_secs(60)).with_probabilities(|t| if t > step_at { 0.7 } else { 0.0 }));
            prop_assert!(curve.time_to_failure().is_ordered());
            let mut last = 0.0;
            for t in 1..300 {
                let p = curve.probability_within(Duration::from_secs(t)).get();
                prop_assert!(p >= last);
                last = p;
            }
        }

        #[test]
        fn quantile_inverts_probability(rate in 1e-3f64..1.0, p in 0.05f64..0.9) {
            let curve = Curve::new(Duration::from_secs(60)).with_probabilities(|t| 1.0 - (-rate * t).exp());
            if let Some(t) = curve.quantile(p) {
                prop_assert!((curve.probability_within(t).get() - p).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn one_time_of_a_curve_is_as_the_whole_of_it() {
        let blank = Curve::new(Duration::from_secs(60));
        let p = |t: f64| 1.0 - (-0.02 * t).exp();
        let whole = blank.clone().with_probabilities(p);
        for t in [0.0, 0.05, 1.0, 33.3, 60.0, 239.0, 500.0] {
            let time = Duration::from_secs_f64(t);
            assert_eq!(blank.probability_by(time, p), whole.probability_within(time), "{t}");
        }
    }

    #[test]
    fn by_odds_or_by_probabilities_the_same_curve_is_made() {
        let blank = Curve::new(Duration::from_secs(60));
        for rate in [1e-13, 1e-9, 1e-6, 1e-4, 1e-2, 1.0, 100.0] {
            let curve = blank.clone().with_rate(rate);
            let odds = curve.log_odds();
            for (odds, (_, p)) in odds.iter().zip(curve.points()) {
                assert!(
                    (odds - log_odds(p)).abs() < 1e-9 * odds.abs().max(1.0) + 1e-4 * p.powi(8),
                    "{rate}: {odds}"
                );
            }
            let (again, points) = blank.clone().with_log_odds(|n| odds[n]);
            let told = curve.hazard.iter().zip(&again.hazard).zip(&points);
            for ((wanted, found), (_, p)) in told {
                let alike = |a: f64, b: f64| (a - b).abs() < 2e-12 + 1e-9 * a;
                assert!(alike(*wanted, *found) || *wanted > 20.0, "{rate}: {wanted} and {found}");
                assert!(alike(-(-wanted).exp_m1(), *p), "{rate}: {wanted} and {p}");
            }
        }
    }

    #[test]
    fn points_say_what_the_curve_says() {
        let curve = Curve::new(Duration::from_secs(60)).with_probabilities(|t| 1.0 - (-0.01 * t).exp());
        let points = curve.points();
        for t in [0.0, 0.05, 1.0, 33.3, 60.0, 239.0, 500.0] {
            let said = curve.probability_within(Duration::from_secs_f64(t)).get();
            assert!((Curve::at(&points, t) - said).abs() < 1e-9, "{t}");
        }
        assert_eq!(Curve::at(&[], 3.0), 0.0);
    }

    #[test]
    fn beyond_the_reach_is_said_to_be_beyond() {
        let curve = Curve::new(Duration::from_secs(60)).with_probabilities(|t| 1.0 - (-1e-6 * t).exp());
        assert_eq!(curve.time_to_failure(), TimeToFailure::default());
    }
}
