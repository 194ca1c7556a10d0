//! Volume under the surface: how well scores of one series point at its anomalies, when nobody knows to the row where an anomaly begins
//! and ends.
//!
//! Labels are given a soft border, the area under the curve is taken for every width of the border from 0 to `window` rows, and the
//! areas are averaged (Paparrizos et al., PVLDB 15(11), 2022, <https://doi.org/10.14778/3551793.3551830>; the quick way of
//! Boniol et al. 2025, <https://doi.org/10.1007/s00778-025-00907-x>). No threshold is chosen. What is published as VUS is what the
//! authors' programs compute, so this agrees with them in every detail, and says where a detail is not in the paper.

use serde::{Deserialize, Serialize};

/// The widest border, in rows, that figures are published with.
pub const WINDOW: usize = 100;

/// Thresholds of a curve: scores of equally spaced ranks.
const THRESHOLDS: usize = 250;

/// The volumes under both surfaces.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Under the ROC curve; it can pass the ends of 0 and 1 by a little. Chance gets 0.5 where anomalies are long beside the border, and more
    /// where they are short: alarms in the border count in full, and are asked for by half.
    pub roc: f64,
    /// Under the precision-recall curve; the share of anomalous rows, roughly, for chance.
    pub pr: f64,
}

/// The volumes for the score and the label of each row of a series, in time order; higher scores are more anomalous. `window` is in rows
/// ([`WINDOW`] where figures are compared with published ones); half of it lies on either side of an anomaly.
///
/// `None` unless there are anomalous rows and others, as many scores as labels, and no NaN among them. Takes `window` times the number
/// of rows near anomalies.
#[must_use]
pub fn volume(scores: &[f64], anomalous: &[bool], window: usize) -> Option<Volume> {
    let series = Series::of(scores, anomalous)?;
    let mut borders = Borders::new(anomalous.len());
    let (mut roc, mut pr) = (0.0, 0.0);
    for width in 0..=window {
        let curve = series.curve(&mut borders, width);
        roc += curve.area_under_roc();
        pr += curve.area_under_pr();
    }
    let widths = window as f64 + 1.0;
    Some(Volume { roc: roc / widths, pr: pr / widths })
}

/// What does not depend on the width of the border.
struct Series<'a> {
    anomalous: &'a [bool],
    /// First and last row of each anomaly.
    segments: Vec<(usize, usize)>,
    /// Of each row, the first threshold, from the highest down, that its score reaches.
    levels: Vec<usize>,
    /// Of each threshold, the rows that reach it.
    alarmed: Vec<f64>,
    /// Of each threshold, the anomalous rows among them.
    alarmed_anomalous: Vec<f64>,
}

impl<'a> Series<'a> {
    fn of(scores: &[f64], anomalous: &'a [bool]) -> Option<Self> {
        let has_both = anomalous.contains(&true) && anomalous.contains(&false);
        if scores.len() != anomalous.len() || !has_both || scores.iter().any(|score| score.is_nan()) {
            return None;
        }
        let mut descending = scores.to_vec();
        descending.sort_by(|a, b| b.total_cmp(a));
        let last = scores.len() - 1;
        // Rounded down after multiplying by the step, as the authors do: a rank may be one less than meant.
        let step = last as f64 / (THRESHOLDS - 1) as f64;
        let rank = |n: usize| if n + 1 == THRESHOLDS { last } else { (n as f64 * step) as usize };
        let thresholds: Vec<f64> = (0..THRESHOLDS).map(|n| descending[rank(n)]).collect();
        let levels: Vec<usize> =
            scores.iter().map(|score| thresholds.partition_point(|threshold| threshold > score)).collect();
        let mut alarmed = vec![0.0; THRESHOLDS];
        let mut alarmed_anomalous = vec![0.0; THRESHOLDS];
        for (level, anomalous) in levels.iter().zip(anomalous) {
            alarmed[*level] += 1.0;
            alarmed_anomalous[*level] += f64::from(*anomalous);
        }
        accumulate(&mut alarmed);
        accumulate(&mut alarmed_anomalous);
        Some(Self { anomalous, segments: segments(anomalous), levels, alarmed, alarmed_anomalous })
    }

