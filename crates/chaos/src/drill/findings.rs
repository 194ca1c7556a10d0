use serde::{Deserialize, Serialize};

use super::{DataPoint, Foreseen, Report};
use crate::run::{Ended, Hypothesised, PhaseName};

/// Something that the run has brought to light.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What, in words.
    pub what: String,
    /// What would help.
    pub remedy: String,
}

fn finding(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { what: what.into(), remedy: remedy.into() }
}

/// What to mend, most important first.
pub(super) fn findings(report: &Report) -> Vec<Finding> {
    let mut found = Vec::new();
    match &report.ended {
        Some(Ended::Refused { reasons }) => {
            found.extend(reasons.iter().map(|reason| finding(reason.to_string(), reason.remedy())));
            return found;
        }
        Some(Ended::Stopped { why, .. }) => found.push(finding(
            format!("it was stopped: {why}"),
            "mend that before the next run, or make the run smaller",
        )),
        Some(Ended::Finished { .. }) | None => {}
    }
    let hypothesis = match &report.ended {
        Some(Ended::Finished { hypothesis } | Ended::Stopped { hypothesis, .. }) => Some(hypothesis),
        Some(Ended::Refused { .. }) | None => None,
    };
    if let Some(Hypothesised::Refuted { breach }) = hypothesis {
        found.push(finding(
            format!("the hypothesis is refuted: {breach}"),
            "see in the ledger what was decided at that time, and which bound kept it from more",
        ));
    }
    if report.began.is_some() && report.ended.is_some() {
        recovery(report, &mut found);
        users(report, &mut found);
        cells(report, &mut found);
    }
    found
}

fn recovery(report: &Report, found: &mut Vec<Finding>) {
    let objective = report.recovery_objective_s;
    match report.recovery_after_end_s {
        Some(after) if after > objective => found.push(finding(
            format!("recovery took {after:.0} s after the end, the objective is {objective:.0} s"),
            "keep a warm standby (`standby.min`), or give traffic back faster (`give_back.rate`)",
        )),
        None if matches!(report.ended, Some(Ended::Finished { .. })) => found.push(finding(
            format!("the steady state did not come back within {objective:.0} s"),
            "look what still breaks it; then keep a warm standby, or give traffic back faster",
        )),
        Some(_) | None => {}
    }
    if report.drill && report.data_point == DataPoint::NotMeasured {
        found.push(finding(
            "how far the data were behind is not measured",
            "name the metric that tells it: `policy.data: { lag_metric: NAME, rpo: 5s }`; nothing is to be done for a service without data",
        ));
    }
}

fn users(report: &Report, found: &mut Vec<Finding>) {
    for phase in report.phases.iter().filter(|phase| phase.phase != PhaseName::Before) {
        let name = phase.phase;
        match (phase.requests, phase.failed) {
            (_, Some(failed)) if failed > 0 => found.push(finding(
                format!("{failed} requests were answered badly in the phase `{name}`"),
                "compare their instants with the steps of the cells: bad answers before the move mean that it came too late",
            )),
            (None, _) => found.push(finding(
                format!("no requests were seen in the phase `{name}`"),
                "run when there is traffic, or replay some: without requests nothing is shown",
            )),
            (Some(_), Some(_) | None) => {}
        }
    }
}

fn cells(report: &Report, found: &mut Vec<Finding>) {
    for cell in &report.cells {
        if cell.foreseen == Foreseen::Missed {
            found.push(finding(
                format!("the failure of {} could have been foreseen and was not", cell.cell),
                "see that the metric which shows it is scraped and has its limit (`telemetry.metrics`); labels of this run train the next model",
            ));
        }
    }
}
