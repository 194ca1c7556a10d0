//! Values of any kind as text.

use std::fmt::Write as _;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};

use crate::pushed::Labels;

/// Attributes as labels. Those without a value are left out.
pub(super) fn labels(attributes: Vec<KeyValue>) -> Labels {
    let label = |KeyValue { key, value, .. }| {
        let text = match value?.value? {
            Value::StringValue(text) => text,
            other => {
                let mut text = String::new();
                write(&other, &mut text, usize::MAX);
                text
            }
        };
        Some((key, text))
    };
    attributes.into_iter().filter_map(label).collect()
}

/// As text of at most `bound` bytes: what is text as it is, lists and maps much like JSON.
pub(super) fn text(value: Option<AnyValue>, bound: usize) -> String {
    let mut text = match value.and_then(|value| value.value) {
        None => String::new(),
        Some(Value::StringValue(text)) => text,
        Some(other) => {
            let mut text = String::new();
            write(&other, &mut text, bound);
            text
        }
    };
    if text.len() > bound {
        text.truncate(text.floor_char_boundary(bound));
    }
    text
}

/// Stops soon after `bound` bytes.
fn write(value: &Value, out: &mut String, bound: usize) {
    // Writing to a String can't fail.
    let _ = match value {
        Value::StringValue(text) => write!(out, "{text:?}"),
        Value::BoolValue(value) => write!(out, "{value}"),
        Value::IntValue(value) => write!(out, "{value}"),
        Value::DoubleValue(value) => write!(out, "{value}"),
        Value::BytesValue(bytes) => write!(out, "{} bytes", bytes.len()),
        Value::StringValueStrindex(index) => write!(out, "string {index}"),
        Value::ArrayValue(list) => {
            out.push('[');
            for (i, item) in list.values.iter().enumerate() {
                if out.len() > bound {
                    break;
                }
                out.push_str(if i > 0 { "," } else { "" });
                item.value.iter().for_each(|item| write(item, out, bound));
            }
            out.push(']');
            Ok(())
        }
        Value::KvlistValue(map) => {
            out.push('{');
            for (i, entry) in map.values.iter().enumerate() {
                if out.len() > bound {
                    break;
                }
                let _ = write!(out, "{}{:?}:", if i > 0 { "," } else { "" }, entry.key);
                let value = entry.value.as_ref().and_then(|value| value.value.as_ref());
                value.iter().for_each(|item| write(item, out, bound));
            }
            out.push('}');
            Ok(())
        }
    };
}
