//! The corpus as Parquet: three tables, long format, readable by everything.
//!
//! | table | a row is | sorted by |
//! |---|---|---|
//! | `episodes.parquet` | an episode: what was meant, what became of it | `id` |
//! | `series.parquet` | a metric of an episode: family, kind, unit, limit | `episode`, `metric` |
//! | `samples.parquet` | a value of a metric at a step; a step without a row is a gap | `episode`, `metric`, `step` |

mod column;

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    episode::Recording,
    sample::{Series, from_labels, labels},
    spec::{self, EpisodeSpec},
};
use column::{Column, read, save};

/// How a corpus was recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) seed: u64,
    pub(crate) reduced: bool,
    /// Episodes at once.
    pub(crate) jobs: u8,
    pub(crate) took_s: f64,
    pub(crate) versions: Vec<String>,
    pub(crate) cores: u32,
}

/// A corpus as read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Corpus {
    pub(crate) about: About,
    pub(crate) recordings: Vec<Recording>,
}

const EPISODES: &str = "episodes.parquet";
const SERIES: &str = "series.parquet";
const SAMPLES: &str = "samples.parquet";

/// The files of a corpus.
pub(crate) const FILES: [&str; 3] = [EPISODES, SERIES, SAMPLES];

/// Writes a corpus; what was there under the same names is replaced.
///
/// # Errors
/// When the folder can't be written.
pub(crate) fn write(folder: &Path, recordings: &[Recording], about: &About) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    let about = serde_json::to_string(about)?;
    save(&folder.join(EPISODES), episodes(recordings)?, Some(&about))?;
    let all = || recordings.iter().flat_map(|r| r.series.iter().map(move |s| (r.spec.id.cast_signed(), s)));
    let text = |of: fn(&Series) -> String| Column::Text(all().map(|(_, s)| of(s)).collect());
    let series = vec![
        ("episode", Column::Int(all().map(|(id, _)| id).collect())),
        ("metric", text(|s| s.spec.name.as_str().to_owned())),
        ("family", text(|s| labels(&s.spec).0)),
        ("kind", text(|s| labels(&s.spec).1)),
        ("unit", text(|s| s.spec.unit.clone())),
        ("limit", Column::MaybeDouble(all().map(|(_, s)| s.spec.limit).collect())),
        ("counter", Column::Bool(all().map(|(_, s)| s.spec.counter).collect())),
    ];
    save(&folder.join(SERIES), series, None)?;
    let values = || all().flat_map(|(id, s)| s.values.iter().map(move |v| (id, s.spec.name.as_str(), *v)));
    let samples = vec![
        ("episode", Column::Int(values().map(|(id, ..)| id).collect())),
        ("metric", Column::Text(values().map(|(_, name, _)| name.to_owned()).collect())),
        ("step", Column::Int(values().map(|(.., (step, _))| step.cast_signed()).collect())),
        ("value", Column::Float(values().map(|(.., (_, value))| value).collect())),
    ];
    save(&folder.join(SAMPLES), samples, None)
}

fn episodes(recordings: &[Recording]) -> Result<Vec<(&'static str, Column)>> {
    let text =
        |of: fn(&EpisodeSpec) -> String| Column::Text(recordings.iter().map(|r| of(&r.spec)).collect());
    let specs: Result<Vec<String>, _> = recordings.iter().map(|r| serde_json::to_string(&r.spec)).collect();
    Ok(vec![
        ("id", Column::Int(recordings.iter().map(|r| r.spec.id.cast_signed()).collect())),
        ("subject", text(|s| spec::name(s.subject))),
        ("class", text(|s| spec::name(s.class()))),
        ("kind", text(|s| spec::name(s.kind))),
        ("group", Column::Int(recordings.iter().map(|r| i32::from(r.spec.group)).collect())),
        ("cpu_scale", Column::MaybeDouble(recordings.iter().map(|r| Some(r.cpu_scale)).collect())),
        ("steps", Column::Int(recordings.iter().map(|r| r.steps.cast_signed()).collect())),
        ("onset_s", Column::MaybeDouble(recordings.iter().map(|r| r.spec.onset_s()).collect())),
        ("failed_s", Column::MaybeDouble(recordings.iter().map(Recording::failed_s).collect())),
        ("spec", Column::Text(specs?)),
        ("trouble", Column::Text(recordings.iter().map(|r| r.trouble.clone().unwrap_or_default()).collect())),
    ])
}

