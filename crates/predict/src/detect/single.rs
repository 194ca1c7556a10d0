use super::Hold;

/// Values before anything is judged.
const LEAST_SEEN: u32 = 50;
/// How fast the usual level follows.
const LEVEL_RATE: f64 = 1.0 / 300.0;
/// The day is cut into so many parts, each with its own usual value.
const PARTS_OF_DAY: usize = 96;
const DAY_S: f64 = 86_400.0;
/// How fast the usual value of a part of the day follows.
const PROFILE_RATE: f64 = 0.03;
/// What is looked at as a mean of the newest values, about ten and forty of them.
const SHIFT_RATE: f64 = 1.0 / 10.0;
const LONG_RATE: f64 = 1.0 / 40.0;
/// One extreme raises the mark by this factor at most: the next ones of its size are worth a word again, but less and less.
const HIGHEST_RISE: f64 = 2.5;
/// What is seen for the first time, where nothing was ever seen, is worth so many marks.
const FIRST: f64 = 3.0;
/// How much of the way down a spoken score falls each value, before a lower one is spoken.
const SILENCE: f64 = 0.005;
/// A mean of new values this many of its deviations away is as remarkable as an extreme at its mark.
const SHIFT_DEVIATIONS: f64 = 1.0 / 0.15;

/// Watches one metric that has a time of day, without labels and without a period to learn from.
///
/// What counts is a record: the distance from the usual level, from the usual for the time of day, from the value before, and of the recent mean, each
/// against the mark that its extremes left, above and below apart. Records of a noise become rare by themselves the longer it is watched (of n
/// alike values the n-th is a record once in n; Rényi 1962), whatever its distribution, so one threshold serves metrics
/// of every unit and tail. Marks fade, and one extreme raises them by a factor at most. A mean that shifts without any
/// extreme is told by its distance in deviations of such means.
///
/// A score is spoken once: until it has faded, only a higher one is given, else 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Single {
    seen: u32,
    level: f64,
    before: f64,
    profile: Vec<Usual>,
    long: f64,
    shift: f64,
    shift_squared: f64,
    marks: [Marks; 4],
    spoken: Hold,
}

/// The usual value of a part of the day.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Usual {
    seen: u32,
    value: f64,
}

/// The extremes of a distance, above and below.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Marks {
    above: f64,
    below: f64,
    /// What is left of a mark after one value.
    keep: f64,
    weight: f64,
}

impl Default for Single {
    fn default() -> Self {
        let marks = |keep, weight| Marks { above: 0.0, below: 0.0, keep, weight };
        Self {
            seen: 0,
            level: 0.0,
            before: 0.0,
            profile: vec![Usual::default(); PARTS_OF_DAY],
            long: 0.0,
            shift: 0.0,
            shift_squared: 0.0,
            marks: [marks(0.999_98, 1.0), marks(0.999_9, 1.2), marks(0.999_98, 1.2), marks(0.999_9, 1.3)],
            spoken: Hold::new(SILENCE),
        }
    }
}

impl Single {
    /// The score of a value, from 0; above 1 something is as it hardly ever was. `at_s` is in seconds since any midnight. A value
    /// that is not finite is passed over.
    pub fn push(&mut self, at_s: f64, value: f64) -> f64 {
        if !value.is_finite() || value.abs() > f64::MAX.sqrt() {
            return 0.0;
        }
        if self.seen == 0 {
            (self.level, self.before) = (value, value);
        }
        let early = self.seen <= LEAST_SEEN;
        let [shift, distances @ ..] = self.distances(at_s, value);
        let mut score = if early { 0.0 } else { shift / SHIFT_DEVIATIONS };
        for (marks, distance) in self.marks.iter_mut().zip(distances) {
            let remarkable = marks.push(distance, early);
            if !early {
                score = score.max(remarkable);
            }
        }
        self.seen = self.seen.saturating_add(1);
        let faded = self.spoken.faded();
        self.spoken.push(score);
        if score > faded { score } else { 0.0 }
    }

    /// The shift of the mean, in its deviations; then what is to be held against marks. What is usual is learned on the way.
    fn distances(&mut self, at_s: f64, value: f64) -> [f64; 5] {
        let rate = LEVEL_RATE.max(1.0 / (f64::from(self.seen) + 1.0));
        let from_level = value - self.level;
        let step = value - self.before;
        self.shift += SHIFT_RATE * (from_level - self.shift);
        self.shift_squared += rate * (self.shift * self.shift - self.shift_squared);
        let shift = if self.shift_squared > 0.0 { self.shift.abs() / self.shift_squared.sqrt() } else { 0.0 };
        self.long += LONG_RATE * (from_level - self.long);
        let part = (at_s.rem_euclid(DAY_S) / DAY_S * PARTS_OF_DAY as f64) as usize;
        let usual = &mut self.profile[part.min(PARTS_OF_DAY - 1)];
        let from_usual = if usual.seen > 0 { value - usual.value } else { 0.0 };
        usual.seen = usual.seen.saturating_add(1);
        usual.value += PROFILE_RATE.max(1.0 / f64::from(usual.seen)) * (value - usual.value);
        self.level += rate * from_level;
        self.before = value;
        [shift, from_usual, from_level, step, self.long]
    }
}

