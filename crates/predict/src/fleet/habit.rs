//! What is usual of one metric of one cell, learned value by value in a few numbers.

use serde::{Deserialize, Serialize};

/// Values before anything is judged.
const LEAST: u32 = 12;
/// What is learned from one value, in scales, at most (Huber 1981): an outlier moves neither level nor scale by much.
const WINSOR: f32 = 3.0;
/// Mean absolute deviation to standard deviation of a normal distribution.
const TO_SIGMA: f32 = 1.253_314;
/// The scale is never taken for less than this share of the level or of the value at hand, so that a metric that never moved isn't alarmed by its
/// first tremble, and one that was always 0 has a scale when it first is not.
const LEAST_SCALE: f32 = 0.02;
/// A shift of half a scale is passed over (Page 1954); what is more adds up.
const SLACK: f32 = 0.5;
/// From here on what has added up is an anomaly; once in some ten thousand values of noise that has no memory.
const DECISION: f32 = 8.0;
/// No sum grows beyond this, so that what is over is over soon.
const MOST: f32 = 2.0 * DECISION;
/// What a sum at [`DECISION`] is worth as a z-score.
const DECISION_Z: f32 = 4.0;
/// No z-score is larger.
const FARTHEST: f32 = 99.0;

/// Level, scales and sums of deviations of one metric. 32 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Habit {
    level: f32,
    /// Of deviations from the level, the season's among them: the unit of the season.
    wide: f32,
    /// Of what the season leaves.
    scale: f32,
    above: f32,
    below: f32,
    /// What the newest value was, in scales from what was expected; 0 where there is none.
    pub(super) z: f32,
    /// The deviation from the level in wide scales, for the season to learn from.
    pub(super) raw: f32,
    seen: u32,
}

impl Habit {
    /// From values at hand: median and scaled median absolute deviation. Their order is lost.
    pub(super) fn of(values: &mut [f32]) -> Self {
        let Some(level) = median(values) else { return Self::default() };
        let seen = u32::try_from(values.len()).unwrap_or(u32::MAX);
        values.iter_mut().for_each(|v| *v = (*v - level).abs());
        let scale = 1.4826 * median(values).unwrap_or(0.0);
        Self { level, wide: scale, scale, seen, ..Self::default() }
    }

    /// A value arrives, with what its season lets expect in wide scales; `memory` is for how many values one is remembered.
    pub(super) fn push(&mut self, value: f32, season: f32, memory: f32) {
        if !value.is_finite() {
            return;
        }
        if self.seen == 0 {
            (self.level, self.seen) = (value, 1);
            return;
        }
        let count = self.seen as f32;
        let least = (LEAST_SCALE * self.level.abs().max(value.abs())).max(f32::MIN_POSITIVE);
        let (wide, scale) = (self.wide.max(least), self.scale.max(least));
        let off = (value - self.level) / wide;
        let z = (off - season) * wide / scale;
        if !(off.is_finite() && z.is_finite()) {
            return;
        }
        self.seen = self.seen.saturating_add(1);
        let rate = (1.0 / (count + 1.0)).max(1.0 / memory.max(1.0));
        let (raw, learned) = (off.clamp(-WINSOR, WINSOR), z.clamp(-WINSOR, WINSOR));
        self.level += rate * learned * scale;
        self.wide = wide + rate * (TO_SIGMA * raw.abs() - 1.0) * wide;
        self.scale = scale + rate * (TO_SIGMA * learned.abs() - 1.0) * scale;
        if self.seen <= LEAST {
            return;
        }
        self.raw = raw;
        self.z = known_so_far(z, count).clamp(-FARTHEST, FARTHEST);
        // One spike is told by its own z; it takes several values to make a shift.
        let step = self.z.clamp(-WINSOR, WINSOR);
        self.above = (self.above + step - SLACK).clamp(0.0, MOST);
        self.below = (self.below - step - SLACK).clamp(0.0, MOST);
    }

    /// There is no value now.
    pub(super) fn miss(&mut self) {
        (self.z, self.raw) = (0.0, 0.0);
    }

    /// What has added up, as a signed z-score.
    pub(super) fn shifted(&self) -> f32 {
        let sum = if self.above >= self.below { self.above } else { -self.below };
        sum * DECISION_Z / DECISION
    }
}

/// Level and scale are themselves known from so many values only: Student's t to a normal deviate (Hawkins 1987; Wallace 1959).
fn known_so_far(off: f32, count: f32) -> f32 {
    if count > 200.0 {
        return off;
    }
    let t = off * ((count - 1.0) / count).sqrt();
    let free = count - 2.0;
    let size = (free * (t * t / free).ln_1p()).sqrt() * (8.0 * free + 1.0) / (8.0 * free + 3.0);
    size.copysign(off)
}

/// Their order is lost.
pub(super) fn median(values: &mut [f32]) -> Option<f32> {
    let mid = values.len() / 2;
    if values.is_empty() {
        return None;
    }
    let odd = values.len() % 2 == 1;
    let (below, high, _) = values.select_nth_unstable_by(mid, f32::total_cmp);
    let high = *high;
    Some(if odd {
        high
    } else {
        f32::midpoint(below.iter().copied().fold(f32::NEG_INFINITY, f32::max), high)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_always_nothing_is_unusual_when_it_first_is_something() {
        for usual in [0.0f32, 3.0] {
            let mut habit = Habit::of(&mut [usual; 40]);
            for _ in 0..20 {
                habit.push(usual, 0.0, 500.0);
                assert_eq!(habit.z, 0.0);
            }
            habit.push(usual + 5.0, 0.0, 500.0);
            assert!(habit.z > 3.0, "{usual}: {}", habit.z);
            // And usual again when it has come back for long.
            for _ in 0..200 {
                habit.push(usual, 0.0, 500.0);
            }
            assert!(habit.z.abs() < 3.0 && habit.shifted().abs() < 3.0, "{usual}: {habit:?}");
        }
    }
}
