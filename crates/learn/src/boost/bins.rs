use std::thread;

use crate::matrix::{Matrix, Weights};

/// The code of a value that isn't known.
pub(super) const UNKNOWN: u8 = 0;

/// All features as small codes, column by column: 0 is unknown, codes from 1 on ascend with the value.
///
/// Trees are grown on codes, since a histogram of at most 256 of them says all that a split has to know of a column
/// (LightGBM, Ke et al., NeurIPS 2017).
pub(super) struct Bins {
    columns: Vec<Column>,
}

/// One feature.
pub(super) struct Column {
    codes: Vec<u8>,
    /// Ascending. Code `c` stands for values above `cuts[c − 2]` and up to `cuts[c − 1]`.
    cuts: Vec<f32>,
    has_unknown: bool,
}

impl Bins {
    /// Cuts every column into at most `bins` quantiles of the rows' weight.
    pub(super) fn new(matrix: &Matrix, weights: Weights<'_>, bins: usize, threads: usize) -> Self {
        let columns: Vec<usize> = (0..matrix.columns()).collect();
        let cut = |columns: &[usize]| -> Vec<Column> {
            columns.iter().map(|column| Column::new(matrix, *column, weights, bins)).collect()
        };
        let per_thread = columns.len().div_ceil(threads.max(1));
        let columns = thread::scope(|scope| {
            let (mine, theirs) = columns.split_at(per_thread);
            let helpers: Vec<_> =
                theirs.chunks(per_thread).map(|columns| scope.spawn(move || cut(columns))).collect();
            let mut done = cut(mine);
            for helper in helpers {
                done.extend(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            done
        });
        Self { columns }
    }

    pub(super) fn column(&self, column: usize) -> &Column {
        &self.columns[column]
    }

    /// The columns that can tell rows apart.
    pub(super) fn useful(&self) -> Vec<usize> {
        let tells = |column: &Column| !column.cuts.is_empty() || column.has_unknown;
        (0..self.columns.len()).filter(|column| tells(&self.columns[*column])).collect()
    }
}

impl Column {
    fn new(matrix: &Matrix, column: usize, weights: Weights<'_>, bins: usize) -> Self {
        let mut weighted: Vec<(f32, f64)> = matrix
            .column(column)
            .enumerate()
            .map(|(row, value)| (value, weights.of(row)))
            .filter(|(value, weight)| !value.is_nan() && *weight > 0.0)
            .collect();
        let cuts = cuts(&mut weighted, bins);
        let mut has_unknown = false;
        let codes = matrix
            .column(column)
            .map(|value| {
                if value.is_nan() {
                    has_unknown = true;
                    return UNKNOWN;
                }
                // At most 254 cuts, so at most code 255.
                u8::try_from(1 + cuts.partition_point(|cut| *cut < value)).unwrap_or(u8::MAX)
            })
            .collect();
        Self { codes, cuts, has_unknown }
    }

    /// One code for each row.
    pub(super) fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// How many codes there may be, the one of the unknown included.
    pub(super) fn width(&self) -> usize {
        self.cuts.len() + 2
    }

    /// The threshold that sends codes up to `code` left and greater ones right.
    pub(super) fn threshold(&self, code: u8) -> f32 {
        // Behind the last code there are no more values, and only the unknown is told apart.
        usize::from(code).checked_sub(1).and_then(|at| self.cuts.get(at)).copied().unwrap_or(f32::MAX)
    }
}

/// Where to cut so that at most `bins` pieces weigh about the same; between all distinct values where those are few.
fn cuts(weighted: &mut [(f32, f64)], bins: usize) -> Vec<f32> {
    weighted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut distinct: Vec<(f32, f64)> = Vec::new();
    for (value, weight) in weighted {
        match distinct.last_mut() {
            Some((last, sum)) if *last == *value => *sum += *weight,
            _ => distinct.push((*value, *weight)),
        }
    }
    let every_value = distinct.len() <= bins;
    let mut cuts = Vec::new();
    let mut rest: f64 = distinct.iter().map(|(_, weight)| weight).sum();
    let mut piece = 0.0;
    for pair in distinct.windows(2) {
        let [(value, weight), (next, next_weight)] = [pair[0], pair[1]];
        piece += weight;
        // What is left is shared out evenly among the bins that are left; a value that fills a bin alone gets it alone.
        let fair = rest / (bins - cuts.len()) as f64;
        if every_value || (cuts.len() + 1 < bins && (piece >= fair || next_weight >= fair)) {
            cuts.push(between(value, next));
            rest -= piece;
            piece = 0.0;
        }
    }
    cuts
}

/// A number with `low` on or below it and `high` above.
fn between(low: f32, high: f32) -> f32 {
    let middle = f64::midpoint(f64::from(low), f64::from(high)) as f32;
    if low <= middle && middle < high { middle } else { low }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn column_of(values: &[f32], bins: usize) -> Column {
        let matrix = Matrix::new(1, values.to_vec()).unwrap();
        let weights = Weights::new(None, values.len()).unwrap();
        Bins::new(&matrix, weights, bins, 1).columns.remove(0)
    }

    #[test]
    fn few_values_get_a_bin_each_and_the_unknown_its_own() {
        let column = column_of(&[3.0, f32::NAN, 1.0, 2.0, 2.0], 4);
        assert_eq!(column.codes, [3, UNKNOWN, 1, 2, 2]);
        assert_eq!(column.cuts, [1.5, 2.5]);
        assert_eq!(column.threshold(3), f32::MAX);
    }

    #[test]
    fn a_value_that_half_of_the_rows_have_gets_a_bin_alone() {
        let values: Vec<f32> = (0..1_000).map(|i| if i % 2 == 0 { 500.5 } else { i as f32 }).collect();
        let column = column_of(&values, 16);
        let code = column.codes[0];
        assert!(values.iter().zip(&column.codes).all(|(value, c)| (*c == code) == (*value == 500.5)));
    }

    #[test]
    fn many_values_make_bins_of_about_the_same_weight() {
        let values: Vec<f32> = (0..10_000).map(|i| i as f32 + (i as f32 * 0.37).sin()).collect();
        let column = column_of(&values, 255);
        let mut counts = vec![0; column.width()];
        column.codes.iter().for_each(|code| counts[usize::from(*code)] += 1);
        assert_eq!(column.width(), 256);
        assert!(counts[1..].iter().all(|count| (30..50).contains(count)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn codes_ascend_with_values_and_thresholds_divide_them(
            values in prop::collection::vec(
                prop_oneof![any::<f32>(), Just(f32::NAN), Just(-0.0), Just(0.0), (-9i8..9).prop_map(f32::from)],
                1..300,
            ),
            bins in 2usize..=255,
        ) {
            let column = column_of(&values, bins);
            prop_assert!(column.cuts.len() < bins);
            prop_assert!(column.cuts.is_sorted_by(|a, b| a < b));
            for (value, code) in values.iter().zip(&column.codes) {
                prop_assert_eq!(value.is_nan(), *code == UNKNOWN);
                for last in 1..=(column.width() - 1) as u8 {
                    prop_assert!(value.is_nan() || (*value <= column.threshold(last)) == (*code <= last));
                }
            }
        }
    }
}
