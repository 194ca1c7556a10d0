//! Why there is no answer, and what to do.

use std::time::Duration;

use super::api::Unanswered;
use crate::fetch::FetchError;

/// After failures it is asked less and less often, but at least this often: meanwhile there is nothing to see.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Why there is no answer.
pub(super) enum Trouble {
    /// Nothing can be asked of this server.
    Server(String),
    /// This can't be asked, or not now.
    Question(String),
    /// It took too long.
    Slow(String),
    /// Less may be asked at once.
    TooMuch(String),
}

impl From<FetchError> for Trouble {
    fn from(error: FetchError) -> Self {
        match &error {
            FetchError::Timeout { .. } => Self::Slow(words(&error)),
            FetchError::TooLarge { .. } => Self::TooMuch(words(&error)),
            FetchError::BadPath { .. } => Self::Question(words(&error)),
            _ => Self::Server(words(&error)),
        }
    }
}

/// What is wrong with an answer, by what the server says of it.
pub(super) fn not_answered(status: u16, unanswered: &Unanswered) -> Trouble {
    match unanswered {
        Unanswered::Refused { kind, what } => match kind.as_str() {
            "timeout" | "canceled" => {
                Trouble::Slow(format!("{what}; ask for less, for a recording rule, or raise `timeout`"))
            }
            "execution" if what.contains("too many samples") => {
                Trouble::TooMuch(format!("{what}; ask for less, or raise --query.max-samples there"))
            }
            "bad_data" | "execution" => {
                Trouble::Question(format!("{what}; try the expression in Prometheus's own page"))
            }
            // Whatever speaks like a Prometheus has words of its own.
            _ if matches!(status, 400 | 422) => {
                Trouble::Question(format!("{what}; try the expression in Prometheus's own page"))
            }
            _ => Trouble::Server(format!("{what}; see its log")),
        },
        Unanswered::NoSeries(_) => {
            Trouble::Question(format!("{unanswered}; ask for an expression that has a value at each instant"))
        }
        Unanswered::Strange(_) if status != 200 => Trouble::Server(of_status(status)),
        Unanswered::Strange(_) => {
            Trouble::Server(format!("{unanswered}; see whether the URL is that of its API"))
        }
    }
}

pub(super) fn of_status(status: u16) -> String {
    let remedy = match status {
        401 | 403 => {
            "say what it wants to be shown: `token`, or `user` and `password`, and see whether they are right"
        }
        429 | 500..=599 => "see its log, and whether it has too much to do",
        _ => "see whether the URL is that of its API",
    };
    format!("it answers with status {status}; {remedy}")
}

pub(super) fn words(error: &FetchError) -> String {
    match error {
        FetchError::Connect { address, source } => {
            format!(
                "can't connect to {address}: {source}; see whether it is up, and can be reached from here"
            )
        }
        FetchError::Timeout { limit, .. } => {
            format!(
                "no whole answer within {limit:?}; see whether it has too much to do, ask for less, or raise `timeout`"
            )
        }
        FetchError::TooLarge { bound, .. } => {
            format!(
                "its answer is larger than {bound} bytes; keep fewer labels and series: `sum by` the label that names the cell"
            )
        }
        FetchError::Http { source, .. } => {
            format!(
                "it broke the exchange: {source}; see whether it speaks HTTP/1.1, and whether that is over TLS (`https`)"
            )
        }
        FetchError::Body { why, .. } => format!("its answer broke off: {why}; see its log"),
        FetchError::BadPath { .. }
        | FetchError::Resolve { .. }
        | FetchError::Secure { .. }
        | FetchError::Access(_)
        | FetchError::Status { .. } => error.to_string(),
    }
}

/// How long it is left alone after so many failures in a row: twice as long with each.
pub(super) fn backoff(interval: Duration, failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => interval.saturating_mul(1 << (n - 1).min(16)).min(LONGEST_WAIT),
    }
}
