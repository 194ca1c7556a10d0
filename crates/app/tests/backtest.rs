//! `forefend backtest` as people use it: files in, a report out, and the report in a real browser.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};

#[path = "browser/mod.rs"]
#[expect(dead_code, reason = "the dashboard's tests press more keys")]
mod browser;

use browser::Browser;

const START_MS: u64 = 1_750_000_000_000;

fn noise(n: u64) -> f64 {
    (n.wrapping_mul(2_654_435_761) % 1_009) as f64 / 1_009.0 - 0.5
}

/// Two hours of three cells: one leaks until it fails, one climbs and stops, one is killed.
fn telemetry() -> String {
    let mut csv = "cell,service,metric,family,kind,unit,limit,at,value\n".to_owned();
    let mib = 1_048_576.0;
    for n in 1..=720u64 {
        let (s, at) = (n as f64 * 10.0, START_MS + n * 10_000);
        let leak = if s < 5_000.0 { 100.0 + 412.0 * s / 5_000.0 } else { 110.0 };
        let climb = match s {
            s if s < 2_000.0 => 120.0,
            s if s < 2_900.0 => 120.0 + 382.0 * (s - 2_000.0) / 900.0,
            _ => 120.0,
        };
        for (cell, level) in [("web-1", leak), ("web-2", climb), ("web-3", 180.0)] {
            let used = (level + noise(n + level as u64) * 2.0) * mib;
            let _ = writeln!(
                csv,
                "{cell},web,memory_working_set_bytes,saturation,exhaustible,bytes,{},{at},{used:.0}",
                512.0 * mib
            );
            let rate = 80.0 + 8.0 * noise(n * 7 + cell.len() as u64);
            let _ = writeln!(csv, "{cell},web,requests_per_second,traffic,unbounded,1/s,,{at},{rate:.2}");
        }
    }
    csv
}

fn incidents() -> String {
    let line = |cell: &str, from_s: u64, to_s: u64, kind: &str| {
        json!({"cell": cell, "began": START_MS + from_s * 1_000, "ended": START_MS + to_s * 1_000, "kind": kind})
            .to_string()
    };
    format!(
        "{}\n{}\n",
        line("web-1", 5_000, 5_420, "memory leak"),
        line("web-3", 6_500, 6_800, "kernel panic")
    )
}

const POLICY: &str = "
version: 1
engine: { tick: 2s, window: { step: 10s, length: 20m } }
regions:
  home: { zones: [a, b, c] }
services:
  web:
    tier: standard
    objective: { latency: 250ms, slow_share: 1%, error_share: 1%, failed_for: 10s }
    listen: 127.0.0.1:8080
    cells:
      - { id: web-1, zone: a, address: 127.0.0.1:8081 }
      - { id: web-2, zone: b, address: 127.0.0.1:8082 }
      - { id: web-3, zone: c, address: 127.0.0.1:8083 }
    policy: { mode: observe, horizon: 10m, data: stateless, budgets: { max_weight_in_motion: 100% } }
";

struct Case {
    folder: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let case = Self { folder: tempfile::tempdir().unwrap() };
        case.write("telemetry.csv", &telemetry());
        case.write("incidents.jsonl", &incidents());
        case.write("policy.yaml", POLICY);
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn run(&self, more: &[&str]) -> Output {
        let file = |name: &str| self.path(name).display().to_string();
        Command::new(env!("CARGO_BIN_EXE_forefend"))
            .args(["backtest", "--history", &file("telemetry.csv"), "--incidents", &file("incidents.jsonl")])
            .args(["--report", &file("report.html")])
            .args(more)
            .output()
            .unwrap()
    }
}

fn error_of(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn figure<'r>(report: &'r Value, who: &str) -> &'r Value {
    report["figures"].as_array().unwrap().iter().find(|f| f["contender"] == who).unwrap()
}

