//! How unusual a value is among drives of the same model. What one model counts every day is the end of another.

use std::collections::BTreeMap;

use super::{
    drives::{Drive, SMART},
    looks::Look,
    rates::SINCE_H,
};

/// The attributes that are ranked: 5, 12, 187, 188, 189, 197 and 198.
const RANKED: [usize; 7] = [0, 2, 3, 4, 5, 7, 8];
/// The rank where there is none: neither much nor little.
const UNKNOWN: f32 = 0.5;
/// Among fewer values there are no ranks.
const LEAST: usize = 200;

/// For each model the values of its drives, ascending, by attribute.
pub(super) struct Ranks {
    models: BTreeMap<usize, [Vec<f32>; RANKED.len()]>,
}

impl Ranks {
    /// Of the values at these looks; those that are there for a failure's sake are left out.
    pub(super) fn of(looks: &[Look], drives: &[Drive]) -> Self {
        let mut models: BTreeMap<usize, [Vec<f32>; RANKED.len()]> = BTreeMap::new();
        for look in looks.iter().filter(|look| look.drawn && look.at >= SINCE_H) {
            let drive = &drives[look.drive];
            let Some(at) = drive.at(look.hour) else { continue };
            for (values, i) in models.entry(drive.model).or_default().iter_mut().zip(RANKED) {
                let value = drive.spans[at].smart[i];
                if !value.is_nan() {
                    values.push(value);
                }
            }
        }
        for values in models.values_mut().flatten() {
            values.sort_by(f32::total_cmp);
        }
        Self { models }
    }

    /// For each ranked attribute the share of values below it, those that are the same counting half. The middle where too little is known.
    pub(super) fn row(&self, drive: &Drive, hour: f64) -> [f32; RANKED.len()] {
        let mut row = [UNKNOWN; RANKED.len()];
        let (Some(at), Some(values)) = (drive.at(hour), self.models.get(&drive.model)) else { return row };
        for ((rank, values), i) in row.iter_mut().zip(values).zip(RANKED) {
            let value = drive.spans[at].smart[i];
            if values.len() >= LEAST && !value.is_nan() {
                let below = values.partition_point(|v| *v < value);
                let up_to = values.partition_point(|v| *v <= value);
                *rank = ((below + up_to) as f64 / (2 * values.len()) as f64) as f32;
            }
        }
        row
    }
}

/// The names of what [`Ranks::row`] gives.
pub(super) fn names() -> impl Iterator<Item = String> {
    RANKED.into_iter().map(|i| format!("{}.rank", SMART[i]))
}

#[cfg(test)]
mod tests {
    use super::{super::drives::made_up, *};

    fn look(drive: usize) -> Look {
        Look { drive, hour: 5.0, at: SINCE_H, left: 1e6, failed: false, weight: 1.0, drawn: true }
    }

    #[test]
    fn a_rank_is_among_drives_of_the_same_model() {
        let of = |model: usize, value: f32| Drive { model, ..made_up(&[(0.0, value)], 10.0, false) };
        // Model 0 counts 0 to 299, model 1 a thousand times as much.
        let mut drives: Vec<Drive> = (0..600u16)
            .map(|n| of(usize::from(n % 2), f32::from(n / 2) * [1.0, 1_000.0][usize::from(n % 2)]))
            .collect();
        let ranks = Ranks::of(&(0..600).map(look).collect::<Vec<_>>(), &drives);
        let rank = |model, value| ranks.row(&of(model, value), 5.0)[0];
        assert!((rank(0, 150.0) - 0.5).abs() < 0.01 && (rank(1, 150_000.0) - 0.5).abs() < 0.01);
        assert_eq!([rank(0, 1e9), rank(0, -1.0)], [1.0, 0.0]);
        assert!((rank(1, 150.0) - 1.0 / 300.0).abs() < 1e-6, "above its 0, below all others");
        assert_eq!(ranks.row(&drives[0], 5.0)[1], 0.5, "all others are the same");
        drives[0].spans[0].smart[0] = f32::NAN;
        assert_eq!(ranks.row(&drives[0], 5.0)[0], UNKNOWN);
    }

    #[test]
    fn of_a_few_drives_and_of_new_models_there_are_no_ranks() {
        let drives: Vec<Drive> = (0..199).map(|_| made_up(&[(0.0, 1.0)], 10.0, false)).collect();
        let ranks = Ranks::of(&(0..199).map(look).collect::<Vec<_>>(), &drives);
        assert!(ranks.row(&drives[0], 5.0).iter().all(|rank| *rank == UNKNOWN));
        let new = Drive { model: 9, ..drives[0].clone() };
        assert!(ranks.row(&new, 5.0).iter().all(|rank| *rank == UNKNOWN));
        assert_eq!(names().count(), RANKED.len());
    }
}
