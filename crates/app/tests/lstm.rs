//! The release build trains the rung that remembers, by the command that operators use; and every build serves what it made.

#![cfg(feature = "lstm")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fmt::Write as _, path::Path};

use serde_json::Value;
use support::temporary_dir;

const STEP_S: u64 = 5;
const BEGIN_S: u64 = 1_700_000_000;

/// Four hours of four cells: a mark of errors and then one of logs comes before each failure, one of logs and then of errors before none.
fn write_history(folder: &Path) {
    let mut csv = String::from("cell,service,metric,family,kind,unit,limit,at,value\n");
    let mut incidents = String::from("cell,began,ended,kind\n");
    // A small generator of noise: the constants of Knuth's MMIX.
    let mut state = 7u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1u32 << 31)
    };
    let end_s = BEGIN_S + 4 * 3_600;
    for n in 0..4 {
        let (mut errors, mut logs, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        let mut next = BEGIN_S + 400 + 35 * n;
        while next + 300 < end_s {
            let second = next + 30 + STEP_S * (6.0 * noise()) as u64;
            let fails = noise() < 0.5;
            let (first_mark, second_mark) =
                if fails { (&mut errors, &mut logs) } else { (&mut logs, &mut errors) };
            first_mark.push(next);
            second_mark.push(second);
            if fails {
                let began = second + 190;
                failures.push(began);
                let _ = writeln!(incidents, "web-{n},{},{},order", began * 1_000, (began + 60) * 1_000);
            }
            next = second + 400 + STEP_S * (20.0 * noise()) as u64;
        }
        for s in (BEGIN_S..end_s).step_by(STEP_S as usize) {
            let broken = failures.iter().any(|f| (*f..f + 60).contains(&s));
            for (name, marks) in [("errors", &errors), ("logs", &logs)] {
                let usual = 10.0 + 2.0 * noise();
                let value = if broken {
                    30.0
                } else if marks.contains(&s) {
                    20.0
                } else {
                    usual
                };
                let _ = writeln!(csv, "web-{n},web,{name},{name},unbounded,1,,{},{value}", s * 1_000);
            }
        }
    }
    std::fs::write(folder.join("telemetry.csv"), csv).unwrap();
    std::fs::write(folder.join("incidents.csv"), incidents).unwrap();
}

fn train(folder: &Path, output: &str) -> String {
    let at = |name: &str| folder.join(name).display().to_string();
    let (history, incidents, models) = (at("telemetry.csv"), at("incidents.csv"), at("models"));
    let arguments = [
        "train",
        "--history",
        &history,
        "--incidents",
        &incidents,
        "--models",
        &models,
        "--horizon-s",
        "120",
        "--window",
        "60",
        "--output",
        output,
    ];
    let told = std::process::Command::new(support::FOREFEND).args(arguments).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    String::from_utf8(told.stdout).unwrap()
}

#[test]
fn training_names_what_a_memory_would_bring() {
    let folder = temporary_dir();
    write_history(folder.path());
    let trained: Value = serde_json::from_str(train(folder.path(), "json").trim()).unwrap();
    let card = &trained["card"];
    assert_eq!((&card["rung"], &card["left_out"]), (&"lstm".into(), &Value::Array(Vec::new())), "{trained}");
    let ladder = card["ladder"].as_array().unwrap();
    let of = |rung: &str| ladder.iter().find(|climbed| climbed["rung"] == rung).unwrap();
    let brier = |rung: &str| of(rung)["brier"].as_f64().unwrap();
    assert!(brier("lstm") < brier("trees"), "{ladder:?}");
    assert!(
        of("lstm")["gain"]["low"].as_f64().unwrap() > 0.0 && of("lstm")["asked"].is_number(),
        "{ladder:?}"
    );
    let [on] = card["trained_on"].as_array().unwrap().as_slice() else { panic!("{card}") };
    assert_eq!((&on["device"], &on["failed"], &on["trainings"]), (&"cpu".into(), &false.into(), &7.into()));
    // What was kept is read again when the next is trained: it is the same as the one that serves, and so no better.
    let models = folder.path().join("models");
    let id = trained["id"].as_str().unwrap();
    let registry = forefend_learn::practice::Registry::open(&models).unwrap();
    registry.promote(id).unwrap();
    let again = train(folder.path(), "table");
    assert!(again.contains("lstm") && again.contains("asked about"), "{again}");
    assert!(again.contains("times on cpu: networks of this size are too little work for a GPU"), "{again}");
    assert!(again.contains("was refused and serves nothing"), "{again}");
}
