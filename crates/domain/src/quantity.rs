use std::{fmt, ops, time::Duration};

use serde::{Deserialize, Serialize};

use crate::OutOfRange;

/// A probability: a number from 0 to 1, never NaN.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Probability(f64);

impl Probability {
    /// The impossible.
    pub const ZERO: Self = Self(0.0);
    /// The certain.
    pub const ONE: Self = Self(1.0);

    /// # Errors
    /// [`OutOfRange`] when `p` is NaN, below 0 or above 1.
    pub fn new(p: f64) -> Result<Self, OutOfRange> {
        if (0.0..=1.0).contains(&p) {
            Ok(Self(p))
        } else {
            Err(OutOfRange::new("probability", "from 0 to 1", p))
        }
    }

    /// The nearest probability to `p`; NaN becomes `otherwise`.
    #[must_use]
    pub fn clamped(p: f64, otherwise: Self) -> Self {
        if p.is_nan() { otherwise } else { Self(p.clamp(0.0, 1.0)) }
    }

    /// As a number from 0 to 1.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Probability {
    type Error = OutOfRange;
    fn try_from(p: f64) -> Result<Self, OutOfRange> {
        Self::new(p)
    }
}

impl From<Probability> for f64 {
    fn from(p: Probability) -> f64 {
        p.0
    }
}

/// A share of traffic in basis points, from 0 to 10 000.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Weight(u16);

impl Weight {
    /// No traffic.
    pub const ZERO: Self = Self(0);
    /// The least there is.
    pub const ONE_BP: Self = Self(1);
    /// All traffic: 10 000 basis points.
    pub const FULL: Self = Self(10_000);

    /// # Errors
    /// [`OutOfRange`] above 10 000 basis points.
    pub fn from_bp(bp: u32) -> Result<Self, OutOfRange> {
        u16::try_from(bp)
            .ok()
            .filter(|bp| *bp <= 10_000)
            .map(Self)
            .ok_or_else(|| OutOfRange::new("weight", "from 0 to 10000 basis points", bp))
    }

    /// The weight nearest to the fraction `share` of 1; NaN and negatives become zero, so a measurement that
    /// failed can never grant weight.
    #[must_use]
    pub fn from_share(share: f64) -> Self {
        // `as` saturates and maps NaN to 0.
        Self((share.clamp(0.0, 1.0) * 10_000.0).round() as u16)
    }

    /// Like [`Weight::from_share`], rounded down: for limits, where rounding up would exceed them.
    #[must_use]
    pub fn from_share_floor(share: f64) -> Self {
        // The epsilon undoes binary rounding of shares such as 0.07, which must give 700 and not 699.
        Self((share.clamp(0.0, 1.0) * 10_000.0 + 1e-6).floor() as u16)
    }

    /// In basis points.
    #[must_use]
    pub fn bp(self) -> u32 {
        u32::from(self.0)
    }

    /// As a fraction of 1.
    #[must_use]
    pub fn share(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// The difference, or zero.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The sum, at most full.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self((self.0 + other.0).min(10_000))
    }
}

impl TryFrom<u32> for Weight {
    type Error = OutOfRange;
    fn try_from(bp: u32) -> Result<Self, OutOfRange> {
        Self::from_bp(bp)
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> u32 {
        weight.bp()
    }
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bp", self.0)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}%", self.0 / 100, self.0 % 100)
    }
}

/// How well a cell is, from 0 (failing) to 100 (nothing foreseen). Defined from the survival curve:
/// `100 · (1 − P(fail within the horizon))`, so it can't contradict the probability.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct HealthScore(f64);

impl HealthScore {
    /// # Errors
    /// [`OutOfRange`] when `score` is NaN, below 0 or above 100.
    pub fn new(score: f64) -> Result<Self, OutOfRange> {
        if (0.0..=100.0).contains(&score) {
            Ok(Self(score))
        } else {
            Err(OutOfRange::new("health score", "from 0 to 100", score))
        }
    }

    /// The score that belongs to a failure probability.
    #[must_use]
    pub fn from_failure(probability: Probability) -> Self {
        Self((1.0 - probability.get()) * 100.0)
    }

    /// As a number from 0 to 100.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for HealthScore {
    type Error = OutOfRange;
    fn try_from(score: f64) -> Result<Self, OutOfRange> {
        Self::new(score)
    }
}

impl From<HealthScore> for f64 {
    fn from(score: HealthScore) -> f64 {
        score.0
    }
}

/// Requests (or another event) per second: finite and not negative.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Rate(f64);

impl Rate {
    /// Nothing per second.
    pub const ZERO: Self = Self(0.0);

    /// # Errors
    /// [`OutOfRange`] when `per_second` is negative, infinite or NaN.
    pub fn per_second(per_second: f64) -> Result<Self, OutOfRange> {
        if per_second.is_finite() && per_second >= 0.0 {
            Ok(Self(per_second))
        } else {
            Err(OutOfRange::new("rate", "finite and not negative", per_second))
        }
    }

    /// Events per second.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Rate {
    type Error = OutOfRange;
    fn try_from(per_second: f64) -> Result<Self, OutOfRange> {
        Self::per_second(per_second)
    }
}

impl From<Rate> for f64 {
    fn from(rate: Rate) -> f64 {
        rate.0
    }
}

/// A size in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// An instant: milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
///
/// The engine's clock port gives it and never lets it step back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds since 1970.
    #[must_use]
    pub const fn from_unix_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn unix_ms(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to here; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl ops::Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl ops::Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked_at_construction() {
        for p in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(Probability::new(p).is_err());
        }
        assert!(Weight::from_bp(10_001).is_err());
        assert!(Rate::per_second(f64::NAN).is_err());
        assert!(serde_json::from_str::<Weight>("70000").is_err());
    }

    #[test]
    fn a_failed_measurement_grants_no_weight() {
        assert_eq!(Weight::from_share(f64::NAN), Weight::ZERO);
        assert_eq!(Weight::from_share(-1.0), Weight::ZERO);
        assert_eq!(Weight::from_share_floor(0.07).bp(), 700);
        assert_eq!(Weight::from_share_floor(0.069_999).bp(), 699);
    }
}
