//! Alarms judged by episode, as people meet them: was it told, how long before, and how often for nothing?
//!
//! An episode counts once however many rows it has and however long its alarm stood. Times are seconds since any common instant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::interval::{Estimate, poisson, quantile, wilson};

/// Seconds in a week.
pub const WEEK_S: f64 = 7.0 * 86_400.0;

/// What could be asked of a prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Class {
    /// It fails, and something shows before: it should be told.
    Foreseeable,
    /// It fails at a blow. An alarm before it is luck, or noise.
    Unforeseeable,
    /// Nothing fails.
    Healthy,
}

/// A stretch of one cell's time, with at most one failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// What is wrong with it, such as the fault's name.
    pub kind: String,
    /// What could be asked.
    pub class: Class,
    /// When it began to go wrong, in seconds. Of a healthy episode, nothing.
    pub onset_s: Option<f64>,
    /// When it failed, in seconds.
    pub failed_s: Option<f64>,
    /// When, from the onset on, the alarm stood first, in seconds: the onset itself where it stood already. Of a healthy episode, the
    /// first of all.
    pub first_alarm_s: Option<f64>,
    /// Alarms raised while nothing was wrong: before the onset, or in all of a healthy episode. One that stands is one.
    pub false_alarms: u32,
    /// How long nothing was wrong while it was watched, in seconds: the time in which an alarm would have been false.
    pub exposure_s: f64,
}

impl Episode {
    /// How long before the failure it was told, in seconds, if it was: an alarm from the onset to the failure. `None` also without a
    /// failure.
    #[must_use]
    pub fn lead_s(&self) -> Option<f64> {
        let (alarm_s, failed_s) = (self.first_alarm_s?, self.failed_s?);
        let told = self.onset_s.is_none_or(|onset_s| alarm_s >= onset_s) && alarm_s <= failed_s;
        told.then_some(failed_s - alarm_s)
    }

    fn is_to_be_told(&self) -> bool {
        self.class == Class::Foreseeable && self.failed_s.is_some()
    }

    /// Whether there was an alarm at all before the failure.
    fn is_alarmed(&self) -> bool {
        let before_failure = |alarm_s: f64| self.failed_s.is_none_or(|failed_s| alarm_s < failed_s);
        self.false_alarms > 0 || self.first_alarm_s.is_some_and(before_failure)
    }
}

/// The share of foreseeable failures told at least `lead_s` seconds before, with Wilson's interval. `None` where there were none.
#[must_use]
pub fn recall(episodes: &[Episode], lead_s: f64, confidence: f64) -> Option<Estimate> {
    recall_of(episodes.iter(), lead_s, confidence)
}

/// [`recall`] of each kind that had a foreseeable failure.
#[must_use]
pub fn recall_by_kind(episodes: &[Episode], lead_s: f64, confidence: f64) -> BTreeMap<String, Estimate> {
    let mut kinds: BTreeMap<&str, Vec<&Episode>> = BTreeMap::new();
    for episode in episodes {
        kinds.entry(&episode.kind).or_default().push(episode);
    }
    let recall = |(kind, of): (&str, Vec<&Episode>)| {
        Some((kind.to_owned(), recall_of(of.into_iter(), lead_s, confidence)?))
    };
    kinds.into_iter().filter_map(recall).collect()
}

fn recall_of<'a>(
    episodes: impl Iterator<Item = &'a Episode>,
    lead_s: f64,
    confidence: f64,
) -> Option<Estimate> {
    let (mut told, mut of) = (0, 0);
    for episode in episodes.filter(|episode| episode.is_to_be_told()) {
        of += 1;
        told += usize::from(episode.lead_s().is_some_and(|found_s| found_s >= lead_s));
    }
    wilson(told, of, confidence)
}

/// What a foreseeable failure that was not told counts as among leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// As told when it happened, with no lead. The honest choice: leaving out what is hard makes the rest look early.
    NoLead,
    /// As nothing. To be read beside the recall at no lead.
    LeftOut,
}

/// How long before foreseeable failures were told: the quantiles `probabilities` (each 0 to 1) of leads, in seconds. `None` without leads,
/// or for a probability that is none.
#[must_use]
pub fn lead_quantiles(episodes: &[Episode], probabilities: &[f64], missed: Missed) -> Option<Vec<f64>> {
    let lead_s = |episode: &Episode| episode.lead_s().or((missed == Missed::NoLead).then_some(0.0));
    let mut leads_s: Vec<f64> =
        episodes.iter().filter(|episode| episode.is_to_be_told()).filter_map(lead_s).collect();
    leads_s.sort_by(f64::total_cmp);
    probabilities.iter().map(|p| quantile(&leads_s, *p)).collect()
}

