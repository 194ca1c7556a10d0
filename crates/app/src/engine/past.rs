//! Past failures as they looked before, for explanations.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use forefend_predict::learned::{Episode, is_comparable};

/// Written by training beside the ledger: an [`Episode`] as JSON a line.
use crate::models::PAST_FAILURES as FILE;

/// More looks than this are not read: the newest stand last and would be worth more, but whoever has so many has enough.
const MOST: usize = 50_000;

/// Reads them; none when there is no such file. What can't be read is told, and is no reason not to start.
pub(super) fn episodes(state_dir: &Path) -> Vec<Episode> {
    let path = state_dir.join(FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!("{} can't be read, so no past failures are told: {error}", path.display());
            return Vec::new();
        }
    };
    let mut episodes = Vec::new();
    for (n, line) in BufReader::new(file).lines().take(MOST).enumerate() {
        let read = line.map_err(|e| e.to_string());
        match read.and_then(|line| serde_json::from_str::<Episode>(&line).map_err(|e| e.to_string())) {
            Ok(episode) => episodes.push(episode),
            Err(error) => {
                tracing::warn!("{} line {}: {error}; the rest is passed over", path.display(), n + 1);
                break;
            }
        }
    }
    let all = episodes.len();
    episodes.retain(is_comparable);
    if episodes.len() < all {
        let n = all - episodes.len();
        tracing::warn!(
            "{n} past failures are of another version and are passed over; training writes them anew"
        );
    }
    episodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_training_wrote_is_read_and_what_is_broken_does_not_stop_the_start() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(episodes(folder.path()), []);
        let episode = Episode {
            cell: "a-1".parse().expect("a name"),
            service: "shop".parse().expect("a name"),
            began: forefend_domain::Timestamp::from_unix_ms(1),
            lead_s: 60.0,
            features: vec![0.5; forefend_predict::learned::feature_names().len()],
            kind: "leak".into(),
        };
        let line = serde_json::to_string(&episode).expect("JSON");
        let other = line.replacen("[0.5,", "[", 1);
        std::fs::write(folder.path().join(FILE), format!("{line}\n{other}\n{line}\n{{\n{line}\n"))
            .expect("written");
        assert_eq!(episodes(folder.path()), [episode.clone(), episode]);
    }
}
