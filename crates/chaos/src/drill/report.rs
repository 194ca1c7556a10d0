use forefend_domain::{CellId, ServiceId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Drill, Finding, findings::findings};
use crate::{
    Foresight,
    run::{Ended, Injections, PhaseRecord, Record, Run},
};

/// What a run or a drill has shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its id.
    pub id: String,
    /// The experiment.
    pub experiment: String,
    /// What was believed, in words.
    pub hypothesis: String,
    /// The service that it was done to.
    pub service: ServiceId,
    /// Whether it was the outage of a region.
    pub drill: bool,
    /// The share of the service's traffic at home in the targets, from 0 to 1.
    pub share: f64,
    /// When the first thing was done; `None`: nothing was.
    pub began: Option<Timestamp>,
    /// How it ended; `None`: it goes on.
    pub ended: Option<Ended>,
    /// What users got, phase by phase.
    pub phases: Vec<PhaseRecord>,
    /// Seconds from the beginning of the move or fault until the steady state held for good (for a drill: with the region
    /// empty); 0: it was never broken; `None`: it did not come about.
    pub recovery_s: Option<f64>,
    /// Seconds from the end, when everything was undone, until the steady state held for good; `None`: it did not.
    pub recovery_after_end_s: Option<f64>,
    /// What `recovery_after_end_s` may be at most.
    pub recovery_objective_s: f64,
    /// How far the data of the cells that took over were behind.
    pub data_point: DataPoint,
    /// What was seen of each target.
    pub cells: Vec<CellReport>,
    /// What to mend.
    pub findings: Vec<Finding>,
}

/// The recovery point.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DataPoint {
    /// Nothing tells how far the data of those cells are behind.
    NotMeasured,
    /// So far at most.
    Behind {
        /// Seconds.
        lag_s: f64,
    },
}

/// What was seen of a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellReport {
    /// Which.
    pub cell: CellId,
    /// Since when it broke its objective for as long as counts as a failure; `None`: it did not.
    pub failed_since: Option<Timestamp>,
    /// Whether and how early its failure was predicted.
    pub foreseen: Foreseen,
    /// When its traffic was first read back as wholly away.
    pub emptied: Option<Timestamp>,
    /// Its share of the service's traffic whenever it changed, from 0 to 1.
    pub steps: Vec<(Timestamp, f64)>,
}

/// Whether a failure was predicted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Foreseen {
    /// Nothing that was done shows before it strikes.
    NotForeseeable,
    /// The cell did not fail, and no alarm was raised.
    Quiet,
    /// The cell did not fail (its traffic may have gone in time), but an alarm was raised.
    AlarmOnly {
        /// Seconds from the fault's beginning to the alarm.
        after_s: f64,
    },
    /// An alarm came before the failure.
    Before {
        /// Seconds from the first alarm to the failure.
        lead_s: f64,
    },
    /// The cell failed first, or without an alarm.
    Missed,
}

impl Report {
    /// Of a run of faults, also while it goes on.
    #[must_use]
    pub fn of_run(run: &Run) -> Self {
        let (began, ended) = run.span();
        let recovered = run.recovered();
        // Recovered at the instant of the end: the steady state was not broken since the last breach, if there was any.
        let unbroken = run.steady_since();
        let recovery =
            recovered.and(unbroken).zip(began).map(|(since, began)| since.since(began).as_secs_f64());
        let mut report =
            Self::common(run.id(), run.experiment(), run.share(), run.record(), run.injections(), began);
        report.ended = run.ended().cloned();
        report.recovery_s = recovery;
        report.recovery_after_end_s = seconds(ended, recovered);
        report.findings = findings(&report);
        report
    }

    /// Of a drill, also while it goes on.
    #[must_use]
    pub fn of_drill(drill: &Drill) -> Self {
        let times = drill.times();
        let (record, injections) = (drill.record(), drill.injections());
        let mut report =
            Self::common(drill.id(), drill.experiment(), drill.share(), record, injections, times.began);
        report.ended = drill.ended().cloned();
        report.recovery_s = seconds(times.began, times.emptied.and(times.steady_without));
        report.recovery_after_end_s = seconds(times.home, times.recovered);
        report.findings = findings(&report);
        report
    }

    fn common(
        id: &str,
        experiment: &crate::experiment::Experiment,
        share: f64,
        record: &Record,
        injections: Option<&Injections>,
        began: Option<Timestamp>,
    ) -> Self {
        let cells = record.cells.iter().map(|(cell, seen)| CellReport {
            cell: cell.clone(),
            failed_since: seen.failed_since,
            foreseen: foreseen(cell, seen.first_alarm, seen.failed_since, injections, began),
            emptied: seen.emptied,
            steps: seen.steps.clone(),
        });
        Self {
            id: id.to_owned(),
            experiment: experiment.name.as_str().to_owned(),
            hypothesis: experiment.hypothesis.says.clone(),
            service: experiment.service().clone(),
            drill: experiment.is_drill(),
            share,
            began,
            ended: None,
            phases: record.phases.clone(),
            recovery_s: None,
            recovery_after_end_s: None,
            recovery_objective_s: experiment.hypothesis.recovers_within.as_secs_f64(),
            data_point: record.data_lag_s.map_or(DataPoint::NotMeasured, |lag_s| DataPoint::Behind { lag_s }),
            cells: cells.collect(),
            findings: Vec::new(),
        }
    }
}

fn seconds(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<f64> {
    from.zip(to).map(|(from, to)| to.since(from).as_secs_f64())
}

fn foreseen(
    cell: &CellId,
    alarm: Option<Timestamp>,
    failed: Option<Timestamp>,
    injections: Option<&Injections>,
    began: Option<Timestamp>,
) -> Foreseen {
    let mine = injections.into_iter().flat_map(Injections::all).filter(|(id, _, _)| id.cell == *cell);
    let foreseeable =
        mine.map(|(_, _, entry)| entry.fault.foresight(entry.ramp)).any(|f| f == Foresight::Foreseeable);
    match (alarm, failed) {
        (Some(alarm), Some(failed)) if alarm < failed => {
            Foreseen::Before { lead_s: failed.since(alarm).as_secs_f64() }
        }
        (_, Some(_)) if foreseeable => Foreseen::Missed,
        (_, Some(_)) => Foreseen::NotForeseeable,
        (Some(alarm), None) => {
            Foreseen::AlarmOnly { after_s: alarm.since(began.unwrap_or(alarm)).as_secs_f64() }
        }
        (None, None) if foreseeable => Foreseen::Quiet,
        (None, None) => Foreseen::NotForeseeable,
    }
}
