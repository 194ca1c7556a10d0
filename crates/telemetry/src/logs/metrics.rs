//! What the rates of logs are called.

use forefend_domain::{Family, MetricKind, MetricName};

use super::{Counted, Severity, mask};
use crate::series::MetricSpec;

const UNIT: &str = "lines/s";
/// All lines.
pub(super) const LINES: &str = "log.lines";
/// Lines of templates that are novel.
pub(super) const NOVEL: &str = "log.novel";
/// A name is for people to read: longer ones are cut, and told apart by a hash.
const LONGEST_TEXT: usize = 96;

/// The name of the rate of a template: `log.template{connection to <*> refused}`. All that a template says of the places
/// where lines differ is `<*>`, so that the name stays what it is while more kinds of value are met. Where the text is
/// longer than 96 characters it is cut and a hash of the whole text follows. The same text has the same name at every cell
/// and after every start.
#[must_use]
pub fn template_name(text: &str) -> MetricName {
    let shown = mask::ALL.iter().fold(text.to_owned(), |text, mask| text.replace(mask, mask::WILDCARD));
    if shown.chars().count() <= LONGEST_TEXT {
        return MetricName::new(&format!("log.template{{{shown}}}"));
    }
    let cut: String = shown.chars().take(LONGEST_TEXT - 11).collect();
    MetricName::new(&format!("log.template{{{cut}… #{:08x}}}", fnv(shown.as_bytes())))
}

/// FNV-1a of 64 bits, folded to 32 (<https://www.rfc-editor.org/rfc/rfc9923>): the same in every version, unlike the standard library's.
fn fnv(bytes: &[u8]) -> u32 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    (hash ^ (hash >> 32)) as u32
}

pub(super) fn severity_name(severity: Severity) -> MetricName {
    MetricName::new(&format!("log.severity{{{}}}", severity.word()))
}

pub(super) fn counted_name(of: &Counted) -> MetricName {
    match of {
        Counted::AtLeast(severity) => {
            MetricName::new(&format!("log.severity{{{} or worse}}", severity.word()))
        }
        Counted::Lines(pattern) => template_name(pattern.text()),
    }
}

/// Totals are recorded and rates shown. That a declared limit is reached counts as a failure of the cell; what has none
/// informs anomalies and learned models only.
pub(super) fn spec(name: MetricName, limit: Option<f64>) -> MetricSpec {
    let kind = if limit.is_some() { MetricKind::Exhaustible } else { MetricKind::Unbounded };
    MetricSpec { name, family: Family::Logs, kind, unit: UNIT.to_owned(), limit, counter: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_for_people_and_stay() {
        assert_eq!(template_name("to <ip> in <num> by <*>").as_str(), "log.template{to <*> in <*> by <*>}");
        let (one, other) = ("x".repeat(200), "x".repeat(201));
        let name = template_name(&one);
        assert_eq!(name, template_name(&one));
        assert_ne!(name, template_name(&other));
        assert!(name.as_str().chars().count() <= "log.template{}".len() + LONGEST_TEXT);
        // Checked by hand once: names must not change from version to version.
        assert_eq!(fnv(b"foobar"), 0x8594_4171 ^ 0xf739_67e8);
    }
}
