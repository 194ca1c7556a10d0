//! The OpenAPI document against the routes and against what the API really tells.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, sync::Arc};

use forefend::api::{OPENAPI, Role, SnapshotView, explain, explanation::explanation, route_table};
use forefend_domain::{CellId, Timestamp};
use serde_json::{Value, json};

#[path = "../examples/fixture/story.rs"]
mod story;

use story::{CYCLE_S, Story};

fn document() -> Value {
    serde_json::from_str(OPENAPI).expect("the document is JSON")
}

#[test]
fn it_names_every_route_and_no_other() {
    let document = document();
    let described: BTreeSet<(String, String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(move |(method, operation)| {
                (path.clone(), method.clone(), operation["x-role"].as_str().unwrap().to_owned())
            })
        })
        .collect();
    let role = |role: Option<Role>| match role {
        None => "none",
        Some(Role::Viewer) => "viewer",
        Some(Role::Operator) => "operator",
        Some(Role::Admin) => "admin",
    };
    let routed: BTreeSet<_> = route_table()
        .into_iter()
        .map(|r| (r.path.to_owned(), r.method.to_owned(), role(r.role).to_owned()))
        .collect();
    assert_eq!(described, routed);
}

#[test]
fn every_reference_leads_somewhere_and_every_operation_is_whole() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                if let Some(to) = map.get("$ref").and_then(Value::as_str) {
                    found.push(to.to_owned());
                }
                map.values().for_each(|v| references(v, found));
            }
            Value::Array(items) => items.iter().for_each(|v| references(v, found)),
            _ => {}
        }
    }
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut found = Vec::new();
    references(&document, &mut found);
    for to in &found {
        assert!(document.pointer(&to[1..]).is_some(), "{to} leads nowhere");
    }
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        let to = format!("#/components/schemas/{name}");
        assert!(found.contains(&to), "{name} is used nowhere");
    }
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{path}: an id twice");
            assert!(operation["responses"]["200"].is_object(), "{path}");
            let has_id =
                operation["parameters"].as_array().is_some_and(|p| p.iter().any(|p| p["in"] == "path"));
            assert_eq!(has_id, path.contains("{id}"), "{path}");
        }
    }
}

#[test]
fn its_schemas_fit_what_is_really_told() {
    let document = document();
    let now = Timestamp::from_unix_ms(1_800_000_000_000);
    let story = Story::default();
    for step in 0..CYCLE_S as u64 {
        let snapshot = Arc::new(story.snapshot(step as f64, now, step));
        let told = serde_json::to_value(SnapshotView::of(&snapshot)).unwrap();
        check(&document, &json!({"$ref": "#/components/schemas/Snapshot"}), &told, "snapshot");
        assert_eq!(told["headline"].as_str().unwrap(), explain::headline(&snapshot));
        for kind in story.events(step as f64, step as f64 + 1.0, 7) {
            let entry = forefend_domain::LedgerEntry {
                seq: forefend_domain::LedgerSeq(8),
                at: now,
                service: None,
                kind,
            };
            let told = serde_json::to_value(entry).unwrap();
            check(&document, &json!({"$ref": "#/components/schemas/LedgerEntry"}), &told, "ledger");
        }
    }
}

#[test]
fn metrics_of_a_cell_fit_too() {
    let document = document();
    let told = forefend::api::MetricNow {
        name: forefend_domain::MetricName::new("log.template{connection to <*> refused}"),
        family: forefend_domain::Family::Logs,
        kind: forefend_domain::MetricKind::Exhaustible,
        unit: "lines/s".into(),
        limit: Some(5.0),
        value: None,
        at: Some(Timestamp::from_unix_ms(1_800_000_000_000)),
    };
    for told in [forefend::api::MetricNow { at: None, ..told.clone() }, told] {
        let told = serde_json::to_value(told).unwrap();
        check(&document, &json!({"$ref": "#/components/schemas/MetricNow"}), &told, "metric");
    }
}

