//! What a line says of itself: its severity, and the message without the time, the process and the severity before it.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{Severity, header};

/// A line, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// How bad it is, if it says so in a form that is known.
    pub severity: Option<Severity>,
    /// What it says.
    pub text: Cow<'a, str>,
    /// Whether it goes on with the line before: indented, as stack traces and statements of PostgreSQL are.
    pub continues: bool,
}

/// Takes a line apart. Pure; never fails: what is not recognised is the message.
///
/// Known are, in this order: JSON objects, syslog with `<pri>` (RFC 3164 and 5424), Redis, glog, then whatever begins
/// with a time and a severity, and logfmt (`level=… msg=…`).
#[must_use]
pub fn read<'a>(line: &'a str) -> Message<'a> {
    let continues = line.starts_with([' ', '\t']);
    let line = line.trim();
    let plain = |severity, text: Cow<'a, str>| {
        // What holds nothing but a header is told whole.
        let text = if text.trim().is_empty() { Cow::Borrowed(line) } else { text };
        Message { severity, text, continues: false }
    };
    if continues {
        return Message { severity: None, text: Cow::Borrowed(line), continues };
    }
    if let Some((severity, text)) = json(line) {
        return plain(severity, text.map_or(Cow::Borrowed(line), Cow::Owned));
    }
    let (told, rest) = header::syslog(line).map_or((None, line), |(severity, rest)| (Some(severity), rest));
    if let Some((severity, text)) = header::redis(rest).or_else(|| header::glog(rest)) {
        return plain(told.or(Some(severity)), Cow::Borrowed(text));
    }
    let rest = header::without_time(rest);
    if let Some((severity, text)) = logfmt(rest) {
        return plain(told.or(Some(severity)), text.unwrap_or(Cow::Borrowed(rest)));
    }
    let (found, text) = header::severity(rest);
    plain(told.or(found), Cow::Borrowed(text))
}

/// Keys under which programs tell the severity and the message.
const LEVELS: [&str; 6] = ["level", "severity", "lvl", "levelname", "log.level", "loglevel"];
const MESSAGES: [&str; 4] = ["msg", "message", "event", "log"];

/// The severity and the message of a JSON object; `None`: it is none.
fn json(line: &str) -> Option<(Option<Severity>, Option<String>)> {
    if !(line.starts_with('{') && line.ends_with('}')) {
        return None;
    }
    let object: Map<String, Value> = serde_json::from_str(line).ok()?;
    let severity = LEVELS.iter().find_map(|key| match object.get(*key)? {
        Value::String(word) => Severity::of_word(word),
        Value::Number(number) => Severity::of_tens(number.as_u64()?),
        _ => None,
    });
    let text = MESSAGES.iter().find_map(|key| object.get(*key)?.as_str());
    Some((severity, text.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))))
}

/// The severity and the message of `key=value` pairs; `None`: there is no severity among them.
fn logfmt(line: &str) -> Option<(Severity, Option<Cow<'_, str>>)> {
    let value_of = |key: &str| {
        let starts = |at: usize| at == 0 || line.as_bytes().get(at - 1).is_some_and(u8::is_ascii_whitespace);
        let (at, _) = line
            .match_indices(key)
            .find(|(at, _)| starts(*at) && line.as_bytes().get(at + key.len()) == Some(&b'='))?;
        let value = &line[at + key.len() + 1..];
        match value.strip_prefix('"') {
            Some(quoted) => Some(&quoted[..end_of_quoted(quoted)]),
            None => value.split_whitespace().next(),
        }
    };
    let severity = LEVELS.iter().find_map(|key| Severity::of_word(value_of(key)?))?;
    let text = MESSAGES.iter().find_map(|key| value_of(key)).filter(|text| !text.is_empty());
    Some((severity, text.map(Cow::Borrowed)))
}

