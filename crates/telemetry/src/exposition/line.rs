//! One line at a time: no line depends on another here.

use super::{ExposedSample, FamilyType, Format};

/// A line, understood.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    Nothing,
    Eof,
    Help { name: String, text: String },
    Type { name: String, family_type: FamilyType },
    Unit { name: String, unit: String },
    Sample(ExposedSample),
}

/// What is wrong in a line; `at` is a byte offset in it.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) problem: String,
    pub(super) remedy: &'static str,
}

type Read<T> = Result<T, Fault>;

pub(super) fn read(text: &str, format: Format) -> Read<Line> {
    let mut cursor = Cursor { text, at: 0 };
    cursor.skip_blanks();
    match cursor.peek() {
        None => Ok(Line::Nothing),
        Some('#') => {
            cursor.advance('#');
            comment(&mut cursor, format)
        }
        Some(_) => sample(&mut cursor, format).map(Line::Sample),
    }
}

fn comment(cursor: &mut Cursor<'_>, format: Format) -> Read<Line> {
    cursor.skip_blanks();
    match cursor.word() {
        "EOF" if format == Format::OpenMetrics => {
            cursor.end("nothing may follow `# EOF` on its line")?;
            Ok(Line::Eof)
        }
        "HELP" => {
            let name = cursor.metric_name_after_blank()?;
            cursor.skip_blanks();
            let text = unescape(cursor.rest(), format == Format::OpenMetrics);
            Ok(Line::Help { name, text })
        }
        "TYPE" => {
            let name = cursor.metric_name_after_blank()?;
            cursor.skip_blanks();
            let at = cursor.at;
            let word = cursor.word();
            let family_type = family_type(word).ok_or_else(|| Fault {
                at,
                problem: format!("`{}` is not a metric type", shown(word)),
                remedy: "use counter, gauge, histogram, summary, unknown or untyped (OpenMetrics also info, stateset, gaugehistogram)",
            })?;
            cursor.end("nothing may follow the type")?;
            Ok(Line::Type { name, family_type })
        }
        "UNIT" if format == Format::OpenMetrics => {
            let name = cursor.metric_name_after_blank()?;
            cursor.skip_blanks();
            let unit = cursor.word().to_owned();
            cursor.end("nothing may follow the unit")?;
            Ok(Line::Unit { name, unit })
        }
        _ => Ok(Line::Nothing),
    }
}

fn family_type(word: &str) -> Option<FamilyType> {
    Some(match word {
        "counter" => FamilyType::Counter,
        "gauge" => FamilyType::Gauge,
        "histogram" => FamilyType::Histogram,
        "gaugehistogram" => FamilyType::GaugeHistogram,
        "summary" => FamilyType::Summary,
        "info" => FamilyType::Info,
        "stateset" => FamilyType::StateSet,
        "unknown" | "untyped" => FamilyType::Unknown,
        _ => return None,
    })
}

fn sample(cursor: &mut Cursor<'_>, format: Format) -> Read<ExposedSample> {
    let name = cursor.metric_name()?;
    cursor.skip_blanks();
    let labels = if cursor.peek() == Some('{') { labels(cursor)? } else { Vec::new() };
    cursor.skip_blanks();
    let value = cursor.number("a value")?;
    cursor.skip_blanks();
    let timestamp_ms = match cursor.peek() {
        None | Some('#') => None,
        Some(_) => Some(timestamp(cursor, format)?),
    };
    cursor.skip_blanks();
    if format == Format::OpenMetrics && cursor.peek() == Some('#') {
        exemplar(cursor)?;
    }
    cursor.end("a line holds a name, labels, a value and at most a timestamp")?;
    Ok(ExposedSample { name, labels, value, timestamp_ms })
}

/// Read for its form alone: what traces it points at is of no use to windows.
fn exemplar(cursor: &mut Cursor<'_>) -> Read<()> {
    cursor.advance('#');
    cursor.skip_blanks();
    if cursor.peek() != Some('{') {
        return Err(cursor.fault("an exemplar begins with labels", "write `# {trace_id=\"…\"} value`"));
    }
    labels(cursor)?;
    cursor.skip_blanks();
    cursor.number("the exemplar's value")?;
    cursor.skip_blanks();
    if cursor.peek().is_some() {
        cursor.number("the exemplar's timestamp")?;
    }
    cursor.skip_blanks();
    Ok(())
}

fn timestamp(cursor: &mut Cursor<'_>, format: Format) -> Read<i64> {
    let at = cursor.at;
    match format {
        Format::Text => {
            let word = cursor.word();
            word.parse().map_err(|_| Fault {
                at,
                problem: format!("`{}` is not a timestamp", shown(word)),
                remedy: "give whole milliseconds since 1970, or leave it out",
            })
        }
        Format::OpenMetrics => {
            let seconds = cursor.number("a timestamp")?;
            let ms = seconds * 1_000.0;
            // Within the integers that a float holds exactly, which is far beyond every real time.
            if ms.abs() < 9.0e15 {
                Ok(ms.round() as i64)
            } else {
                Err(Fault {
                    at,
                    problem: "the timestamp is out of range".into(),
                    remedy: "give seconds since 1970, or leave it out",
                })
            }
        }
    }
}