impl Marks {
    /// How far a distance goes beyond its mark; the mark follows.
    fn push(&mut self, distance: f64, early: bool) -> f64 {
        let side = if distance < 0.0 { &mut self.below } else { &mut self.above };
        let far = distance.abs();
        let first = *side <= 0.0;
        let remarkable = match (first, far > 0.0) {
            (false, _) => far / *side,
            (true, true) => FIRST,
            (true, false) => 0.0,
        };
        let rise = if early || first { far } else { far.min(HIGHEST_RISE * *side * self.keep) };
        let mark = (*side * self.keep).max(rise);
        self.above *= self.keep;
        self.below *= self.keep;
        *(if distance < 0.0 { &mut self.below } else { &mut self.above }) = mark;
        self.weight * remarkable
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Scores of a daily wave with noise, a value each five minutes, after something was done to it.
    fn scores(days: usize, change: impl Fn(usize, f64) -> f64) -> Vec<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut single = Single::default();
        (0..days * 288)
            .map(|n| {
                let wave = (n as f64 / 288.0 * std::f64::consts::TAU).sin();
                let value = 100.0 + 20.0 * wave + random.random_range(-2.0..2.0);
                single.push(300.0 * n as f64, change(n, value))
            })
            .collect()
    }

    fn highest(scores: &[f64]) -> f64 {
        scores.iter().copied().fold(0.0, f64::max)
    }

    #[test]
    fn a_spike_is_told_when_it_comes_and_told_once() {
        let found = scores(14, |n, value| if (3_000..3_020).contains(&n) { 250.0 } else { value });
        assert!(found[3_000] > 3.0, "{}", found[3_000]);
        let (before, after) = (highest(&found[1_000..3_000]), highest(&found[3_001..3_020]));
        assert!(before < 1.8 && after == 0.0, "{before} {after}");
    }

    #[test]
    fn a_value_that_is_usual_but_not_at_this_time_is_told() {
        // Up to the height of noon within an hour, and back: at night, or on top of the morning's rise, where it is soon noon.
        let bump = |n: usize, at: usize| (1.0 - (n as f64 - at as f64).abs() / 12.0).max(0.0);
        let at_night = scores(14, |n, value| value + 38.0 * bump(n, 3_096));
        let at_noon = scores(14, |n, value| value + (122.0 - value).max(0.0) * bump(n, 2_952));
        let (night, noon) = (highest(&at_night[3_084..3_110]), highest(&at_noon[2_940..2_966]));
        assert!(night > 1.5 && noon < 0.7 * night, "{night} {noon}");
    }

    #[test]
    fn a_second_spike_of_the_size_is_told_and_the_next_ones_less_and_less() {
        let spikes = [2_000, 2_600, 3_200, 3_800];
        let found = scores(14, |n, value| if spikes.contains(&n) { 600.0 } else { value });
        let told = spikes.map(|at| found[at]);
        assert!(told.windows(2).all(|pair| pair[1] < 0.6 * pair[0] && pair[1] > 1.5), "{told:?}");
    }

    #[test]
    fn a_metric_that_never_moved_is_told_when_it_does() {
        let mut single = Single::default();
        assert!((0..400).all(|n| single.push(60.0 * f64::from(n), 7.0) == 0.0));
        assert!(single.push(24_060.0, 8.0) > 2.0);
    }

    proptest! {
        #[test]
        fn the_unit_changes_nothing(scale in 0.01..1e4_f64, values in prop::collection::vec(-5.0..5.0_f64, 60..200)) {
            let (mut plain, mut other) = (Single::default(), Single::default());
            for (n, value) in values.into_iter().enumerate() {
                let at_s = 600.0 * n as f64;
                let (before, after) = (plain.push(at_s, value), other.push(at_s, scale * value));
                prop_assert!((before - after).abs() < 1e-6 * (1.0 + before), "{before} {after}");
            }
        }

        #[test]
        fn nothing_makes_it_fall_over(values in prop::collection::vec((any::<f64>(), any::<f64>()), 0..150)) {
            let mut single = Single::default();
            for (at_s, value) in values {
                let score = single.push(at_s, value);
                prop_assert!(score >= 0.0, "{score}");
            }
        }
    }
}
