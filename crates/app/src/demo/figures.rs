//! What the users met, in figures.

use serde::Serialize;

/// Of one act, in one of the two runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Requests of users.
    pub requests: u64,
    /// Answered 5xx, reset, or not in time.
    pub failed: u64,
    /// Answered well and over the latency objective, counted from when the request was due.
    pub slow: u64,
    /// Request ids that cells began to execute more than once.
    pub executed_twice: u64,
    /// 99th percentile of latency, counted from when the request was due.
    pub p99_ms: f64,
    /// Seconds from the whole of the traffic being away to the start of the failure; `None`: no failure, or it came first.
    pub lead_time_s: Option<f64>,
    /// Requests of users that the mirror had answered in pre-tests when the shift began, or at most if none began.
    pub pre_tested: u64,
    /// The largest share of the cell's traffic that a pre-test had, in basis points.
    pub pre_test_bp: u32,
    /// Whether traffic was shifted to the mirror; a pre-test is no shift.
    pub shifted: bool,
    /// Whether all of it went home again.
    pub returned: bool,
    /// Weight of the mirror at the end of the act, in basis points of the service.
    pub final_weight_bp: u32,
}

/// One act in both runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActFigures {
    /// Which act.
    pub name: &'static str,
    /// With prediction.
    pub predictive: Option<Figures>,
    /// With the reactive floor alone.
    pub reactive: Option<Figures>,
}

/// The whole demo.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// In the order they were played.
    pub acts: Vec<ActFigures>,
}

impl Report {
    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = format!(
            "\n{:16} {:11} {:>9} {:>7} {:>6} {:>6} {:>8} {:>9} {:>7} {:>8} {:>9}\n",
            "ACT",
            "PREDICTION",
            "REQUESTS",
            "FAILED",
            "SLOW",
            "TWICE",
            "P99 ms",
            "LEAD s",
            "TRIED",
            "SHIFTED",
            "RETURNED"
        );
        for act in &self.acts {
            for (how, figures) in [("on", &act.predictive), ("off", &act.reactive)] {
                let Some(f) = figures else { continue };
                let lead = f.lead_time_s.map_or("–".to_owned(), |s| format!("{s:.1}"));
                let yes = |b: bool| if b { "yes" } else { "no" };
                out.push_str(&format!(
                    "{:16} {how:11} {:>9} {:>7} {:>6} {:>6} {:>8.1} {lead:>9} {:>7} {:>8} {:>9}\n",
                    act.name,
                    f.requests,
                    f.failed,
                    f.slow,
                    f.executed_twice,
                    f.p99_ms,
                    f.pre_tested,
                    yes(f.shifted),
                    yes(f.returned),
                ));
            }
        }
        out
    }
}
