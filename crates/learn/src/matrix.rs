use thiserror::Error;

/// Why nothing could be trained.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum TrainError {
    /// A matrix without columns.
    #[error("the matrix has no columns; give every row one feature at least")]
    NoColumns,
    /// Nothing to learn from.
    #[error("there are no rows to learn from; record some first")]
    NoRows,
    /// More rows than a model is trained on.
    #[error("{0} rows are too many; train on fewer than 4 thousand million")]
    TooManyRows(usize),
    /// Values that don't make whole rows.
    #[error("{values} values don't fill rows of {columns} columns; pass rows × columns of them")]
    Ragged {
        /// How many values there are.
        values: usize,
        /// How many make a row.
        columns: usize,
    },
    /// Lists that belong together and differ in length.
    #[error("there are {have} {what} for {want}; pass one for each")]
    Lengths {
        /// What there is too much or too little of.
        what: &'static str,
        /// How many there are.
        have: usize,
        /// How many there should be.
        want: usize,
    },
    /// A feature that is neither a number nor unknown.
    #[error("row {row}, column {column} is infinite; pass NaN where a value is not known")]
    Infinite {
        /// Of the matrix, from 0.
        row: usize,
        /// Of the matrix, from 0.
        column: usize,
    },
    /// A weight that is negative or isn't finite.
    #[error("the weight of row {row} is {weight}; weights are finite and not negative")]
    Weight {
        /// From 0.
        row: usize,
        /// What it weighs.
        weight: f32,
    },
    /// All weights are 0.
    #[error("no row has a weight above 0; leave the weights out to count all rows alike")]
    NoWeight,
    /// A target outside of what the model can say.
    #[error("the target of row {row} is {target}; it must be {allowed}")]
    Target {
        /// From 0.
        row: usize,
        /// What it is.
        target: f32,
        /// What it may be.
        allowed: &'static str,
    },
    /// A yes-or-no model of rows that all say the same.
    #[error("all targets are {0}; a model of yes and no needs rows of both")]
    OneClass(f32),
    /// A probability or a prediction that is none.
    #[error("the prediction for row {row} is {value}; it must be {allowed}")]
    Prediction {
        /// From 0.
        row: usize,
        /// What it is.
        value: f64,
        /// What it may be.
        allowed: &'static str,
    },
    /// A setting out of range.
    #[error("the setting `{name}` must be {allowed}")]
    Setting {
        /// Of the field.
        name: &'static str,
        /// What it may be.
        allowed: &'static str,
    },
    /// The search for the best weights didn't come to an end.
    #[error("no solution after {0} iterations; raise `l2` or `max_iterations`")]
    NotConverged(usize),
    /// So few rows can't promise so much.
    #[error("{have} groups of rows are too few for a coverage of {coverage}; it takes {need}")]
    TooFew {
        /// How many groups there are.
        have: usize,
        /// How many are needed.
        need: usize,
        /// What was asked for, from 0 to 1.
        coverage: f64,
    },
    /// Upper ends at 0, which no factor makes long enough.
    #[error("too many upper predictions are 0 where the truth is not; take the additive shape")]
    UpperZero,
    /// What was given or what came out makes no sound model.
    #[error("no sound model: {why}")]
    Model {
        /// What is wrong with it.
        why: String,
    },
}

/// Rows of features, one after the other. NaN is "not known" and legal; infinities are not.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// The rows that `values` holds one after the other. May be empty, to be filled by [`Self::push`].
    ///
    /// # Errors
    /// [`TrainError::NoColumns`], [`TrainError::Ragged`], [`TrainError::Infinite`].
    pub fn new(columns: usize, values: Vec<f32>) -> Result<Self, TrainError> {
        if columns == 0 {
            return Err(TrainError::NoColumns);
        }
        if !values.len().is_multiple_of(columns) {
            return Err(TrainError::Ragged { values: values.len(), columns });
        }
        match values.iter().position(|value| value.is_infinite()) {
            Some(at) => Err(TrainError::Infinite { row: at / columns, column: at % columns }),
            None => Ok(Self { columns, values }),
        }
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.values.len() / self.columns
    }

    /// How many features a row has; at least one.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The features of a row.
    ///
    /// # Panics
    /// Where there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }

    /// Adds a row at the end.
    ///
    /// # Errors
    /// [`TrainError::Lengths`], [`TrainError::Infinite`]. The matrix is then what it was.
    pub fn push(&mut self, row: &[f32]) -> Result<(), TrainError> {
        if row.len() != self.columns {
            return Err(TrainError::Lengths { what: "features", have: row.len(), want: self.columns });
        }
        if let Some(column) = row.iter().position(|value| value.is_infinite()) {
            return Err(TrainError::Infinite { row: self.rows(), column });
        }
        self.values.extend_from_slice(row);
        Ok(())
    }

    /// These rows in this order; one may be taken more than once.
    ///
    /// # Panics
    /// Where there is no such row.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let values = rows.iter().flat_map(|row| self.row(*row)).copied().collect();
        Self { columns: self.columns, values }
    }

    /// The values of a column, first row first.
    pub(crate) fn column(&self, column: usize) -> impl Iterator<Item = f32> + '_ {
        self.values[column..].iter().step_by(self.columns).copied()
    }
}

