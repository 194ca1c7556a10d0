//! A model is trained on what was recorded, serves, and is taken back: on a real engine in front of real nginx.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fmt::Write as _, path::Path};

use serde_json::Value;
use support::{
    PATIENCE, Served, contiguous, free_address, has_entry,
    nginx::{self, Nginx},
    repository_file, rewritten, settled, temporary_dir, wait_for,
};

const STEP_S: u64 = 5;
const BEGIN_S: u64 = 1_700_000_000;
const CELLS: u64 = 6;

/// Four hours of six cells whose errors creep up before they fail; `creep` 0: nothing shows.
fn write_history(folder: &Path, creep: f64) {
    let mut csv = String::from("cell,service,metric,family,kind,unit,limit,at,value\n");
    let mut incidents = String::from("cell,began,ended,kind\n");
    // A small generator of noise: the constants of Knuth's MMIX.
    let mut state = 7u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1u32 << 31)
    };
    let end_s = BEGIN_S + 4 * 3_600;
    for n in 0..CELLS {
        let failures: Vec<u64> =
            (0..6).map(|k| BEGIN_S + 900 + 2_300 * k + 311 * n).filter(|f| *f < end_s - 400).collect();
        for began in &failures {
            let _ = writeln!(incidents, "web-{n},{},{},errors", began * 1_000, (began + 100) * 1_000);
        }
        for s in (BEGIN_S..end_s).step_by(STEP_S as usize) {
            let left = failures.iter().filter(|f| **f >= s).map(|f| f - s).min();
            let broken = failures.iter().any(|f| (*f..f + 100).contains(&s));
            let mut rate = 0.01 + 0.004 * noise();
            if let Some(left) = left.filter(|left| *left < 240) {
                rate += creep * (1.0 - left as f64 / 240.0);
            }
            let rate = if broken { 0.5 } else { rate };
            let at = s * 1_000;
            let _ = writeln!(csv, "web-{n},web,errors,errors,unbounded,ratio,,{at},{rate}");
            let _ =
                writeln!(csv, "web-{n},web,cpu,saturation,saturable,ratio,1,{at},{}", 0.4 + 0.1 * noise());
        }
    }
    std::fs::write(folder.join("telemetry.csv"), csv).unwrap();
    std::fs::write(folder.join("incidents.csv"), incidents).unwrap();
}

fn train(served: &Served, history: &Path) -> Value {
    let (history, incidents) =
        (history.display().to_string(), history.join("incidents.csv").display().to_string());
    let config = served.config.display().to_string();
    let told = served.told(&[
        "train",
        "--history",
        &history,
        "--incidents",
        &incidents,
        "--config",
        &config,
        "--horizon-s",
        "300",
        "--window",
        "60",
        "--output",
        "json",
    ]);
    serde_json::from_str(told.trim()).unwrap()
}

fn bases(snapshot: &Value) -> Vec<String> {
    let said = snapshot["predictions"].as_object().unwrap().values();
    said.map(|p| p["basis"].as_str().unwrap().to_owned()).collect()
}

fn shift_at(snapshot: &Value) -> f64 {
    snapshot["world"]["services"]["web"]["service"]["policy"]["trigger"]["shift_at"].as_f64().unwrap()
}

