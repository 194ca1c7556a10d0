//! Files of experiments: the examples, every kind of fault, what is published, and what each wrong file is told.
//!
//! After a change: `FOREFEND_BLESS=1 cargo test -p forefend-chaos --test experiment_files`, then read the difference.

#![expect(clippy::unwrap_used, reason = "a test stops where its set-up is wrong")]

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use forefend_chaos::{
    Fault, Ramp,
    experiment::{Due, Experiment, Whole, experiment_reference, experiment_schema, load, parse, parse_bytes},
};
use forefend_config::sections::Setting;
use forefend_domain::Timestamp;
use proptest::prelude::*;
use serde_json::Value as Json;

fn here(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn example(name: &str) -> Experiment {
    load(&here("../../examples/experiments").join(name)).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn the_examples_mean_what_their_comments_say() {
    let leak = example("shop-leak.yaml");
    assert_eq!(leak.faults[0].fault, Fault::MemoryLeak { bytes: 96 << 20 });
    assert_eq!(leak.faults[0].ramp, Ramp::Linear { over: Duration::from_secs(180) });
    assert_eq!(leak.lasts(), Duration::from_secs(240));
    assert!(leak.hypothesis.throughout && !leak.is_drill());
    // 2026-11-21 is a Saturday; the next Tuesday at 03:00 is the 24th, and that is blocked.
    let saturday = Timestamp::from_unix_ms(1_795_267_542_000);
    let Due::At(next) = leak.schedule.next(None, saturday) else { panic!("due") };
    assert_eq!(forefend_chaos::experiment::show_instant(next), "2026-11-24 03:00:00 UTC");
    let (blocked, why) = leak.blocked(next, next + Duration::from_secs(60)).unwrap();
    assert_eq!((blocked, why), (next, "the year's busiest days"));

    let slow = example("slow-dependency.yaml");
    assert_eq!(slow.target.as_ref().unwrap().whole, Some(Whole::Zone));
    assert_eq!(slow.approvals.by, ["ana", "ben"]);
    assert_eq!(slow.faults.len(), 2);

    let drill = example("region-outage.yaml");
    assert!(drill.is_drill());
    assert_eq!(drill.outage.as_ref().unwrap().fault.as_ref().unwrap().fault, Fault::Partition);
    let files: Vec<_> = fs::read_dir(here("../../examples/experiments")).unwrap().collect();
    assert_eq!(files.len(), 3, "a new example is read here, too");
}

/// One of each kind, with its parameters.
const KINDS: [&str; 26] = [
    "kill",
    "stop",
    "freeze",
    "cpu-quota: { cores: 50% }",
    "cpu-burn: { workers: 2 }",
    "memory-leak: { bytes: 64MiB }",
    "memory-limit: { bytes: 96MiB }",
    "disk-full: { path: /var/lib/shop, leave: 1MiB }",
    "slow-disk: { per_second: 512KiB }",
    "read-only-disk: {}",
    "fd-exhaustion: { leave: 3 }",
    "thread-exhaustion: {}",
    "connection-exhaustion: { connections: 500 }",
    "latency: { add: 250ms, jitter: 50ms }",
    "error-rate: { share: 20%, status: 500 }",
    "resets: { share: 5% }",
    "bandwidth: { per_second: 1MiB }",
    "loss: { share: 1% }",
    "partition",
    "slow-dependency: { dependency: \"127.0.0.1:5432\", add: 250ms }",
    "failing-dependency: { dependency: \"[::1]:5432\", share: 50% }",
    "dns-failure: { how: silence }",
    "clock-skew: { by: -30s }",
    "certificate-expiry: { certificate: /etc/shop/cert.pem, key: /etc/shop/key.pem }",
    "log-storm: { lines_per_second: 1000 }",
    "noisy-neighbour:",
];

fn with_fault(fault: &str) -> String {
    let fault = if fault.contains(':') { format!("{{ {fault} }}") } else { fault.to_owned() };
    format!(
        "version: 1\nname: x\nhypothesis: {{ says: x }}\ntarget: {{ service: shop }}\nfaults:\n  - fault: {fault}\n"
    )
}

#[test]
fn every_kind_of_fault_can_be_written_and_is_shown_as_written() {
    let mut kinds = BTreeSet::new();
    for text in KINDS {
        let experiment = parse(&with_fault(text), "x.yaml").unwrap_or_else(|e| panic!("{text}\n{e}"));
        let fault = &experiment.faults[0].fault;
        kinds.insert(fault.kind());
        assert_eq!(text.split(':').next(), Some(fault.kind()));
        // JSON is YAML: what is shown reads back as the same.
        let shown = with_fault("kill").replace("kill", &fault.shown().to_string());
        let again = parse(&shown, "x.yaml").unwrap_or_else(|e| panic!("{shown}\n{e}"));
        assert_eq!(again.faults[0].fault, *fault);
    }
    assert_eq!(kinds, Fault::KINDS.into_iter().collect());
}

#[test]
fn units_are_turned_into_what_faults_count_in() {
    let fault = |text: &str| parse(&with_fault(text), "x.yaml").unwrap().faults.remove(0).fault;
    assert_eq!(fault("cpu-quota: { cores: 1.5 cores }"), Fault::CpuQuota { cores: 1.5 });
    assert_eq!(fault("loss: { share: 20% }"), Fault::Loss { share: 0.2 });
    assert_eq!(fault("clock-skew: { by: -1m30s }"), Fault::ClockSkew { by_ms: -90_000 });
    assert_eq!(fault("bandwidth: { per_second: 1MB }"), Fault::Bandwidth { bytes_per_s: 1_000_000 });
}

fn agrees(path: &str, wanted: &str) {
    let path = here("../../docs").join(path);
    if std::env::var_os("FOREFEND_BLESS").is_some() {
        fs::write(&path, wanted).expect("a writable checkout");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{} is out of date: FOREFEND_BLESS=1 cargo test -p forefend-chaos",
        path.display()
    );
}

#[test]
fn what_is_published_is_that_of_the_program_and_names_every_key() {
    let schema = experiment_schema();
    agrees("experiment.schema.json", &(serde_json::to_string_pretty(&schema).unwrap() + "\n"));
    let reference = experiment_reference();
    agrees("experiments.md", &reference);
    for definition in schema["$defs"].as_object().unwrap().values() {
        for key in definition["properties"].as_object().into_iter().flat_map(|p| p.keys()) {
            assert!(reference.contains(&format!("`{key}`")), "the reference does not name `{key}`");
        }
    }
    for kind in Fault::KINDS {
        assert!(reference.contains(&format!("`{kind}`")), "the reference does not name `{kind}`");
    }
    let smallest = reference.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    parse(smallest, "smallest.yaml").unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn each_wrong_file_is_explained() {
    let mut files: Vec<PathBuf> = fs::read_dir(here("tests/experiment_wrong"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 40, "only {} files", files.len());
    let mut differing = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let Err(errors) = parse_bytes(&fs::read(&path).unwrap(), name) else { panic!("{name} was accepted") };
        for problem in &errors.problems {
            assert!(!problem.remedy.is_empty() && !problem.what.is_empty(), "{name}: {problem}");
            assert!(problem.place.is_some() || name == "empty.yaml", "{name}: {problem}");
        }
        let found = format!("{errors}\n");
        let expected = path.with_extension("err");
        if std::env::var_os("FOREFEND_BLESS").is_some() {
            fs::write(&expected, &found).unwrap();
        }
        if fs::read_to_string(&expected).unwrap_or_default() != found {
            differing.push(found);
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n---\n"));
}

/// Every scalar of the examples, as the schema sees the whole file, has a place that the schema knows.
fn keys_are_known(value: &Json, schema: &Json, root: &Json, path: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        return keys_are_known(value, root.pointer(&reference[1..]).unwrap(), root, path);
    }
    if let Some(alternatives) = schema["anyOf"].as_array() {
        let fits = |s: &&Json| -> bool {
            let s = s["$ref"].as_str().map_or(*s, |r| root.pointer(&r[1..]).unwrap());
            match value {
                Json::Object(map) => {
                    s["properties"].as_object().is_none_or(|p| map.keys().all(|k| p.contains_key(k)))
                        && s["type"] != "null"
                        && s["enum"].is_null()
                }
                Json::Array(_) => s["type"] == "array",
                _ => s["type"] != "object" && s["type"] != "array",
            }
        };
        let schema = alternatives.iter().find(fits).unwrap_or_else(|| panic!("{path}: {value} fits nothing"));
        return keys_are_known(value, schema, root, path);
    }
    match value {
        Json::Object(map) => {
            for (key, inner) in map {
                let property = match &schema["properties"][key] {
                    Json::Null => &schema["additionalProperties"],
                    property => property,
                };
                assert!(property.is_object(), "{path}.{key} is not in the schema");
                keys_are_known(inner, property, root, &format!("{path}.{key}"));
            }
        }
        Json::Array(items) => {
            items.iter().for_each(|item| keys_are_known(item, &schema["items"], root, path));
        }
        _ => {}
    }
}

#[test]
fn another_reader_finds_the_examples_to_fit_the_schema() {
    let schema = experiment_schema();
    for name in ["shop-leak.yaml", "slow-dependency.yaml", "region-outage.yaml"] {
        let text = fs::read_to_string(here("../../examples/experiments").join(name)).unwrap();
        let file: Json = serde_saphyr::from_str(&text).unwrap();
        keys_are_known(&file, &schema, &schema, name);
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}", cut in 0usize..900, instead in "[ a-z{}:,%0-9-]{0,6}") {
        let _ = parse_bytes(text.as_bytes(), "x.yaml");
        let mut whole = fs::read_to_string(here("../../examples/experiments/region-outage.yaml")).unwrap();
        let cut = (0..=cut.min(whole.len())).rev().find(|i| whole.is_char_boundary(*i)).unwrap();
        let end = (cut + 3..whole.len()).find(|i| whole.is_char_boundary(*i)).unwrap_or(whole.len());
        whole.replace_range(cut.min(end)..end, &instead);
        let _ = parse_bytes(whole.as_bytes(), "x.yaml");
    }
}
