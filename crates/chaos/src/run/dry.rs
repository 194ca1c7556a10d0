use std::{fmt::Write as _, time::Duration};

use forefend_config::sections::{show_duration, show_percent};
use forefend_domain::{CellId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Refusal, Seen, approvals_needed, choose, ready::approvals_given, refusals};
use crate::experiment::{Experiment, show_instant};

/// What a run would do, were it begun now and everything stayed as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DryRun {
    /// The experiment.
    pub experiment: String,
    /// The cells that it would be done to.
    pub cells: Vec<CellId>,
    /// The share of the service's traffic at home there, from 0 to 1.
    pub share: f64,
    /// When the first thing would be done, at the earliest.
    pub begins: Timestamp,
    /// When everything would be undone, at the latest.
    pub ends: Timestamp,
    /// What would be done, in order.
    pub planned: Vec<Planned>,
    /// How many persons' word is still needed.
    pub approvals_missing: u32,
    /// What would refuse it now.
    pub refusals: Vec<Refusal>,
    /// All of it for people.
    pub text: String,
}

/// One thing that would be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Planned {
    /// A fault begins.
    Apply {
        /// How long after the beginning.
        after: Duration,
        /// Its place in the list of faults, from 0.
        fault: usize,
        /// The cell.
        cell: CellId,
        /// The kind of fault.
        what: String,
    },
    /// A fault is undone.
    Undo {
        /// How long after the beginning.
        after: Duration,
        /// Its place in the list of faults, from 0.
        fault: usize,
        /// The cell.
        cell: CellId,
    },
    /// Traffic is moved away, at the earliest then.
    MoveAway {
        /// How long after the beginning.
        after: Duration,
        /// The cell.
        cell: CellId,
        /// The share of its home traffic in basis points.
        bp: u32,
    },
    /// Traffic is given back, at the earliest then.
    GiveBack {
        /// How long after the beginning.
        after: Duration,
        /// The cell.
        cell: CellId,
    },
}

impl Planned {
    /// How long after the beginning.
    #[must_use]
    pub fn after(&self) -> Duration {
        match self {
            Self::Apply { after, .. }
            | Self::Undo { after, .. }
            | Self::MoveAway { after, .. }
            | Self::GiveBack { after, .. } => *after,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Apply { cell, what, .. } => format!("{what} begins at {cell}"),
            Self::Undo { cell, .. } => format!("undone at {cell}"),
            Self::MoveAway { cell, bp, .. } => {
                format!("{} of the traffic of {cell} is moved away", show_percent(u64::from(*bp) * 100))
            }
            Self::GiveBack { cell, .. } => format!("the traffic of {cell} is given back"),
        }
    }
}

/// Says what a run with this seed would do, were it begun now. Does nothing.
#[must_use]
pub fn dry_run(experiment: &Experiment, seen: &Seen<'_>, seed: u64, now: Timestamp) -> DryRun {
    let begins = now + experiment.hypothesis.holds_for;
    let mut dry = DryRun {
        experiment: experiment.name.as_str().to_owned(),
        cells: Vec::new(),
        share: 0.0,
        begins,
        ends: begins + experiment.lasts(),
        planned: Vec::new(),
        approvals_missing: 0,
        refusals: Vec::new(),
        text: String::new(),
    };
    match choose(experiment, seen.world, seed) {
        Ok(targets) => {
            dry.refusals = refusals(experiment, &targets, "", seen, now);
            let needed = approvals_needed(experiment, &targets);
            dry.approvals_missing = needed.saturating_sub(approvals_given(experiment, seen));
            dry.planned = planned(experiment, &targets.cells);
            dry.share = targets.share;
            dry.cells = targets.cells;
        }
        Err(refusals) => dry.refusals = refusals,
    }
    dry.text = dry.words(experiment);
    dry
}

fn planned(experiment: &Experiment, cells: &[CellId]) -> Vec<Planned> {
    let mut planned = Vec::new();
    for (fault, entry) in experiment.faults.iter().enumerate() {
        for cell in cells {
            let what = entry.fault.kind().to_owned();
            planned.push(Planned::Apply { after: entry.after, fault, cell: cell.clone(), what });
            planned.push(Planned::Undo { after: entry.ends(), fault, cell: cell.clone() });
        }
    }
    if let Some(outage) = &experiment.outage {
        let mut after = Duration::ZERO;
        let mut moved = outage.step;
        loop {
            planned.extend(cells.iter().map(|cell| Planned::MoveAway {
                after,
                cell: cell.clone(),
                bp: moved.bp(),
            }));
            if moved == forefend_domain::Weight::FULL || outage.step == forefend_domain::Weight::ZERO {
                break;
            }
            moved = moved.saturating_add(outage.step);
            after += outage.step_every;
        }
        if let Some(fault) = &outage.fault {
            for cell in cells {
                let what = fault.fault.kind().to_owned();
                planned.push(Planned::Apply { after, fault: 0, cell: cell.clone(), what });
            }
        }
        after += outage.hold;
        if outage.fault.is_some() {
            planned.extend(cells.iter().map(|cell| Planned::Undo { after, fault: 0, cell: cell.clone() }));
        }
        planned.extend(cells.iter().map(|cell| Planned::GiveBack { after, cell: cell.clone() }));
    }
    planned.sort_by_key(Planned::after);
    planned
}

impl DryRun {
    fn words(&self, experiment: &Experiment) -> String {
        let mut text = format!("{}: {}\n", self.experiment, experiment.hypothesis.says);
        if !self.cells.is_empty() {
            let cells: Vec<&str> = self.cells.iter().map(CellId::as_str).collect();
            let share = show_percent((self.share * 10_000.0).round() as u64 * 100);
            let _ = writeln!(
                text,
                "cells: {} ({share} of the traffic of `{}`)",
                cells.join(", "),
                experiment.service()
            );
            let held = show_duration(experiment.hypothesis.holds_for);
            let _ = writeln!(
                text,
                "begins: {}, once the steady state has held for {held}",
                show_instant(self.begins)
            );
            for planned in &self.planned {
                let _ = writeln!(text, "  +{}: {}", show_duration(planned.after()), planned.words());
            }
            let _ = writeln!(text, "ends: {} at the latest", show_instant(self.ends));
        }
        if self.approvals_missing > 0 {
            let _ = writeln!(text, "approvals still needed: {}", self.approvals_missing);
        }
        if self.refusals.is_empty() {
            text.push_str("nothing would refuse it now\n");
        }
        for refusal in &self.refusals {
            let _ = writeln!(text, "would be refused: {refusal}\n  help: {}", refusal.remedy());
        }
        text
    }
}
