//! The corpus as a history with incidents: what `forefend backtest` and training read.
//!
//! Each episode becomes a cell, the only one of a service of its own, so that no budget of one touches another. They are laid one after another on a made-up calendar.
//! Nothing else is made up: values are those that the telemetry store's windows show, incidents those that the recorder judged.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;
use forefend_domain::{CellId, MetricName, Timestamp, Windows};
use forefend_telemetry::{
    SeriesStore, StoreOptions,
    history::{CellHistory, History, Incident, IncidentSource, RecordedSeries, write_parquet},
};

use crate::{episode::Recording, outcome::STEP, spec, table};

/// What to turn into what.
#[derive(Args)]
pub(crate) struct ExportArguments {
    /// The recording.
    #[arg(long, default_value = "data/corpus")]
    data: PathBuf,
    /// The folder for `telemetry.parquet`, `incidents.jsonl` and `policy.yaml`.
    #[arg(long)]
    out: PathBuf,
    /// One episode of so many, for a quick look.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
}

/// Writes the three files.
///
/// # Errors
/// When the recording can't be read or the folder can't be written.
pub(crate) fn run(arguments: &ExportArguments) -> Result<()> {
    let corpus = table::load(&arguments.data)?;
    let episodes: Vec<&Recording> =
        corpus.recordings.iter().filter(|r| r.spec.id.is_multiple_of(arguments.every)).collect();
    let (history, incidents) = laid_out(&episodes)?;
    let out = &arguments.out;
    fs::create_dir_all(out).with_context(|| format!("can't make {}", out.display()))?;
    write_parquet(out.join("telemetry.parquet"), &history)?;
    let mut lines = String::new();
    for incident in &incidents {
        lines.push_str(&serde_json::to_string(incident)?);
        lines.push('\n');
    }
    put(&out.join("incidents.jsonl"), &lines)?;
    put(&out.join("policy.yaml"), POLICY)?;
    let (cells, failed, folder) = (history.cells.len(), incidents.len(), out.display());
    println!("{cells} cells and {failed} incidents are in {folder}; replay them with");
    println!(
        "  forefend backtest --history {folder} --incidents {folder}/incidents.jsonl -c {folder}/policy.yaml --as corpus \
         --traffic none --requests-per-s 2000 --report backtest.html"
    );
    Ok(())
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
}

/// Between two episodes.
const APART: Duration = Duration::from_secs(60);

fn laid_out(episodes: &[&Recording]) -> Result<(History, Vec<Incident>)> {
    let (mut cells, mut incidents) = (BTreeMap::new(), Vec::new());
    let mut start = Timestamp::from_unix_ms(1_700_000_000_000);
    for recording in episodes {
        let kind = spec::name(recording.spec.kind);
        let cell = CellId::new(&format!("e{:04}-{kind}", recording.spec.id))?;
        cells.insert(cell.clone(), of_cell(recording, &cell, start)?);
        if let Some(failed) = recording.failed_step {
            incidents.push(Incident {
                cell,
                began: start + STEP * failed,
                ended: None,
                kind,
                event: String::new(),
                source: IncidentSource::Objective,
            });
        }
        start = start + STEP * recording.steps + APART;
    }
    Ok((History { step: STEP, cells }, incidents))
}

/// What windows show of each step.
fn of_cell(recording: &Recording, cell: &CellId, start: Timestamp) -> Result<CellHistory> {
    let options = StoreOptions { step: STEP, length: 12, rate_lookback: 4, ..StoreOptions::default() };
    let mut store = SeriesStore::new(options);
    let mut places = vec![0; recording.series.len()];
    let mut series: BTreeMap<MetricName, RecordedSeries> = BTreeMap::new();
    for step in 0..recording.steps {
        let at = start + STEP * step;
        for (of, place) in recording.series.iter().zip(&mut places) {
            if let Some((_, value)) = of.values.get(*place).filter(|(s, _)| *s == step) {
                *place += 1;
                store.record(cell, &of.spec, at, Some(f64::from(*value)))?;
            }
        }
        for window in store.windows(at).first().map(|w: &Windows| w.metrics.values()).into_iter().flatten() {
            let known = series.entry(window.name.clone()).or_insert_with(|| RecordedSeries {
                family: window.family,
                kind: window.kind,
                unit: window.unit.clone(),
                limits: vec![(at, window.limit)],
                samples: Vec::new(),
            });
            if let Some(value) = window.samples.last().and_then(|sample| sample.value) {
                known.samples.push((at, value));
            }
        }
    }
    Ok(CellHistory { service: cell.as_str().parse()?, series })
}