/// Reads a corpus.
///
/// # Errors
/// When a file is missing or is no table of a corpus.
pub(crate) fn load(folder: &Path) -> Result<Corpus> {
    let (mut columns, about) = read(&folder.join(EPISODES))?;
    let about = about.context("episodes.parquet does not tell how it was recorded")?;
    let specs = take(&mut columns, "spec")?.text()?;
    let steps = take(&mut columns, "steps")?.ints()?;
    let scales = take(&mut columns, "cpu_scale")?.doubles()?;
    let failed = take(&mut columns, "failed_s")?.doubles()?;
    let trouble = take(&mut columns, "trouble")?.text()?;
    let mut series = read_series(folder)?;
    let mut recordings = Vec::new();
    for ((((spec, scale), steps), failed), trouble) in
        specs.iter().zip(scales).zip(steps).zip(failed).zip(trouble)
    {
        let spec: EpisodeSpec = serde_json::from_str(spec).context("a spec can't be read")?;
        recordings.push(Recording {
            series: series.remove(&spec.id.cast_signed()).unwrap_or_default(),
            spec,
            cpu_scale: scale.context("an episode does not say how its CPU limit was scaled")?,
            steps: u32::try_from(steps)?,
            failed_step: failed.map(|s| (s / crate::outcome::STEP.as_secs_f64()).round() as u32),
            trouble: (!trouble.is_empty()).then_some(trouble),
        });
    }
    Ok(Corpus { about: serde_json::from_str(&about)?, recordings })
}

fn read_series(folder: &Path) -> Result<BTreeMap<i32, Vec<Series>>> {
    let (mut columns, _) = read(&folder.join(SERIES))?;
    let episodes = take(&mut columns, "episode")?.ints()?;
    let names = take(&mut columns, "metric")?.text()?;
    let families = take(&mut columns, "family")?.text()?;
    let kinds = take(&mut columns, "kind")?.text()?;
    let units = take(&mut columns, "unit")?.text()?;
    let limits = take(&mut columns, "limit")?.doubles()?;
    let counters = take(&mut columns, "counter")?.bools()?;
    let (mut columns, _) = read(&folder.join(SAMPLES))?;
    let of = take(&mut columns, "episode")?.ints()?;
    let metrics = take(&mut columns, "metric")?.text()?;
    let steps = take(&mut columns, "step")?.ints()?;
    let values = take(&mut columns, "value")?.floats()?;
    let mut at = 0;
    let mut all: BTreeMap<i32, Vec<Series>> = BTreeMap::new();
    for n in 0..episodes.len() {
        let spec = from_labels(&names[n], &families[n], &kinds[n], &units[n], limits[n], counters[n])?;
        let mut series = Series { spec, values: Vec::new() };
        // Both tables are sorted alike.
        while at < of.len() && of[at] == episodes[n] && metrics[at] == names[n] {
            series.values.push((u32::try_from(steps[at])?, values[at]));
            at += 1;
        }
        all.entry(episodes[n]).or_default().push(series);
    }
    ensure!(at == of.len(), "samples.parquet has values of metrics that series.parquet does not name");
    Ok(all)
}

fn take(columns: &mut BTreeMap<String, Column>, name: &str) -> Result<Column> {
    columns.remove(name).with_context(|| format!("there is no column {name}"))
}

#[cfg(test)]
mod tests {
    use forefend_domain::Family;

    use super::*;
    use crate::subject::{full, total};

    #[test]
    fn a_corpus_that_is_written_and_read_is_the_same() {
        let specs = spec::reduced(1, 1);
        let series = |number: u32| {
            let values = (0..50).map(|step| (step * 2, (step * number) as f32)).collect();
            let (with_limit, _) = full("memory_working_set_bytes", "bytes", 0.0, Some(64.0));
            let (counter, _) = total("requests_total", Family::Traffic, 0.0);
            vec![Series { spec: with_limit, values }, Series { spec: counter, values: vec![(7, 1.5)] }]
        };
        let recordings: Vec<Recording> = (0u32..)
            .zip(&specs)
            .map(|(n, spec)| Recording {
                spec: spec.clone(),
                cpu_scale: 1.5,
                steps: 100,
                failed_step: (n % 2 == 0).then_some(n),
                series: series(n),
                trouble: (n % 3 == 0).then(|| "refused".to_owned()),
            })
            .collect();
        let about =
            About { seed: 1, reduced: true, jobs: 2, took_s: 3.5, versions: vec!["x 1".into()], cores: 2 };
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), &recordings, &about).expect("written");
        assert_eq!(load(folder.path()).expect("read"), Corpus { about, recordings });
    }

    #[test]
    fn the_recorded_corpus_is_whole_and_of_these_recipes() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/corpus");
        let corpus = load(&folder).expect("read");
        let specs: Vec<&EpisodeSpec> = corpus.recordings.iter().map(|r| &r.spec).collect();
        let drawn = spec::all(corpus.about.seed);
        assert_eq!(specs, drawn.iter().collect::<Vec<_>>(), "who changes recipes records anew");
        for recording in &corpus.recordings {
            assert!(recording.steps > 0 && !recording.series.is_empty(), "{}", recording.spec.id);
        }
        let meant = corpus.recordings.iter().filter(|r| r.is_as_meant()).count();
        assert!(meant * 100 >= 98 * drawn.len(), "{meant} of {} are as meant", drawn.len());
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(load(folder.path()).expect_err("nothing there").to_string().contains(EPISODES));
    }
}