    fn curve(&self, borders: &mut Borders, width: usize) -> Curve {
        let rows = self.anomalous.len() as f64;
        let positives = self.alarmed_anomalous[THRESHOLDS - 1];
        let events = self.events(width / 2);
        let (mut found, mut soft) = (vec![0.0; THRESHOLDS], vec![0.0; THRESHOLDS]);
        borders.draw(&self.segments, width);
        for (first, last) in &events {
            let mut highest = THRESHOLDS - 1;
            for row in *first..=*last {
                highest = highest.min(self.levels[row]);
                if !self.anomalous[row] {
                    soft[self.levels[row]] += borders.label(row);
                }
            }
            found[highest] += 1.0;
        }
        accumulate(&mut found);
        accumulate(&mut soft);
        let mut curve = Curve { points: Vec::with_capacity(THRESHOLDS + 2), precisions: Vec::new() };
        curve.points.push((0.0, 0.0));
        for n in 0..THRESHOLDS {
            let hits = self.alarmed_anomalous[n] + soft[n];
            // Of the border, only rows with an alarm are asked for, and they count half: not in the paper, but in all that is published.
            let asked_for = positives + soft[n] / 2.0;
            let recall = (hits / asked_for).min(1.0) * found[n] / events.len() as f64;
            curve.points.push(((self.alarmed[n] - hits) / (rows - asked_for), recall));
            curve.precisions.push(hits / self.alarmed[n]);
        }
        curve.points.push((1.0, 1.0));
        curve
    }

    /// First and last row of what counts as one event: an anomaly with its borders of `half` rows. Those whose borders meet are one.
    fn events(&self, half: usize) -> Vec<(usize, usize)> {
        let mut events: Vec<(usize, usize)> = Vec::new();
        for (first, last) in &self.segments {
            let end = (last + half).min(self.anomalous.len() - 1);
            match events.last_mut() {
                Some(event) if event.1 + half >= *first => event.1 = end,
                _ => events.push((first.saturating_sub(half), end)),
            }
        }
        events
    }
}

/// Soft labels around anomalies; one for all widths, so that only what is drawn on is wiped.
struct Borders {
    labels: Vec<f64>,
    drawn: Vec<usize>,
}

impl Borders {
    fn new(rows: usize) -> Self {
        Self { labels: vec![0.0; rows], drawn: Vec::new() }
    }

    /// Falls with the square root, from 1 next to the anomaly to the root of a half; borders add up.
    fn draw(&mut self, segments: &[(usize, usize)], width: usize) {
        self.drawn.drain(..).for_each(|row| self.labels[row] = 0.0);
        let half = width / 2;
        for (first, last) in segments {
            let after = (last + 1)..(last + half + 1).min(self.labels.len());
            let before = first.saturating_sub(half)..*first;
            for row in before.chain(after) {
                let distance = if row < *first { first - row } else { row - last };
                self.labels[row] += (1.0 - distance as f64 / width as f64).sqrt();
                self.drawn.push(row);
            }
        }
    }

    fn label(&self, row: usize) -> f64 {
        self.labels[row].min(1.0)
    }
}

struct Curve {
    /// False positive rate and recall, from no alarm to alarms everywhere.
    points: Vec<(f64, f64)>,
    /// Of each threshold.
    precisions: Vec<f64>,
}

impl Curve {
    /// By trapezoids.
    fn area_under_roc(&self) -> f64 {
        self.points.windows(2).map(|pair| (pair[1].0 - pair[0].0) * (pair[1].1 + pair[0].1) / 2.0).sum()
    }

    /// By steps, as average precision, up to the last threshold.
    fn area_under_pr(&self) -> f64 {
        let steps = self.points.windows(2).map(|pair| pair[1].1 - pair[0].1);
        steps.zip(&self.precisions).map(|(step, precision)| step * precision).sum()
    }
}

fn accumulate(values: &mut [f64]) {
    let mut sum = 0.0;
    for value in values {
        sum += *value;
        *value = sum;
    }
}