/// The policy under which the corpus is scored: see `alarm::policy`.
const POLICY: &str = "\
# The policy under which `cargo xtask corpus score` asks models: lead times and horizon of compressed time.
version: 1
engine: { tick: 500ms, window: { step: 500ms, length: 1m } }
regions:
  recorded: { zones: [recorded-a, recorded-b] }
services:
  corpus:
    objective: { latency: 150ms, slow_share: 10%, error_share: 10%, failed_for: 3s }
    listen: 127.0.0.1:8080
    cells:
      - { id: corpus-1, zone: recorded-a, address: 127.0.0.1:8081 }
    policy:
      mode: auto
      data: stateless
      horizon: 30s
      trigger: { prepare_at: 20%, shift_at: 60%, clear_below: 10%, hits: 3, of_ticks: 5, margin: 2s }
      lead_times: { create: 1200ms, warm_up: 1800ms, earn: 1800ms, drain: 600ms, propagate: 600ms }
      give_back: { healthy_for: 5s, rate: 20%/s }
      budgets: { max_cells_in_motion: 1, max_weight_in_motion: 100%, refractory: 5s }
      stale_after: 2s
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        alarm::replay,
        sample::Series,
        spec::Kind,
        subject::{full, total},
    };
    use forefend_domain::Family;

    /// An episode with a level that has a gap, and a total.
    fn recording() -> Recording {
        let (memory, _) = full("memory_working_set_bytes", "bytes", 0.0, Some(64.0));
        let (requests, _) = total("requests_total", Family::Traffic, 0.0);
        let level = (0..90).filter(|step| step % 7 != 3).map(|step| (step, step as f32 * 0.5)).collect();
        let counted = (0..90).map(|step| (step, (step * step) as f32)).collect();
        Recording {
            spec: spec::all(1).into_iter().find(|s| s.kind == Kind::Leak).expect("a leak"),
            cpu_scale: 1.0,
            steps: 90,
            failed_step: Some(80),
            series: vec![Series { spec: memory, values: level }, Series { spec: requests, values: counted }],
            trouble: None,
        }
    }

    #[test]
    fn the_windows_of_the_history_are_those_that_models_were_scored_on() {
        let recording = recording();
        let (history, incidents) = laid_out(&[&recording]).expect("a history");
        let cell = history.cells.keys().next().expect("a cell");
        let start = Timestamp::from_unix_ms(1_700_000_000_000);
        assert_eq!(incidents[0].began, start + STEP * 80);
        let mut compared = 0;
        replay(&recording, |step, windows| {
            let ours = history.windows(cell, start + STEP * step, 60).expect("windows");
            for (name, metric) in &windows.metrics {
                let newest = |samples: &[forefend_domain::Sample]| -> Vec<Option<f64>> {
                    samples.iter().rev().take(60).map(|s| s.value).collect()
                };
                assert_eq!(newest(&ours.metrics[name].samples), newest(&metric.samples), "{name} at {step}");
                assert_eq!(ours.metrics[name].limit, metric.limit);
                compared += 1;
            }
        });
        assert!(compared > 100);
    }

    #[test]
    fn the_policy_that_is_written_is_the_one_that_models_are_scored_by() {
        let scored = crate::alarm::policy(crate::alarm::LEAD_S);
        let seconds: f64 = scored.lead_time_priors.values().map(Duration::as_secs_f64).sum();
        assert!((seconds - 6.0).abs() < 1e-9);
        for (stage, time) in
            [("create", 1_200), ("warm_up", 1_800), ("earn", 1_800), ("drain", 600), ("propagate", 600)]
        {
            assert!(POLICY.contains(&format!("{stage}: {time}ms")), "{stage}");
            assert!(scored.lead_time_priors.values().any(|t| t.as_millis() == time));
        }
        assert_eq!((scored.horizon.as_secs(), scored.trigger.margin.as_secs()), (30, 2));
    }
}
