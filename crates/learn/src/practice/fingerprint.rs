use std::collections::BTreeMap;

use forefend_domain::Timestamp;
use forefend_predict::learned::feature_names;
use forefend_telemetry::history::IncidentSource;
use serde::{Deserialize, Serialize};

use super::{Looks, Outcomes};

/// What a model saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// BLAKE3 over all rows, times, outcomes and weights, as hex: the same data give the same hash.
    pub hash: String,
    /// How many cells.
    pub cells: usize,
    /// How many looks.
    pub looks: usize,
    /// The first and the last look.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Failures by how they are known.
    pub incidents: BTreeMap<IncidentSource, usize>,
    /// Failures by kind; those of no named kind under an empty name.
    pub kinds: BTreeMap<String, usize>,
    /// Times in which a cell's fate was hidden.
    pub hidden: usize,
}

impl Fingerprint {
    /// Of these looks, made of these outcomes.
    #[must_use]
    pub fn of(looks: &Looks, outcomes: &Outcomes) -> Self {
        let mut hasher = blake3::Hasher::new();
        for (mark, row) in looks.marks.iter().zip(&looks.rows) {
            hasher.update(mark.cell.as_str().as_bytes());
            hasher.update(&mark.at.unix_ms().to_le_bytes());
            hasher.update(&mark.followed.time_s.to_le_bytes());
            hasher.update(&[u8::from(mark.followed.failed)]);
            hasher.update(&mark.weight.to_le_bytes());
            for value in row {
                // All that are not known are alike, whatever the bits of their NaN.
                let bits = if value.is_nan() { u32::MAX } else { value.to_bits() };
                hasher.update(&bits.to_le_bytes());
            }
        }
        let (mut incidents, mut kinds) = (BTreeMap::new(), BTreeMap::new());
        for incident in &outcomes.incidents {
            *incidents.entry(incident.source).or_default() += 1;
            *kinds.entry(incident.kind.clone()).or_default() += 1;
        }
        let cells: std::collections::BTreeSet<_> = looks.marks.iter().map(|mark| &mark.cell).collect();
        let times = || looks.marks.iter().map(|mark| mark.at);
        Self {
            hash: hasher.finalize().to_hex().to_string(),
            cells: cells.len(),
            looks: looks.marks.len(),
            span: times().min().zip(times().max()),
            incidents,
            kinds,
            hidden: outcomes.away.len(),
        }
    }
}

/// How each feature was spread over what a model learned from: what drift is measured against.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// By feature: deciles of what was known (each once, ascending), and the share of all looks that lay above the one before and not
    /// above it. Features that were hardly ever known are left out.
    deciles: BTreeMap<String, Vec<(f32, f32)>>,
    /// By feature: the share of looks at which it was not known.
    unknown: BTreeMap<String, f32>,
}

/// A feature whose spread has changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Which.
    pub feature: String,
    /// Population stability index: below 0.1 nothing to speak of, above 0.25 another population (Siddiqi 2006, Credit Risk Scorecards).
    pub psi: f64,
}

/// The fewest looks that a spread is taken from.
const LEAST: usize = 50;

impl Spread {
    /// Of these rows.
    #[must_use]
    pub fn of(rows: &[Vec<f32>]) -> Self {
        let mut spread = Self::default();
        if rows.len() < LEAST {
            return spread;
        }
        for (i, name) in feature_names().into_iter().enumerate() {
            let mut known: Vec<f32> =
                rows.iter().filter_map(|row| row.get(i).copied()).filter(|v| !v.is_nan()).collect();
            let unknown = 1.0 - known.len() as f32 / rows.len() as f32;
            spread.unknown.insert(name.clone(), unknown);
            if known.len() < LEAST {
                continue;
            }
            known.sort_by(f32::total_cmp);
            // Deciles that are alike (a feature that is mostly 0) make one bin.
            let mut edges: Vec<f32> = (1..10).map(|n| known[n * (known.len() - 1) / 10]).collect();
            edges.dedup();
            let up_to = |edge: f32| known.partition_point(|v| *v <= edge);
            let mut before = 0;
            let bins = edges.into_iter().map(|edge| {
                let inside = up_to(edge) - before;
                before += inside;
                (edge, inside as f32 / rows.len() as f32)
            });
            spread.deciles.insert(name, bins.collect());
        }
        spread
    }

