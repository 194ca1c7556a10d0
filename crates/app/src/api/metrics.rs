//! What the engine knows, in Prometheus' text format 0.0.4.

use std::{fmt::Write, sync::Arc};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use forefend_control::Snapshot;

use super::{
    routes::{Shared, blocking},
    view,
};

pub(super) async fn answer(State(shared): State<Arc<Shared>>) -> Response {
    let history = shared.engine.history.clone();
    // A ledger that can't be read must not take the other metrics away: its own is left out then.
    let newest = blocking(move || history.ledger(None, 1)).await.ok().and_then(Result::ok);
    let last_seq = newest.map(|entries| entries.first().map_or(0, |e| e.seq.0));
    let text = render(&shared.snapshot(), last_seq);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// The samples of one metric: labels and value.
type Samples = Vec<(Vec<(&'static str, String)>, f64)>;

fn render(snapshot: &Snapshot, ledger_last_seq: Option<u64>) -> String {
    let mut text = String::new();
    let cells = view::summaries(snapshot);
    let of_cells = |value: &dyn Fn(&view::CellSummary) -> Option<f64>| -> Samples {
        cells
            .iter()
            .filter_map(|c| {
                let labels = vec![
                    ("service", c.cell.service.to_string()),
                    ("region", c.cell.region.to_string()),
                    ("zone", c.cell.zone.to_string()),
                    ("cell", c.cell.id.to_string()),
                ];
                Some((labels, value(c)?))
            })
            .collect()
    };
    let ratio = |bp: Option<u32>| bp.map(|bp| f64::from(bp) / 10_000.0);
    let flag = |set: bool| f64::from(u8::from(set));
    let mut add = |name: &str, kind: &str, help: &str, samples: Samples| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escaped(v))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    add(
        "forefend_ticks_total",
        "counter",
        "Ticks of the loop since the engine started.",
        vec![(vec![], snapshot.tick as f64)],
    );
    add(
        "forefend_snapshot_timestamp_seconds",
        "gauge",
        "When the last tick was, in seconds since 1970.",
        vec![(vec![], snapshot.world.now.unix_ms() as f64 / 1000.0)],
    );
    add(
        "forefend_frozen",
        "gauge",
        "1 while an operator has frozen everything.",
        vec![(vec![], flag(snapshot.world.frozen))],
    );
    add(
        "forefend_degraded",
        "gauge",
        "How many parts do not work at the moment.",
        vec![(vec![], snapshot.degraded.len() as f64)],
    );
    add(
        "forefend_cell_failure_probability_ratio",
        "gauge",
        "That the cell fails within the horizon of its policy.",
        of_cells(&|c| c.probability),
    );
    add(
        "forefend_cell_time_to_failure_p50_seconds",
        "gauge",
        "As likely to fail sooner as later; absent when beyond what can be foreseen.",
        of_cells(&|c| Some(c.time_to_failure?.p50?.as_secs_f64())),
    );
    add("forefend_cell_health_score", "gauge", "From 0 (failing) to 100 (well).", of_cells(&|c| c.health));
    add(
        "forefend_cell_objective_failed",
        "gauge",
        "1 while the cell counts as failed.",
        of_cells(&|c| Some(flag(c.objective.is_failed()))),
    );
    add(
        "forefend_cell_parked",
        "gauge",
        "1 while the cell is frozen to save cost.",
        of_cells(&|c| Some(flag(c.parked))),
    );
    add(
        "forefend_cell_race_margin_seconds",
        "gauge",
        "Time left until a shift must begin; negative when overdue.",
        of_cells(&|c| c.race_margin_s),
    );
    add(
        "forefend_cell_weight_home_ratio",
        "gauge",
        "Share of the service's traffic in normal times.",
        of_cells(&|c| ratio(Some(c.weights.home_bp))),
    );
    add(
        "forefend_cell_weight_configured_ratio",
        "gauge",
        "Share that the engine wants.",
        of_cells(&|c| ratio(c.weights.configured_bp)),
    );
    add(
        "forefend_cell_weight_effective_ratio",
        "gauge",
        "Share that the data plane says it applies.",
        of_cells(&|c| ratio(c.weights.effective_bp)),
    );
    add(
        "forefend_cell_weight_observed_ratio",
        "gauge",
        "Share of the requests really seen.",
        of_cells(&|c| ratio(c.weights.observed_bp)),
    );
    let of_shifts = |value: &dyn Fn(&forefend_control::ShiftView) -> f64| -> Samples {
        let labels = |s: &forefend_control::ShiftView| {
            vec![("service", s.service.to_string()), ("cell", s.from.to_string())]
        };
        snapshot.shifts.iter().map(|s| (labels(s), value(s))).collect()
    };
    add(
        "forefend_shifts",
        "gauge",
        "Cells whose traffic is away from home, or about to be.",
        vec![(vec![], snapshot.shifts.len() as f64)],
    );
    add(
        "forefend_shift_moved_ratio",
        "gauge",
        "Share of the cell's home traffic that is away.",
        of_shifts(&|s| s.moved.share()),
    );
    add(
        "forefend_shift_target_ratio",
        "gauge",
        "Share of the cell's home traffic that is wanted away.",
        of_shifts(&|s| s.target.share()),
    );
    let tested = snapshot.pre_tests.iter().map(|test| {
        (vec![("service", test.service.to_string()), ("cell", test.from.to_string())], test.share.share())
    });
    add(
        "forefend_pre_test_ratio",
        "gauge",
        "Share of the cell's home traffic with which its mirror is tried.",
        tested.collect(),
    );
    add(
        "forefend_ledger_last_seq",
        "gauge",
        "The place of the ledger's newest entry.",
        ledger_last_seq.map(|seq| (vec![], seq as f64)).into_iter().collect(),
    );
    text
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
