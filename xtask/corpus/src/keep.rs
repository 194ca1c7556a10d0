//! What was recorded is kept at once, episode by episode, until the corpus is whole: a recording that is cut short goes on where it
//! was, and an episode that could not be recorded costs none of the others.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    episode::Recording,
    sample::{Series, from_labels, labels},
    spec::EpisodeSpec,
};

/// Episodes that wait for the rest.
pub(crate) struct Keep {
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    spec: EpisodeSpec,
    cpu_scale: f64,
    steps: u32,
    failed_step: Option<u32>,
    trouble: Option<String>,
    series: Vec<KeptSeries>,
}

#[derive(Serialize, Deserialize)]
struct KeptSeries {
    name: String,
    family: String,
    kind: String,
    unit: String,
    limit: Option<f64>,
    counter: bool,
    values: Vec<(u32, f32)>,
}

impl Keep {
    /// Opens the folder `part` beside what the corpus will be written to.
    ///
    /// # Errors
    /// When it can't be made.
    pub(crate) fn open(out: &Path) -> Result<Self> {
        let folder = out.join("part");
        fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
        Ok(Self { folder })
    }

    fn path(&self, id: u32) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// Keeps an episode; half-written ones are never seen.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn save(&self, recording: &Recording) -> Result<()> {
        let series = recording.series.iter().map(|series| {
            let (family, kind) = labels(&series.spec);
            KeptSeries {
                name: series.spec.name.as_str().to_owned(),
                family,
                kind,
                unit: series.spec.unit.clone(),
                limit: series.spec.limit,
                counter: series.spec.counter,
                values: series.values.clone(),
            }
        });
        let kept = Kept {
            spec: recording.spec.clone(),
            cpu_scale: recording.cpu_scale,
            steps: recording.steps,
            failed_step: recording.failed_step,
            trouble: recording.trouble.clone(),
            series: series.collect(),
        };
        let (path, new) = (self.path(recording.spec.id), self.path(recording.spec.id).with_extension("new"));
        let write = || -> Result<()> {
            fs::write(&new, serde_json::to_vec(&kept)?)?;
            Ok(fs::rename(&new, &path)?)
        };
        write().with_context(|| format!("can't keep {}", path.display()))
    }

    /// An episode that was kept, if it was made from this very recipe.
    ///
    /// # Errors
    /// When it is there and can't be read.
    pub(crate) fn load(&self, spec: &EpisodeSpec) -> Result<Option<Recording>> {
        let path = self.path(spec.id);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.with_context(|| format!("can't read {}", path.display()))?,
        };
        let read = || -> Result<Recording> {
            let kept: Kept = serde_json::from_slice(&bytes)?;
            let series = kept.series.into_iter().map(|s| {
                let spec = from_labels(&s.name, &s.family, &s.kind, &s.unit, s.limit, s.counter)?;
                Ok(Series { spec, values: s.values })
            });
            Ok(Recording {
                spec: kept.spec,
                cpu_scale: kept.cpu_scale,
                steps: kept.steps,
                failed_step: kept.failed_step,
                trouble: kept.trouble,
                series: series.collect::<Result<_>>()?,
            })
        };
        let recording = read()
            .with_context(|| format!("{} is damaged; remove it, and it is recorded again", path.display()))?;
        Ok(Some(recording).filter(|recording| recording.spec == *spec))
    }

    /// Seconds that earlier runs took, and with `more` from now on.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn took_s(&self, more: f64) -> Result<f64> {
        let path = self.folder.join("took");
        let before: f64 =
            fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0.0);
        let all = before + more;
        fs::write(&path, all.to_string()).with_context(|| format!("can't write {}", path.display()))?;
        Ok(all)
    }

    /// Everything is in the corpus: nothing need be kept.
    ///
    /// # Errors
    /// When it can't be removed.
    pub(crate) fn clear(self) -> Result<()> {
        fs::remove_dir_all(&self.folder).with_context(|| format!("can't remove {}", self.folder.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{spec, subject::full};

    #[test]
    fn what_is_kept_comes_back_for_its_own_recipe_only() {
        let dir = tempfile::tempdir().unwrap();
        let keep = Keep::open(dir.path()).unwrap();
        let specs = spec::all(1);
        let (memory, _) = full("memory_working_set_bytes", "bytes", 0.0, Some(64.0));
        let series = vec![Series { spec: memory, values: vec![(0, 1.5), (7, 0.1)] }];
        let trouble = Some("refused".to_owned());
        let spec = specs[3].clone();
        let recording = Recording { spec, cpu_scale: 1.25, steps: 9, failed_step: Some(8), series, trouble };
        keep.save(&recording).unwrap();
        assert_eq!(keep.load(&specs[3]).unwrap(), Some(recording));
        assert_eq!(keep.load(&specs[4]).unwrap(), None);
        let other = EpisodeSpec { seed: specs[3].seed + 1, ..specs[3].clone() };
        assert_eq!(keep.load(&other).unwrap(), None, "it was made from another recipe");
        assert_eq!((keep.took_s(2.5).unwrap(), keep.took_s(1.0).unwrap()), (2.5, 3.5));
        fs::write(keep.path(specs[3].id), "{").unwrap();
        assert!(keep.load(&specs[3]).unwrap_err().to_string().contains("damaged"));
        keep.clear().unwrap();
    }
}