#[test]
fn two_hours_of_three_cells_give_the_figures_that_are_known_by_hand() {
    let case = Case::new();
    let policy = case.path("policy.yaml").display().to_string();
    let output = case.run(&["-c", &policy, "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["broken"], json!([]));
    let [leak, kill] = report["incidents"].as_array().unwrap().as_slice() else { panic!("{report}") };
    assert_eq!((&leak["warning"], &kill["warning"]), (&json!("in-time"), &json!("missed")));
    assert_eq!(leak["failure_minutes"]["forefend"], json!(0.0));
    let ours = figure(&report, "forefend");
    assert_eq!(
        (&ours["incidents"], &ours["in_time"], &ours["false_alarms"]),
        (&json!(2), &json!(1), &json!(1))
    );
    // Seven and five minutes.
    let minutes = |who: &str| figure(&report, who)["failure_minutes"].as_f64().unwrap();
    assert!((minutes("nothing") - 12.0).abs() < 0.1, "{}", minutes("nothing"));
    assert!(minutes("forefend") < minutes("reactive") && minutes("reactive") < 3.0);
    // Recorded traffic counts: 80 a second for each of three cells.
    let requests = report["recorded"]["requests"].as_f64().unwrap();
    assert!((requests / (7_200.0 * 240.0) - 1.0).abs() < 0.05, "{requests}");
    assert!(std::fs::read_to_string(case.path("report.html")).unwrap().contains("memory leak"));

    let output = case.run(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("forefend") && text.contains("predict-linear") && text.contains("report.html"),
        "{text}"
    );
}

#[test]
fn what_can_t_be_replayed_is_refused_with_file_and_remedy() {
    let case = Case::new();
    let policy = case.path("policy.yaml").display().to_string();
    case.write("policy.yaml", &POLICY.replace("web-3", "web-9"));
    let error = error_of(&case.run(&["-c", &policy]));
    assert!(error.contains("web") && error.contains("--as"), "{error}");
    case.write("policy.yaml", &POLICY.replace("tier: standard", "tier: golden"));
    let error = error_of(&case.run(&["-c", &policy]));
    assert!(error.contains("policy.yaml:8:") && error.contains("golden"), "{error}");
    case.write("policy.yaml", POLICY);
    let error = error_of(&case.run(&["-c", &policy, "--as", "shop"]));
    assert!(error.contains("no service `shop`") && error.contains("it has web"), "{error}");
    case.write("model.json", "{\"edges\":");
    let model = case.path("model.json").display().to_string();
    let error = error_of(&case.run(&["--model", &model]));
    assert!(error.contains("model.json") && error.contains("training"), "{error}");
    case.write("incidents.jsonl", "{\"cell\":\"web-1\"}\n");
    let error = error_of(&case.run(&[]));
    assert!(error.contains("incidents.jsonl") && error.contains("row 1"), "{error}");
    case.write("incidents.jsonl", &incidents().replace("web-", "db-"));
    let error = error_of(&case.run(&[]));
    assert!(error.contains("none of the 2 incidents") && error.contains("web-1"), "{error}");
    case.write("telemetry.csv", "cell,metric,at\n");
    let error = error_of(&case.run(&[]));
    assert!(error.contains("telemetry.csv"), "{error}");
    assert!(!case.path("report.html").exists(), "nothing was replayed, so there is no report");
}

/// Where pictures go for those who want to look: `$FOREFEND_SHOTS`.
fn shots() -> Option<PathBuf> {
    std::env::var_os("FOREFEND_SHOTS").map(PathBuf::from)
}

#[tokio::test]
async fn the_report_fits_every_screen_in_light_and_dark_and_asks_for_nothing() {
    let Some(program) = browser::installed() else { return };
    let case = Case::new();
    let policy = case.path("policy.yaml").display().to_string();
    assert!(case.run(&["-c", &policy]).status.success());
    // A report that is there already may be looked at in its place.
    let report = std::env::var_os("FOREFEND_REPORT").map_or_else(|| case.path("report.html"), PathBuf::from);
    let url = format!("file://{}", Path::new(&report).display());
    let mut page = Browser::start(program).await;
    for (width, height) in [(400, 900), (1_400, 1_000)] {
        page.size(width, height).await;
        for scheme in ["light", "dark"] {
            page.scheme(scheme).await;
            page.open(&url).await;
            page.eval("document.querySelectorAll('details').forEach((d) => { d.open = true; })").await;
            let over = page
                .eval(
                    "[...document.querySelectorAll('body *')].filter((e) => !e.closest('.wide table') && !e.closest('svg') \
                     && (e.getBoundingClientRect().right > innerWidth + 0.5 || e.getBoundingClientRect().left < -0.5)) \
                     .map((e) => e.tagName + '.' + e.className)",
                )
                .await;
            assert_eq!(over, json!([]), "sticks out at {width} px");
            let wide = page.eval("document.documentElement.scrollWidth").await;
            assert!(wide.as_u64().unwrap() <= u64::from(width), "{wide} at {width} px");
            // Words of a picture stay inside of it and are never too small to read.
            let cut = page
                .eval(
                    "[...document.querySelectorAll('figure > svg text')].filter((t) => { const a = t.getBoundingClientRect(), \
                     b = t.closest('figure').getBoundingClientRect(); return a.left < b.left || a.right > b.right || a.height < 8; }) \
                     .map((t) => t.textContent)",
                )
                .await;
            assert_eq!(cut, json!([]), "words are cut at {width} px");
            let background = page.eval("getComputedStyle(document.body).backgroundColor").await;
            let dark = background != json!("rgb(245, 246, 248)");
            assert_eq!(dark, scheme == "dark", "{background}");
            if let Some(folder) = shots() {
                page.eval("document.querySelectorAll('details').forEach((d) => { d.open = false; })").await;
                page.screenshot(&folder.join(format!("{width}-{scheme}.png"))).await;
            }
        }
    }
    let unnamed = "[...document.querySelectorAll('section')].filter((s) => !document.getElementById(s.getAttribute('aria-labelledby'))).length";
    assert_eq!(page.eval(unnamed).await, json!(0));
    assert_eq!(page.eval("document.scripts.length").await, json!(0));
    for address in page.requested() {
        assert!(address == url, "the report asked for {address}");
    }
    assert_eq!(page.errors(), Vec::<String>::new());
    page.stop().await;
}