fn labels(cursor: &mut Cursor<'_>) -> Read<Vec<(String, String)>> {
    cursor.advance('{');
    let mut labels: Vec<(String, String)> = Vec::new();
    let mut places = Vec::new();
    loop {
        cursor.skip_blanks();
        if cursor.advance('}') {
            break;
        }
        let at = cursor.at;
        let name = cursor.label_name()?;
        cursor.skip_blanks();
        if !cursor.advance('=') {
            return Err(cursor.fault("`=` is missing after the label's name", "write `name=\"value\"`"));
        }
        cursor.skip_blanks();
        let value = cursor.quoted()?;
        labels.push((name, value));
        places.push(at);
        cursor.skip_blanks();
        if !cursor.advance(',') && cursor.peek() != Some('}') {
            return Err(
                cursor.fault("the labels are not closed", "separate labels by `,` and end them with `}`")
            );
        }
    }
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|&a, &b| labels[a].0.cmp(&labels[b].0));
    if let Some(pair) = order.windows(2).find(|pair| labels[pair[0]].0 == labels[pair[1]].0) {
        return Err(Fault {
            at: places[pair[1]],
            problem: format!("label `{}` is there twice", shown(&labels[pair[1]].0)),
            remedy: "give each label once",
        });
    }
    labels.sort_unstable();
    Ok(labels)
}

fn unescape(text: &str, quotes_too: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('\\') => out.push('\\'),
            Some('"') if quotes_too => out.push('"'),
            // Neither specification gives other escapes a meaning; both characters are kept.
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

/// At most 40 characters of what a cell sent, for error messages.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

struct Cursor<'a> {
    text: &'a str,
    /// Always on a character boundary.
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn advance(&mut self, expected: char) -> bool {
        let there = self.peek() == Some(expected);
        if there {
            self.at += expected.len_utf8();
        }
        there
    }

    fn take_while(&mut self, mut belongs: impl FnMut(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn skip_blanks(&mut self) {
        self.take_while(|c| matches!(c, ' ' | '\t'));
    }

    fn word(&mut self) -> &'a str {
        self.take_while(|c| !matches!(c, ' ' | '\t'))
    }

    fn fault(&self, problem: impl Into<String>, remedy: &'static str) -> Fault {
        Fault { at: self.at, problem: problem.into(), remedy }
    }

    fn end(&mut self, remedy: &'static str) -> Read<()> {
        self.skip_blanks();
        match self.rest() {
            "" => Ok(()),
            rest => Err(self.fault(format!("unexpected `{}`", shown(rest)), remedy)),
        }
    }

    fn metric_name_after_blank(&mut self) -> Read<String> {
        self.skip_blanks();
        self.metric_name()
    }

    fn metric_name(&mut self) -> Read<String> {
        self.name(
            true,
            "a metric's name begins with a letter, `_` or `:` and holds letters, digits, `_` and `:`",
        )
    }

    fn label_name(&mut self) -> Read<String> {
        self.name(false, "a label's name begins with a letter or `_` and holds letters, digits and `_`")
    }

    fn name(&mut self, colons: bool, remedy: &'static str) -> Read<String> {
        let mut first = true;
        let name = self.take_while(|c| {
            let digit = c.is_ascii_digit() && !std::mem::take(&mut first);
            first = false;
            c.is_ascii_alphabetic() || c == '_' || (c == ':' && colons) || digit
        });
        if !name.is_empty() {
            return Ok(name.to_owned());
        }
        Err(match self.peek() {
            Some(c) => self.fault(format!("a name can't begin with `{c}`"), remedy),
            None => self.fault("the line ends where a name should be", remedy),
        })
    }

    fn number(&mut self, what: &'static str) -> Read<f64> {
        let at = self.at;
        let word = self.word();
        word.parse().map_err(|_| Fault {
            at,
            problem: if word.is_empty() {
                format!("{what} is missing")
            } else {
                format!("`{}` is not a number", shown(word))
            },
            remedy: "write a decimal number, NaN, +Inf or -Inf",
        })
    }

    fn quoted(&mut self) -> Read<String> {
        if !self.advance('"') {
            return Err(self.fault("a label's value must stand in double quotes", "write `name=\"value\"`"));
        }
        let mut escaped = false;
        let inner = self.take_while(|c| {
            let belongs = escaped || c != '"';
            escaped = !escaped && c == '\\';
            belongs
        });
        if !self.advance('"') {
            return Err(self.fault(
                "the label's value is not closed",
                "end it with `\"`, and escape `\"` in it by `\\`",
            ));
        }
        Ok(unescape(inner, true))
    }
}
