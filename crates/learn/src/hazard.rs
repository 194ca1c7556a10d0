//! Training of a discrete-time hazard: rows that were watched until they failed or were lost sight of, cut into person-periods
//! (Allison 1982), and any model of a yes or no on those.

use forefend_predict::learned::{Calibration, Hazard, Scorer};

use crate::{Matrix, TrainError, boost, logistic};

/// What was watched, a row each.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// Features at the instant from which time counts.
    pub rows: Vec<Vec<f32>>,
    /// Until failure, or until nothing more was seen; above 0.
    pub times: Vec<f64>,
    /// Whether it failed then.
    pub failed: Vec<bool>,
    /// How much each row counts.
    pub weights: Vec<f32>,
}

impl Watched {
    /// Adds a row.
    pub fn push(&mut self, row: Vec<f32>, time: f64, failed: bool, weight: f32) {
        self.rows.push(row);
        self.times.push(time);
        self.failed.push(failed);
        self.weights.push(weight);
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Which model learns.
#[derive(Debug, Clone)]
pub enum Learner {
    /// Boosted trees.
    Trees(boost::Settings),
    /// Penalised logistic regression.
    Linear(logistic::Settings),
}

/// `count` ends of intervals from `first` to `last`, evenly on a logarithmic scale.
#[must_use]
pub fn log_edges(first: f64, last: f64, count: usize) -> Vec<f64> {
    let steps = count.saturating_sub(1).max(1) as f64;
    (0..count).map(|i| first * (last / first).powf(i as f64 / steps)).collect()
}

/// Trains on `watched`, with time cut at `edges`; `held_out` tells trees when to stop.
///
/// # Errors
/// When rows differ in length, times are not above 0, or nothing or everything failed.
pub fn train(
    watched: &Watched,
    held_out: Option<&Watched>,
    features: &[String],
    edges: &[f64],
    learner: &Learner,
) -> Result<Hazard, TrainError> {
    let columns = features.len();
    let broken = |why: String| TrainError::Model { why };
    let scorer = match learner {
        Learner::Trees(settings) => {
            let periods = Periods::of(watched, columns, edges, Time::Number)?;
            let held_out =
                held_out.map(|rows| Periods::of(rows, columns, edges, Time::Number)).transpose()?;
            let valid = held_out.as_ref().map(|periods| boost::Valid {
                matrix: &periods.matrix,
                targets: &periods.targets,
                weights: Some(&periods.weights),
            });
            let trees =
                boost::train(&periods.matrix, &periods.targets, Some(&periods.weights), valid, settings)?;
            Scorer::Trees(trees)
        }
        Learner::Linear(settings) => {
            let periods = Periods::of(watched, columns, edges, Time::Indicators)?;
            let linear =
                logistic::train(&periods.matrix, &periods.targets, Some(&periods.weights), settings)?;
            Scorer::Linear(linear)
        }
    };
    Hazard::new(edges.to_vec(), features.to_vec(), scorer, Calibration::Identity).map_err(broken)
}

#[derive(Clone, Copy)]
enum Time {
    Number,
    Indicators,
}

/// One row for every interval that a watched row lived to see.
struct Periods {
    matrix: Matrix,
    targets: Vec<f32>,
    weights: Vec<f32>,
}

impl Periods {
    fn of(watched: &Watched, columns: usize, edges: &[f64], time: Time) -> Result<Self, TrainError> {
        let time_columns = match time {
            Time::Number => 1,
            Time::Indicators => edges.len().saturating_sub(1),
        };
        let mut periods = Self {
            matrix: Matrix::new(columns + time_columns, Vec::new())?,
            targets: Vec::new(),
            weights: Vec::new(),
        };
        let mut row = vec![0.0f32; columns + time_columns];
        for (n, features) in watched.rows.iter().enumerate() {
            if features.len() != columns {
                let (found, wanted) = (features.len(), columns);
                return Err(TrainError::Model { why: format!("row {n} has {found} features, not {wanted}") });
            }
            let (life, failed) = (watched.times[n], watched.failed[n]);
            if !(life > 0.0 && life.is_finite()) {
                return Err(TrainError::Model {
                    why: format!("row {n} was watched for {life}: not above 0"),
                });
            }
            row[..columns].copy_from_slice(features);
            for (interval, edge) in edges.iter().enumerate() {
                let falls_here = failed && life <= *edge;
                // Lost sight of before its end: nothing is known of this interval.
                if !falls_here && life < *edge {
                    break;
                }
                match time {
                    Time::Number => row[columns] = interval as f32,
                    Time::Indicators => {
                        for (i, cell) in row[columns..].iter_mut().enumerate() {
                            *cell = f32::from(u8::from(i + 1 == interval));
                        }
                    }
                }
                periods.matrix.push(&row)?;
                periods.targets.push(f32::from(u8::from(falls_here)));
                periods.weights.push(watched.weights[n]);
                if falls_here {
                    break;
                }
            }
        }
        Ok(periods)
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Two kinds of rows whose lives are exponential with rates 0.05 and 0.5, each lost sight of at some time below 30.
    fn lives(seed: u64, count: usize) -> Watched {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut watched = Watched::default();
        for n in 0..count {
            let kind = (n % 2) as f32;
            let rate = if n % 2 == 0 { 0.05 } else { 0.5 };
            let life = -(1.0 - random.random::<f64>()).ln() / rate;
            let seen = random.random_range(1.0..30.0);
            watched.push(vec![kind, random.random()], life.min(seen).max(1e-6), life <= seen, 1.0);
        }
        watched
    }

    fn names() -> Vec<String> {
        vec!["kind".to_owned(), "noise".to_owned()]
    }

    fn learners() -> [Learner; 2] {
        let trees = boost::Settings { rounds: 60, leaves: 4, ..boost::Settings::default() };
        [Learner::Trees(trees), Learner::Linear(logistic::Settings::default())]
    }

    #[test]
    fn the_true_curve_is_found_though_many_were_lost_sight_of() {
        let edges = log_edges(0.5, 20.0, 8);
        for learner in learners() {
            let hazard = train(&lives(1, 20_000), None, &names(), &edges, &learner).unwrap();
            for (kind, rate) in [(0.0, 0.05f64), (1.0, 0.5)] {
                let curve = hazard.cumulative(&[kind, 0.5]);
                for (edge, p) in edges.iter().zip(&curve) {
                    let truth = 1.0 - (-rate * edge).exp();
                    // Odds that are proportional, as the linear model has them, are not quite those of exponential lives.
                    assert!((p - truth).abs() < 0.08, "{learner:?} {kind} {edge}: {p} for {truth}");
                }
            }
        }
    }

    #[test]
    fn the_curve_rises_and_its_readings_agree() {
        let edges = log_edges(0.5, 20.0, 8);
        for learner in learners() {
            let hazard = train(&lives(2, 4_000), None, &names(), &edges, &learner).unwrap();
            for row in [[0.0, 0.1], [1.0, 0.9], [f32::NAN, f32::NAN]] {
                let curve = hazard.cumulative(&row);
                assert!(curve.windows(2).all(|pair| pair[0] <= pair[1]));
                assert!(curve.iter().all(|p| (0.0..=1.0).contains(p)));
                if let Some(median) = hazard.quantile(&curve, 0.5) {
                    assert!((hazard.within(&curve, median) - 0.5).abs() < 1e-6);
                }
                let mean = hazard.restricted_mean(&curve);
                assert!((0.0..=20.0).contains(&mean));
            }
        }
    }

    #[test]
    fn the_feature_that_matters_is_the_driver() {
        let edges = log_edges(0.5, 20.0, 6);
        for learner in learners() {
            let hazard = train(&lives(3, 4_000), None, &names(), &edges, &learner).unwrap();
            assert_eq!(hazard.drivers(&[1.0, 0.5])[0].0, "kind");
        }
    }

    #[test]
    fn a_model_survives_being_written_down_and_a_damaged_one_is_refused() {
        let edges = log_edges(0.5, 20.0, 4);
        for learner in learners() {
            let hazard = train(&lives(4, 2_000), None, &names(), &edges, &learner).unwrap();
            let text = serde_json::to_string(&hazard).unwrap();
            assert_eq!(serde_json::from_str::<Hazard>(&text).unwrap(), hazard);
            let fewer = text.replace(r#"["kind","noise"]"#, r#"["kind"]"#);
            assert!(serde_json::from_str::<Hazard>(&fewer).unwrap_err().to_string().contains("columns"));
            let falling = text.replacen("\"edges\":[0.5", "\"edges\":[50.5", 1);
            assert!(serde_json::from_str::<Hazard>(&falling).unwrap_err().to_string().contains("ascend"));
        }
    }

    #[test]
    fn wrong_rows_are_told() {
        let mut watched = lives(5, 100);
        watched.times[7] = 0.0;
        let told = train(&watched, None, &names(), &[1.0], &learners()[0]).unwrap_err().to_string();
        assert!(told.contains("row 7"), "{told}");
        watched.times[7] = 1.0;
        watched.rows[3].pop();
        let told = train(&watched, None, &names(), &[1.0], &learners()[0]).unwrap_err().to_string();
        assert!(told.contains("row 3"), "{told}");
    }
}