/// Where the quote ends, behind which an escaped one does not count.
fn end_of_quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return at,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_as(line: &str) -> (Option<Severity>, String) {
        let message = read(line);
        (message.severity, message.text.into_owned())
    }

    #[test]
    fn the_forms_of_common_programs_are_known() {
        use Severity::{Critical, Debug, Error, Info, Warning};
        for (line, severity, text) in [
            (
                "2026/11/21 22:59:14 [error] 1234#1234: *5 connect() failed (111: Connection refused)",
                Some(Error),
                "connect() failed (111: Connection refused)",
            ),
            ("2026/11/21 22:59:14 [notice] 17#17: exiting", Some(Info), "exiting"),
            (
                "2026-11-21 22:59:14.123 UTC [1234] LOG:  checkpoint starting: time",
                Some(Info),
                "checkpoint starting: time",
            ),
            (
                "2026-11-21 22:59:14.123 UTC [1234] FATAL:  too many connections",
                Some(Critical),
                "too many connections",
            ),
            (
                "2026-11-21 22:59:14.123 UTC [99] app@shop ERROR:  relation \"x\" does not exist",
                Some(Error),
                "app@shop ERROR:  relation \"x\" does not exist",
            ),
            ("1234:M 21 Nov 2026 22:59:14.123 # Out of memory", Some(Warning), "Out of memory"),
            ("1234:C 21 Nov 2026 22:59:14.123 * Ready", Some(Info), "Ready"),
            ("<34>Oct 11 22:14:15 mymachine su: 'su root' failed", Some(Critical), "su: 'su root' failed"),
            ("Oct 11 22:14:15 host sshd[123]: error: no key", Some(Error), "sshd[123]: error: no key"),
            ("<165>1 2026-10-11T22:14:15.003Z host app 12 ID47 - hello", Some(Info), "hello"),
            ("E1121 22:59:14.123456    1234 server.go:12] it broke", Some(Error), "it broke"),
            ("{\"level\":\"warn\",\"msg\":\"slow  query\",\"ms\":12}", Some(Warning), "slow query"),
            ("{\"level\":50,\"time\":1,\"msg\":\"x\"}", Some(Error), "x"),
            ("{\"a\":1}", None, "{\"a\":1}"),
            (
                "time=2026-11-21T22:59:14Z level=error msg=\"it \\\"broke\\\"\" n=1",
                Some(Error),
                "it \\\"broke\\\"",
            ),
            ("22:59:14.123 [main] WARN  c.e.Foo - slow", Some(Warning), "[main] WARN  c.e.Foo - slow"),
            ("ERROR: out of disk", Some(Error), "out of disk"),
            ("DEBUG it works", Some(Debug), "it works"),
            ("2026-11-21 22:59:14,123 - app - ERROR - broken", Some(Error), "- app - ERROR - broken"),
            ("no error here", None, "no error here"),
            ("an Error was found", None, "an Error was found"),
            ("2026-11-21T22:59:14Z", None, "2026-11-21T22:59:14Z"),
            ("[   12.345678] eth0: link down", None, "eth0: link down"),
            ("10.0.0.1:5432 refused", None, "10.0.0.1:5432 refused"),
            ("500 internal things", None, "500 internal things"),
        ] {
            assert_eq!(read_as(line), (severity, text.to_owned()), "{line}");
        }
        assert!(read("\tat com.example.Foo(Foo.java:12)").continues);
    }

    proptest! {
        #[test]
        fn anything_can_be_read(line in "\\PC{0,300}") {
            let message = read(&line);
            prop_assert!(message.text.len() <= line.len());
        }

        #[test]
        fn what_looks_like_a_header_can_be_read(
            line in "(<[0-9]{1,4}>)?(1 )?[\\[({]{0,2}[0-9:/.,T+-]{0,20}( Nov| Sun,| UTC| 21| \\[| E1121| 1:M|\\{\"level\":|level=\"){0,4}[a-zA-Z\\]:#* é\"]{0,30}"
        ) {
            prop_assert!(!read(&line).text.is_empty() || line.trim().is_empty());
        }
    }
}
