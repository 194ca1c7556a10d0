//! Pushed telemetry: from the file to a listener that takes it.

use std::time::{Duration, Instant};

use forefend_config::{Config, model};
use forefend_telemetry::{Collector, Identity, Source, pushed::PushLimits};
use tokio::sync::watch;

use super::EngineError;
use crate::receive::{ReceiveError, ReceiveOptions, Receiver};

/// Takes what is pushed until `stopping` says so, if the file names an address for it. Call it inside a Tokio runtime.
/// The address is waited for: a predecessor that was killed may hold it for a moment.
///
/// # Errors
/// When the secret can't be read or the address can't be had.
pub(crate) fn start(
    config: &Config,
    collector: &Collector,
    mut stopping: watch::Receiver<bool>,
    patience: Duration,
) -> Result<(), EngineError> {
    let Some(receive) = &config.engine.receive else { return Ok(()) };
    let options = options(receive, collector)?;
    let deadline = Instant::now() + patience;
    let receiver = loop {
        match Receiver::bind(options.clone()) {
            Err(ReceiveError::Listen { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => break other?,
        }
    };
    tracing::info!("pushed telemetry is taken at http://{}/", receiver.local_addr());
    tokio::spawn(receiver.run(async move {
        // Ends when told to, or when the engine is gone.
        let _ = stopping.wait_for(|stop| *stop).await;
    }));
    Ok(())
}

/// What does not work with pushes at the moment, in words.
pub(crate) fn problems(collector: &Collector) -> Vec<String> {
    let all = collector.problems().into_iter();
    let pushes = all.filter(|problem| problem.source == Source::Push);
    pushes.map(|problem| format!("pushed telemetry of {}: {}", problem.cell, problem.what)).collect()
}

fn options(receive: &model::ReceiveConfig, collector: &Collector) -> Result<ReceiveOptions, EngineError> {
    let identity =
        Identity { cell_labels: receive.cell_labels.clone(), ignored_labels: receive.ignore_labels.clone() };
    let max_bytes = usize::try_from(receive.max_body.0).unwrap_or(usize::MAX);
    Ok(ReceiveOptions {
        listen: receive.listen,
        secret: receive.token.as_ref().map(|token| secret(token, "engine.receive.token")).transpose()?,
        limits: PushLimits { max_bytes, ..PushLimits::default() },
        max_requests: receive.max_requests as usize,
        intake: collector.intake(identity),
    })
}

/// A secret from where the file says it is.
///
/// # Errors
/// When it can't be read; `at` is its place in the file.
pub(super) fn secret(secret: &model::SecretConfig, at: &str) -> Result<String, EngineError> {
    let missing = |what: String| EngineError::Token(format!("{at}: {what}"));
    let found = match (&secret.env, &secret.file) {
        (Some(name), _) => {
            std::env::var(name).map_err(|_| missing(format!("the variable {name} is not set")))
        }
        (None, Some(path)) => std::fs::read_to_string(path)
            .map(|text| text.trim_end().to_owned())
            .map_err(|e| missing(format!("{}: {e}", path.display()))),
        (None, None) => Err(missing("it has neither env nor file".to_owned())),
    };
    // Whoever shows nothing would be let in.
    found.and_then(|text| if text.is_empty() { Err(missing("it is empty".to_owned())) } else { Ok(text) })
}
