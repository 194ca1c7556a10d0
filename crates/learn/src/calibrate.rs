//! Fits calibrations: what the probabilities of a model should have been, going by what happened.
//!
//! Probabilities, targets (0, 1, or a share of yes between) and weights come as one list each, a row at the same place in all.

use forefend_predict::learned::Calibration;

use crate::{
    Matrix, TrainError, logistic,
    matrix::{Weights, share_of_yes},
};

/// Log odds are taken no nearer to 0 and 1 than this, as [`Calibration::apply`] does.
const LEAST: f64 = 1e-12;

/// Parts that groups are divided into to try a calibration on rows that it wasn't fitted to.
const FOLDS: usize = 5;

/// With fewer groups nothing is calibrated: how far they differ from each other can't be known.
const LEAST_GROUPS: usize = 5;

/// A straight line on the log odds (Platt, Advances in Large Margin Classifiers, 1999), with the targets of Lin, Lin & Weng (Machine
/// Learning 68, 2007, <https://doi.org/10.1007/s10994-007-5018-6>), which are a little less sure than what was seen. A line that
/// would turn the order of the rows round is made flat.
///
/// # Errors
/// Where lengths differ, there are no rows, a probability, target or weight is out of range, or all rows are of one class.
pub fn platt(p: &[f64], y: &[f32], weights: Option<&[f32]>) -> Result<Calibration, TrainError> {
    let (yes, no) = classes(p, y, weights)?;
    let (sure, unsure) = ((yes + 1.0) / (yes + 2.0), 1.0 / (no + 2.0));
    let targets: Vec<f32> =
        y.iter().map(|y| (f64::from(*y) * sure + (1.0 - f64::from(*y)) * unsure) as f32).collect();
    let log_odds = p.iter().map(|p| p.clamp(LEAST, 1.0 - LEAST)).map(|p| (p / (1.0 - p)).ln() as f32);
    // Next to no penalty: just enough to come to an end.
    let settings = logistic::Settings { l2: 1e-6, ..logistic::Settings::default() };
    let model = logistic::train(&Matrix::new(1, log_odds.collect())?, &targets, weights, &settings)?;
    let slope = f64::from(model.weights()[0]) / f64::from(model.scale()[0]);
    let (slope, intercept) = if slope > 0.0 {
        (slope, model.intercept() - slope * f64::from(model.centre()[0]))
    } else {
        let mean = (yes * sure + no * unsure) / (yes + no);
        (0.0, (mean / (1.0 - mean)).ln())
    };
    Calibration::platt(slope as f32, intercept as f32).map_err(|why| TrainError::Model { why })
}

/// The rising line with the least squared error, by pooling neighbours that are in the wrong order (Ayer et al., Annals of Mathematical
/// Statistics 26, 1955, <https://doi.org/10.1214/aoms/1177728423>). It may say 0 and 1, where all rows at an end agree.
///
/// # Errors
/// As of [`platt`].
pub fn isotonic(p: &[f64], y: &[f32], weights: Option<&[f32]>) -> Result<Calibration, TrainError> {
    classes(p, y, weights)?;
    let weights = Weights::new(weights, p.len())?;
    let rows = (0..p.len()).filter(|row| weights.of(*row) > 0.0);
    let mut rows: Vec<(f32, f64, f64)> =
        rows.map(|row| (p[row] as f32, f64::from(y[row]), weights.of(row))).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut x, mut line) = (Vec::new(), Vec::new());
    for pool in pools(&rows) {
        let mean = pool.mean().clamp(0.0, 1.0) as f32;
        x.push(pool.from);
        line.push(mean);
        if pool.to > pool.from {
            x.push(pool.to);
            line.push(mean);
        }
    }
    Calibration::isotonic(x, line).map_err(|why| TrainError::Model { why })
}

