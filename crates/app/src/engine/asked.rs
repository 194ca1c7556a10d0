//! Telemetry that a Prometheus is asked for: from the file to what asks it.

use std::time::Duration;

use forefend_cells::SandboxDriver;
use forefend_config::{Config, model};
use forefend_domain::{MetricName, ports::CellDriver as _};
use forefend_telemetry::{
    Access, AccessError, Collector,
    history::prometheus::MappedMetric,
    prometheus::{AskedMetric, Follower, PrometheusOptions},
};

use super::{EngineError, pushes::secret, targets};

/// How long the first decision waits for the past to be read. Until then the data plane has no routing of this engine, so not for long.
const PAST_PATIENCE: Duration = Duration::from_secs(2);

/// Begins to ask, if the file names a Prometheus: early, so that the past is read while the rest starts.
///
/// # Errors
/// When the URL is none.
pub(super) fn start(
    config: &Config,
    collector: &mut Collector,
    driver: Option<&mut SandboxDriver>,
) -> Result<Option<Follower>, EngineError> {
    let Some(prometheus) = &config.engine.prometheus else { return Ok(None) };
    let options = options(prometheus, config.engine.window.length)?;
    // Of cells that nobody knows yet the past would be passed over.
    let (observed, driver) = match driver {
        Some(driver) => (driver.observe(), Some(&*driver)),
        None => (Vec::new(), None),
    };
    collector.set_targets(targets::targets(config, &observed, driver));
    tracing::info!("telemetry is asked of Prometheus {}", options.url);
    Ok(Some(collector.follow_prometheus(options)))
}

/// Waits a little for the past, so that predictions stand from the first tick on. What takes longer comes later.
pub(super) async fn past_is_read(asked: Option<&Follower>) {
    let Some(asked) = asked else { return };
    if !asked.first_round(PAST_PATIENCE).await {
        tracing::info!("the past that Prometheus has is still being read");
    }
}

fn options(prometheus: &model::PrometheusConfig, window: Duration) -> Result<PrometheusOptions, EngineError> {
    let wrong = |why: String| EngineError::Prometheus(format!("url: {why}"));
    let url = prometheus.url.0.parse().map_err(wrong)?;
    let metric = |(name, metric): (&String, &model::PrometheusMetricConfig)| AskedMetric {
        name: MetricName::new(name),
        what: MappedMetric {
            query: metric.query.clone(),
            family: Some(metric.family),
            kind: metric.kind,
            unit: Some(metric.unit.clone()),
            limit: metric.limit.as_ref().map(|limit| limit.value),
            limit_query: metric.limit_query.clone(),
        },
        counter: metric.counter,
    };
    Ok(PrometheusOptions {
        url,
        access: access(prometheus)?,
        interval: prometheus.interval,
        timeout: prometheus.timeout,
        look_back: prometheus.look_back.unwrap_or(window),
        overlap: prometheus.overlap,
        fresh_for: prometheus.fresh_for,
        cell_labels: prometheus.cell_labels.clone(),
        metrics: prometheus.metrics.iter().map(metric).collect(),
        max_answer_bytes: PrometheusOptions::MAX_ANSWER_BYTES,
    })
}

/// What it is shown, and who vouches for it; read once, at the start.
fn access(prometheus: &model::PrometheusConfig) -> Result<Access, EngineError> {
    let at = |key: &str| format!("engine.prometheus.{key}");
    let wrong = |key: &'static str| move |e: AccessError| EngineError::Prometheus(format!("{key}: {e}"));
    let mut access = Access::default();
    if let Some(token) = &prometheus.token {
        access = access.with_token(&secret(token, &at("token"))?).map_err(wrong("token"))?;
    }
    if let (Some(user), Some(password)) = (&prometheus.user, &prometheus.password) {
        let password = secret(password, &at("password"))?;
        access = access.with_password(user, &password).map_err(wrong("password"))?;
    }
    if let Some(ca) = &prometheus.ca {
        let unread = |e| EngineError::Prometheus(format!("ca: {}: {e}", ca.display()));
        access = access.with_authority(std::fs::read(ca).map_err(unread)?).map_err(wrong("ca"))?;
    }
    Ok(access)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_says_is_asked_for() {
        let text = "version: 1\nengine:\n  window: { length: 10m }\n  prometheus:\n    url: http://[::1]:9090/p/\n    metrics:\n      \
             memory: { query: mem, family: saturation, unit: bytes, limit: 96MiB }\n      jobs: { query: jobs_total, counter: true }\n\
             regions: { here: { zones: [a] } }\nservices:\n  shop:\n    objective: { latency: 1s }\n    listen: 127.0.0.1:8080\n    \
             cells: [{ id: shop-1, zone: a, address: 127.0.0.1:8081, known_as: { pod: x } }]\n";
        let config = forefend_config::parse(text, "test.yaml").unwrap();
        let prometheus = config.engine.prometheus.as_ref().unwrap();
        let options = options(prometheus, config.engine.window.length).unwrap();
        assert_eq!(options.url.to_string(), "http://[::1]:9090/p");
        assert_eq!(options.look_back, Duration::from_secs(600), "a window, where nothing else is said");
        let [jobs, memory] = &options.metrics[..] else { panic!("{:?}", options.metrics) };
        assert_eq!((jobs.name.as_str(), jobs.counter, jobs.what.kind), ("jobs", true, None));
        assert_eq!((memory.what.query.as_str(), memory.what.limit), ("mem", Some(100_663_296.0)));
        let targets = targets::targets(&config, &[], None);
        assert_eq!(targets[0].push.known_as, [("pod".to_owned(), "x".to_owned())]);
    }

    #[test]
    fn what_it_is_shown_is_read_at_the_start_and_what_can_t_be_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        let read = |access: &str, secret: &str| {
            std::fs::write(&file, secret).unwrap();
            let access = access.replace("FILE", &file.display().to_string());
            let text = format!(
                "version: 1\nengine:\n  prometheus:\n    url: https://h\n    {access}\n    metrics: {{ a: {{ query: a }} }}\n\
                 regions: {{ here: {{ zones: [a] }} }}\nservices:\n  shop:\n    objective: {{ latency: 1s }}\n    listen: 127.0.0.1:8080\n    \
                 cells: [{{ id: shop-1, zone: a, address: 127.0.0.1:8081 }}]\n"
            );
            let config = forefend_config::parse(&text, "test.yaml").unwrap();
            super::access(config.engine.prometheus.as_ref().unwrap())
        };
        let by_token = Access::default().with_token("abc").unwrap();
        assert_eq!(read("token: { file: FILE }", "abc\n").unwrap(), by_token);
        let by_password = Access::default().with_password("ann", "abc").unwrap();
        assert_eq!(read("user: ann\n    password: { file: FILE }", "abc\n").unwrap(), by_password);
        for (access, secret, words) in [
            ("token: { file: FILE }", "\n", "engine.prometheus.token: it is empty"),
            ("token: { file: FILE }", "a\nb", "engine.prometheus.token: the token holds"),
            ("token: { file: FILE.gone }", "", "engine.prometheus.token: /"),
            ("ca: FILE", "no PEM", "engine.prometheus.ca: no certificate is in it"),
            ("ca: FILE.gone", "", "engine.prometheus.ca: /"),
        ] {
            let said = read(access, secret).unwrap_err().to_string();
            assert!(said.starts_with(words), "{said}");
        }
    }
}
