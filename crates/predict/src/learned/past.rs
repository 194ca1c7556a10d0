//! What happened when it last looked like this?

use std::{collections::BTreeSet, time::Duration};

use forefend_domain::{CellId, ServiceId, Timestamp, Windows};
use serde::{Deserialize, Serialize};

use super::{feature_names, features};

/// A look at a cell some time before it failed. Written by training, read for explanations; one failure may have several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Which cell failed.
    pub cell: CellId,
    /// Of which service.
    pub service: ServiceId,
    /// When the failure began.
    pub began: Timestamp,
    /// How long before that the look was taken, in seconds.
    pub lead_s: f64,
    /// What it looked like, in the order of [`feature_names`], over the horizon of the service's policy; `null` in JSON, NaN here: not known.
    #[serde(with = "maybe")]
    pub features: Vec<f32>,
    /// What sort of failure it was.
    pub kind: String,
}

/// A past failure that looked like what is seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Which cell failed then.
    pub cell: CellId,
    /// When.
    pub began: Timestamp,
    /// How long before that it looked like now, in seconds.
    pub lead_s: f64,
    /// What sort of failure it was.
    pub kind: String,
    /// Root mean square of how far features are apart, in standard deviations of the past's: 0 is the same, 1 as far as a past look is from
    /// the past's mean.
    pub distance: f64,
}

/// No feature counts for more than this many standard deviations: one that is far out must not outvote all others.
const FARTHEST: f64 = 3.0;

/// What a feature counts that is known of one of the two only, in standard deviations.
const UNKNOWN: f64 = 1.0;

/// The `k` past failures whose looks are nearest to the windows, nearest first, each failure once.
///
/// Features are standardised by the spread that they have in the past; what is the same in all of it tells nothing and is left out. Looks of another
/// number of features, from another version, are passed over. Empty when nothing was measured, or nothing is comparable.
#[must_use]
pub fn nearest(windows: &Windows, horizon: Duration, past: &[Episode], k: usize) -> Vec<Neighbour> {
    let Some(now) = features(windows, horizon) else { return Vec::new() };
    nearest_to(&now.values, past, k)
}

/// The same for features that are there already.
#[must_use]
pub fn nearest_to(now: &[f32], past: &[Episode], k: usize) -> Vec<Neighbour> {
    let comparable: Vec<&Episode> = past.iter().filter(|e| e.features.len() == now.len()).collect();
    let spreads: Vec<Option<f64>> =
        (0..now.len()).map(|i| spread(comparable.iter().map(|e| e.features[i]))).collect();
    let mut ranked: Vec<(f64, &Episode)> = comparable
        .into_iter()
        .filter_map(|episode| Some((distance(now, &episode.features, &spreads)?, episode)))
        .collect();
    ranked.sort_by(|(a, x), (b, y)| {
        a.total_cmp(b)
            .then_with(|| (y.began, &x.cell, x.lead_s as i64).cmp(&(x.began, &y.cell, y.lead_s as i64)))
    });
    let mut seen = BTreeSet::new();
    let once = ranked.into_iter().filter(|(_, e)| seen.insert((e.cell.clone(), e.began)));
    let neighbour = |(distance, e): (f64, &Episode)| Neighbour {
        cell: e.cell.clone(),
        began: e.began,
        lead_s: e.lead_s,
        kind: e.kind.clone(),
        distance,
    };
    once.take(k).map(neighbour).collect()
}

/// The standard deviation of the known values; `None` when they are all the same, or fewer than two.
fn spread(values: impl Iterator<Item = f32> + Clone) -> Option<f64> {
    let known = || values.clone().map(f64::from).filter(|v| v.is_finite());
    let n = known().count() as f64;
    let mean = known().sum::<f64>() / n;
    let variance = known().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    Some(variance.sqrt()).filter(|s| n >= 2.0 && s.is_finite() && *s > 1e-9)
}