/// How much each row counts; all alike where nothing was said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weights<'a>(Option<&'a [f32]>);

impl<'a> Weights<'a> {
    /// The weights of `rows` rows.
    pub(crate) fn new(weights: Option<&'a [f32]>, rows: usize) -> Result<Self, TrainError> {
        let Some(given) = weights else { return Ok(Self(None)) };
        if given.len() != rows {
            return Err(TrainError::Lengths { what: "weights", have: given.len(), want: rows });
        }
        if let Some(row) = given.iter().position(|weight| !(weight.is_finite() && *weight >= 0.0)) {
            return Err(TrainError::Weight { row, weight: given[row] });
        }
        if given.iter().all(|weight| *weight == 0.0) {
            return Err(TrainError::NoWeight);
        }
        Ok(Self(weights))
    }

    pub(crate) fn of(self, row: usize) -> f64 {
        self.0.map_or(1.0, |weights| f64::from(weights[row]))
    }
}

/// The weighted mean of the targets, which has to lie between 0 and 1: rows of both classes.
pub(crate) fn share_of_yes(targets: &[f32], weights: Weights<'_>) -> Result<f64, TrainError> {
    if targets.is_empty() {
        return Err(TrainError::NoRows);
    }
    if let Some(row) = targets.iter().position(|target| !(0.0..=1.0).contains(target)) {
        return Err(TrainError::Target { row, target: targets[row], allowed: "from 0 to 1" });
    }
    let (mut yes, mut no) = (0.0, 0.0);
    for (row, target) in targets.iter().enumerate() {
        yes += weights.of(row) * f64::from(*target);
        no += weights.of(row) * (1.0 - f64::from(*target));
    }
    if yes <= 0.0 || no <= 0.0 {
        return Err(TrainError::OneClass(if yes <= 0.0 { 0.0 } else { 1.0 }));
    }
    Ok(yes / (yes + no))
}

/// As many targets as rows, and at least one.
pub(crate) fn check_lengths(matrix: &Matrix, targets: &[f32]) -> Result<(), TrainError> {
    if matrix.rows() == 0 {
        return Err(TrainError::NoRows);
    }
    if targets.len() != matrix.rows() {
        return Err(TrainError::Lengths { what: "targets", have: targets.len(), want: matrix.rows() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_makes_no_rows_is_refused() {
        assert_eq!(Matrix::new(0, vec![]), Err(TrainError::NoColumns));
        assert_eq!(Matrix::new(2, vec![1.0; 3]), Err(TrainError::Ragged { values: 3, columns: 2 }));
        let infinite = Matrix::new(2, vec![0.0, f32::NAN, 0.0, f32::NEG_INFINITY]);
        assert_eq!(infinite, Err(TrainError::Infinite { row: 1, column: 1 }));
        let mut matrix = Matrix::new(2, vec![]).unwrap();
        matrix.push(&[1.0, f32::NAN]).unwrap();
        assert_eq!(matrix.push(&[1.0, f32::INFINITY]), Err(TrainError::Infinite { row: 1, column: 1 }));
        assert!(matches!(matrix.push(&[1.0]), Err(TrainError::Lengths { have: 1, want: 2, .. })));
        assert_eq!(matrix.rows(), 1);
    }

    #[test]
    fn weights_that_count_for_nothing_or_less_are_refused() {
        assert_eq!(Weights::new(Some(&[0.0, 0.0]), 2).unwrap_err(), TrainError::NoWeight);
        assert!(matches!(Weights::new(Some(&[1.0]), 2), Err(TrainError::Lengths { .. })));
        for weight in [-1.0, f32::NAN, f32::INFINITY] {
            assert!(matches!(Weights::new(Some(&[1.0, weight]), 2), Err(TrainError::Weight { row: 1, .. })));
        }
    }

    #[test]
    fn a_class_of_weight_0_is_no_class() {
        let weights = Weights::new(Some(&[1.0, 1.0, 0.0]), 3).unwrap();
        assert_eq!(share_of_yes(&[0.0, 0.0, 1.0], weights), Err(TrainError::OneClass(0.0)));
        assert!((share_of_yes(&[0.0, 1.0, 1.0], weights).unwrap() - 0.5).abs() < 1e-12);
        assert!(matches!(share_of_yes(&[0.0, 2.0, 1.0], weights), Err(TrainError::Target { row: 1, .. })));
    }

    proptest! {
        #[test]
        fn rows_and_columns_are_views_of_the_same_values(
            columns in 1usize..6,
            rows in prop::collection::vec(prop::collection::vec(any::<f32>(), 6), 1..20),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let mut matrix = Matrix::new(columns, vec![]).unwrap();
            rows.iter().for_each(|row| matrix.push(&row[..columns]).unwrap());
            prop_assert_eq!(matrix.rows(), rows.len());
            for column in 0..columns {
                let seen: Vec<f32> = matrix.column(column).collect();
                prop_assert_eq!(seen, rows.iter().map(|row| row[column]).collect::<Vec<_>>());
            }
            let picks: Vec<usize> = picks.iter().map(|pick| pick.index(rows.len())).collect();
            let selected = matrix.select(&picks);
            for (row, pick) in picks.iter().enumerate() {
                prop_assert_eq!(selected.row(row), matrix.row(*pick));
            }
        }
    }
}
