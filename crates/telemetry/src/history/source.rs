use std::{fmt, path::PathBuf, str::FromStr};

use super::error::HistoryError;

/// Where a history is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HistorySource {
    /// A file, Parquet or CSV by its ending, or a folder of such files.
    Files(PathBuf),
    /// An existing Prometheus, or what speaks like one.
    Prometheus(PrometheusUrl),
}

/// Where a Prometheus answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrometheusUrl {
    /// Whether it is spoken to over TLS.
    secure: bool,
    host: String,
    port: u16,
    /// What stands before `/api`: empty, or a path that begins with `/` and does not end with it.
    prefix: String,
}

const PROMETHEUS: &str = "prometheus:";
/// Where nobody says a port: that of Prometheus itself, and that of whoever adds TLS to it.
const PORT: u16 = 9090;
const SECURE_PORT: u16 = 443;

impl PrometheusUrl {
    /// The name or address of the machine.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is spoken to over TLS (`https`).
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Host and port, as they stand in a URL.
    pub(crate) fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl FromStr for PrometheusUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err("write it as prometheus:http://HOST:9090".to_owned()),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // An IPv6 address stands in brackets, which the resolver does not want.
        let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((host, port)) => {
                (host, port.parse().map_err(|_| format!("`{port}` is no port; write a number up to 65535"))?)
            }
            None => (authority, if secure { SECURE_PORT } else { PORT }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(['@', '?', '#']) || path.contains(['?', '#']) {
            return Err(
                "write it as prometheus:http://HOST:9090, without a user (credentials are given apart) and without a query".to_owned()
            );
        }
        Ok(Self { secure, host: host.to_owned(), port, prefix: path.trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for PrometheusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.prefix)
    }
}

impl FromStr for HistorySource {
    type Err = HistoryError;

    /// `prometheus:http://HOST:PORT`, or a path as it is.
    fn from_str(text: &str) -> Result<Self, HistoryError> {
        let no = |why: String| HistoryError::NoSource { text: text.to_owned(), why };
        if let Some(url) = text.strip_prefix(PROMETHEUS) {
            return url.parse().map(Self::Prometheus).map_err(no);
        }
        if text.is_empty() {
            return Err(
                no("it is empty; name a file or a folder, or prometheus:http://HOST:9090".to_owned()),
            );
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return Err(no(format!("if a Prometheus answers there, write {PROMETHEUS}{text}")));
        }
        Ok(Self::Files(PathBuf::from(text)))
    }
}

impl fmt::Display for HistorySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(path) => path.display().fmt(f),
            Self::Prometheus(url) => write!(f, "{PROMETHEUS}{url}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart_and_shown_as_they_are_read() {
        for text in [
            "a/b.csv",
            "prometheus:http://host:90",
            "prometheus:http://[::1]:9090/p/q",
            "prometheus:https://host:443/p",
        ] {
            assert_eq!(text.parse::<HistorySource>().unwrap().to_string(), text);
        }
        let source = "prometheus:http://host/".parse::<HistorySource>().unwrap();
        assert_eq!(source.to_string(), "prometheus:http://host:9090");
        let secure = "prometheus:https://host".parse::<HistorySource>().unwrap();
        assert_eq!(secure.to_string(), "prometheus:https://host:443");
        for wrong in [
            "",
            "http://host",
            "prometheus:",
            "prometheus:ftp://h",
            "prometheus:http://h:99999",
            "prometheus:http://u@h",
        ] {
            let error = wrong.parse::<HistorySource>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{wrong}` names no history: ")), "{error}");
        }
    }
}
