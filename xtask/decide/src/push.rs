//! The same telemetry as a Prometheus sends it: bodies of remote write, through the decoder and the intake that the engine has.

use std::{
    io::{BufRead, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result, ensure};
use forefend_domain::Timestamp;
use forefend_telemetry::{
    Collector, CollectorOptions, Identity, Intake, MetricSelector, MetricSpec, PushTarget, StoreOptions,
    Target,
    pushed::PushLimits,
    remote_write::{Version, decode},
};

use crate::{
    fleet::{self, LENGTH, TICK},
    measure::timed,
};

/// Samples that a Prometheus sends at once.
const SAMPLES: usize = 500;
/// Steps that are pushed before anything is counted: series begin, and counters have rates.
const WARM_UP: u64 = 3;

/// Says "ready", then answers every line with the CPU seconds that all samples of a step take, until there are no more.
///
/// # Errors
/// When a sample is not taken.
pub(crate) fn serve(cells: usize) -> Result<()> {
    let mut sender = Sender::new(cells)?;
    for _ in 0..WARM_UP {
        sender.step()?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready")?;
    for line in std::io::stdin().lock().lines() {
        line?;
        writeln!(out, "{}", serde_json::to_string(&sender.step()?)?)?;
        out.flush()?;
    }
    Ok(())
}

struct Sender {
    clock: Arc<AtomicU64>,
    specs: Vec<MetricSpec>,
    totals: Vec<Vec<f64>>,
    step: u64,
    intake: Intake,
    /// Holds what was pushed.
    _collector: Collector,
}

impl Sender {
    fn new(cells: usize) -> Result<Self> {
        let clock = Arc::new(AtomicU64::new(fleet::instant(0).unix_ms()));
        let time = Arc::clone(&clock);
        let store =
            StoreOptions { step: TICK, length: LENGTH, max_cells: cells.max(1), ..StoreOptions::default() };
        let now = move || Timestamp::from_unix_ms(time.load(Ordering::Relaxed));
        let options = CollectorOptions { store, ..CollectorOptions::new(Arc::new(now)) };
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let mut collector = Collector::new(options, runtime.handle().clone());
        let specs = fleet::specs();
        let metrics: Vec<MetricSelector> = specs.iter().map(selector).collect();
        let target = |cell: usize| -> Result<Target> {
            Ok(Target {
                cell: fleet::cell_id(cell)?,
                scrape: None,
                probe: None,
                host: None,
                logs: None,
                push: PushTarget {
                    addresses: vec![address(cell)],
                    metrics: metrics.clone(),
                    ..PushTarget::default()
                },
                paused: false,
            })
        };
        collector.set_targets((0..cells).map(target).collect::<Result<_>>()?);
        let identity = Identity {
            // As the configuration has them when nothing is said of them.
            cell_labels: [
                "forefend_cell",
                "forefend.cell",
                "service.instance.id",
                "service_instance_id",
                "instance",
            ]
            .map(String::from)
            .to_vec(),
            ignored_labels: ["job", "cluster", "region", "replica"].map(String::from).to_vec(),
        };
        let intake = collector.intake(identity);
        let totals = vec![vec![0.0; fleet::counters()]; cells];
        Ok(Self { clock, specs, totals, step: 0, intake, _collector: collector })
    }

    /// Makes the bodies of a step, and takes them under the clock.
    fn step(&mut self) -> Result<f64> {
        self.step += 1;
        let at = fleet::instant(self.step);
        self.clock.store(at.unix_ms(), Ordering::Relaxed);
        let (mut bodies, mut body, mut samples, mut values) = (Vec::new(), Vec::new(), 0, Vec::new());
        for (cell, totals) in self.totals.iter_mut().enumerate() {
            fleet::values(cell, self.step, totals, &mut values);
            let instance = address(cell).to_string();
            for (spec, value) in self.specs.iter().zip(&values) {
                field(1, &series(spec, &instance, at, *value), &mut body);
                samples += 1;
                if samples % SAMPLES == 0 {
                    bodies.push(packed(&std::mem::take(&mut body))?);
                }
            }
        }
        if !body.is_empty() {
            bodies.push(packed(&body)?);
        }
        let (limits, mut kept) = (PushLimits::default(), 0);
        let (_, took) = timed(|| {
            for body in &bodies {
                let decoded = decode(body, Version::V1, &limits)?;
                kept += self.intake.push(decoded.taken).kept.all();
            }
            Ok(())
        })?;
        ensure!(kept == samples as u64, "{kept} of {samples} samples that were pushed were taken");
        Ok(took)
    }
}

/// Where a cell listens, so that it has an address of its own.
fn address(cell: usize) -> SocketAddr {
    SocketAddr::from(([10, (cell >> 16) as u8, (cell >> 8) as u8, cell as u8], 8_080))
}

/// The name of a metric, and its label where it has one.
fn named(spec: &MetricSpec) -> (&str, Option<(&str, &str)>) {
    let whole = spec.name.as_str();
    let Some((name, label)) = whole.split_once('{') else { return (whole, None) };
    let label = label.trim_end_matches('}').split_once('=');
    (name, label.map(|(label, value)| (label, value.trim_matches('"'))))
}

fn selector(spec: &MetricSpec) -> MetricSelector {
    let (name, label) = named(spec);
    MetricSelector {
        name: name.to_owned(),
        labels: label.map(|(label, value)| (label.to_owned(), value.to_owned())).into_iter().collect(),
        rename: None,
        family: spec.family,
        kind: spec.kind,
        unit: spec.unit.clone(),
        limit: spec.limit,
        limit_metric: None,
        counter: spec.counter,
    }
}

/// A `prometheus.TimeSeries` of one sample, with the labels of a target and those of its Prometheus.
fn series(spec: &MetricSpec, instance: &str, at: Timestamp, value: f64) -> Vec<u8> {
    let (name, own) = named(spec);
    let mut labels =
        vec![("__name__", name), ("cluster", "production-1"), ("instance", instance), ("job", "shop")];
    labels.extend([("region", "north"), ("replica", "prometheus-0")]);
    labels.extend(own);
    labels.sort_unstable();
    let mut series = Vec::new();
    for (name, value) in labels {
        let mut label = Vec::new();
        field(1, name.as_bytes(), &mut label);
        field(2, value.as_bytes(), &mut label);
        field(1, &label, &mut series);
    }
    let mut sample = vec![1 << 3 | 1];
    sample.extend(value.to_le_bytes());
    sample.push(2 << 3);
    varint(at.unix_ms(), &mut sample);
    field(2, &sample, &mut series);
    series
}

/// A field of bytes (<https://protobuf.dev/programming-guides/encoding/>).
fn field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn packed(body: &[u8]) -> Result<Vec<u8>> {
    snap::raw::Encoder::new().compress_vec(body).context("a body can't be compressed")
}