#[test]
fn an_explanation_fits_its_schema_and_its_contributions_add_up_to_everything() {
    let document = document();
    let now = Timestamp::from_unix_ms(1_800_000_000_000);
    let (cell, past) = (CellId::new("shop-north-1").unwrap(), story::past(now));
    let windows = story::windows(&cell, now);
    let mut explained = 0;
    for step in 0..CYCLE_S as u64 {
        let snapshot = Story::default().snapshot(step as f64, now, step);
        for (windows, past) in [(Some(&windows), past.as_slice()), (None, &[])] {
            let told = explanation(&snapshot, &cell, windows, past).unwrap();
            let shares: f64 = told.contributions.iter().map(|c| c.share).sum();
            assert!(told.contributions.is_empty() || (shares - 1.0).abs() < 1e-9, "{shares}");
            explained += usize::from(told.contributions.iter().any(|c| c.course.is_some()));
            assert_eq!(told.nearest.len(), if windows.is_some() { 2 } else { 0 });
            if let [first, second] = told.nearest.as_slice() {
                assert_eq!((first.kind.as_str(), first.distance), ("memory leak", 0.0));
                assert!(second.distance > 0.5);
            }
            let told = serde_json::to_value(told).unwrap();
            check(&document, &json!({"$ref": "#/components/schemas/CellExplanation"}), &told, "explanation");
        }
    }
    assert!(explained > 10, "{explained}");
    let nobody = CellId::new("nobody").unwrap();
    assert!(explanation(&Story::default().snapshot(1.0, now, 1), &nobody, None, &[]).is_none());
}

#[test]
fn the_check_itself_finds_what_does_not_fit() {
    let document = document();
    let driver = json!({"$ref": "#/components/schemas/Driver"});
    let good = json!({"metric": "m", "family": "errors", "contribution": 1.0, "detail": "d"});
    let fits = |value: Value| std::panic::catch_unwind(|| check(&document, &driver, &value, "")).is_ok();
    assert!(fits(good.clone()));
    for (member, bad) in [("family", json!("other")), ("contribution", json!("1")), ("extra", json!(1))] {
        let mut value = good.clone();
        value[member] = bad;
        assert!(!fits(value), "{member} was let through");
    }
    let mut lacking = good;
    lacking.as_object_mut().unwrap().remove("detail");
    assert!(!fits(lacking));
}

/// Checks `value` against the part of JSON Schema that the document uses; members that are not described are an error.
fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(to) = schema["$ref"].as_str() {
        return check(document, document.pointer(&to[1..]).unwrap(), value, at);
    }
    if let Some(either) = schema["oneOf"].as_array() {
        let inner = if value.is_null() { &either[1] } else { &either[0] };
        return check(document, inner, value, at);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_u64() || n.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed = |t: &str| t == kind || (t == "number" && kind == "integer");
    let fits = match &schema["type"] {
        Value::String(t) => allowed(t),
        Value::Array(ts) => ts.iter().filter_map(Value::as_str).any(allowed),
        _ => panic!("{at}: the schema has no type"),
    };
    assert!(fits, "{at}: {value} is {kind}, the document says {}", schema["type"]);
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{at}: {value} is none of {words:?}");
    }
    if let (Some(number), Some(max)) = (value.as_f64(), schema["maximum"].as_f64()) {
        assert!(number <= max, "{at}: {number} is above {max}");
    }
    if let (Some(items), Some(inner)) = (value.as_array(), schema.get("items")) {
        items.iter().enumerate().for_each(|(i, item)| check(document, inner, item, &format!("{at}[{i}]")));
    }
    let Some(members) = value.as_object() else { return };
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(members.contains_key(required.as_str().unwrap()), "{at} lacks {required}");
    }
    for (name, member) in members {
        let here = format!("{at}.{name}");
        if let Some(inner) = schema["properties"].get(name) {
            check(document, inner, member, &here);
        } else if schema["additionalProperties"].is_object() {
            check(document, &schema["additionalProperties"], member, &here);
        } else {
            let opaque = schema.get("properties").is_none() || schema["additionalProperties"] == json!(true);
            assert!(opaque, "{here} is not described");
        }
    }
}
