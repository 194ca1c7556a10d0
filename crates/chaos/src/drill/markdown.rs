//! A report for people.

use std::fmt::{self, Write as _};

use forefend_domain::Timestamp;

use super::{DataPoint, Foreseen, Report};
use crate::{
    experiment::show_instant,
    run::{Ended, Hypothesised, PhaseName},
};

impl fmt::Display for PhaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::Moving => "moving away",
            Self::During => "during",
            Self::Returning => "going home",
            Self::After => "after",
        })
    }
}

fn or_unseen<T: fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "not seen".to_owned(), |value| value.to_string())
}

impl fmt::Display for Hypothesised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upheld => f.write_str("upheld"),
            Self::Refuted { breach } => write!(f, "refuted: {breach}, {}", show_instant(breach.at)),
            Self::NotTested { why } => write!(f, "not tested: {why}"),
        }
    }
}

impl Report {
    /// The report as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!("# {} ({})\n\n", self.experiment, self.id);
        let _ = self.head(&mut text);
        let _ = self.tables(&mut text);
        text.push_str("\n## What to mend\n\n");
        if self.findings.is_empty() {
            text.push_str("Nothing.\n");
        }
        for finding in &self.findings {
            let _ = writeln!(text, "- {}. *{}*", finding.what, finding.remedy);
        }
        text
    }

    fn head(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "Hypothesis: {}\n", self.hypothesis)?;
        match &self.ended {
            None => writeln!(text, "**It goes on.**\n")?,
            Some(Ended::Finished { hypothesis }) => writeln!(text, "**{hypothesis}**\n")?,
            Some(Ended::Stopped { why, hypothesis }) => {
                writeln!(text, "**Stopped: {why}. Hypothesis {hypothesis}**\n")?;
            }
            Some(Ended::Refused { .. }) => writeln!(text, "**Refused; nothing was done.**\n")?,
        }
        let what = if self.drill { "outage of a region" } else { "faults" };
        writeln!(text, "| what | value |\n|---|---|")?;
        writeln!(text, "| kind | {what} of `{}` |", self.service)?;
        writeln!(text, "| traffic at home in the targets | {:.1}% |", self.share * 100.0)?;
        writeln!(text, "| began | {} |", self.began.map_or_else(|| "not".to_owned(), show_instant))?;
        let s = |time: Option<f64>| time.map_or_else(|| "not reached".to_owned(), |s| format!("{s:.1} s"));
        let until =
            if self.drill { "the region was empty and users well" } else { "users were well for good" };
        writeln!(text, "| from the beginning until {until} | {} |", s(self.recovery_s))?;
        let (after, objective) = (s(self.recovery_after_end_s), self.recovery_objective_s);
        writeln!(text, "| recovery after the end | {after} (objective {objective:.0} s) |")?;
        match self.data_point {
            DataPoint::NotMeasured => writeln!(text, "| data behind (RPO) | not measured |"),
            DataPoint::Behind { lag_s } => writeln!(text, "| data behind (RPO) | {lag_s:.1} s |"),
        }
    }

    fn tables(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "\n## What users got\n")?;
        writeln!(
            text,
            "| phase | lasted | requests | bad | most errors | worst p99 |\n|---|---|---|---|---|---|"
        )?;
        for phase in &self.phases {
            let lasted = phase.to.since(phase.from).as_secs_f64();
            let errors = phase.worst_error_share.map(|share| format!("{:.2}%", share * 100.0));
            let p99 = phase.worst_p99_ms.map(|ms| format!("{ms:.0} ms"));
            writeln!(
                text,
                "| {} | {lasted:.1} s | {} | {} | {} | {} |",
                phase.phase,
                or_unseen(phase.requests),
                or_unseen(phase.failed),
                or_unseen(errors),
                or_unseen(p99)
            )?;
        }
        writeln!(text, "\n## Cells\n")?;
        writeln!(
            text,
            "| cell | failed | foreseen | empty | share of traffic, step by step |\n|---|---|---|---|---|"
        )?;
        for cell in &self.cells {
            let at = |at: Option<Timestamp>| at.map_or_else(|| "no".to_owned(), |at| self.offset(at));
            let foreseen = match cell.foreseen {
                Foreseen::NotForeseeable => "not foreseeable".to_owned(),
                Foreseen::Quiet => "nothing to foresee".to_owned(),
                Foreseen::AlarmOnly { after_s } => format!("alarm after {after_s:.1} s"),
                Foreseen::Before { lead_s } => format!("{lead_s:.1} s before"),
                Foreseen::Missed => "missed".to_owned(),
            };
            let steps: Vec<String> = cell
                .steps
                .iter()
                .map(|(at, share)| format!("{} {:.1}%", self.offset(*at), share * 100.0))
                .collect();
            let (failed, empty) = (at(cell.failed_since), at(cell.emptied));
            writeln!(text, "| {} | {failed} | {foreseen} | {empty} | {} |", cell.cell, steps.join(", "))?;
        }
        Ok(())
    }

    /// An instant as seconds from the beginning, negative before it.
    fn offset(&self, at: Timestamp) -> String {
        let Some(began) = self.began else { return show_instant(at) };
        if at < began {
            format!("−{:.1} s", began.since(at).as_secs_f64())
        } else {
            format!("+{:.1} s", at.since(began).as_secs_f64())
        }
    }
}
