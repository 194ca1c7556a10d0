//! Do two recordings of the same seed agree?
//!
//! Servers, kernels and schedulers are not deterministic, so what is asked for is agreement within a tolerance that is stated:
//! the same episodes exactly, the same outcomes nearly always, failures at nearly the same time, and telemetry of the same
//! distribution. The last is measured by the two-sample Kolmogorov–Smirnov distance (the largest difference of the two
//! empirical distribution functions) of every metric, pooled over the episodes of a kind and subject.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Result, ensure};
use clap::Args;

use crate::{
    episode::Recording,
    score::median,
    spec::{self, Kind, Subject},
    table,
};

/// Which recordings to compare.
#[derive(Args)]
pub(crate) struct CheckArguments {
    /// One.
    #[arg(long, default_value = "data/corpus")]
    data: PathBuf,
    /// The other. Only episodes that are in both are compared.
    #[arg(long)]
    against: PathBuf,
}

/// Share of episodes that must end alike: both failed or both kept.
const SAME_OUTCOME: f64 = 0.95;
/// Times of failure are alike within so many seconds …
const SAME_TIME_S: f64 = 4.0;
/// … in this share of the episodes that failed in both.
const SAME_TIME_SHARE: f64 = 0.9;
/// The median Kolmogorov–Smirnov distance over all metrics, at most.
const MEDIAN_DISTANCE: f64 = 0.1;
/// Metrics with fewer values have no distribution to speak of.
const FEWEST_VALUES: usize = 50;

/// What a comparison found.
#[derive(Debug, Clone, PartialEq)]
struct Agreement {
    episodes: usize,
    other_specs: usize,
    other_outcomes: Vec<String>,
    /// Differences of the times of failure, in seconds.
    time_differences_s: Vec<f64>,
    /// Kind, subject, metric and distance; the largest first.
    distances: Vec<(Kind, Subject, String, f64)>,
}

/// Compares and prints.
///
/// # Errors
/// When they do not agree, or can't be read.
pub(crate) fn run(arguments: &CheckArguments) -> Result<()> {
    let (one, other) = (table::load(&arguments.data)?, table::load(&arguments.against)?);
    let agreement = compare(&one.recordings, &other.recordings);
    agreement.print();
    let problems = agreement.problems();
    ensure!(problems.is_empty(), "the recordings do not agree: {}", problems.join("; "));
    println!("they agree");
    Ok(())
}

fn compare(one: &[Recording], other: &[Recording]) -> Agreement {
    let others: BTreeMap<u32, &Recording> = other.iter().map(|r| (r.spec.id, r)).collect();
    let pairs: Vec<(&Recording, &Recording)> =
        one.iter().filter_map(|r| Some((r, *others.get(&r.spec.id)?))).collect();
    let outcome = |r: &Recording| r.failed_s().map_or("kept".to_owned(), |s| format!("failed at {s} s"));
    Agreement {
        episodes: pairs.len(),
        other_specs: pairs.iter().filter(|(a, b)| a.spec != b.spec).count(),
        other_outcomes: pairs
            .iter()
            .filter(|(a, b)| a.failed_step.is_some() != b.failed_step.is_some())
            .map(|(a, b)| {
                let (kind, subject) = (spec::name(a.spec.kind), spec::name(a.spec.subject));
                format!("{} ({kind}, {subject}): {} and {}", a.spec.id, outcome(a), outcome(b))
            })
            .collect(),
        time_differences_s: pairs
            .iter()
            .filter_map(|(a, b)| Some((a.failed_s()? - b.failed_s()?).abs()))
            .collect(),
        distances: distances(&pairs),
    }
}

type Pooled = BTreeMap<(Kind, Subject, String), (Vec<f32>, Vec<f32>)>;

fn distances(pairs: &[(&Recording, &Recording)]) -> Vec<(Kind, Subject, String, f64)> {
    let mut pooled = Pooled::new();
    for (a, b) in pairs {
        // What comes after the earlier failure only one of them has.
        let until = a.steps.min(b.steps);
        let mut pool = |recording: &Recording, second: bool| {
            for series in &recording.series {
                let key = (recording.spec.kind, recording.spec.subject, series.spec.name.as_str().to_owned());
                let entry = pooled.entry(key).or_default();
                let values = series.values.iter().filter(|(step, _)| *step < until).map(|(_, v)| *v);
                if second { entry.1.extend(values) } else { entry.0.extend(values) }
            }
        };
        pool(a, false);
        pool(b, true);
    }
    let mut found: Vec<_> = pooled
        .into_iter()
        .filter(|(_, (a, b))| a.len().min(b.len()) >= FEWEST_VALUES)
        .map(|((kind, subject, metric), (a, b))| (kind, subject, metric, distance(a, b)))
        .collect();
    found.sort_by(|x, y| y.3.total_cmp(&x.3));
    found
}

