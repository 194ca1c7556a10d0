//! Gradient boosting of regression trees on histograms: Friedman 2001 with the second-order gains of Chen & Guestrin 2016,
//! grown leaf by leaf as in LightGBM (Ke et al. 2017, <https://proceedings.neurips.cc/paper/2017/hash/6449f44a102fde848669bdd9eb6b76fa-Abstract.html>).
//!
//! Classes are not weighed against each other: that would make probabilities of what are then none.

mod bins;
mod grow;
mod histogram;
mod split;
#[cfg(test)]
mod tests;

use forefend_predict::learned::{Tree, Trees};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::matrix::{Matrix, TrainError, Weights, check_lengths, share_of_yes};
use bins::Bins;
use grow::Grower;
use histogram::Gradient;

/// What a model is to get right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Loss {
    /// Log loss of a yes (1) or no (0); scores are log odds. Targets between are shares of yes.
    #[default]
    Log,
    /// Squared error of a quantity; scores are the quantity.
    Squared,
}

/// How trees are grown.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// At most so many trees.
    pub rounds: usize,
    /// How much of its answer a tree adds, above 0 and up to 1.
    pub learning_rate: f64,
    /// At most so many leaves in a tree, at least 2.
    pub leaves: usize,
    /// A leaf has at least so many rows, at least 1.
    pub min_rows_in_leaf: usize,
    /// A leaf's second derivatives add up to at least this. For [`Loss::Log`] that is the sum of `p (1 − p)`, for
    /// [`Loss::Squared`] the sum of weights.
    pub min_hessian: f64,
    /// Added to every leaf's second derivative: draws the answers of small leaves to 0.
    pub l2: f64,
    /// Pieces that a feature's values are cut into, from 2 to 255. The unknown has one more.
    pub bins: usize,
    /// Share of the rows that each tree sees, above 0 and up to 1 (Friedman 2002, <https://doi.org/10.1016/S0167-9473(01)00065-2>).
    pub row_share: f64,
    /// Share of the columns that each tree sees, above 0 and up to 1; at least one column.
    pub column_share: f64,
    /// Which rows and columns those are.
    pub seed: u64,
    /// What is to be got right.
    pub loss: Loss,
    /// Stops where the loss on the rows to validate on has not fallen for so many trees. Without such rows it says nothing.
    pub patience: Option<usize>,
    /// For each column: 1 if the score may only rise with it, −1 if it may only fall, 0 if it is free. Empty: all are free.
    /// Unknown values stand outside of the order.
    pub monotone: Vec<i8>,
    /// Threads that share the columns out. The model doesn't depend on how many.
    pub threads: usize,
}

impl Default for Settings {
    /// 200 trees of up to 15 leaves, each on four fifths of rows and columns.
    fn default() -> Self {
        Self {
            rounds: 200,
            learning_rate: 0.1,
            leaves: 15,
            min_rows_in_leaf: 20,
            min_hessian: 1e-3,
            l2: 1.0,
            bins: 255,
            row_share: 0.8,
            column_share: 0.8,
            seed: 0,
            loss: Loss::Log,
            patience: Some(30),
            monotone: Vec::new(),
            threads: 1,
        }
    }
}

/// Rows that trees are not grown on, which say how many are enough.
#[derive(Debug, Clone, Copy)]
pub struct Valid<'a> {
    /// Rows with the columns of the rows to train on.
    pub matrix: &'a Matrix,
    /// One for each row.
    pub targets: &'a [f32],
    /// One for each row, or all alike.
    pub weights: Option<&'a [f32]>,
}

