//! What changed between two configurations, in words.

use serde_json::{Map, Value as Json};

use crate::{model::Config, setting::Setting};

/// Every difference, one line each: `services.shop.policy.horizon: 15m -> 10m`. Values of environment variables are not told.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    compare("", &old.shown(), &new.shown(), &mut lines);
    lines
}

/// The settings that differ and are only taken over at the next start: their paths.
#[must_use]
pub fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (a, b) = (&old.engine, &new.engine);
    let fixed = [
        ("engine.state_dir", a.state_dir != b.state_dir),
        ("engine.tick", a.tick != b.tick),
        ("engine.window.step", a.window.step != b.window.step),
        ("engine.window.length", a.window.length != b.window.length),
        ("engine.cells.accept_missing_protections", a.cells != b.cells),
        ("engine.api.listen", a.api.listen != b.api.listen),
        ("engine.history", a.history != b.history),
        ("engine.receive", a.receive != b.receive),
        ("engine.prometheus", a.prometheus != b.prometheus),
        ("director.workers", old.director.workers != new.director.workers),
    ];
    fixed.into_iter().filter(|(_, differs)| *differs).map(|(path, _)| path).collect()
}

fn compare(path: &str, old: &Json, new: &Json, lines: &mut Vec<String>) {
    if old == new {
        return;
    }
    if let (Some(old), Some(new)) = (named(old), named(new)) {
        let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        let null = Json::Null;
        for key in old.keys().chain(new.keys().filter(|k| !old.contains_key(*k))) {
            compare(&join(key), old.get(key).unwrap_or(&null), new.get(key).unwrap_or(&null), lines);
        }
        return;
    }
    // They may hold secrets that somebody wrote down after all, and the ledger is read by many.
    let secret = path.contains(".env.") || path.ends_with(".env");
    lines.push(match (old, new) {
        (Json::Null, _) if secret => format!("{path}: added"),
        (_, Json::Null) if secret => format!("{path}: removed"),
        _ if secret => format!("{path}: changed"),
        (Json::Null, new) => format!("{path}: added {}", brief(new)).trim_end().to_owned(),
        (old, Json::Null) => format!("{path}: removed {}", brief(old)).trim_end().to_owned(),
        (old, new) => format!("{path}: {} -> {}", brief(old), brief(new)),
    });
}

/// A section, or a list of things that have names, by name.
fn named(value: &Json) -> Option<Map<String, Json>> {
    match value {
        Json::Object(map) => Some(map.clone()),
        Json::Array(items) if !items.is_empty() => {
            let entry = |item: &Json| {
                let name = item.get("id").or_else(|| item.get("name"))?.as_str()?.to_owned();
                Some((name, item.clone()))
            };
            let map: Map<String, Json> = items.iter().map(entry).collect::<Option<_>>()?;
            (map.len() == items.len()).then_some(map)
        }
        _ => None,
    }
}

fn brief(value: &Json) -> String {
    const LONGEST: usize = 80;
    match value {
        Json::String(text) => text.clone(),
        // A whole section: its name is in the path, and its environment must not be told.
        Json::Object(_) => String::new(),
        other => {
            let text = other.to_string();
            if text.chars().count() > LONGEST {
                text.chars().take(LONGEST).chain(['…']).collect()
            } else {
                text
            }
        }
    }
}
