use std::fmt::Write as _;

use forefend_domain::{Stage, Tier};
use serde_json::Value as Json;

use crate::{
    convert::default_policy,
    model::Config,
    schema::{Definitions, Field},
    setting::Setting,
    units,
};

/// The reference manual in Markdown: every key with type, default and meaning.
#[must_use]
pub fn reference() -> String {
    let mut text = include_str!("reference_intro.md").to_owned();
    text.push_str(&reference_of::<Config>());
    text.push_str(&policy_defaults());
    text
}

/// Every key of a file whose whole is a `T`, and every type, in Markdown.
#[must_use]
pub fn reference_of<T: Setting>() -> String {
    let mut defs = Definitions::default();
    T::schema(&mut defs);
    let mut text = String::from("\n## Sections\n");
    for section in &defs.sections {
        let _ = write!(text, "\n### {}\n\n{}\n\n", section.name, section.doc);
        text.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
        for field in &section.fields {
            let default = default_of(field);
            let doc = field.doc.replace('|', "\\|");
            let _ = writeln!(text, "| `{}` | {} | {default} | {doc} |", field.name, type_of(&field.schema));
        }
    }
    text.push_str("\n## Types\n\n| type | how it is written |\n|---|---|\n");
    for (name, doc) in &defs.scalars {
        let words = words_of(&defs, name);
        let _ =
            writeln!(text, "| <a id=\"{}\"></a>{name} | {}{words} |", anchor(name), doc.replace('|', "\\|"));
    }
    text
}

fn anchor(name: &str) -> String {
    name.to_ascii_lowercase().replace(' ', "-")
}

fn default_of(field: &Field) -> String {
    match &field.default {
        _ if field.required => "required".into(),
        Json::Null => String::new(),
        Json::String(text) if text.is_empty() => "empty".into(),
        Json::String(text) => format!("`{text}`"),
        Json::Array(items) if items.is_empty() => "empty".into(),
        Json::Object(map) if map.is_empty() => "empty".into(),
        Json::Object(_) => "as there".into(),
        other => format!("`{other}`"),
    }
}

fn type_of(schema: &Json) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        return format!("[{}](#{})", name.replace('-', " "), anchor(name));
    }
    match schema["type"].as_str() {
        Some("array") => format!("list of {}", type_of(&schema["items"])),
        Some("object") => format!("by name: {}", type_of(&schema["additionalProperties"])),
        _ => String::new(),
    }
}

fn words_of(defs: &Definitions, name: &str) -> String {
    let Some(words) = defs.definition(name).and_then(|schema| schema["enum"].as_array()) else {
        return String::new();
    };
    let words: Vec<String> = words.iter().filter_map(Json::as_str).map(|w| format!("`{w}`")).collect();
    format!(" One of: {}.", words.join(", "))
}

/// What each tier makes of a policy in which nothing is written.
fn policy_defaults() -> String {
    let mut text = String::from(
        "\n## Defaults of a policy by tier\n\nThey are safe rather than eager: `mode` is `observe` and `data` is `pinned` until the file says otherwise.\n\n\
         | key | critical | standard | best-effort |\n|---|---|---|---|\n",
    );
    let columns = [Tier::Critical, Tier::Standard, Tier::BestEffort].map(rows);
    for (i, (key, _)) in columns[0].iter().enumerate() {
        let _ =
            writeln!(text, "| `{key}` | {} | {} | {} |", columns[0][i].1, columns[1][i].1, columns[2][i].1);
    }
    text.push_str("\nWithout a `mirror` nothing stands by: `standby.min` is 0 then.\n");
    text
}

fn rows(tier: Tier) -> Vec<(&'static str, String)> {
    let p = default_policy(tier);
    let percent = |share: f64| units::show_percent((share * 1e6).round() as u64);
    let time = units::show_duration;
    let steps: Vec<String> = p.canary.steps.iter().map(|w| percent(w.share())).collect();
    vec![
        ("mode", p.mode.shown().as_str().unwrap_or_default().to_owned()),
        ("horizon", time(p.horizon)),
        ("stale_after", time(p.stale_after)),
        ("trigger.prepare_at", percent(p.trigger.prepare_at.get())),
        ("trigger.shift_at", percent(p.trigger.shift_at.get())),
        ("trigger.clear_below", percent(p.trigger.clear_below.get())),
        ("trigger.hits", p.trigger.hits.to_string()),
        ("trigger.of_ticks", p.trigger.of_ticks.to_string()),
        ("trigger.margin", time(p.trigger.margin)),
        ("canary.first", percent(p.canary.first.share())),
        ("canary.steps", steps.join(", ")),
        ("canary.tolerated_harm", percent(p.canary.tolerated_harm)),
        ("canary.warm_requests", p.canary.warm_requests.to_string()),
        ("pre_test.cap", percent(p.pre_test.cap.share())),
        ("pre_test.from", percent(p.pre_test.from.get())),
        ("give_back.healthy_for", time(p.give_back.healthy_for)),
        ("give_back.rate", format!("{}/s", percent(f64::from(p.give_back.bp_per_second) / 10_000.0))),
        ("standby.min", p.standby.min.to_string()),
        ("standby.max", p.standby.max.to_string()),
        ("standby.freeze_when_idle", p.standby.freeze_when_idle.to_string()),
        ("standby.retire_after", time(p.standby.retire_after)),
        ("standby.passport_valid_for", time(p.standby.passport_valid_for)),
        ("budgets.max_cells_in_motion", p.budgets.max_cells_in_motion.to_string()),
        ("budgets.max_weight_in_motion", percent(p.budgets.max_weight_in_motion.share())),
        ("budgets.refractory", time(p.budgets.refractory)),
        ("budgets.headroom", percent(p.budgets.headroom)),
        ("lead_times.create", time(p.lead_time_prior(Stage::Create))),
        ("lead_times.warm_up", time(p.lead_time_prior(Stage::WarmUp))),
        ("lead_times.earn", time(p.lead_time_prior(Stage::Earn))),
        ("lead_times.drain", time(p.lead_time_prior(Stage::Drain))),
        ("lead_times.propagate", time(p.lead_time_prior(Stage::Propagate))),
    ]
}
