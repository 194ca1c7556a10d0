//! What it costs to ask a real Prometheus of many cells.

use std::{fmt::Write as _, fs};

use super::*;
use crate::history_prometheus::Prometheus;

/// Of all threads, in seconds: user and system time (proc(5)), at the usual 100 ticks a second.
fn cpu_s() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn peak_mib() -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1_024.0
}

/// 5 000 cells of four metrics over half an hour, 5 s apart.
#[tokio::test]
#[ignore = "measures, and takes a while"]
async fn figures() {
    const CELLS: usize = 5_000;
    let step = Duration::from_secs(5);
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::new();
    let end = now().unix_ms() / 5_000 * 5;
    writeln!(text, "# TYPE load gauge").unwrap();
    for n in 0..CELLS {
        for k in (0..360 + 60).rev() {
            let at = end + 120 - k * 5;
            writeln!(text, "load{{forefend_cell=\"shop-{n}\"}} {}.{} {at}", n + k as usize, k % 10).unwrap();
        }
    }
    writeln!(text, "# EOF").unwrap();
    let prometheus = Prometheus::with_past(folder.path(), &text);
    let address = prometheus.address;

    let store = StoreOptions { step, length: 360, ..StoreOptions::default() };
    let mut collector =
        Collector::new(CollectorOptions { store, ..CollectorOptions::new(Arc::new(now)) }, Handle::current());
    collector.set_targets((0..CELLS).map(target).collect());
    let url = format!("http://{address}").parse().unwrap();
    let expressions =
        [("a", "load"), ("b", "load * 2"), ("c", "load + 1"), ("d", "sum by (forefend_cell) (load)")];
    let options = PrometheusOptions {
        url,
        access: Access::default(),
        interval: step,
        timeout: Duration::from_secs(30),
        look_back: step * 360,
        overlap: Duration::from_secs(30),
        fresh_for: Duration::from_secs(60),
        cell_labels: vec!["forefend_cell".into()],
        metrics: expressions.iter().map(|(name, query)| asked(name, query)).collect(),
        max_answer_bytes: PrometheusOptions::MAX_ANSWER_BYTES,
    };
    let (began, cpu, peak) = (std::time::Instant::now(), cpu_s(), peak_mib());
    let follower = collector.follow_prometheus(options);
    assert!(follower.first_round(Duration::from_secs(600)).await);
    println!(
        "{CELLS} cells of 4 metrics, the past of 360 steps: {:.1?}, {:.2} s of our CPU, peak {peak:.0} -> {:.0} MiB",
        began.elapsed(),
        cpu_s() - cpu,
        peak_mib()
    );
    let whole = (0..CELLS).step_by(997).all(|n| values(&mut collector, n, "d").len() >= 355);
    assert!(whole && follower.problems().is_empty(), "{:?}", follower.problems());
    let (rounds, cpu) = (follower.rounds(), cpu_s());
    while follower.rounds() < rounds + 6 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("a later round of 7 instants: {:.0} ms of our CPU", (cpu_s() - cpu) / 6.0 * 1e3);
    println!("{:?}", follower.problems());
}
