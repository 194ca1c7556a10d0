use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
};

use super::{
    ExposedSample, Exposition, ExpositionError, FamilyType, Format, Limits, LineError, MetricFamily,
    line::{self, Fault, Line},
};

/// Reads a body. Never panics, whatever the bytes.
///
/// # Errors
/// [`ExpositionError`] when the body passes a limit, is broken throughout, or was cut off. Single broken lines are no
/// error: see [`Exposition::first_error`].
pub fn parse(body: &[u8], format: Format, limits: &Limits) -> Result<Exposition, ExpositionError> {
    let mut reader = Reader::default();
    let mut ended = false;
    let mut number = 0;
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    for raw in body.split(|byte| *byte == b'\n') {
        number += 1;
        if number > limits.max_lines {
            return Err(ExpositionError::TooMuch { what: "lines", bound: limits.max_lines, line: number });
        }
        let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
        let outcome = text_of(raw, limits).and_then(|text| {
            if ended && !text.is_empty() {
                return Err((text, fault("there is text after `# EOF`", "let `# EOF` be the last line")));
            }
            let line = line::read(text, format).map_err(|fault| (text, fault))?;
            ended |= line == Line::Eof;
            reader.take(line).map_err(|fault| (text, fault))
        });
        if let Err((text, fault)) = outcome {
            reader.broken(number, text, fault, limits)?;
        }
        if reader.samples > limits.max_samples {
            return Err(ExpositionError::TooMuch {
                what: "samples",
                bound: limits.max_samples,
                line: number,
            });
        }
    }
    if format == Format::OpenMetrics && !ended {
        return Err(ExpositionError::CutOff { line: number });
    }
    Ok(reader.out)
}

fn fault(problem: impl Into<String>, remedy: &'static str) -> Fault {
    Fault { at: 0, problem: problem.into(), remedy }
}

fn text_of<'a>(raw: &'a [u8], limits: &Limits) -> Result<&'a str, (&'a str, Fault)> {
    if raw.len() > limits.max_line_bytes {
        let problem = format!("the line is longer than {} bytes", limits.max_line_bytes);
        return Err(("", fault(problem, "shorten labels and help texts")));
    }
    std::str::from_utf8(raw).map_err(|error| {
        let sound = std::str::from_utf8(&raw[..error.valid_up_to()]).unwrap_or_default();
        let problem = "the line is not UTF-8".into();
        (sound, Fault { at: sound.len(), problem, remedy: "expose UTF-8 only" })
    })
}

#[derive(Default)]
struct Reader {
    out: Exposition,
    samples: usize,
    by_name: HashMap<String, usize>,
    /// Hashes of series already seen, under a key an exporter can't know.
    seen: HashSet<u64>,
    hasher: RandomState,
}

impl Reader {
    fn take(&mut self, line: Line) -> Result<(), Fault> {
        match line {
            Line::Nothing | Line::Eof => {}
            Line::Help { name, text } => self.family(&name).help = Some(text),
            Line::Unit { name, unit } => self.family(&name).unit = Some(unit).filter(|unit| !unit.is_empty()),
            Line::Type { name, family_type } => {
                let family = self.family(&name);
                if !family.samples.is_empty() {
                    return Err(fault(
                        format!("the type of `{name}` comes after its samples"),
                        "put `# TYPE` before the first sample of the family",
                    ));
                }
                family.family_type = family_type;
            }
            Line::Sample(sample) => {
                let series = self.hasher.hash_one((&sample.name, &sample.labels, sample.timestamp_ms));
                if !self.seen.insert(series) {
                    return Err(fault(
                        format!("`{}` is there twice with the same labels", sample.name),
                        "expose each series once",
                    ));
                }
                self.samples += 1;
                let family = self.family_of(&sample);
                family.samples.push(sample);
            }
        }
        Ok(())
    }

    fn broken(
        &mut self,
        line: usize,
        text: &str,
        fault: Fault,
        limits: &Limits,
    ) -> Result<(), ExpositionError> {
        let column = text.get(..fault.at).map_or(1, |before| before.chars().count() + 1);
        let error = LineError { line, column, problem: fault.problem, remedy: fault.remedy };
        let first = self.out.first_error.get_or_insert(error).clone();
        self.out.broken_lines += 1;
        if self.out.broken_lines > limits.max_broken_lines {
            return Err(ExpositionError::TooBroken { bound: limits.max_broken_lines, first });
        }
        Ok(())
    }

    fn family(&mut self, name: &str) -> &mut MetricFamily {
        let index = self.by_name.get(name).copied().unwrap_or_else(|| {
            self.out.families.push(MetricFamily {
                name: name.to_owned(),
                family_type: FamilyType::Unknown,
                unit: None,
                help: None,
                samples: Vec::new(),
            });
            self.by_name.insert(name.to_owned(), self.out.families.len() - 1);
            self.out.families.len() - 1
        });
        &mut self.out.families[index]
    }

    /// The family of that very name, or the one whose type gives the suffix a meaning, or a new one.
    fn family_of(&mut self, sample: &ExposedSample) -> &mut MetricFamily {
        let known = self.by_name.get(sample.name.as_str()).copied().or_else(|| {
            let (stem, suffix) = sample.name.rsplit_once('_')?;
            let index = *self.by_name.get(stem)?;
            suffixes(self.out.families[index].family_type).contains(&suffix).then_some(index)
        });
        match known {
            Some(index) => &mut self.out.families[index],
            None => self.family(&sample.name),
        }
    }
}

fn suffixes(family_type: FamilyType) -> &'static [&'static str] {
    match family_type {
        FamilyType::Counter => &["total", "created"],
        FamilyType::Histogram => &["bucket", "count", "sum", "created"],
        FamilyType::GaugeHistogram => &["bucket", "gcount", "gsum"],
        FamilyType::Summary => &["count", "sum", "created"],
        FamilyType::Info => &["info"],
        FamilyType::Gauge | FamilyType::StateSet | FamilyType::Unknown => &[],
    }
}
