use std::time::Duration;

use forefend_config::{
    section,
    sections::{Definitions, Json, Node, Reading, Setting, Trail, Value, json},
};

use crate::Ramp;

section! {
    /// `intermittent`: all of it, then nothing, over and over.
    pub struct Intermittent {
        /// How long it lasts.
        on: Duration,
        /// How long it pauses.
        off: Duration,
    }
}

const SHAPES: [&str; 4] = ["linear", "exponential", "sawtooth", "intermittent"];
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl Setting for Ramp {
    fn read(node: &Node, at: &Trail<'_>, cx: &mut Reading<'_>) -> Option<Self> {
        const REMEDY: &str = "write `step`, `{ linear: 2m }`, `{ exponential: 2m }`, `{ sawtooth: 30s }` or `{ intermittent: { on: 5s, off: 10s } }`";
        if let Value::Map(entries) = &node.value {
            cx.section(node, at, &SHAPES)?;
            let [(shape, value)] = entries.as_slice() else {
                cx.wrong(node, at, "a ramp has one shape", REMEDY);
                return None;
            };
            let at = at.key(shape);
            if shape == "intermittent" {
                let Intermittent { on, off } = Intermittent::read(value, &at, cx)?;
                let on = ranged(on, value.get("on").unwrap_or(value), &at.key("on"), cx)?;
                let off = ranged(off, value.get("off").unwrap_or(value), &at.key("off"), cx)?;
                return Some(Self::Intermittent { on, off });
            }
            let time = Duration::read(value, &at, cx)?;
            let time = ranged(time, value, &at, cx)?;
            return match shape.as_str() {
                "linear" => Some(Self::Linear { over: time }),
                "exponential" => Some(Self::Exponential { over: time }),
                "sawtooth" => Some(Self::Sawtooth { period: time }),
                _ => None,
            };
        }
        match cx.text(node, at, REMEDY.trim_start_matches("write "))? {
            "step" => Some(Self::Step),
            other => {
                cx.wrong(node, at, format!("`{other}` is no shape of a ramp"), REMEDY);
                None
            }
        }
    }

    fn schema(defs: &mut Definitions) -> Json {
        let time = Duration::schema(defs);
        let pulse = Intermittent::schema(defs);
        let one = |shape: &str, value: &Json| json!({ "type": "object", "properties": { shape: value }, "required": [shape], "additionalProperties": false });
        let shapes: Vec<Json> = SHAPES
            .iter()
            .map(|shape| one(shape, if *shape == "intermittent" { &pulse } else { &time }))
            .chain([json!({ "enum": ["step"] })])
            .collect();
        defs.scalar(
            "ramp",
            "How a level goes over time: `step` (all at once), `{ linear: 2m }` or `{ exponential: 2m }` (up to its height in that time), `{ sawtooth: 30s }` (up and at once down, over and over), `{ intermittent: { on: 5s, off: 10s } }`. From 100ms to 1d.",
            json!({ "anyOf": shapes }),
        )
    }

    fn shown(&self) -> Json {
        match self {
            Self::Step => "step".into(),
            Self::Linear { over } => json!({ "linear": over.shown() }),
            Self::Exponential { over } => json!({ "exponential": over.shown() }),
            Self::Sawtooth { period } => json!({ "sawtooth": period.shown() }),
            Self::Intermittent { on, off } => {
                json!({ "intermittent": Intermittent { on: *on, off: *off }.shown() })
            }
        }
    }
}

fn ranged(time: Duration, node: &Node, at: &Trail<'_>, cx: &mut Reading<'_>) -> Option<Duration> {
    cx.range(node, at, &time, SHORTEST, LONGEST);
    cx.clean(at).then_some(time)
}
