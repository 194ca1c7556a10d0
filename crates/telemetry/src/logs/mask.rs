//! Masks what differs from line to line and says nothing of the kind of line: numbers, addresses, identifiers, paths.

/// A number, with its unit if it has one; dates and times of day too.
pub const NUMBER: &str = "<num>";
/// An IPv4 address, with its port if it has one, or an IPv6 address.
pub const ADDRESS: &str = "<ip>";
/// `0x…`, or eight and more hexadecimal digits, letters among them.
pub const HEX: &str = "<hex>";
/// A UUID (RFC 9562).
pub const UUID: &str = "<uuid>";
/// From a `/` to the end of the path, the query included; of a URL everything after the scheme's colon.
pub const PATH: &str = "<path>";
/// What differed between the lines of a template.
pub const WILDCARD: &str = "<*>";
/// All of them.
pub const ALL: [&str; 6] = [NUMBER, ADDRESS, HEX, UUID, PATH, WILDCARD];

/// Finds a thing at the beginning of the bytes and says how long it is. All that they find is ASCII.
type Recogniser = fn(&[u8]) -> Option<usize>;

/// In the order in which they are tried: what is more particular comes first.
const RECOGNISERS: [(Recogniser, &str); 6] =
    [(uuid, UUID), (ipv4, ADDRESS), (ipv6, ADDRESS), (hex, HEX), (path, PATH), (number, NUMBER)];

/// `text` with every number, address, identifier and path replaced by its mask. A thing is only masked where it stands for
/// itself: `worker7` and `user_1` stay as they are.
#[must_use]
pub fn mask(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut masked = String::with_capacity(text.len());
    let mut in_word = false;
    let mut at = 0;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let found = if in_word { None } else { recognised(&bytes[at..]) };
        if let Some((length, mask)) = found {
            masked.push_str(mask);
            at += length;
        } else {
            masked.push(c);
            in_word = c.is_alphanumeric() || c == '_';
            at += c.len_utf8();
        }
    }
    masked
}

fn recognised(bytes: &[u8]) -> Option<(usize, &'static str)> {
    // Most characters begin nothing.
    if !matches!(bytes.first()?, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' | b'+' | b'-' | b'/' | b':') {
        return None;
    }
    RECOGNISERS.iter().find_map(|(find, mask)| find(bytes).map(|length| (length, *mask)))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// The length, if what stands there ends there.
fn ended(bytes: &[u8], length: usize) -> Option<usize> {
    (!bytes.get(length).is_some_and(|next| is_word(*next))).then_some(length)
}

fn run(bytes: &[u8], of: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| of(**byte)).count()
}

