//! What stands before the message of a line.

use super::Severity;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const ZONES: [&str; 10] = ["UTC", "GMT", "Z", "CET", "CEST", "EST", "EDT", "PST", "PDT", "MSK"];

/// The first word and what follows it. Empty at the end.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    text.split_at(end)
}

/// `<pri>` and what follows it: for RFC 5424 the message, for RFC 3164 all of it, whose time is not told yet.
pub(super) fn syslog(line: &str) -> Option<(Severity, &str)> {
    let (number, rest) = line.strip_prefix('<')?.split_once('>')?;
    let number: u8 = number.parse().ok().filter(|n| *n <= 191)?;
    let severity = Severity::of_syslog(number % 8)?;
    let Some(rest) = rest.strip_prefix("1 ") else { return Some((severity, rest)) };
    // Time, host, program, process, kind of message.
    let rest = (0..5).fold(rest, |rest, _| word(rest).1).trim_start();
    let message = match rest.strip_prefix('[') {
        Some(data) => data.rsplit_once(']').map_or(rest, |(_, message)| message),
        None => rest.strip_prefix('-').unwrap_or(rest),
    };
    Some((severity, message.trim_start()))
}

/// `PID:ROLE 21 Nov 2026 22:59:14.123 # message`, where one character tells the severity.
pub(super) fn redis(line: &str) -> Option<(Severity, &str)> {
    let (process, rest) = word(line);
    let (pid, role) = process.split_once(':')?;
    let fits = !pid.is_empty()
        && pid.bytes().all(|b| b.is_ascii_digit())
        && role.len() == 1
        && role.bytes().all(|b| b.is_ascii_uppercase());
    let rest = fits.then(|| without_time(rest))?;
    let (mark, message) = word(rest);
    let severity = match mark {
        "." | "-" => Severity::Debug,
        "*" => Severity::Info,
        "#" => Severity::Warning,
        _ => return None,
    };
    Some((severity, message.trim_start()))
}

/// `E1121 22:59:14.123456 1234 server.go:12] message`, as glog and klog write it.
pub(super) fn glog(line: &str) -> Option<(Severity, &str)> {
    let (first, _) = word(line);
    let severity = match first.bytes().next()? {
        b'I' => Severity::Info,
        b'W' => Severity::Warning,
        b'E' => Severity::Error,
        b'F' => Severity::Critical,
        _ => return None,
    };
    let date = first.len() == 5 && first.bytes().skip(1).all(|b| b.is_ascii_digit());
    let (_, message) = line.split_once("] ").filter(|_| date)?;
    Some((severity, message.trim_start()))
}

/// Without the time at its beginning, and without the host that syslog writes behind it; whole where nothing else is left.
pub(super) fn without_time(text: &str) -> &str {
    const MOST_WORDS: usize = 8;
    let mut rest = text.trim_start();
    let mut syslog = false;
    let mut found = false;
    for _ in 0..MOST_WORDS {
        let (raw, after) = word(rest);
        let bare = raw.trim_matches(['[', ']', '(', ')', ',', '|']);
        let next = word(after).0.trim_end_matches(',');
        if is_clock(bare) || (found && is_zone(bare)) {
            rest = after;
        } else if MONTHS.contains(&bare) && is_day(next) {
            (rest, syslog) = (word(after).1, true);
        } else if is_day(bare) && MONTHS.contains(&next) {
            rest = word(after).1;
            let (year, behind) = word(rest);
            if year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit()) {
                rest = behind;
            }
        } else if DAYS.contains(&bare.trim_end_matches(',')) && (MONTHS.contains(&next) || is_day(next)) {
            rest = after;
        } else if let Some(behind) = since_boot(rest).filter(|_| !found) {
            rest = behind;
        } else {
            break;
        }
        found = true;
    }
    if syslog {
        let (_, behind) = word(rest);
        // The host, where a program follows it.
        if word(behind).0.ends_with(':') {
            rest = behind;
        }
    }
    let rest = rest.trim_start();
    if rest.is_empty() { text } else { rest }
}

/// A date, a time of day, or both in one.
fn is_clock(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let joints = word.bytes().filter(|b| b":/-".contains(b)).count();
    let dots = word.bytes().filter(|b| *b == b'.').count();
    word.as_bytes().first().is_some_and(u8::is_ascii_digit)
        && word.bytes().all(|b| b.is_ascii_digit() || b":/-.,TZ+".contains(&b))
        && digits >= 4
        && joints >= 2
        // More are an address with its port.
        && dots <= 1
}

fn is_day(word: &str) -> bool {
    (1..=2).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_digit())
}

fn is_zone(word: &str) -> bool {
    let offset = word.strip_prefix(['+', '-']).is_some_and(|digits| {
        (4..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit() || b == b':')
    });
    offset || ZONES.contains(&word)
}

/// `[   12.345678]`, as the kernel writes it.
fn since_boot(text: &str) -> Option<&str> {
    let (seconds, rest) = text.strip_prefix('[')?.split_once(']')?;
    let seconds = seconds.trim_start();
    let fits = seconds.contains('.') && seconds.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    fits.then_some(rest)
}

/// The severity among the first words, and the message. What stands before the severity goes with it unless it holds a
/// letter; behind it, what only numbers the process, thread or connection goes too.
pub(super) fn severity(text: &str) -> (Option<Severity>, &str) {
    const LOOKED_AT: usize = 8;
    const LOOKED_AT_IN_LOWER_CASE: usize = 4;
    let mut rest = text;
    let mut only_numbers = true;
    for place in 0..LOOKED_AT {
        let (raw, after) = word(rest);
        if raw.is_empty() {
            break;
        }
        let bare = raw.trim_matches(['[', ']', '(', ')', '<', '>', '|', ':', ',', '"', '\'', '-']);
        let shouted = bare.len() > 2 && bare.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        let marked =
            raw.starts_with(['[', '(', '<', '|']) || (raw.ends_with(':') && place < LOOKED_AT_IN_LOWER_CASE);
        let found = match bare {
            "LOG" | "HINT" | "DETAIL" | "STATEMENT" | "CONTEXT" if raw.ends_with(':') => Some(Severity::Info),
            _ if shouted || marked => Severity::of_word(bare),
            _ => None,
        };
        if found.is_some() {
            let message = without_numbers(if only_numbers { after } else { text });
            return (found, if message.is_empty() { text } else { message });
        }
        only_numbers &= !raw.chars().any(char::is_alphabetic);
        rest = after;
    }
    (None, text)
}

/// Without words that only number something: `1234#1234:`, `*5`, `[17]`.
fn without_numbers(text: &str) -> &str {
    const MOST_WORDS: usize = 4;
    let mut rest = text.trim_start();
    for _ in 0..MOST_WORDS {
        let (raw, after) = word(rest);
        let fits = raw.bytes().any(|b| b.is_ascii_digit())
            && raw.bytes().any(|b| b"[]#:*()".contains(&b))
            && raw.bytes().all(|b| b.is_ascii_digit() || b"[]#:*()".contains(&b));
        if !fits {
            break;
        }
        rest = after.trim_start();
    }
    rest
}
