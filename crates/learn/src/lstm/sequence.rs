//! Sequences as the network reads them.

use forefend_predict::learned::LstmParts;

use crate::{TrainError, hazard::Watched};

/// The rows of one cell.
#[derive(Debug, Clone)]
pub(super) struct Sequence {
    /// Features, standardised, one row after the other; NaN where not known.
    rows: Vec<f32>,
    /// What was watched from each row on.
    pub(super) looks: Vec<Look>,
}

/// What was watched from a row on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Look {
    /// So many intervals were seen, the one of the failure included.
    pub(super) seen: usize,
    /// Whether it failed in the last of these.
    pub(super) failed: bool,
    /// How much it counts.
    pub(super) weight: f32,
}

impl Look {
    fn of(life: f64, failed: bool, weight: f32, edges: &[f64]) -> Self {
        let survived = edges.iter().take_while(|edge| **edge <= life).count();
        // Who fails at an edge fails in the interval that ends there.
        let at = edges.iter().take_while(|edge| **edge < life).count();
        match failed && at < edges.len() {
            true => Self { seen: at + 1, failed: true, weight },
            false => Self { seen: survived, failed: false, weight },
        }
    }
}

impl Sequence {
    /// Standardised by what the model says.
    pub(super) fn of(watched: &Watched, parts: &LstmParts) -> Self {
        let scales = || parts.centre.iter().zip(&parts.scale);
        let standardise =
            |row: &Vec<f32>| row.iter().zip(scales()).map(|(v, (c, s))| (v - c) / s).collect::<Vec<f32>>();
        let looks = (0..watched.len())
            .map(|n| Look::of(watched.times[n], watched.failed[n], watched.weights[n], &parts.edges));
        Self { rows: watched.rows.iter().flat_map(standardise).collect(), looks: looks.collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.looks.len()
    }

    /// A row, of so many columns.
    pub(super) fn row(&self, n: usize, columns: usize) -> &[f32] {
        &self.rows[n * columns..(n + 1) * columns]
    }
}

/// Refuses what can't be learned from.
pub(super) fn check(sequences: &[Watched], columns: usize) -> Result<(), TrainError> {
    let wrong = |why: String| Err(TrainError::Model { why });
    for (s, watched) in sequences.iter().enumerate() {
        let have = [watched.times.len(), watched.failed.len(), watched.weights.len()];
        if have.iter().any(|have| *have != watched.len()) {
            return wrong(format!("sequence {s} has {} rows and {have:?} of the rest", watched.len()));
        }
        for (n, row) in watched.rows.iter().enumerate() {
            let (found, time, weight) = (row.len(), watched.times[n], watched.weights[n]);
            if found != columns {
                return wrong(format!("row {n} of sequence {s} has {found} features, not {columns}"));
            }
            if let Some(column) = row.iter().position(|value| value.is_infinite()) {
                return Err(TrainError::Infinite { row: n, column });
            }
            if !(weight >= 0.0 && weight.is_finite()) {
                return Err(TrainError::Weight { row: n, weight });
            }
            if weight > 0.0 && !(time > 0.0 && time.is_finite()) {
                return wrong(format!("row {n} of sequence {s} was watched for {time}: not above 0"));
            }
        }
    }
    if sequences.iter().all(Watched::is_empty) {
        return Err(TrainError::NoRows);
    }
    Ok(())
}

/// Centre and scale of each column: mean and standard deviation of what is known, each row counting once.
pub(super) fn scales(sequences: &[Watched], columns: usize) -> (Vec<f32>, Vec<f32>) {
    (0..columns)
        .map(|column| {
            let known = || {
                let rows = sequences.iter().flat_map(|watched| &watched.rows);
                rows.map(move |row| f64::from(row[column])).filter(|value| !value.is_nan())
            };
            let count = known().count().max(1) as f64;
            let mean = known().sum::<f64>() / count;
            let variance = known().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            // What never moves says nothing; it must not be blown up by rounding either.
            let scale = variance.sqrt();
            let scale = if scale > 1e-6 * mean.abs().max(1e-6) { scale } else { 1.0 };
            (mean as f32, (scale as f32).max(f32::MIN_POSITIVE))
        })
        .unzip()
}

/// How many rows were at risk in each interval, and how many failed there, by weight.
pub(super) fn counts(sequences: &[Sequence], intervals: usize) -> Vec<(f64, f64)> {
    let mut counts = vec![(0.0, 0.0); intervals];
    for look in sequences.iter().flat_map(|sequence| &sequence.looks) {
        let weight = f64::from(look.weight);
        counts[..look.seen].iter_mut().for_each(|count| count.0 += weight);
        if look.failed {
            counts[look.seen - 1].1 += weight;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_ends_with_the_failure_or_before_the_interval_that_was_cut_off() {
        let edges = [1.0, 2.0, 4.0];
        let look = |life, failed| {
            let look = Look::of(life, failed, 1.0, &edges);
            (look.seen, look.failed)
        };
        assert_eq!(look(0.5, true), (1, true));
        assert_eq!(look(2.0, true), (2, true));
        assert_eq!(look(3.0, true), (3, true));
        assert_eq!(look(4.5, true), (3, false));
        assert_eq!(look(0.5, false), (0, false));
        assert_eq!(look(2.0, false), (2, false));
        assert_eq!(look(3.9, false), (2, false));
        assert_eq!(look(9.0, false), (3, false));
    }

    #[test]
    fn columns_that_never_move_or_are_never_known_have_a_scale_too() {
        let mut watched = Watched::default();
        for n in 0..4 {
            watched.push(vec![n as f32, 1e6, f32::NAN], 1.0, false, 1.0);
        }
        let (centre, scale) = scales(&[watched], 3);
        assert_eq!(centre, [1.5, 1e6, 0.0]);
        assert!((scale[0] - 1.25f32.sqrt()).abs() < 1e-6);
        assert_eq!(scale[1..], [1.0, 1.0]);
    }
}
