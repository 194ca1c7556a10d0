use std::time::Duration;

use forefend_config::{
    Share, section,
    sections::{Definitions, Json, Node, Reading, Setting, Trail, Value, json, suggestion},
};

use super::parameters::{parameters_of, parameters_shown, schema_of};
use crate::{Fault, Ramp};

section! {
    /// One fault, done to every target.
    pub struct FaultEntry {
        /// The fault and its parameters.
        fault: Fault,
        /// How it builds up.
        ramp: Ramp = Ramp::Step,
        /// How much of its full effect. Above 0%.
        intensity: Share = Share::percent(100.0),
        /// How long after the beginning it starts.
        after: Duration = Duration::ZERO,
        /// How long it lasts. From 1s to 1d.
        lasts: Duration = Duration::from_secs(60),
    }
}

impl FaultEntry {
    /// Its level from 0 (none) to 1 (all of the fault's effect) at `t` after the beginning; `None` before it starts and
    /// from its end on.
    #[must_use]
    pub fn level(&self, t: Duration) -> Option<f64> {
        let since = t.checked_sub(self.after).filter(|since| *since < self.lasts)?;
        Some((self.ramp.level(since) * self.intensity.get()).clamp(0.0, 1.0))
    }

    /// When it ends, counted from the beginning.
    #[must_use]
    pub fn ends(&self) -> Duration {
        self.after.saturating_add(self.lasts)
    }
}

impl Setting for Fault {
    fn read(node: &Node, at: &Trail<'_>, cx: &mut Reading<'_>) -> Option<Self> {
        const REMEDY: &str =
            "write a kind (`kill`) or a kind with its parameters: `{ memory-leak: { bytes: 64MiB } }`";
        let nothing = Node { place: node.place, key: node.key, value: Value::Map(Vec::new()) };
        let (kind, parameters, place) = match &node.value {
            Value::Map(entries) => match entries.as_slice() {
                [(kind, parameters)] => {
                    let place = parameters.key.unwrap_or(node.place);
                    (kind.as_str(), if parameters.is_null() { &nothing } else { parameters }, place)
                }
                _ => {
                    cx.wrong(node, at, "a fault has one kind", REMEDY);
                    return None;
                }
            },
            Value::Scalar { .. } | Value::List(_) => {
                (cx.text(node, at, REMEDY.trim_start_matches("write "))?, &nothing, node.place)
            }
        };
        if !Self::KINDS.contains(&kind) {
            let remedy = suggestion(kind, Self::KINDS.into_iter());
            cx.wrong_at(place, at, format!("`{kind}` is no kind of fault"), remedy);
            return None;
        }
        let here = at.key(kind);
        let fault = parameters_of(kind, parameters, &here, cx)?;
        // First, for it knows more of how times are written.
        times(&fault, parameters, &here, cx)?;
        if let Err(problem) = fault.check() {
            let key = key_of(problem.parameter);
            let here = here.key(key);
            let what = format!("`{key}` must be {}, not {}", problem.wanted, problem.got);
            let remedy = format!("choose a value {}", problem.wanted);
            let place = parameters.get(key).unwrap_or(parameters);
            cx.wrong(place, &here, what, remedy);
            return None;
        }
        Some(fault)
    }

    fn schema(defs: &mut Definitions) -> Json {
        let mut kinds = Vec::new();
        for kind in Self::KINDS {
            let parameters = schema_of(kind, defs);
            kinds.push(json!({
                "type": "object", "additionalProperties": false, "required": [kind],
                "properties": { kind: { "anyOf": [parameters, { "type": "null" }] } },
            }));
        }
        kinds.insert(0, json!({ "enum": Self::KINDS }));
        defs.scalar(
            "fault",
            "A kind of fault, or a kind with its parameters: `kill`, `{ memory-leak: { bytes: 64MiB } }`. The kinds `kill`, `stop`, `freeze` and `partition` have no parameters.",
            json!({ "anyOf": kinds }),
        )
    }

    fn shown(&self) -> Json {
        match parameters_shown(self) {
            Json::Object(map) if map.is_empty() => self.kind().into(),
            parameters => json!({ self.kind(): parameters }),
        }
    }
}

/// What a file calls a parameter that [`Fault::check`] names.
fn key_of(parameter: &'static str) -> &'static str {
    match parameter {
        "bytes_per_s" => "per_second",
        "lines_per_s" => "lines_per_second",
        other => other,
    }
}

/// The bounds of times, closer than the fault's own.
fn times(fault: &Fault, parameters: &Node, at: &Trail<'_>, cx: &mut Reading<'_>) -> Option<()> {
    let (Fault::Latency { add, .. } | Fault::SlowDependency { add, .. }) = fault else { return Some(()) };
    let before = cx.clean(at);
    let node = parameters.get("add").unwrap_or(parameters);
    cx.range(node, &at.key("add"), add, Duration::from_millis(1), Duration::from_secs(600));
    if let Fault::Latency { add, jitter } = fault {
        let node = parameters.get("jitter").unwrap_or(parameters);
        cx.at_most(node, &at.key("jitter"), jitter, add, "add");
    }
    (!before || cx.clean(at)).then_some(())
}