/// Trains trees on `matrix`. With rows to validate on, the model ends with the tree after which the loss on those was
/// lowest; that may be before the first.
///
/// # Errors
/// Where lengths differ, there are no rows, a weight, a target or a setting is out of range, or, for [`Loss::Log`], all
/// rows that count are of one class.
pub fn train(
    matrix: &Matrix,
    targets: &[f32],
    weights: Option<&[f32]>,
    valid: Option<Valid<'_>>,
    settings: &Settings,
) -> Result<Trees, TrainError> {
    settings.check(matrix.columns())?;
    check_lengths(matrix, targets)?;
    let rows = u32::try_from(matrix.rows()).map_err(|_| TrainError::TooManyRows(matrix.rows()))?;
    let weights = Weights::new(weights, targets.len())?;
    let base = settings.loss.base(targets, weights)?;
    let mut watch =
        valid.map(|valid| Watch::new(valid, matrix.columns(), base, settings.loss)).transpose()?;

    let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
    let bins = Bins::new(matrix, weights, settings.bins, settings.threads);
    let counting: Vec<u32> = (0..rows).filter(|row| weights.of(*row as usize) > 0.0).collect();
    let useful = bins.useful();
    let mut grower = Grower::new(&bins, weights, settings);
    let mut scores = vec![f64::from(base); targets.len()];
    let mut gradients: Vec<Gradient> = vec![[0.0; 2]; targets.len()];
    let mut trees = Vec::new();
    for round in 0..settings.rounds {
        for (row, gradient) in gradients.iter_mut().enumerate() {
            *gradient = settings.loss.gradient(scores[row], targets[row], weights.of(row));
        }
        let (drawn, others) = draw(&counting, settings.row_share, &mut random);
        let (columns, other_columns) = draw(&useful, settings.column_share, &mut random);
        match grower.grow(drawn, &columns, &gradients)? {
            None if others.is_empty() && other_columns.is_empty() => break,
            // The next rows or columns that are drawn may say something.
            None => {}
            Some(grown) => {
                grown.answers().for_each(|(row, answer)| scores[row] += answer);
                for row in others {
                    scores[row as usize] += grown.tree.value(matrix.row(row as usize));
                }
                watch.iter_mut().for_each(|watch| watch.see(&grown.tree, trees.len() + 1, round));
                trees.push(grown.tree);
            }
        }
        let patience = settings.patience.unwrap_or(usize::MAX);
        if watch.as_ref().is_some_and(|watch| round - watch.best_round >= patience) {
            break;
        }
    }
    if let Some(watch) = watch {
        trees.truncate(watch.best_trees);
    }
    let columns = u32::try_from(matrix.columns()).unwrap_or(u32::MAX);
    Trees::new(columns, base, trees).map_err(|why| TrainError::Model { why })
}

impl Settings {
    fn check(&self, columns: usize) -> Result<(), TrainError> {
        let share = |share: f64| share > 0.0 && share <= 1.0;
        let not_negative = |number: f64| number.is_finite() && number >= 0.0;
        let above_0 = "above 0 and at most 1";
        let finite = "finite and not negative";
        let directed = self.monotone.iter().all(|direction| (-1..=1).contains(direction));
        for (fine, name, allowed) in [
            (share(self.learning_rate), "learning_rate", above_0),
            (self.leaves >= 2, "leaves", "2 or more"),
            (self.min_rows_in_leaf >= 1, "min_rows_in_leaf", "1 or more"),
            (not_negative(self.min_hessian), "min_hessian", finite),
            (not_negative(self.l2), "l2", finite),
            ((2..=255).contains(&self.bins), "bins", "from 2 to 255"),
            (share(self.row_share), "row_share", above_0),
            (share(self.column_share), "column_share", above_0),
            (directed, "monotone", "-1, 0 or 1 for every column"),
            (
                self.monotone.is_empty() || self.monotone.len() == columns,
                "monotone",
                "one for every column, or empty",
            ),
        ] {
            if !fine {
                return Err(TrainError::Setting { name, allowed });
            }
        }
        Ok(())
    }
}

impl Loss {
    /// The one score that is best for all rows.
    fn base(self, targets: &[f32], weights: Weights<'_>) -> Result<f32, TrainError> {
        match self {
            Self::Log => {
                let share = share_of_yes(targets, weights)?.clamp(1e-15, 1.0 - 1e-15);
                Ok((share / (1.0 - share)).ln() as f32)
            }
            Self::Squared => {
                check_quantities(targets)?;
                let (mut sum, mut total) = (0.0, 0.0);
                for (row, target) in targets.iter().enumerate() {
                    sum += weights.of(row) * f64::from(*target);
                    total += weights.of(row);
                }
                Ok((sum / total) as f32)
            }
        }
    }