fn uuid(bytes: &[u8]) -> Option<usize> {
    const LENGTH: usize = 36;
    let candidate = bytes.get(..LENGTH)?;
    let fits = |(i, byte): (usize, &u8)| match i {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    candidate.iter().enumerate().all(fits).then_some(LENGTH).and_then(|length| ended(bytes, length))
}

fn ipv4(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    for part in 0..4 {
        if part > 0 {
            (bytes.get(length) == Some(&b'.')).then_some(())?;
            length += 1;
        }
        let digits = run(&bytes[length..], |b| b.is_ascii_digit());
        (1..=3).contains(&digits).then_some(())?;
        length += digits;
    }
    if bytes.get(length) == Some(&b':') {
        let port = run(&bytes[length + 1..], |b| b.is_ascii_digit());
        if let (1..=5, Some(length)) = (port, ended(bytes, length + 1 + port)) {
            return Some(length);
        }
    }
    // A fifth part makes it something else, a version perhaps.
    let goes_on = bytes.get(length) == Some(&b'.') && bytes.get(length + 1).is_some_and(u8::is_ascii_digit);
    ended(bytes, length).filter(|_| !goes_on)
}

fn ipv6(bytes: &[u8]) -> Option<usize> {
    let length = run(bytes, |b| b.is_ascii_hexdigit() || b == b':');
    let candidate = &bytes[..length];
    let colons = candidate.iter().filter(|b| **b == b':').count();
    let shortened = candidate.windows(2).any(|pair| pair == b"::");
    let groups = candidate.split(|b| *b == b':').all(|group| group.len() <= 4);
    let digits = candidate.iter().any(u8::is_ascii_hexdigit);
    let fits = digits && groups && ((shortened && colons <= 7) || colons == 7);
    fits.then_some(length).and_then(|length| ended(bytes, length))
}

fn hex(bytes: &[u8]) -> Option<usize> {
    const SHORTEST: usize = 8;
    if let [b'0', b'x' | b'X', rest @ ..] = bytes {
        let digits = run(rest, |b| b.is_ascii_hexdigit());
        return (digits > 0).then_some(digits + 2).and_then(|length| ended(bytes, length));
    }
    let length = run(bytes, |b| b.is_ascii_hexdigit());
    let candidate = &bytes[..length];
    let mixed = candidate.iter().any(u8::is_ascii_digit) && candidate.iter().any(u8::is_ascii_alphabetic);
    (length >= SHORTEST && mixed).then_some(length).and_then(|length| ended(bytes, length))
}

fn path(bytes: &[u8]) -> Option<usize> {
    (bytes.first() == Some(&b'/')).then_some(())?;
    let of_path = |b: u8| b.is_ascii_alphanumeric() || b"/._~%+@=&?*$!-:#".contains(&b) || !b.is_ascii();
    let length = run(bytes, of_path);
    // The end of a sentence is not the path's. A path of other than ASCII characters ends at one of them, whole.
    let told = length - bytes[..length].iter().rev().take_while(|b| b".:?!".contains(b)).count();
    (told > 1 || bytes.get(1).is_none_or(|next| !is_word(*next))).then_some(told.max(1))
}

fn number(bytes: &[u8]) -> Option<usize> {
    const LONGEST_UNIT: usize = 3;
    let mut length = usize::from(matches!(bytes.first()?, b'+' | b'-'));
    let first = length;
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    while let Some(byte) = bytes.get(length) {
        let joins = length > first && b".,:/-T".contains(byte) && digit(length + 1);
        if !byte.is_ascii_digit() && !joins {
            break;
        }
        length += 1;
    }
    (length > first).then_some(())?;
    if bytes.get(length) == Some(&b'%') {
        return Some(length + 1);
    }
    let unit = run(&bytes[length..], |b| b.is_ascii_alphabetic());
    let with_unit = (unit <= LONGEST_UNIT).then_some(length + unit);
    with_unit.and_then(|length| ended(bytes, length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_differs_from_line_to_line_is_masked() {
        for (text, masked) in [
            ("connect to 10.0.0.1:5432 failed", "connect to <ip> failed"),
            ("from ::1 and fe80::1ff:fe23:4567:890a", "from <ip> and <ip>"),
            ("2001:0db8:0000:0000:0000:ff00:0042:8329", "<ip>"),
            ("took 12ms, 3.5MB of 85%", "took <num>, <num> of <num>"),
            ("at 12:30:45.123 on 2026-11-21T22:59:14Z", "at <num> on <num>"),
            ("1234#1234: *5 connect()", "<num>#<num>: *<num> connect()"),
            ("0xdeadBEEF d41d8cd98f00b204", "<hex> <hex>"),
            ("id 123e4567-e89b-12d3-a456-426614174000.", "id <uuid>."),
            ("open() \"/var/www/x.html\" failed", "open() \"<path>\" failed"),
            ("\"GET /a?b=1 HTTP/1.1\"", "\"GET <path> HTTP/<num>\""),
            ("\"GET / HTTP/1.1\"", "\"GET <path> HTTP/<num>\""),
            ("can't read /etc/x.conf: denied", "can't read <path>: denied"),
            ("upstream: \"http://10.0.0.2:80/a\", host", "upstream: \"http:<path>\", host"),
            ("worker7 and/or user_1 of rev2a", "worker7 and/or user_1 of rev2a"),
            ("a deadbeef feedface beaded decade", "a deadbeef feedface beaded decade"),
            ("version 1.2.3.4.5 of -17", "version <num> of <num>"),
            ("foo-5 12abcd x", "foo-<num> 12abcd x"),
        ] {
            assert_eq!(mask(text), masked, "{text}");
        }
    }

    proptest! {
        #[test]
        fn anything_can_be_masked_and_masks_stay(text in "\\PC{0,200}") {
            let once = mask(&text);
            prop_assert_eq!(mask(&once), once.clone());
        }

        #[test]
        fn two_numbers_look_alike(a: i64, b: u32) {
            prop_assert_eq!(mask(&format!("took {a} ms")), mask(&format!("took {b} ms")));
        }
    }
}