/// The calibration that a model should have: a straight line or any rising line, whichever lowers the Brier score more on rows
/// that it wasn't fitted to, or none where neither lowers it by more than its standard error.
///
/// Rows of one group (one failure, one experiment, one cell) are never divided, and the error is that of the mean over
/// groups, paired: a thousand rows of one failure are one thing that was seen. None is chosen also for fewer than 5
/// groups and for rows of one class.
///
/// # Errors
/// Where lengths differ, there are no rows, or a probability, target or weight is out of range.
pub fn choose<G: Ord>(
    p: &[f64],
    y: &[f32],
    groups: &[G],
    weights: Option<&[f32]>,
) -> Result<Calibration, TrainError> {
    if groups.len() != p.len() {
        return Err(TrainError::Lengths { what: "groups", have: groups.len(), want: p.len() });
    }
    match classes(p, y, weights) {
        Err(TrainError::OneClass(_)) => return Ok(Calibration::Identity),
        checked => checked?,
    };
    let trial = Trial { p, y, weights, groups: numbered(groups) };
    let candidates = [platt as Fit, isotonic as Fit];
    let mut best: Option<(f64, Fit)> = None;
    for fit in candidates {
        if let Some(gain) = trial.gain(fit)?
            && best.is_none_or(|(most, _)| gain > most)
        {
            best = Some((gain, fit));
        }
    }
    best.map_or(Ok(Calibration::Identity), |(_, fit)| fit(p, y, weights))
}

type Fit = fn(&[f64], &[f32], Option<&[f32]>) -> Result<Calibration, TrainError>;

/// The weight of either class; both are above 0.
fn classes(p: &[f64], y: &[f32], weights: Option<&[f32]>) -> Result<(f64, f64), TrainError> {
    if y.len() != p.len() {
        return Err(TrainError::Lengths { what: "targets", have: y.len(), want: p.len() });
    }
    if let Some(row) = p.iter().position(|p| !(0.0..=1.0).contains(p)) {
        return Err(TrainError::Prediction { row, value: p[row], allowed: "from 0 to 1" });
    }
    let weights = Weights::new(weights, p.len())?;
    let share = share_of_yes(y, weights)?;
    let total: f64 = (0..p.len()).map(|row| weights.of(row)).sum();
    Ok((share * total, (1.0 - share) * total))
}

/// Neighbours with one mean.
struct Pool {
    from: f32,
    to: f32,
    sum: f64,
    weight: f64,
}

impl Pool {
    fn mean(&self) -> f64 {
        self.sum / self.weight
    }
}

/// Pools `(probability, target, weight)`, ascending by probability, until the means ascend.
fn pools(rows: &[(f32, f64, f64)]) -> Vec<Pool> {
    let mut pools: Vec<Pool> = Vec::new();
    // Rows of the same probability belong together before anything is said of their order.
    for same in rows.chunk_by(|a, b| a.0 == b.0) {
        let p = same[0].0;
        let (sum, weight) =
            same.iter().fold((0.0, 0.0), |(sum, weight), row| (sum + row.1 * row.2, weight + row.2));
        let mut pool = Pool { from: p, to: p, sum, weight };
        while let Some(last) = pools.pop_if(|last| last.mean() >= pool.mean()) {
            pool =
                Pool { from: last.from, sum: last.sum + pool.sum, weight: last.weight + pool.weight, ..pool };
        }
        pools.push(pool);
    }
    pools
}

/// The number of each row's group, from 0 in the order of the groups.
fn numbered<G: Ord>(groups: &[G]) -> Vec<usize> {
    let mut distinct: Vec<&G> = groups.iter().collect();
    distinct.sort();
    distinct.dedup();
    groups.iter().map(|group| distinct.partition_point(|other| *other < group)).collect()
}

/// Rows to try calibrations on.
struct Trial<'a> {
    p: &'a [f64],
    y: &'a [f32],
    weights: Option<&'a [f32]>,
    groups: Vec<usize>,
}

