//! What a right file means, what changed between two, and that no text makes the reader panic.

use std::{fs, path::PathBuf};

use forefend_config::{Config, diff, needs_restart, parse, parse_bytes};
use forefend_domain::{CellId, DataPolicy, Mode, RegionId, ServiceId, Stage, Tier};
use proptest::prelude::*;

fn example(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    fs::read_to_string(path).expect("an example")
}

fn read(text: &str) -> Config {
    parse(text, "test.yaml").unwrap_or_else(|e| panic!("{e}"))
}

fn regional(regions: &str, cells: &str, more: &str) -> String {
    format!(
        "version: 1\nregions:\n{regions}\nservices:\n  shop:\n    objective: {{ latency: 100ms }}\n    listen: 127.0.0.1:8080\n{more}\n    cells:\n{cells}\n"
    )
}

const TWO: &str = "  north: { zones: [n1, n2], weight: 70% }\n  south: { zones: [s1], weight: 30% }";

fn home(text: &str) -> (Vec<u32>, Vec<(String, u32)>) {
    let config = read(text);
    let shop = ServiceId::new("shop").expect("a name");
    let weights = config.home_weights(&shop).expect("legal weights");
    let regions = weights.regions().values().map(|w| w.bp()).collect();
    let cells = weights.cells().values().flatten().map(|(id, w)| (id.to_string(), w.bp())).collect();
    (regions, cells)
}

#[test]
fn weights_left_out_are_shared_evenly_among_primaries() {
    let cells = "      - { id: a, zone: n1, address: 127.0.0.1:1 }\n      - { id: b, zone: n2, address: 127.0.0.1:2 }\n      - { id: c, zone: n2, address: 127.0.0.1:3 }\n      - { id: d, zone: n2, role: secondary, address: 127.0.0.1:4 }\n      - { id: e, zone: s1, address: 127.0.0.1:5 }";
    let (regions, cells) = home(&regional(TWO, cells, ""));
    assert_eq!(regions, [7_000, 3_000]);
    let bp: Vec<u32> = cells.iter().map(|(_, bp)| *bp).collect();
    assert_eq!(bp, [3_334, 3_333, 3_333, 0, 10_000]);
}

#[test]
fn a_service_in_one_region_gets_all_of_its_traffic_there() {
    let cells = "      - { id: a, zone: s1, address: 127.0.0.1:1 }\n      - { id: b, zone: n2, role: secondary, address: 127.0.0.1:2 }";
    let (regions, cells) = home(&regional(TWO, cells, ""));
    assert_eq!(regions, [0, 10_000], "a region with secondaries only gets nothing");
    assert!(cells.iter().all(|(_, bp)| *bp == 10_000), "but its cells are ready for it");
}

#[test]
fn a_service_can_weigh_its_regions_itself_and_thirds_are_everything() {
    let cells = "      - { id: a, zone: n1, address: 127.0.0.1:1, weight: 33.33% }\n      - { id: b, zone: n2, address: 127.0.0.1:2, weight: 33.33% }\n      - { id: c, zone: n2, address: 127.0.0.1:3, weight: 33.33% }\n      - { id: e, zone: s1, address: 127.0.0.1:5 }";
    let (regions, cells) = home(&regional(TWO, cells, "    region_weights: { north: 10%, south: 90% }"));
    assert_eq!(regions, [1_000, 9_000]);
    assert_eq!(cells[..3].iter().map(|(_, bp)| bp).sum::<u32>(), 10_000);
}

#[test]
fn a_policy_takes_its_tiers_defaults_and_the_files_words() {
    let text = example("blueprint.yaml");
    let policy = read(&text).services()[0].policy.clone();
    assert_eq!(policy.mode, Mode::Auto);
    assert_eq!(policy.data, DataPolicy::Stateless);
    assert_eq!(policy.give_back.bp_per_second, 100);
    assert_eq!(policy.lead_time_prior(Stage::Drain).as_secs(), 10);
    assert_eq!(
        (policy.pre_test.cap.bp(), policy.pre_test.from.get()),
        (100, 0.1),
        "left out: as the tier says"
    );
    let tried =
        read(&text.replace("      trigger:", "      pre_test: { cap: 2%, from: 5% }\n      trigger:"));
    let tried = &tried.services()[0].policy.pre_test;
    assert_eq!((tried.cap.bp(), tried.from.get()), (200, 0.05));
    let critical = read(
        &text.replace("tier: standard", "tier: critical").replace("standby: { min: 0, max: 1,", "standby: {"),
    );
    assert_eq!(critical.services()[0].tier, Tier::Critical);
    assert_eq!(critical.services()[0].policy.standby.min, 1);
    assert_eq!(critical.services()[0].policy.standby.max, 4);
    let lag = read(&text.replace("data: stateless", "data: { lag_metric: lag_seconds, rpo: 5s }"));
    assert!(matches!(&lag.services()[0].policy.data, DataPolicy::Lag { rpo, .. } if rpo.as_secs() == 5));
}