#[test]
fn a_model_is_trained_serves_and_is_taken_back() {
    if !nginx::is_there() {
        return;
    }
    let sites = temporary_dir();
    let (one, two) = (Nginx::start(sites.path(), "web-1"), Nginx::start(sites.path(), "web-2"));
    let example = std::fs::read_to_string(repository_file("examples/two-nginx.yaml")).unwrap();
    let mut served = Served::start(&[], |state, api| {
        rewritten(
            &example,
            &[
                (
                    "state_dir: ./forefend-state",
                    &format!(
                        "state_dir: {}\n  api: {{ listen: \"{api}\" }}\n  learning: {{ shadow: 1s }}",
                        state.display()
                    ),
                ),
                ("listen: 127.0.0.1:8080", &format!("listen: {}", free_address())),
                ("address: 127.0.0.1:8081", &format!("address: {}", one.address)),
                ("address: 127.0.0.1:8082", &format!("address: {}", two.address)),
                (
                    "mode: observe # later: approve, then auto",
                    "mode: observe\n      horizon: 5m\n      trigger: { false_alarms_per_1000_cell_weeks: 1000 }",
                ),
            ],
        )
    });
    served.wait("both nginx serve", PATIENCE, settled);
    assert!(served.told(&["models", "list"]).contains("nothing learned serves"));

    let (good, blind) = (temporary_dir(), temporary_dir());
    write_history(good.path(), 0.06);
    write_history(blind.path(), 0.0);
    let trained = train(&served, good.path());
    assert_eq!(trained["in_shadow"], true, "{trained}");
    let id = trained["id"].as_str().unwrap().to_owned();
    if !cfg!(feature = "lstm") {
        let left_out = &trained["card"]["left_out"][0];
        assert_eq!(left_out["rung"], "lstm", "{trained}");
        assert!(left_out["why"].as_str().unwrap().contains("this build trains none"), "{left_out}");
    }
    assert!(trained["card"]["scores"]["auc"].as_f64().unwrap() > 0.8, "{trained}");
    wait_for("the engine tries it in the shadow", PATIENCE, || {
        served.told(&["models", "list"]).contains(&format!("model {id} is asked beside")).then_some(())
    });
    // Nobody acts on a shadow.
    let before = served.snapshot().unwrap();
    assert!(bases(&before).iter().all(|basis| basis != "calibrated"), "{:?}", bases(&before));

    // What has passed may serve; the loop's predictions rest on it from then on, and it outlives the engine.
    let written = shift_at(&before);
    wait_for("it has had its time in the shadow", PATIENCE, || {
        let answer = served.command(&["models", "promote", &id]);
        let words = String::from_utf8_lossy(&answer.stderr).into_owned();
        assert!(answer.status.success() || words.contains("tried in the shadow for"), "{words}");
        answer.status.success().then_some(())
    });
    served.wait("the threshold follows from the operating curve", PATIENCE, |s| shift_at(s) != written);
    served.wait("it serves", PATIENCE, |s| bases(s).iter().any(|basis| basis == "calibrated"));
    served.end_engine();
    served.serve_again();
    served
        .wait("it serves after a restart", PATIENCE, |s| bases(s).iter().any(|basis| basis == "calibrated"));
    let shown = served.told(&["models", "show", &id]);
    assert!(shown.contains("champion") && shown.contains("× errors"), "{shown}");

    // What foresees less than the champion is refused by the gate, and by the engine unless it is forced.
    let refused = train(&served, blind.path());
    assert_eq!(refused["in_shadow"], false, "{refused}");
    let bad = refused["id"].as_str().unwrap().to_owned();
    let answer = served.command(&["models", "promote", &bad]);
    let words = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(!answer.status.success() && words.contains("does not let model"), "{words}");
    assert!(served.told(&["models", "promote", &bad, "--force"]).contains("against the gate"));
    wait_for("it serves", PATIENCE, || {
        served.told(&["models", "list"]).contains(&format!("model {bad} serves")).then_some(())
    });
    served.told(&["models", "rollback"]);
    wait_for("the one before serves again", PATIENCE, || {
        served.told(&["models", "list"]).contains(&format!("model {id} serves")).then_some(())
    });
    served.told(&["models", "rollback"]);
    served.wait("nothing learned serves", PATIENCE, |s| {
        bases(s).iter().all(|basis| basis != "calibrated") && shift_at(s) == written
    });
    let nothing = served.command(&["models", "rollback"]);
    assert!(!nothing.status.success());

    served.told(&["incident", "web-1", "--began-ms", "1700000000000", "--kind", "operator saw it"]);
    let wrong = served.command(&["incident", "web-1", "--began-ms", "9999999999999"]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("future"));
    assert!(
        std::fs::read_to_string(served.state_dir().join("incidents.jsonl"))
            .unwrap()
            .contains("operator saw it")
    );

    the_engine_trains_on_what_it_has_recorded(&served);

    let ledger = contiguous(served.ledger());
    assert!(has_entry(&ledger, "engine", &["by the operating curve of the model that serves"]));
    for words in [
        vec!["serves from now on", &id],
        vec!["against the gate", &bad],
        vec!["the model before serves again"],
        vec!["a failure of web-1", "was told"],
    ] {
        assert!(has_entry(&ledger, "operator", &words), "the ledger lacks {words:?}");
    }
}

/// One failure teaches nothing yet; that is said, by the command and by the engine's own training.
fn the_engine_trains_on_what_it_has_recorded(served: &Served) {
    let (history, config) = (served.state_dir().join("history"), served.config.display().to_string());
    let by_hand =
        served.command(&["train", "--history", &history.display().to_string(), "--config", &config]);
    let words = String::from_utf8_lossy(&by_hand.stderr).into_owned();
    assert!(!by_hand.status.success() && words.contains("too few to learn from"), "{words}");
    served.told(&["models", "train"]);
    wait_for("the training has ended", PATIENCE, || {
        let told = served.told(&["models", "list"]);
        (told.contains("nothing was trained") && told.contains("too few to learn from")).then_some(())
    });
}

#[test]
fn wrong_input_is_told_with_its_place() {
    let folder = temporary_dir();
    let models = folder.path().join("models").display().to_string();
    let told = |arguments: &[&str]| {
        let output = std::process::Command::new(support::FOREFEND).args(arguments).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let history = folder.path().join("h.csv");
    std::fs::write(&history, "cell,metric,at,value\na,m,1000,1\na,m,2000,2\n").unwrap();
    let incidents = folder.path().join("i.csv");
    std::fs::write(&incidents, "cell,began\na,yesterday\n").unwrap();
    let (history, incidents) = (history.display().to_string(), incidents.display().to_string());
    let base = |history: &str, incidents: &str, horizon: &str| {
        told(&[
            "train",
            "--history",
            history,
            "--incidents",
            incidents,
            "--models",
            &models,
            "--horizon-s",
            horizon,
        ])
    };
    let words = base(&history, &incidents, "60");
    assert!(words.contains("i.csv") && words.contains("yesterday"), "{words}");
    std::fs::write(&incidents, "cell,began\na,1500\n").unwrap();
    let words = base(&history, &incidents, "60");
    assert!(words.contains("too few to learn from"), "{words}");
    assert!(base(&history, &incidents, "0.1").contains("from 1 s to 7 days"));
    assert!(base("/nowhere", &incidents, "60").contains("/nowhere"));
    let words = told(&["train", "--history", &history, "--incidents", &incidents, "--models", &models]);
    assert!(words.contains("--horizon-s"), "{words}");
    let words = told(&[
        "train",
        "--history",
        "prometheus:http://127.0.0.1:1",
        "--incidents",
        &incidents,
        "--models",
        &models,
        "--horizon-s",
        "60",
    ]);
    assert!(words.contains("from when to when"), "{words}");
    let words = told(&["train", "--history", &history, "--from", "yesterday", "--models", &models]);
    assert!(words.contains("yesterday"), "{words}");
}