impl Trial<'_> {
    /// By how much the Brier score falls on rows that the calibration wasn't fitted to; `None` where that may be chance.
    fn gain(&self, fit: Fit) -> Result<Option<f64>, TrainError> {
        let mut calibrated = self.p.to_vec();
        for fold in 0..FOLDS {
            let rest: Vec<usize> = self.rows(|group| group % FOLDS != fold);
            let p: Vec<f64> = rest.iter().map(|row| self.p[*row]).collect();
            let y: Vec<f32> = rest.iter().map(|row| self.y[*row]).collect();
            let weights: Option<Vec<f32>> =
                self.weights.map(|weights| rest.iter().map(|row| weights[*row]).collect());
            let calibration = match fit(&p, &y, weights.as_deref()) {
                // What the other groups can't say changes nothing for these.
                Err(TrainError::OneClass(_) | TrainError::NoRows | TrainError::NoWeight) => continue,
                fitted => fitted?,
            };
            for row in self.rows(|group| group % FOLDS == fold) {
                calibrated[row] = calibration.apply(self.p[row]);
            }
        }
        Ok(self.gain_of(&calibrated))
    }

    fn rows(&self, wanted: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..self.p.len()).filter(|row| wanted(self.groups[*row])).collect()
    }

    /// The weighted mean fall of the squared error, if it is above its standard error over groups.
    fn gain_of(&self, calibrated: &[f64]) -> Option<f64> {
        let count = self.groups.iter().max()? + 1;
        let mut falls = vec![(0.0, 0.0); count];
        for (row, group) in self.groups.iter().enumerate() {
            let weight = self.weights.map_or(1.0, |weights| f64::from(weights[row]));
            let error = |p: f64| (p - f64::from(self.y[row])).powi(2);
            falls[*group].0 += weight * (error(self.p[row]) - error(calibrated[row]));
            falls[*group].1 += weight;
        }
        falls.retain(|(_, weight)| *weight > 0.0);
        if falls.len() < LEAST_GROUPS {
            return None;
        }
        let count = falls.len() as f64;
        let total: f64 = falls.iter().map(|(_, weight)| weight).sum();
        let mean = falls.iter().map(|(fall, _)| fall).sum::<f64>() / total;
        // Of a ratio of two sums over groups (Cochran, Sampling Techniques, 1977, chapter 6).
        let squares: f64 = falls.iter().map(|(fall, weight)| (fall - mean * weight).powi(2)).sum();
        let error = (squares * count / (count - 1.0)).sqrt() / total;
        (mean > 0.0 && mean > error).then_some(mean)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Probabilities of a model, outcomes that happen as often as `truth` says, and groups of `size` rows.
    fn made_up(
        seed: u64,
        rows: usize,
        size: usize,
        truth: impl Fn(f64) -> f64,
    ) -> (Vec<f64>, Vec<f32>, Vec<usize>) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let p: Vec<f64> = (0..rows).map(|_| random.random()).collect();
        let y = p.iter().map(|p| f32::from(u8::from(random.random::<f64>() < truth(*p)))).collect();
        (p, y, (0..rows).map(|row| row / size).collect())
    }

    /// Log odds three times too large.
    fn too_bold(p: f64) -> f64 {
        1.0 / (1.0 + ((1.0 - p) / p).powf(1.0 / 3.0))
    }

    #[test]
    fn a_line_is_found_again() {
        let (p, y, _) = made_up(1, 20_000, 10, too_bold);
        let Calibration::Platt { slope, intercept } = platt(&p, &y, None).unwrap() else { panic!() };
        assert!((slope - 1.0 / 3.0).abs() < 0.03 && intercept.abs() < 0.05, "{slope} and {intercept}");
    }

    #[test]
    fn a_few_rows_that_all_agree_do_not_make_it_certain() {
        let line = platt(&[0.1, 0.2, 0.8, 0.9], &[0.0, 0.0, 1.0, 1.0], None).unwrap();
        assert!((0.6..0.9).contains(&line.apply(0.9)), "{}", line.apply(0.9));
        let turned = platt(&[0.1, 0.2, 0.8, 0.9], &[1.0, 1.0, 0.0, 0.0], None).unwrap();
        assert!((turned.apply(0.1) - 0.5).abs() < 1e-6 && (turned.apply(0.9) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn what_is_right_is_left_alone() {
        let untouched = (0..20).filter(|seed| {
            let (p, y, groups) = made_up(*seed, 400, 10, |p| p);
            choose(&p, &y, &groups, None).unwrap() == Calibration::Identity
        });
        let untouched = untouched.count();
        assert!(untouched >= 16, "{untouched} of 20");
    }

    #[test]
    fn a_bold_model_gets_a_line_and_a_crooked_one_a_crooked_line() {
        let (p, y, groups) = made_up(2, 4_000, 20, too_bold);
        assert!(matches!(choose(&p, &y, &groups, None).unwrap(), Calibration::Platt { .. }));
        let crooked = |p: f64| if p < 0.5 { 0.05 } else { 0.55 };
        let (p, y, groups) = made_up(3, 4_000, 20, crooked);
        let chosen = choose(&p, &y, &groups, None).unwrap();
        assert!(matches!(chosen, Calibration::Isotonic { .. }));
        assert!((chosen.apply(0.25) - 0.05).abs() < 0.05 && (chosen.apply(0.75) - 0.55).abs() < 0.07);
    }

    #[test]
    fn many_rows_of_few_groups_are_little_seen() {
        let (p, y, groups) = made_up(4, 4_000, 1_000, too_bold);
        assert_eq!(choose(&p, &y, &groups, None).unwrap(), Calibration::Identity);
        let one_class = choose(&p, &[0.0; 4_000], &groups, None).unwrap();
        assert_eq!(one_class, Calibration::Identity);
    }

    #[test]
    fn a_gain_that_rests_on_one_group_is_chance() {
        // One group in which the model is far off, 29 in which it is right.
        let (mut p, mut y, mut groups) = (vec![], vec![], vec![]);
        for group in 0..30 {
            for row in 0..20 {
                p.push(0.2);
                y.push(f32::from(u8::from(if group == 7 { true } else { row % 5 == 0 })));
                groups.push(group);
            }
        }
        assert_eq!(choose(&p, &y, &groups, None).unwrap(), Calibration::Identity);
    }

    #[test]
    fn what_does_not_fit_together_is_told() {
        let told = |fitted: Result<Calibration, TrainError>| fitted.unwrap_err().to_string();
        assert!(told(platt(&[0.5], &[], None)).contains("0 targets for 1"));
        assert!(told(isotonic(&[0.5, f64::NAN], &[0.0, 1.0], None)).contains("row 1 is NaN"));
        assert!(told(isotonic(&[0.5, 0.6], &[1.0, 1.0], None)).contains("all targets are 1"));
        assert!(told(choose(&[0.5, 0.6], &[1.0, 0.0], &[1], None)).contains("1 groups for 2"));
        assert!(told(choose::<u8>(&[], &[], &[], None)).contains("no rows"));
    }

    /// The least squared error of all ways to cut the rows into neighbours with ascending means.
    fn least_error(rows: &[(f32, f64, f64)]) -> f64 {
        let mut least = f64::INFINITY;
        for cuts in 0..1u32 << (rows.len() - 1) {
            let (mut error, mut begin, mut before) = (0.0, 0, f64::NEG_INFINITY);
            for end in 1..=rows.len() {
                if end < rows.len() && cuts & (1 << (end - 1)) == 0 {
                    continue;
                }
                let piece = &rows[begin..end];
                let weight: f64 = piece.iter().map(|row| row.2).sum();
                let mean = piece.iter().map(|row| row.1 * row.2).sum::<f64>() / weight;
                let same_p = begin > 0 && rows[begin].0 == rows[begin - 1].0;
                let rises = mean >= before && !same_p;
                error += if rises {
                    piece.iter().map(|row| row.2 * (row.1 - mean).powi(2)).sum()
                } else {
                    f64::INFINITY
                };
                (begin, before) = (end, mean);
            }
            least = least.min(error);
        }
        least
    }

    proptest! {
        #[test]
        fn no_rising_line_has_a_smaller_error(
            rows in prop::collection::vec((0u8..12, 0u8..=4, 1u8..4), 2..9),
        ) {
            let p: Vec<f64> = rows.iter().map(|row| f64::from(row.0) / 11.0).collect();
            let mut y: Vec<f32> = rows.iter().map(|row| f32::from(row.1) / 4.0).collect();
            (y[0], y[1]) = (0.0, 1.0);
            let weights: Vec<f32> = rows.iter().map(|row| f32::from(row.2)).collect();
            let line = isotonic(&p, &y, Some(&weights)).unwrap();
            let mut sorted: Vec<(f32, f64, f64)> =
                (0..p.len()).map(|i| (p[i] as f32, f64::from(y[i]), f64::from(weights[i]))).collect();
            sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
            let error: f64 =
                sorted.iter().map(|(p, y, weight)| weight * (line.apply(f64::from(*p)) - y).powi(2)).sum();
            let least = least_error(&sorted);
            prop_assert!((error - least).abs() < 1e-5, "{error} is not {least}");
        }

        #[test]
        fn any_fit_is_monotone_and_gives_probabilities(
            rows in prop::collection::vec((0f64..=1.0, any::<bool>(), 0u8..7), 2..80),
        ) {
            let p: Vec<f64> = rows.iter().map(|row| row.0).collect();
            let mut y: Vec<f32> = rows.iter().map(|row| f32::from(u8::from(row.1))).collect();
            (y[0], y[1]) = (0.0, 1.0);
            let groups: Vec<u8> = rows.iter().map(|row| row.2).collect();
            for fitted in [platt(&p, &y, None), isotonic(&p, &y, None), choose(&p, &y, &groups, None)] {
                let fitted = fitted.unwrap();
                let line: Vec<f64> = (0..=100).map(|p| fitted.apply(f64::from(p) / 100.0)).collect();
                prop_assert!(line.is_sorted() && line.iter().all(|p| (0.0..=1.0).contains(p)), "{fitted:?}");
            }
        }
    }
}
