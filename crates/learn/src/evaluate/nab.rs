//! The scoring rule of the Numenta Anomaly Benchmark (Lavin and Ahmad 2015, <https://doi.org/10.1109/ICMLA.2015.141>): early
//! detections earn more, in a window around each anomaly, and false ones cost more the farther they are behind a window.
//!
//! Agrees with the benchmark's own scorer, version 1.1, wherever that gives a result. A detection is a score at or above one threshold,
//! which is chosen for the whole corpus and profile on the corpus itself: so the rule has it, and so its scores flatter.

use serde::{Deserialize, Serialize};

/// The share of a file's rows, from the first on, that a detector may learn from; they are not scored.
const PROBATION: f64 = 0.15;

/// A longer file gives no more probation than one of so many rows.
const PROBATION_ROWS: f64 = 5_000.0;

/// One file of a corpus: the score of every row in time order, higher being more anomalous, and its windows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct File<'a> {
    /// Of every row. No NaN.
    pub scores: &'a [f64],
    /// First and last row of each window, ascending and apart.
    pub windows: &'a [(usize, usize)],
}

/// What is earned and lost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// For a detection in the first row of a window. Later ones earn less, down to almost nothing in the last row.
    pub detected: f64,
    /// Lost for a false detection far behind a window, or before any. Nearer behind, less.
    pub false_alarm: f64,
    /// Lost for a window without detection.
    pub missed: f64,
}

/// The profile that scores are quoted for.
pub const STANDARD: Profile = Profile { detected: 1.0, false_alarm: 0.11, missed: 1.0 };
/// For those whom false alarms cost more.
pub const REWARD_LOW_FP: Profile = Profile { detected: 1.0, false_alarm: 0.22, missed: 1.0 };
/// For those whom missed anomalies cost more.
pub const REWARD_LOW_FN: Profile = Profile { detected: 1.0, false_alarm: 0.11, missed: 2.0 };

/// What a detector got.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Scores from here on are detections. Infinite where none is.
    pub threshold: f64,
    /// The sum over the corpus.
    pub raw: f64,
    /// What a detector gets that detects nothing.
    pub null: f64,
    /// What it gets if it detects every window in its first row, and nothing else.
    pub perfect: f64,
}

impl Score {
    /// `100 × (raw − null) / (perfect − null)`: 100 for the perfect detector, 0 for none, and below for worse than none.
    #[must_use]
    pub fn normalised(&self) -> f64 {
        100.0 * (self.raw - self.null) / (self.perfect - self.null)
    }
}

/// How many rows of a file, from the first on, are not scored: 15% of it, at most 750.
#[must_use]
pub fn probationary_rows(rows: usize) -> usize {
    (PROBATION * rows as f64).floor().min(PROBATION * PROBATION_ROWS) as usize
}