    /// Features whose spread over `rows` is another, the most changed first: those with an index of 0.25 or more. Empty with too few rows
    /// to tell.
    #[must_use]
    pub fn drift(&self, rows: &[Vec<f32>]) -> Vec<Drift> {
        const ANOTHER: f64 = 0.25;
        if rows.len() < LEAST {
            return Vec::new();
        }
        let mut drifted: Vec<Drift> = feature_names()
            .into_iter()
            .enumerate()
            .filter_map(|(i, feature)| {
                let values: Vec<f32> = rows.iter().filter_map(|row| row.get(i).copied()).collect();
                let psi = self.psi(&feature, &values)?;
                (psi >= ANOTHER).then_some(Drift { feature, psi })
            })
            .collect();
        drifted.sort_by(|a, b| b.psi.total_cmp(&a.psi));
        drifted
    }

    fn psi(&self, feature: &str, values: &[f32]) -> Option<f64> {
        let unknown = f64::from(*self.unknown.get(feature)?);
        let edges = self.deciles.get(feature).map(Vec::as_slice).unwrap_or_default();
        let mut expected: Vec<f64> = edges.iter().map(|(_, share)| f64::from(*share)).collect();
        // Above the last, and not known.
        let above = 1.0 - unknown - expected.iter().sum::<f64>();
        expected.extend([above, unknown]);
        let mut seen = vec![0.0; expected.len()];
        for value in values {
            let bin = if value.is_nan() {
                expected.len() - 1
            } else {
                edges.partition_point(|(edge, _)| *edge < *value)
            };
            seen[bin] += 1.0 / values.len() as f64;
        }
        // Half a look in each bin, so that an empty one is not infinitely far.
        let floor = 0.5 / values.len() as f64;
        let distance = |(e, s): (&f64, &f64)| {
            let (e, s) = (e.max(floor), s.max(floor));
            (s - e) * (s / e).ln()
        };
        Some(expected.iter().zip(&seen).map(distance).sum())
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn rows(seed: u64, count: usize, shift: f64) -> Vec<Vec<f32>> {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        let features = feature_names().len();
        (0..count)
            .map(|_| {
                let values: Vec<f32> = (0..features).map(|_| chance.random()).collect();
                let mut row = values.clone();
                row[0] += shift as f32;
                // Mostly nothing, sometimes not known at all.
                row[1] = if values[1] < 0.9 { 0.0 } else { 1.0 };
                row[2] = if values[2] < 0.5 { f32::NAN } else { row[2] };
                row[3] = f32::NAN;
                row
            })
            .collect()
    }

    #[test]
    fn the_feature_that_has_moved_is_told_and_no_other() {
        let spread = Spread::of(&rows(1, 2_000, 0.0));
        assert_eq!(spread.drift(&rows(2, 2_000, 0.0)), []);
        let drifted = spread.drift(&rows(3, 2_000, 0.4));
        assert_eq!(drifted.len(), 1, "{drifted:?}");
        assert_eq!(drifted[0].feature, feature_names()[0]);
    }

    #[test]
    fn what_is_no_longer_measured_has_drifted() {
        let spread = Spread::of(&rows(1, 1_000, 0.0));
        let mut gone = rows(2, 1_000, 0.0);
        gone.iter_mut().for_each(|row| row[5] = f32::NAN);
        let mut new = rows(2, 1_000, 0.0);
        new.iter_mut().for_each(|row| row[3] = 1.0);
        assert_eq!(spread.drift(&gone)[0].feature, feature_names()[5]);
        assert_eq!(spread.drift(&new)[0].feature, feature_names()[3]);
        assert!(spread.drift(&gone[..10]).is_empty() && Spread::of(&gone[..10]).drift(&gone).is_empty());
    }
}