#[test]
fn what_is_probably_not_meant_is_hinted_at() {
    let config = read(
        &example("two-nginx.yaml")
            .replace("data: stateless", "data: pinned")
            .replace("mode: observe", "mode: auto"),
    );
    assert!(config.hints()[0].contains("`pinned`"), "{:?}", config.hints());
}

#[test]
fn a_change_is_told_in_words_and_secrets_are_not() {
    let old_text = example("blueprint.yaml");
    let old = read(&old_text);
    assert!(diff(&old, &old).is_empty());
    let new = read(
        &old_text
            .replace("horizon: 10m", "horizon: 15m")
            .replace("PYTHONUNBUFFERED: \"1\"", "PYTHONUNBUFFERED: s3cret")
            .replace("      - { id: files-1, zone: home-a, blueprint: files }", "      - { id: files-1, zone: home-b, blueprint: files }\n      - { id: files-2, zone: home-a, blueprint: files }")
            .replace("state_dir: ./forefend-state", "state_dir: /elsewhere"),
    );
    let lines = diff(&old, &new);
    assert!(lines.contains(&"services.files.policy.horizon: 10m -> 15m".to_owned()), "{lines:#?}");
    assert!(lines.contains(&"services.files.cells.files-1.zone: home-a -> home-b".to_owned()), "{lines:#?}");
    assert!(lines.contains(&"services.files.cells.files-2: added".to_owned()), "{lines:#?}");
    assert!(lines.contains(&"blueprints.files.env.PYTHONUNBUFFERED: changed".to_owned()), "{lines:#?}");
    assert!(!lines.iter().any(|l| l.contains("s3cret")), "{lines:#?}");
    assert_eq!(lines.len(), 5, "{lines:#?}");
    assert_eq!(needs_restart(&old, &new), ["engine.state_dir"]);
    assert_ne!(old, new);
}

#[test]
fn an_api_open_to_others_needs_a_token_and_then_is_fine() {
    let text = example("two-nginx.yaml").replace(
        "  state_dir: ./forefend-state",
        "  api:\n    listen: 0.0.0.0:7700\n    tokens: [{ name: ann, role: admin, env: ANN_TOKEN }]",
    );
    assert_eq!(read(&text).engine.api.tokens[0].env.as_deref(), Some("ANN_TOKEN"));
}

#[test]
fn a_prometheus_needs_a_url_and_metrics_and_is_changed_by_a_restart() {
    let text = example("two-nginx.yaml").replace(
        "  state_dir: ./forefend-state",
        "  prometheus:\n    url: http://prometheus.example/path\n    metrics: { memory: { query: \"mem{job=~\\\"a$\\\"}\", limit: 96MiB } }",
    );
    let config = read(&text);
    let prometheus = config.engine.prometheus.as_ref().unwrap();
    assert_eq!((prometheus.interval.as_secs(), prometheus.look_back), (5, None));
    assert_eq!(prometheus.metrics["memory"].limit.as_ref().unwrap().value, 100_663_296.0);
    let changed = read(&text.replace("96MiB", "97MiB"));
    assert_eq!(needs_restart(&config, &changed), ["engine.prometheus"]);
    assert_eq!(diff(&config, &changed), ["engine.prometheus.metrics.memory.limit: 96MiB -> 97MiB"]);
}

#[test]
fn a_secret_that_everybody_on_the_way_can_read_is_hinted_at() {
    let hints = |url: &str| {
        let prometheus = format!(
            "engine:\n  prometheus:\n    url: {url}\n    token: {{ env: TOKEN }}\n    metrics: {{ a: {{ query: a }} }}\n"
        );
        read(&regional(TWO, "      - { id: a, zone: n1, address: 127.0.0.1:1 }", "").replacen(
            "version: 1\n",
            &format!("version: 1\n{prometheus}"),
            1,
        ))
        .hints()
    };
    assert!(hints("http://prometheus.example").iter().any(|hint| hint.contains("over plain HTTP")));
    assert!(hints("https://prometheus.example").iter().all(|hint| !hint.contains("over plain HTTP")));
}

