//! The data card: what the corpus holds, how it was made, what it is not, and how the first model does on it.

mod examples;
mod plot;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::{Context, Result};
use forefend_predict::DayZero;

use crate::{
    alarm::{LEAD_S, Model, SHIFT_AT},
    episode::Recording,
    outcome::STEP,
    sample::labels,
    score::{self, median},
    spec::{self, Class, Kind, LoadProfile, Subject},
    table::{self, Corpus},
};

/// Writes `README.md` and its plots beside the tables of a recording.
///
/// # Errors
/// When the recording can't be read or the folder can't be written.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let corpus = table::load(folder)?;
    let put = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))
    };
    put("foreseeable.svg", examples::of(&corpus.recordings, Class::Foreseeable))?;
    put("unforeseeable.svg", examples::of(&corpus.recordings, Class::Unforeseeable))?;
    put("healthy.svg", examples::of(&corpus.recordings, Class::Healthy))?;
    put("failures.svg", failures(&corpus.recordings))?;
    put("README.md", text(&corpus, folder)?)?;
    println!("the card is {}", folder.join("README.md").display());
    Ok(())
}

fn text(corpus: &Corpus, folder: &Path) -> Result<String> {
    let mut text = String::new();
    words::introduction(corpus, size_bytes(folder)?, &mut text);
    kinds(&corpus.recordings, &mut text);
    words::plots(&mut text);
    words::making(&corpus.about, days(&corpus.recordings), &scales(&corpus.recordings), &mut text);
    metrics(&corpus.recordings, &mut text);
    let score = score::score(&corpus.recordings, &Model(DayZero::default()), LEAD_S, SHIFT_AT);
    words::floor(&score.markdown(), &mut text);
    words::limits(&mut text);
    Ok(text)
}

fn size_bytes(folder: &Path) -> Result<u64> {
    table::FILES.iter().map(|name| Ok(fs::metadata(folder.join(name))?.len())).sum()
}

/// The lengths of a day, shortest and longest, in seconds.
fn days(recordings: &[Recording]) -> (f64, f64) {
    let day = |load: &LoadProfile| load.day_s;
    let all = || recordings.iter().map(|r| day(&r.spec.load));
    (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max))
}

/// By how much limits of CPU time were scaled, by server, in the median.
fn scales(recordings: &[Recording]) -> String {
    let mut by_subject: BTreeMap<Subject, Vec<f64>> = BTreeMap::new();
    for recording in recordings {
        by_subject.entry(recording.spec.subject).or_default().push(recording.cpu_scale);
    }
    let told = by_subject
        .into_iter()
        .filter_map(|(subject, scales)| Some(format!("{} × {:.2}", spec::name(subject), median(scales)?)));
    told.collect::<Vec<_>>().join(", ")
}

/// For each kind how many failed, when, and how fast.
fn kinds(recordings: &[Recording], text: &mut String) {
    text.push_str(
        "\n## Kinds\n\n`failed` is judged from what users saw; `as meant` are those that were to fail and did, after they had a reason to, and those that were not and did not. `after onset` is from the cause's beginning to the failure's: \
         median, and from the tenth to the ninetieth percentile.\n\n\
         | class | kind | what happens | servers | episodes | failed | as meant | at (median) | after onset |\n|---|---|---|---|--:|--:|--:|--:|--:|\n",
    );
    for kind in Kind::ALL {
        let all: Vec<&Recording> = recordings.iter().filter(|r| r.spec.kind == kind).collect();
        if all.is_empty() {
            continue;
        }
        let subjects: BTreeSet<String> = all.iter().map(|r| spec::name(r.spec.subject)).collect();
        let failed: Vec<&Recording> = all.iter().copied().filter(|r| r.failed_step.is_some()).collect();
        let meant = || failed.iter().filter(|r| r.is_as_meant());
        let at = median(meant().filter_map(|r| r.failed_s()).collect());
        let mut after: Vec<f64> = meant().filter_map(|r| after_onset(r)).collect();
        after.sort_by(f64::total_cmp);
        let quantile = |q: f64| after.get((q * after.len() as f64) as usize).or(after.last()).copied();
        let spread = match (median(after.clone()), quantile(0.1), quantile(0.9)) {
            (Some(median), Some(low), Some(high)) => format!("{median:.1} s ({low:.1}–{high:.1})"),
            _ => "–".to_owned(),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {spread} |",
            spec::name(kind.class()),
            spec::name(kind),
            kind.about(),
            subjects.into_iter().collect::<Vec<_>>().join(", "),
            all.len(),
            failed.len(),
            all.iter().filter(|r| r.is_as_meant()).count(),
            at.map_or_else(|| "–".to_owned(), |s| format!("{s:.1} s")),
        );
    }
}

fn after_onset(recording: &Recording) -> Option<f64> {
    Some(recording.failed_s()? - recording.spec.onset_s()?)
}

fn failures(recordings: &[Recording]) -> String {
    let strips: Vec<plot::Strip> = Kind::ALL
        .into_iter()
        .filter(|kind| kind.class() != Class::Healthy)
        .map(|kind| {
            let values: Vec<f64> =
                recordings.iter().filter(|r| r.spec.kind == kind).filter_map(after_onset).collect();
            plot::Strip { name: spec::name(kind), median: median(values.clone()), values }
        })
        .collect();
    plot::strips("Seconds from onset to failure, an episode a dot", &strips)
}

/// Every metric: what it is, where it has a limit, in how many episodes it is.
fn metrics(recordings: &[Recording], text: &mut String) {
    type Seen = (String, String, String, bool, bool, BTreeSet<String>, u32);
    let mut all: BTreeMap<&str, Seen> = BTreeMap::new();
    let mut values = 0;
    for recording in recordings {
        for series in &recording.series {
            let (family, kind) = labels(&series.spec);
            let seen = all.entry(series.spec.name.as_str()).or_insert_with(|| {
                (
                    family,
                    kind.clone(),
                    series.spec.unit.clone(),
                    series.spec.counter,
                    false,
                    BTreeSet::new(),
                    0,
                )
            });
            seen.4 |= series.spec.limit.is_some();
            if series.spec.limit.is_some() {
                seen.1 = kind;
            }
            seen.5.insert(spec::name(recording.spec.subject));
            seen.6 += 1;
            values += series.values.len();
        }
    }
    let _ = write!(
        text,
        "\n## Metrics\n\n{} metrics, {values} values, one every {} ms. Totals count from the episode's start; `unit` is that of their rate. \
         Levels are rounded to 14 binary digits.\n\n\
         | metric | family | kind | unit | total | limit | servers | episodes |\n|---|---|---|---|---|---|---|--:|\n",
        all.len(),
        STEP.as_millis()
    );
    for (name, (family, kind, unit, counter, limited, subjects, episodes)) in all {
        let yes = |is: bool| if is { "yes" } else { "" };
        let subjects = if subjects.len() == 4 {
            "all".to_owned()
        } else {
            subjects.into_iter().collect::<Vec<_>>().join(", ")
        };
        let _ = writeln!(
            text,
            "| `{name}` | {family} | {kind} | {unit} | {} | {} | {subjects} | {episodes} |",
            yes(counter),
            yes(limited)
        );
    }
}
