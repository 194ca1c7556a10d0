use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use forefend_domain::{Family, MetricKind};
use serde_json::json;

use super::{Limit, SecretConfig};

section! {
    /// An existing Prometheus, or what speaks like one, that is asked for telemetry (`query_range`): each metric of all cells at once, see
    /// docs/telemetry.md. Its counterpart for what is past is a mapping file, see docs/history.md.
    pub struct PrometheusConfig {
        /// Where it answers; a path after the port is kept. Without a port: 9090, or 443 over TLS (`https`).
        url: HttpUrl,
        /// The token that it wants to be shown (`Authorization: Bearer …`).
        token: Option<SecretConfig>,
        /// The user that it wants to be told, with `password` (`Authorization: Basic …`). There is either this or `token`.
        user: Option<String>,
        /// The user's password.
        password: Option<SecretConfig>,
        /// The certificate of the authority that vouches for it over TLS, a file in PEM. Left out: any authority that this machine trusts.
        ca: Option<PathBuf>,
        /// From one question to the next, and between the values that are asked for: best as often as Prometheus scrapes. From 100ms to 5m; at
        /// most `policy.stale_after` of each service, at least `engine.window.step`.
        interval: Duration = Duration::from_secs(5),
        /// For one answer. From 100ms to 1m.
        timeout: Duration = Duration::from_secs(5),
        /// How far back is read at the start, and after a time without answers. At most a window, which is also the default; `0s`: not at all.
        look_back: Option<Duration>,
        /// So far back is asked again each time, for samples that came late to Prometheus. At most 10m.
        overlap: Duration = Duration::from_secs(30),
        /// How long Prometheus may show a value that was not scraped again: more than twice the time between two scrapes. Older versions keep to it only where
        /// a metric is asked for by its name and labels alone, and show any other for 5m. From 1s to 5m.
        fresh_for: Duration = Duration::from_secs(60),
        /// Labels of series that name the cell, in the order they are looked at, for cells without `known_as`. The first that is there decides; its value is a
        /// cell's name or one of its addresses.
        cell_labels: Vec<String> = ["forefend_cell", "instance"].map(String::from).to_vec(),
        /// What is asked for, by the metric's name. At most 128.
        metrics: BTreeMap<String, PrometheusMetricConfig>,
    }
}

section! {
    /// A metric that a Prometheus is asked for.
    pub struct PrometheusMetricConfig {
        /// The expression (PromQL). It yields a series for each cell, with the label that names the cell: `sum by (instance) (rate(requests_total[1m]))`.
        query: String,
        /// What it tells.
        family: Family = Family::Custom,
        /// What reaching its limit means. Left out: `exhaustible` where there is a limit, else `unbounded`.
        kind: Option<MetricKind>,
        /// The unit of its values (for a counter, of its rate), for people.
        unit: String = String::new(),
        /// The value it must not reach: a size, a duration (compared in seconds), a percentage (compared as a ratio), a rate, or a
        /// bare number in the metric's own unit. What is `depletable` must not fall to it, and it may be 0.
        limit: Option<Limit>,
        /// The expression of that value, where it changes or cells differ; a series for each cell too.
        limit_query: Option<String>,
        /// Whether it only grows and its rate is wanted. `rate(…)` in the expression is better where Prometheus scrapes less often than `interval`.
        counter: bool = false,
    }
}

/// Where something answers over HTTP, as written: `http://HOST:PORT/PATH`, or `https` over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl(
    /// With `http://` or `https://`, a host, no user, no query and no fragment.
    pub String,
);

scalar!(
    HttpUrl,
    "url",
    "Where something answers over HTTP, or over TLS: `http://127.0.0.1:9090`, `https://prometheus.example/path`.",
    json!({ "type": "string", "pattern": "^https?://[^/@?#]+(/[^?#]*)?$" }),
    "a URL, for example `http://127.0.0.1:9090`",
    |text| http_url(text).map(|()| HttpUrl(text.to_owned())),
    |value| value.0.clone()
);

fn http_url(text: &str) -> Result<(), (String, String)> {
    let wrong =
        |what: &str, remedy: &str| Err((format!("`{}` {what}", text.escape_debug()), remedy.to_owned()));
    let Some(rest) = text.strip_prefix("http://").or(text.strip_prefix("https://")) else {
        return wrong("is no URL of HTTP", "write it like `http://127.0.0.1:9090`");
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return wrong(
            "names a user",
            "leave the user out here, and name it and its password beside: `user: NAME`, `password: { file: PATH }`",
        );
    }
    if text.contains(['?', '#']) {
        return wrong(
            "holds a query or a fragment",
            "end it before `?` and `#`; what is asked stands under `metrics`",
        );
    }
    let fine = |c: char| c.is_ascii_graphic();
    if !authority.chars().all(fine) || !path.chars().all(fine) {
        return wrong("holds a character that a URL can't hold", "percent-encode it: `%20` for a space");
    }
    let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    if host.trim_matches(['[', ']']).is_empty() {
        return wrong("names no host", "write it like `http://127.0.0.1:9090`");
    }
    match port.map(str::parse::<u16>) {
        None | Some(Ok(1..)) => Ok(()),
        Some(Ok(0) | Err(_)) => wrong("has a port that there is not", "write a port from 1 to 65535"),
    }
}