/// First and last row of each run of anomalous rows.
fn segments(anomalous: &[bool]) -> Vec<(usize, usize)> {
    let mut segments: Vec<(usize, usize)> = Vec::new();
    for row in (0..anomalous.len()).filter(|row| anomalous[*row]) {
        match segments.last_mut() {
            Some(segment) if segment.1 + 1 == row => segment.1 = row,
            _ => segments.push((row, row)),
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::evaluate::made_up::MadeUp;

    /// Anomalies of some length, and scores that are higher in them.
    fn made_up(rows: usize, seed: u64, help: f64) -> (Vec<f64>, Vec<bool>) {
        let mut chance = MadeUp::new(seed);
        let mut anomalous = Vec::with_capacity(rows);
        let mut left = 0;
        for _ in 0..rows {
            if left == 0 && chance.is_below(0.01) {
                left = 1 + (chance.uniform() * 30.0) as usize;
            }
            anomalous.push(left > 0);
            left = left.saturating_sub(1);
        }
        let scores = anomalous.iter().map(|a| chance.uniform() + help * f64::from(*a)).collect();
        (scores, anomalous)
    }

    #[test]
    fn without_anomalies_or_scores_there_is_no_volume() {
        assert_eq!(volume(&[], &[], 10), None);
        assert_eq!(volume(&[1.0, 2.0], &[false, false], 10), None);
        assert_eq!(volume(&[1.0, 2.0], &[true, true], 10), None);
        assert_eq!(volume(&[1.0, f64::NAN], &[true, false], 10), None);
        assert_eq!(volume(&[1.0], &[true, false], 10), None);
    }

    /// What `RangeAUC_volume_opt` of the authors' package `vus` 0.0.6 (Python 3, numpy 2.4) gives for the same rows.
    #[test]
    fn it_is_what_the_authors_program_says() {
        let cases = [
            (600, 1, 0.3, 20, 0.835_263_004_296_743_9, 0.516_707_351_396_824_2),
            (1_500, 2, 0.6, 100, 0.966_702_816_849_92, 0.869_470_100_269_696),
            (251, 13, 0.3, 7, 0.785_919_668_479_539_6, 0.562_123_585_166_413_3),
            (3_000, 4, 1.5, 100, 0.999_983_859_587_060_7, 0.999_745_154_936_746_4),
            (2_000, 5, 0.0, 100, 0.812_911_733_179_303_7, 0.502_397_131_937_010_9),
        ];
        for (rows, seed, help, window, roc, pr) in cases {
            let (scores, anomalous) = made_up(rows, seed, help);
            let found = volume(&scores, &anomalous, window).unwrap();
            assert!((found.roc - roc).abs() < 1e-9 && (found.pr - pr).abs() < 1e-9, "{seed}: {found:?}");
        }
    }

    /// Anomalies at both ends, one of a single row, and scores that many rows share; by the same program.
    #[test]
    fn it_is_what_the_authors_program_says_at_the_ends() {
        let anomalous: Vec<bool> = (0..60).map(|row| matches!(row, 0 | 20..=23 | 30 | 57..=59)).collect();
        let scores: Vec<f64> = (0..60)
            .map(|row| {
                let raised = matches!(row, 1 | 21 | 22 | 29 | 58);
                f64::from(row * 37 % 11) / 10.0 + 0.5 * f64::from(u8::from(raised))
            })
            .collect();
        let cases = [
            (0, 0.407_679_738_562_091_5, 0.193_391_464_773_043_7),
            (5, 0.635_926_852_868_339, 0.332_287_378_068_519),
            (12, 0.761_076_473_545_664_9, 0.460_803_667_758_713_84),
            (100, 0.964_264_304_637_71, 0.904_734_820_917_852_8),
        ];
        for (window, roc, pr) in cases {
            let found = volume(&scores, &anomalous, window).unwrap();
            assert!((found.roc - roc).abs() < 1e-9 && (found.pr - pr).abs() < 1e-9, "{window}: {found:?}");
        }
    }

    #[test]
    fn better_scores_have_more_volume_and_chance_has_little() {
        let of = |help: f64| {
            let (scores, anomalous) = made_up(20_000, 4, help);
            volume(&scores, &anomalous, WINDOW).unwrap()
        };
        let (chance, some, sure) = (of(0.0), of(0.5), of(2.0));
        assert!(chance.roc < 0.9 && chance.pr < 0.5, "{chance:?}");
        assert!(chance.roc < some.roc && some.roc < sure.roc);
        assert!(chance.pr < some.pr && some.pr < sure.pr);
    }

    #[test]
    fn a_near_miss_counts_only_inside_the_border() {
        let anomalous: Vec<bool> = (0..1_000).map(|row| (500..510).contains(&row)).collect();
        let scores: Vec<f64> = (0..1_000).map(|row| f64::from((480..490).contains(&row))).collect();
        let narrow = volume(&scores, &anomalous, 4).unwrap();
        let wide = volume(&scores, &anomalous, WINDOW).unwrap();
        assert!(narrow.pr < 0.1 && wide.pr > 0.3, "{narrow:?} {wide:?}");
    }

    proptest! {
        #[test]
        fn only_the_order_of_scores_counts(seed in any::<u64>(), rows in 2usize..400, window in 0usize..30) {
            let (scores, anomalous) = made_up(rows, seed, 0.3);
            let scaled: Vec<f64> = scores.iter().map(|s| (3.0 * s).exp()).collect();
            prop_assert_eq!(volume(&scores, &anomalous, window), volume(&scaled, &anomalous, window));
        }

        #[test]
        fn it_is_what_the_definition_says(seed in any::<u64>(), rows in 2usize..300, window in 0usize..25) {
            let (scores, anomalous) = made_up(rows, seed, 0.3);
            if let Some(found) = volume(&scores, &anomalous, window) {
                let (roc, pr) = slowly(&scores, &anomalous, window);
                prop_assert!((found.roc - roc).abs() < 1e-9 && (found.pr - pr).abs() < 1e-9);
            }
        }
    }

    /// Threshold by threshold and row by row.
    fn slowly(scores: &[f64], anomalous: &[bool], window: usize) -> (f64, f64) {
        let n = scores.len();
        let rows = || (0..n).filter(|row| anomalous[*row]);
        let mut descending = scores.to_vec();
        descending.sort_by(|a, b| b.total_cmp(a));
        let (mut roc, mut pr) = (0.0, 0.0);
        for width in 0..=window {
            // The nearest row of each anomaly stands for it.
            let gaps = |row: usize| -> Vec<usize> {
                segments(anomalous)
                    .iter()
                    .map(|(a, b)| if row < *a { a - row } else { row.saturating_sub(*b) })
                    .filter(|gap| *gap <= width / 2)
                    .collect()
            };
            let label = |row: usize| -> f64 {
                let soft = gaps(row).iter().map(|g| (1.0 - *g as f64 / width as f64).sqrt()).sum::<f64>();
                if anomalous[row] { 1.0 } else { soft.min(1.0) }
            };
            let labels: Vec<f64> = (0..n).map(label).collect();
            let inside: Vec<bool> = (0..n).map(|row| !gaps(row).is_empty()).collect();
            // Borders that touch without overlapping are two events.
            let mut event = vec![0; n];
            let mut events = 0;
            let parts = segments(anomalous);
            for (k, (a, b)) in parts.iter().enumerate() {
                if k == 0 || parts[k - 1].1 + width / 2 < a - (width / 2).min(*a) {
                    events += 1;
                }
                event[a.saturating_sub(width / 2)..=(b + width / 2).min(n - 1)].fill(events);
            }
            assert!((0..n).all(|row| inside[row] == (event[row] > 0)));
            let mut before = (0.0, 0.0);
            for k in 0..THRESHOLDS {
                let step = (n - 1) as f64 / (THRESHOLDS - 1) as f64;
                let rank = if k + 1 == THRESHOLDS { n - 1 } else { (k as f64 * step) as usize };
                let alarm: Vec<f64> = scores.iter().map(|s| f64::from(*s >= descending[rank])).collect();
                let hits: f64 = (0..n).map(|row| labels[row] * alarm[row]).sum();
                let border: f64 =
                    (0..n).filter(|row| !anomalous[*row]).map(|row| labels[row] * alarm[row]).sum();
                let asked_for = (2.0 * rows().count() as f64 + border) / 2.0;
                let seen =
                    (1..=events).filter(|e| (0..n).any(|row| event[row] == *e && alarm[row] > 0.0)).count();
                let alarms: f64 = alarm.iter().sum();
                let point = (
                    (alarms - hits) / (n as f64 - asked_for),
                    (hits / asked_for).min(1.0) * seen as f64 / events as f64,
                );
                roc += (point.0 - before.0) * (point.1 + before.1) / 2.0;
                pr += (point.1 - before.1) * hits / alarms;
                before = point;
            }
            roc += (1.0 - before.0) * (1.0 + before.1) / 2.0;
        }
        (roc / (window as f64 + 1.0), pr / (window as f64 + 1.0))
    }
}