/// The score at a threshold. `None` without any window, with a NaN, or with windows that are not ascending, apart and within their file.
#[must_use]
pub fn score_at(files: &[File<'_>], profile: &Profile, threshold: f64) -> Option<Score> {
    if threshold.is_nan() {
        return None;
    }
    Sweep::of(files, profile)?
        .steps()
        .take_while(|step| step.threshold >= threshold)
        .last()
        .map(|step| Score { threshold, ..step })
}

/// The score at the threshold that makes it largest; of several, the highest. `None` as [`score_at`].
#[must_use]
pub fn best(files: &[File<'_>], profile: &Profile) -> Option<Score> {
    Sweep::of(files, profile)?.steps().reduce(|best, step| if step.raw > best.raw { step } else { best })
}

/// A row that is scored.
#[derive(Debug, Clone, Copy)]
struct Point {
    score: f64,
    /// What a detection here is worth: as the earliest in its window, or for itself outside.
    worth: f64,
    window: Option<usize>,
}

struct Sweep {
    /// From the highest score to the lowest.
    points: Vec<Point>,
    windows: usize,
    /// Of those, the ones with a row that is scored.
    scored_windows: usize,
    profile: Profile,
}

impl Sweep {
    fn of(files: &[File<'_>], profile: &Profile) -> Option<Self> {
        let (mut points, mut windows) = (Vec::new(), 0);
        for file in files {
            if !is_sound(file) {
                return None;
            }
            points.extend(points_of(file, windows, profile));
            windows += file.windows.len();
        }
        let mut scored: Vec<usize> = points.iter().filter_map(|point| point.window).collect();
        scored.dedup();
        points.sort_by(|a, b| b.score.total_cmp(&a.score));
        (windows > 0).then_some(Self { points, windows, scored_windows: scored.len(), profile: *profile })
    }

    /// The score at every threshold that makes a difference, from the highest on, where nothing is detected.
    fn steps(&self) -> impl Iterator<Item = Score> {
        let null = -self.profile.missed * self.scored_windows as f64;
        let perfect = self.profile.detected * self.windows as f64;
        let none = Score { threshold: f64::INFINITY, raw: null, null, perfect };
        let mut found: Vec<Option<f64>> = vec![None; self.windows];
        let (mut lost, mut earned) = (0.0, 0.0);
        let mut missed = self.scored_windows;
        let steps = self.points.chunk_by(|a, b| a.score == b.score).map(move |tied| {
            for point in tied {
                let Some(window) = point.window else {
                    lost += point.worth;
                    continue;
                };
                match found[window] {
                    None => {
                        missed -= 1;
                        earned += point.worth;
                        found[window] = Some(point.worth);
                    }
                    // The earliest one counts, and that is the one that is worth most.
                    Some(before) if point.worth > before => {
                        earned += point.worth - before;
                        found[window] = Some(point.worth);
                    }
                    Some(_) => {}
                }
            }
            let raw = lost + earned - self.profile.missed * missed as f64;
            Score { threshold: tied[0].score, raw, ..none }
        });
        std::iter::once(none).chain(steps)
    }
}

fn is_sound(file: &File<'_>) -> bool {
    file.scores.iter().all(|score| !score.is_nan())
        && file.windows.iter().all(|(first, last)| first <= last && *last < file.scores.len())
        && file.windows.windows(2).all(|pair| pair[0].1 < pair[1].0)
}

/// The rows of a file after its probation; its windows are numbered from `first_window`.
fn points_of(file: &File<'_>, first_window: usize, profile: &Profile) -> Vec<Point> {
    let earliest = scaled_sigmoid(-1.0);
    let probation = probationary_rows(file.scores.len());
    let mut points = Vec::with_capacity(file.scores.len() - probation);
    for (row, score) in file.scores.iter().enumerate().skip(probation) {
        // The last window that has begun.
        let begun = file.windows.partition_point(|(first, _)| *first <= row).checked_sub(1);
        let (worth, window) = match begun.map(|number| (number, file.windows[number])) {
            None => (-profile.false_alarm, None),
            Some((number, (first, last))) if row <= last => {
                let position = (last - row + 1) as f64 / (last - first + 1) as f64;
                (scaled_sigmoid(-position) * profile.detected / earliest, Some(first_window + number))
            }
            Some((_, (first, last))) => {
                // In widths of the window; behind one of a single row, everything is far.
                let position = (row - last) as f64 / (last - first) as f64;
                (scaled_sigmoid(position) * profile.false_alarm, None)
            }
        };
        points.push(Point { score: *score, worth, window });
    }
    points
}

/// 1 far before the end of a window, 0 at it, -1 far behind it; `position` is in widths of the window.
fn scaled_sigmoid(position: f64) -> f64 {
    if position > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * position).exp()) - 1.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::evaluate::made_up::MadeUp;

    #[test]
    fn what_is_no_corpus_has_no_score() {
        let scores = [0.1; 40];
        let bad: [&[(usize, usize)]; 5] =
            [&[], &[(30, 40)], &[(30, 29)], &[(20, 25), (25, 30)], &[(30, 31), (20, 21)]];
        for windows in bad {
            assert_eq!(best(&[File { scores: &scores, windows }], &STANDARD), None, "{windows:?}");
        }
        assert_eq!(best(&[], &STANDARD), None);
        assert_eq!(best(&[File { scores: &[f64::NAN], windows: &[(0, 0)] }], &STANDARD), None);
        let file = File { scores: &scores, windows: &[(30, 31)] };
        assert_eq!(score_at(&[file], &STANDARD, f64::NAN), None);
    }

    #[test]
    fn probation_is_a_share_of_short_files_and_no_more_of_long_ones() {
        assert_eq!([0, 6, 7, 4_032, 5_000, 22_695].map(probationary_rows), [0, 0, 1, 604, 750, 750]);
    }

    #[test]
    fn the_perfect_detector_gets_100_and_none_gets_0() {
        let scores: Vec<f64> = (0..100).map(|row| f64::from(row == 50)).collect();
        let file = File { scores: &scores, windows: &[(50, 59)] };
        let found = best(&[file], &STANDARD).unwrap();
        assert_eq!((found.threshold, found.normalised()), (1.0, 100.0));
        let none = score_at(&[file], &STANDARD, 2.0).unwrap();
        assert_eq!((none.raw, none.normalised()), (-1.0, 0.0));
        let all = score_at(&[file], &STANDARD, 0.0).unwrap();
        assert!(all.raw < 0.0, "{all:?}");
    }

    #[test]
    fn a_window_of_one_row_is_no_reason_to_fail() {
        let scores: Vec<f64> = (0..100).map(|row| f64::from(row == 50 || row == 51)).collect();
        let file = File { scores: &scores, windows: &[(50, 50)] };
        let found = score_at(&[file], &STANDARD, 0.5).unwrap();
        assert!((found.raw - (1.0 - 0.11)).abs() < 1e-12, "{found:?}");
    }

    /// Scores that are a little higher in windows.
    fn made_up(seed: u64, rows: usize) -> (Vec<f64>, Vec<(usize, usize)>) {
        let mut chance = MadeUp::new(seed);
        let width = rows / 20;
        let mut windows = Vec::new();
        let mut next = probationary_rows(rows) + (chance.uniform() * width as f64) as usize;
        while next + width < rows {
            windows.push((next, next + width - 1));
            next += width + (chance.uniform() * 8.0 * width as f64) as usize;
        }
        let mut scores = chance.uniforms(rows);
        for row in windows.iter().flat_map(|(first, last)| *first..=*last) {
            if chance.is_below(0.1) {
                scores[row] += 0.5;
            }
        }
        // Two digits, so that rows share scores.
        scores.iter_mut().for_each(|s| *s = (*s * 100.0 / 1.5).floor() / 100.0);
        (scores, windows)
    }

    /// Window by window, as the paper says it.
    fn slowly(file: &File<'_>, profile: &Profile, threshold: f64) -> f64 {
        let probation = probationary_rows(file.scores.len());
        let is_detection = |row: &usize| *row >= probation && file.scores[*row] >= threshold;
        let sigmoid = |y: f64| 2.0 / (1.0 + (5.0 * y).exp()) - 1.0;
        let mut sum = 0.0;
        for (first, last) in file.windows {
            let width = (last - first + 1) as f64;
            sum += (*first..=*last).find(is_detection).map_or(-profile.missed, |row| {
                profile.detected * sigmoid(-((last + 1 - row) as f64) / width) / sigmoid(-1.0)
            });
        }
        for row in (0..file.scores.len()).filter(is_detection) {
            if file.windows.iter().any(|(first, last)| (*first..=*last).contains(&row)) {
                continue;
            }
            let before = file.windows.iter().rev().find(|(_, last)| *last < row);
            sum -= before.map_or(profile.false_alarm, |(first, last)| {
                let far = (row - last) as f64 / (last - first) as f64;
                profile.false_alarm * if far > 3.0 { 1.0 } else { -sigmoid(far) }
            });
        }
        sum
    }

    /// What the benchmark's own `nab/sweeper.py` gives for the same scores and windows (numenta/NAB at ea702d7, version 1.1; Python 3):
    /// the best threshold, the sum at it, that sum normalised, and the sums at 0.9, 0.6 and 0.3.
    #[test]
    fn it_is_what_the_benchmarks_own_scorer_says() {
        let small = [(1, 900), (6, 400)].map(|(seed, rows)| made_up(seed, rows));
        let large = [(3, 6_000), (4, 700), (9, 1_000)].map(|(seed, rows)| made_up(seed, rows));
        let mut small = small.to_vec();
        // A window that lies within the probation is asked for by the perfect detector alone.
        small[1].1.insert(0, (10, 30));
        let corpora = [small, large.to_vec()];
        let cases = [
            (
                STANDARD,
                0,
                0.63,
                2.198_149_860_658_296_5,
                61.320_999_071_055_32,
                [-5.036_957_858_318_066, -1.982_696_390_921_888_9, -42.098_690_136_356_6],
            ),
            (
                STANDARD,
                1,
                0.68,
                5.157_410_041_834_606_5,
                78.652_278_010_192_25,
                [-0.376_989_172_790_107_13, -42.400_212_673_176_16, -285.275_926_241_487],
            ),
            (
                REWARD_LOW_FP,
                0,
                0.67,
                0.417_727_288_965_326_5,
                49.451_515_259_768_84,
                [-5.036_957_858_318_066, -10.817_305_524_959_076, -91.175_937_686_408_03],
            ),
            (
                REWARD_LOW_FN,
                0,
                0.63,
                2.198_149_860_658_296_5,
                73.627_953_912_083_17,
                [-11.036_957_858_318_065, -1.982_696_390_921_888_9, -42.098_690_136_356_6],
            ),
            (
                REWARD_LOW_FN,
                1,
                0.68,
                4.157_410_041_834_606_5,
                82.064_481_636_424_46,
                [-4.376_989_172_790_108, -42.400_212_673_176_16, -285.275_926_241_487],
            ),
        ];
        for (profile, corpus, threshold, raw, normalised, sums) in cases {
            let files: Vec<File<'_>> =
                corpora[corpus].iter().map(|(scores, windows)| File { scores, windows }).collect();
            let best = best(&files, &profile).unwrap();
            assert_eq!(best.threshold, threshold);
            assert!(
                (best.raw - raw).abs() < 1e-9 && (best.normalised() - normalised).abs() < 1e-9,
                "{best:?}"
            );
            for (threshold, sum) in [0.9, 0.6, 0.3].into_iter().zip(sums) {
                let found = score_at(&files, &profile, threshold).unwrap();
                assert!((found.raw - sum).abs() < 1e-9, "{threshold}: {found:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn sweeping_and_scoring_file_by_file_agree(seed in any::<u64>(), threshold in 0.0..1.0_f64) {
            let (first, second) = (made_up(seed, 900), made_up(seed ^ 7, 400));
            let files = [&first, &second].map(|(scores, windows)| File { scores, windows });
            for profile in [STANDARD, REWARD_LOW_FP, REWARD_LOW_FN] {
                let at = |threshold: f64| files.iter().map(|file| slowly(file, &profile, threshold)).sum::<f64>();
                let found = score_at(&files, &profile, threshold).unwrap();
                prop_assert!((found.raw - at(threshold)).abs() < 1e-9);
                let best = best(&files, &profile).unwrap();
                prop_assert!((best.raw - at(best.threshold)).abs() < 1e-9);
                prop_assert!(best.raw >= found.raw - 1e-9 && best.normalised() <= 100.0);
            }
        }
    }
}