    fn gradient(self, score: f64, target: f32, weight: f64) -> Gradient {
        let (gradient, hessian) = match self {
            Self::Log => {
                let p = 1.0 / (1.0 + (-score).exp());
                (p - f64::from(target), (p * (1.0 - p)).max(1e-16))
            }
            Self::Squared => (score - f64::from(target), 1.0),
        };
        // Of an absurd weight times an absurd error, the size no longer matters.
        [(weight * gradient).clamp(-1e30, 1e30) as f32, (weight * hessian).min(1e30) as f32]
    }

    fn of(self, score: f64, target: f32) -> f64 {
        let target = f64::from(target);
        match self {
            Self::Log => score.max(0.0) - score * target + (-score.abs()).exp().ln_1p(),
            Self::Squared => (score - target).powi(2),
        }
    }
}

fn check_quantities(targets: &[f32]) -> Result<(), TrainError> {
    match targets.iter().position(|target| target.is_nan() || target.abs() > 1e30) {
        Some(row) => {
            Err(TrainError::Target { row, target: targets[row], allowed: "a number of size up to 1e30" })
        }
        None => Ok(()),
    }
}

/// A share of all (at least one, if there is any) and the others, in their order.
fn draw<T: Copy>(all: &[T], share: f64, random: &mut ChaCha8Rng) -> (Vec<T>, Vec<T>) {
    let wanted = ((all.len() as f64 * share).ceil() as usize).min(all.len());
    if wanted == all.len() {
        return (all.to_vec(), Vec::new());
    }
    let mut drawn = Vec::with_capacity(wanted);
    let mut others = Vec::with_capacity(all.len() - wanted);
    for (seen, one) in all.iter().enumerate() {
        let is_drawn = random.random_range(0..all.len() - seen) < wanted - drawn.len();
        if is_drawn { drawn.push(*one) } else { others.push(*one) }
    }
    (drawn, others)
}

/// Watches the loss on the rows to validate on.
struct Watch<'a> {
    valid: Valid<'a>,
    weights: Weights<'a>,
    loss: Loss,
    scores: Vec<f64>,
    least: f64,
    best_trees: usize,
    best_round: usize,
}

impl<'a> Watch<'a> {
    fn new(valid: Valid<'a>, columns: usize, base: f32, loss: Loss) -> Result<Self, TrainError> {
        check_lengths(valid.matrix, valid.targets)?;
        if valid.matrix.columns() != columns {
            let have = valid.matrix.columns();
            return Err(TrainError::Lengths { what: "columns to validate on", have, want: columns });
        }
        let weights = Weights::new(valid.weights, valid.targets.len())?;
        match loss {
            Loss::Squared => check_quantities(valid.targets)?,
            // Rows of one class say little, but no nonsense.
            Loss::Log => match share_of_yes(valid.targets, weights) {
                Ok(_) | Err(TrainError::OneClass(_)) => {}
                Err(error) => return Err(error),
            },
        }
        let scores = vec![f64::from(base); valid.targets.len()];
        let mut watch = Self { valid, weights, loss, scores, least: 0.0, best_trees: 0, best_round: 0 };
        watch.least = watch.loss();
        Ok(watch)
    }

    fn see(&mut self, tree: &Tree, trees: usize, round: usize) {
        for (row, score) in self.scores.iter_mut().enumerate() {
            *score += tree.value(self.valid.matrix.row(row));
        }
        let loss = self.loss();
        if loss < self.least {
            (self.least, self.best_trees, self.best_round) = (loss, trees, round);
        }
    }

    /// Weighted sum over the rows.
    fn loss(&self) -> f64 {
        let rows = self.scores.iter().zip(self.valid.targets).enumerate();
        rows.map(|(row, (score, target))| self.weights.of(row) * self.loss.of(*score, *target)).sum()
    }
}