#[test]
fn what_runs_out_may_do_so_at_any_height_and_what_fills_up_may_not() {
    let text = |kind: &str, limit: &str| {
        let metrics = format!("metrics: [{{ name: left, kind: {kind}, limit: {limit} }}]");
        example("two-nginx.yaml")
            .replace("    policy:", &format!("    telemetry: {{ {metrics} }}\n    policy:"))
    };
    for limit in ["0", "2GiB", "-3"] {
        read(&text("depletable", limit));
    }
    assert!(read(&text("depletable", "2GiB")).hints().iter().all(|hint| !hint.contains("`left`")));
    let hints = read(&text("exhaustible", "2GiB")).hints();
    assert!(
        hints.iter().any(|hint| hint.contains("`left`") && hint.contains("`kind: depletable`")),
        "{hints:?}"
    );
    let told = parse(&text("exhaustible", "0"), "a.yaml").expect_err("a limit of nothing").to_string();
    assert!(told.contains("a limit must be above 0") && told.contains("`kind: depletable`"), "{told}");
}

#[test]
fn aliases_a_byte_order_mark_and_empty_sections_are_understood() {
    let text = "\u{feff}version: 1\nengine:\nregions: { home: { zones: [a, b] } }\nservices:\n  one: &one\n    objective: &o { latency: 1s }\n    listen: 127.0.0.1:1\n    cells: [{ id: x, zone: a, address: 127.0.0.1:2 }]\n  two: { objective: *o, listen: 127.0.0.1:3, cells: [{ id: y, zone: b, address: 127.0.0.1:4 }] }\n";
    let config = read(text);
    assert_eq!(config.services()[1].objective, config.services()[0].objective);
    let (cell, region) = (CellId::new("x").unwrap(), RegionId::new("home").unwrap());
    assert!(config.cells().iter().any(|c| c.cell.id == cell && c.cell.region == region));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[-a-z0-9:{}\\[\\]&*!|>'\"%@` #\\n\\t,~<?]{0,120}") {
        let _ = parse_bytes(&bytes, "f").map_err(|e| e.to_string());
        let _ = parse(&text, "f").map_err(|e| (e.to_string(), e.to_json()));
    }

    /// One place of an example is cut, doubled, or replaced by something that has a meaning in YAML or in this format.
    #[test]
    fn no_mutation_makes_it_panic_and_what_is_accepted_converts(
        second: bool, at in 0.0f64..1.0, length in 0usize..40,
        put in prop::sample::select(vec!["", "\t", ":", "- ", "{", "}", "[", "]", "&a ", "*a", "!!x ", "~", "null", "-1", "1e999", "99999999999999999999d",
            "0%", "100%", "0s", "é", "\u{0}", "|\n", "\n", "\r\n", "<<: *a", "'", "\"", "#", "true", "0", "0.0.0.0:0"])
    ) {
        let text = example(if second { "blueprint.yaml" } else { "two-nginx.yaml" });
        let chars: Vec<char> = text.chars().collect();
        let at = (at * chars.len() as f64) as usize;
        let end = (at + length).min(chars.len());
        let mutated: String = chars[..at].iter().copied().chain(put.chars()).chain(chars[end..].iter().copied()).collect();
        match parse(&mutated, "f") {
            Ok(config) => {
                for service in config.services() {
                    prop_assert!(service.policy.check().is_ok());
                    prop_assert!(config.home_weights(&service.id).is_some());
                }
                prop_assert_eq!(config.cells().len(), config.services.values().map(|s| s.cells.len()).sum::<usize>());
                prop_assert!(diff(&config, &config).is_empty());
            }
            Err(errors) => {
                prop_assert!(!errors.problems.is_empty());
                for problem in &errors.problems {
                    prop_assert!(!problem.remedy.is_empty());
                    if let Some(place) = problem.place {
                        prop_assert!(place.line >= 1 && place.line <= mutated.lines().count().max(1), "{}", problem);
                    }
                }
                let _ = errors.to_string();
            }
        }
    }
}