/// The two-sample Kolmogorov–Smirnov distance, from 0 to 1.
fn distance(mut a: Vec<f32>, mut b: Vec<f32>) -> f64 {
    a.sort_by(f32::total_cmp);
    b.sort_by(f32::total_cmp);
    let (mut i, mut j, mut largest) = (0, 0, 0.0f64);
    while i < a.len() && j < b.len() {
        let next = a[i].min(b[j]);
        i += a[i..].iter().take_while(|v| **v <= next).count();
        j += b[j..].iter().take_while(|v| **v <= next).count();
        largest = largest.max((i as f64 / a.len() as f64 - j as f64 / b.len() as f64).abs());
    }
    largest
}

impl Agreement {
    fn same_times(&self) -> f64 {
        let same = self.time_differences_s.iter().filter(|s| **s <= SAME_TIME_S).count();
        same as f64 / self.time_differences_s.len().max(1) as f64
    }

    fn median_distance(&self) -> Option<f64> {
        median(self.distances.iter().map(|(.., d)| *d).collect())
    }

    fn print(&self) {
        let same = self.episodes - self.other_outcomes.len();
        println!("{} episodes in both, {} of them made from another spec", self.episodes, self.other_specs);
        println!("{same} ended alike (at least {:.0}% must)", SAME_OUTCOME * 100.0);
        self.other_outcomes.iter().for_each(|what| println!("  {what}"));
        println!(
            "{} failed in both, at times that differ by {:.1} s in the median; {:.0}% by at most {SAME_TIME_S} s (at least {:.0}% must)",
            self.time_differences_s.len(),
            median(self.time_differences_s.clone()).unwrap_or(0.0),
            self.same_times() * 100.0,
            SAME_TIME_SHARE * 100.0
        );
        println!(
            "{} metrics of kinds and subjects: Kolmogorov–Smirnov distance {:.3} in the median (at most {MEDIAN_DISTANCE})",
            self.distances.len(),
            self.median_distance().unwrap_or(0.0)
        );
        for (kind, subject, metric, distance) in self.distances.iter().take(5) {
            println!("  {distance:.2}  {metric} of {}, {}", spec::name(subject), spec::name(kind));
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.episodes == 0 {
            problems.push("no episode is in both".to_owned());
        }
        if self.other_specs > 0 {
            problems.push(format!("{} episodes are made from other specs", self.other_specs));
        }
        if (self.other_outcomes.len() as f64) > (1.0 - SAME_OUTCOME) * self.episodes as f64 {
            problems.push(format!("{} episodes end otherwise", self.other_outcomes.len()));
        }
        if !self.time_differences_s.is_empty() && self.same_times() < SAME_TIME_SHARE {
            problems.push("failures come at other times".to_owned());
        }
        if self.median_distance().is_some_and(|d| d > MEDIAN_DISTANCE) {
            problems.push("telemetry is distributed otherwise".to_owned());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sample::Series, subject::full};

    fn recordings(shift: f32, fails_at: Option<u32>) -> Vec<Recording> {
        let (spec_of, _) = full("memory_working_set_bytes", "bytes", 0.0, Some(64.0));
        spec::reduced(1, 1)
            .into_iter()
            .map(|spec| Recording {
                spec,
                cpu_scale: 1.0,
                steps: 100,
                failed_step: fails_at,
                series: vec![Series {
                    spec: spec_of.clone(),
                    values: (0..100).map(|step| (step, step as f32 + shift)).collect(),
                }],
                trouble: None,
            })
            .collect()
    }

    #[test]
    fn the_same_agrees_with_itself() {
        let one = recordings(0.0, Some(80));
        assert_eq!(compare(&one, &one).problems(), Vec::<String>::new());
    }

    #[test]
    fn every_kind_of_disagreement_is_found() {
        let one = recordings(0.0, Some(80));
        let problems = |other: &[Recording]| compare(&one, other).problems().join("; ");
        assert!(problems(&recordings(0.0, None)).contains("end otherwise"));
        assert!(problems(&recordings(0.0, Some(20))).contains("other times"));
        assert!(problems(&recordings(40.0, Some(80))).contains("distributed otherwise"));
        let mut other = one.clone();
        other[0].spec.seed += 1;
        assert!(problems(&other).contains("other specs"));
        assert!(problems(&[]).contains("no episode"));
    }

    #[test]
    fn the_distance_is_the_largest_gap_between_distributions() {
        assert_eq!(distance(vec![1.0, 2.0, 3.0, 4.0], vec![1.0, 2.0, 3.0, 4.0]), 0.0);
        assert_eq!(distance(vec![1.0, 2.0], vec![3.0, 4.0]), 1.0);
        assert_eq!(distance(vec![1.0, 2.0, 3.0, 4.0], vec![3.0, 4.0, 5.0, 6.0]), 0.5);
        assert_eq!(distance(vec![0.0; 9], vec![0.0; 5]), 0.0, "ties");
    }
}