/// The share of episodes of a class that had an alarm before their failure, if they failed, with Wilson's interval. For healthy
/// and unforeseeable ones, this is what the recall has to be held against. `None` where there were none.
#[must_use]
pub fn share_alarmed(episodes: &[Episode], class: Class, confidence: f64) -> Option<Estimate> {
    let of_class = || episodes.iter().filter(|episode| episode.class == class);
    wilson(of_class().filter(|episode| episode.is_alarmed()).count(), of_class().count(), confidence)
}

/// False alarms per cell and week, with Garwood's exact interval of a Poisson mean. Alarms in bursts are more alike than that, and their
/// interval too narrow. `None` without exposure, or with one that is negative or not finite.
#[must_use]
pub fn false_alarms_per_cell_week(episodes: &[Episode], confidence: f64) -> Option<Estimate> {
    let alarms: u64 = episodes.iter().map(|episode| u64::from(episode.false_alarms)).sum();
    if !episodes.iter().all(|episode| episode.exposure_s >= 0.0) {
        return None;
    }
    let exposure_s: f64 = episodes.iter().map(|episode| episode.exposure_s).sum();
    poisson(alarms, exposure_s / WEEK_S, confidence)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goes wrong at 100 s and fails at 400 s.
    fn foreseeable(kind: &str, first_alarm_s: Option<f64>) -> Episode {
        Episode {
            kind: kind.to_owned(),
            class: Class::Foreseeable,
            onset_s: Some(100.0),
            failed_s: Some(400.0),
            first_alarm_s,
            false_alarms: 0,
            exposure_s: 100.0,
        }
    }

    fn healthy(false_alarms: u32) -> Episode {
        Episode {
            kind: "none".to_owned(),
            class: Class::Healthy,
            onset_s: None,
            failed_s: None,
            first_alarm_s: (false_alarms > 0).then_some(7.0),
            false_alarms,
            exposure_s: WEEK_S,
        }
    }

    fn four() -> Vec<Episode> {
        vec![
            foreseeable("leak", Some(100.0)),
            foreseeable("leak", Some(340.0)),
            foreseeable("disk", Some(401.0)),
            foreseeable("disk", None),
        ]
    }

    #[test]
    fn nothing_has_no_figure() {
        assert_eq!(recall(&[], 60.0, 0.95), None);
        assert_eq!(recall(&[healthy(0)], 60.0, 0.95), None);
        assert!(recall_by_kind(&[healthy(0)], 60.0, 0.95).is_empty());
        assert_eq!(lead_quantiles(&[], &[0.5], Missed::NoLead), None);
        assert_eq!(lead_quantiles(&four(), &[1.5], Missed::NoLead), None);
        assert_eq!(share_alarmed(&four(), Class::Healthy, 0.95), None);
        assert_eq!(false_alarms_per_cell_week(&[], 0.95), None);
        let unknown = Episode { exposure_s: f64::NAN, ..healthy(1) };
        assert_eq!(false_alarms_per_cell_week(&[unknown], 0.95), None);
    }

    #[test]
    fn only_alarms_in_time_are_found() {
        let found = |lead_s| recall(&four(), lead_s, 0.95).unwrap().value;
        assert_eq!([0.0, 60.0, 61.0, 300.0, 301.0].map(found), [0.5, 0.5, 0.25, 0.25, 0.0]);
        let early = [foreseeable("leak", Some(99.0))];
        assert_eq!(recall(&early, 60.0, 0.95).unwrap().value, 0.0, "nothing showed yet");
        let kinds = recall_by_kind(&four(), 60.0, 0.95);
        assert_eq!((kinds["leak"].value, kinds["disk"].value, kinds.len()), (1.0, 0.0, 2));
    }

    #[test]
    fn misses_make_leads_no_longer() {
        let of = |missed| lead_quantiles(&four(), &[0.0, 0.5, 1.0], missed).unwrap();
        assert_eq!(of(Missed::LeftOut), [60.0, 180.0, 300.0]);
        assert_eq!(of(Missed::NoLead), [0.0, 30.0, 300.0]);
    }

    #[test]
    fn false_alarms_are_counted_by_episode_and_by_time() {
        let mut episodes = vec![healthy(0), healthy(2), healthy(1), healthy(0)];
        assert_eq!(share_alarmed(&episodes, Class::Healthy, 0.95).unwrap().value, 0.5);
        assert_eq!(false_alarms_per_cell_week(&episodes, 0.95).unwrap().value, 0.75);
        let blow = |alarm_s| Episode {
            class: Class::Unforeseeable,
            onset_s: Some(400.0),
            first_alarm_s: Some(alarm_s),
            ..foreseeable("kill", None)
        };
        episodes.extend([blow(400.0), blow(405.0), Episode { false_alarms: 1, ..blow(400.0) }]);
        let lucky = share_alarmed(&episodes, Class::Unforeseeable, 0.95).unwrap();
        assert!((lucky.value - 1.0 / 3.0).abs() < 1e-12, "once it has failed everybody knows");
    }
}
