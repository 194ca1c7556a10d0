//! Recorded telemetry on the command line: what `backtest` and `train` read.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use forefend_domain::Timestamp;
use forefend_telemetry::{
    Access,
    history::{self, History, HistorySource, LoadOptions},
};

use super::Failure;

#[derive(Debug, Args)]
pub(super) struct PastArguments {
    /// The recorded telemetry: a Parquet or CSV file, a folder of such files, the `history` of a state directory, or `prometheus:http://HOST:9090`.
    /// docs/history.md has the formats.
    #[arg(long, value_name = "SRC")]
    pub(super) history: HistorySource,
    /// The distance between values. Left out: what the history says; of a Prometheus 15s.
    #[arg(long, value_parser = duration, value_name = "TIME")]
    step: Option<Duration>,
    /// Nothing before this instant: RFC 3339, or milliseconds since 1970. A Prometheus needs it.
    #[arg(long, value_parser = history::instant, value_name = "WHEN")]
    from: Option<Timestamp>,
    /// Nothing after this instant. A Prometheus needs it.
    #[arg(long, value_parser = history::instant, value_name = "WHEN")]
    to: Option<Timestamp>,
    /// Which queries give the metrics of which cells: a Prometheus needs it.
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,
    #[command(flatten)]
    access: AccessArguments,
}

/// What a Prometheus wants to be shown, and who vouches for it.
#[derive(Debug, Args)]
pub(super) struct AccessArguments {
    /// The file that holds the token that a Prometheus wants to be shown.
    #[arg(long, value_name = "FILE", conflicts_with = "prometheus_user")]
    prometheus_token: Option<PathBuf>,
    /// The user that a Prometheus wants to be told.
    #[arg(long, value_name = "NAME", requires = "prometheus_password")]
    prometheus_user: Option<String>,
    /// The file that holds the user's password.
    #[arg(long, value_name = "FILE", requires = "prometheus_user")]
    prometheus_password: Option<PathBuf>,
    /// The certificate, in PEM, of the authority that vouches for a Prometheus over TLS. Left out: any that this machine trusts.
    #[arg(long, value_name = "FILE")]
    prometheus_ca: Option<PathBuf>,
}

impl PastArguments {
    pub(super) fn load(&self) -> Result<History, Failure> {
        let (step, from, to, access) = (self.step, self.from, self.to, self.access.read()?);
        let mapping = self.mapping.clone();
        let options = LoadOptions { step, from, to, mapping, access, ..LoadOptions::default() };
        Ok(history::load(&self.history, &options)?)
    }
}

impl AccessArguments {
    /// Reads secrets and certificate from their files.
    ///
    /// # Errors
    /// Names the file.
    pub(super) fn read(&self) -> Result<Access, Failure> {
        let wrong = |path: &Path, why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let secret = |path: &Path| {
            let text = std::fs::read_to_string(path).map_err(|e| wrong(path, &e))?;
            Ok::<_, String>(text.trim_end().to_owned())
        };
        let mut access = Access::default();
        if let Some(path) = &self.prometheus_token {
            access = access.with_token(&secret(path)?).map_err(|e| wrong(path, &e))?;
        }
        if let (Some(user), Some(path)) = (&self.prometheus_user, &self.prometheus_password) {
            access = access.with_password(user, &secret(path)?).map_err(|e| wrong(path, &e))?;
        }
        if let Some(path) = &self.prometheus_ca {
            let pem = std::fs::read(path).map_err(|e| wrong(path, &e))?;
            access = access.with_authority(pem).map_err(|e| wrong(path, &e))?;
        }
        Ok(access)
    }
}

/// A time as people write it: `500ms`, `30s`, `5m`, `2h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time: write it like `500ms`, `30s`, `5m` or `2h`");
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let unit_s = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<f64>().map_err(|_| wrong())? * unit_s;
    Duration::try_from_secs_f64(seconds).ok().filter(|d| *d >= Duration::from_millis(1)).ok_or_else(wrong)
}