fn distance(now: &[f32], then: &[f32], spreads: &[Option<f64>]) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    let mut shared = false;
    for ((a, b), spread) in now.iter().zip(then).zip(spreads) {
        let Some(spread) = spread else { continue };
        let apart = match (a.is_finite(), b.is_finite()) {
            (true, true) => {
                shared = true;
                ((f64::from(*a) - f64::from(*b)) / spread).clamp(-FARTHEST, FARTHEST)
            }
            (false, false) => continue,
            (true, false) | (false, true) => UNKNOWN,
        };
        sum += apart * apart;
        count += 1.0;
    }
    shared.then(|| (sum / f64::max(count, 1.0)).sqrt())
}

/// Whether looks of this version have as many features.
#[must_use]
pub fn is_comparable(episode: &Episode) -> bool {
    episode.features.len() == feature_names().len()
}

/// JSON has no NaN.
mod maybe {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(values: &[f32], to: S) -> Result<S::Ok, S::Error> {
        let values: Vec<Option<f32>> = values.iter().map(|v| Some(*v).filter(|v| v.is_finite())).collect();
        values.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f32>, D::Error> {
        let values = Vec::<Option<f32>>::deserialize(from)?;
        Ok(values.into_iter().map(|v| v.unwrap_or(f32::NAN)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn episode(n: u64, lead_s: f64, features: Vec<f32>) -> Episode {
        Episode {
            cell: format!("a-{n}").parse().unwrap(),
            service: "shop".parse().unwrap(),
            began: Timestamp::from_unix_ms(1_000 * n),
            lead_s,
            features,
            kind: "leak".to_owned(),
        }
    }

    #[test]
    fn the_look_that_is_most_alike_comes_first_and_each_failure_once() {
        let past = [
            episode(1, 60.0, vec![0.5, 100.0, 7.0]),
            episode(1, 10.0, vec![0.9, 100.0, 7.0]),
            episode(2, 30.0, vec![0.1, 900.0, 7.0]),
            episode(3, 5.0, vec![0.1, 100.0]),
        ];
        let found = nearest_to(&[0.85, 120.0, f32::NAN], &past, 5);
        let told: Vec<(&str, f64)> = found.iter().map(|n| (n.cell.as_str(), n.lead_s)).collect();
        assert_eq!(told, [("a-1", 10.0), ("a-2", 30.0)]);
        assert!(found[0].distance < 0.5 && found[1].distance > 1.0, "{found:?}");
        assert_eq!(nearest_to(&[f32::NAN; 3], &past, 5), []);
        assert_eq!(nearest_to(&[0.85, 120.0, 7.0], &past[..1], 5), [], "one look has no spread");
    }

    #[test]
    fn what_is_written_down_comes_back() {
        let written = episode(1, 2.5, vec![1.5, f32::NAN]);
        let text = serde_json::to_string(&written).unwrap();
        assert!(text.contains("[1.5,null]"), "{text}");
        let read: Episode = serde_json::from_str(&text).unwrap();
        assert_eq!((read.features[0], read.lead_s), (1.5, 2.5));
        assert!(read.features[1].is_nan());
    }

    proptest! {
        #[test]
        fn scale_and_offset_of_a_feature_change_nothing(
            rows in prop::collection::vec(prop::collection::vec(-10f32..10.0, 4), 3..12),
            now in prop::collection::vec(-10f32..10.0, 4),
            scale in 0.5f32..8.0,
            offset in -4f32..4.0,
        ) {
            let past = |f: &dyn Fn(f32) -> f32| -> Vec<Episode> {
                (0..).zip(&rows).map(|(n, row)| episode(n, 1.0, row.iter().map(|v| f(*v)).collect())).collect()
            };
            let moved: Vec<f32> = now.iter().map(|v| v * scale + offset).collect();
            let one = nearest_to(&now, &past(&|v| v), 3);
            let other = nearest_to(&moved, &past(&|v| v * scale + offset), 3);
            prop_assert_eq!(one.len(), other.len());
            for (a, b) in one.iter().zip(&other) {
                prop_assert!((a.distance - b.distance).abs() < 1e-3, "{a:?} {b:?}");
            }
            prop_assert!(one.windows(2).all(|w| w[0].distance <= w[1].distance));
        }
    }
}
