//! `bench predict`: two packages of their own do the work, one on public data, one on the recorded corpus.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::BenchArguments;
use crate::workspace::{release_build_with, root};

/// Cases on public data, which does not lie in the repository.
const PUBLIC: [&str; 7] = ["fd001", "fd001-lstm", "backblaze", "smd", "asd", "nab", "forecast"];
/// Cases on the corpus, with what the recorder's package is asked for.
const CORPUS: [(&str, &[&str]); 2] = [("corpus", &[]), ("corpus-unseen-kind", &["--unseen-kinds"])];

/// Builds what is needed and runs the cases that were asked for.
///
/// # Errors
/// When a case is not known, the data is missing, or a case fails.
pub(super) fn run(arguments: &BenchArguments) -> Result<()> {
    let known: Vec<&str> = PUBLIC.into_iter().chain(CORPUS.map(|(case, _)| case)).collect();
    let wanted = arguments.cases(&known)?;
    let public: Vec<&str> = wanted.iter().copied().filter(|case| PUBLIC.contains(case)).collect();
    let data = match (&arguments.data, public.is_empty()) {
        (_, true) => None,
        (Some(folder), false) => Some(std::path::absolute(folder)?),
        (None, false) => bail!(
            "the cases {} need public data, which is not part of this repository: name its folder with --data; \
             docs/benchmarks.md says where it comes from. Without it: --case corpus",
            public.join(", ")
        ),
    };
    // The ML framework takes minutes to build.
    let features = if public.contains(&"fd001-lstm") { &["xtask-predict/lstm"][..] } else { &[] };
    let built = release_build_with(&["xtask-predict", "xtask-corpus"], features)?;
    let format = if arguments.json { &["--json"][..] } else { &[] };
    if let Some(data) = data {
        let mut command = std::process::Command::new(built.join("xtask-predict"));
        command.arg("--data").arg(data).args(format);
        for case in &public {
            command.args(["--case", *case]);
        }
        finish(command, "xtask-predict")?;
    }
    for (case, more) in CORPUS {
        if wanted.contains(&case) {
            let corpus = root().join("data/corpus");
            ensure_recorded(&corpus)?;
            let mut command = std::process::Command::new(built.join("xtask-corpus"));
            command.arg("learn").arg("--data").arg(corpus).args(more).args(format);
            finish(command, "xtask-corpus")?;
        }
    }
    Ok(())
}

fn ensure_recorded(corpus: &Path) -> Result<()> {
    let there = corpus.join("episodes.parquet").is_file();
    ensure!(there, "{} holds no corpus: `cargo xtask corpus record` makes it", corpus.display());
    Ok(())
}

fn finish(mut command: std::process::Command, what: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("can't run {what}"))?;
    ensure!(status.success(), "{what} ended with {status}");
    Ok(())
}
