//! What the server says of itself: nginx's status page, PostgreSQL's statistics views, Redis' INFO, the sample service's
//! metrics. Named as the usual exporters name them.

use std::{collections::BTreeMap, io, net::SocketAddr, time::Duration};

use forefend_domain::{Family, MetricKind, MetricName, Timestamp};
use forefend_telemetry::{
    MetricSelector,
    exposition::{self, Format, Limits},
    host::Observed,
    select,
    series::MetricSpec,
};

use super::within;
use crate::{
    spec::Subject,
    wire::{Http, Postgres, Redis, Reply},
};

/// A status that takes longer is a gap.
const PATIENCE: Duration = Duration::from_millis(400);

/// Reads the status over a connection of its own, as an exporter does.
pub(crate) struct StatusReader {
    subject: Subject,
    address: SocketAddr,
    connections: f64,
    redis: Option<Redis>,
    postgres: Option<Postgres>,
}

impl StatusReader {
    pub(crate) fn new(subject: Subject, address: SocketAddr, connections: u32) -> Self {
        Self { subject, address, connections: f64::from(connections), redis: None, postgres: None }
    }

    /// Everything it tells now; empty when it does not answer in time.
    pub(crate) async fn read(&mut self, at: Timestamp) -> Vec<Observed> {
        let told = within(PATIENCE, async {
            match self.subject {
                Subject::Nginx => self.nginx().await,
                Subject::Postgres => self.postgres().await,
                Subject::Redis => self.redis().await,
                Subject::Shop => self.shop(at).await,
            }
        });
        if let Some(Ok(observed)) = told.await {
            return observed;
        }
        // What became of the connection is not known; the next reading opens another.
        (self.redis, self.postgres) = (None, None);
        Vec::new()
    }

    async fn nginx(&self) -> io::Result<Vec<Observed>> {
        let answer = Http::open(self.address).await?.get("/status", "connection: close\r\n").await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let &[active, accepted, handled, requests, reading, writing, waiting] = numbers.as_slice() else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        Ok(vec![
            full("nginx_connections_active", "connections", active, Some(self.connections)),
            total("nginx_connections_accepted", Family::Traffic, accepted),
            total("nginx_connections_dropped", Family::Errors, accepted - handled),
            total("nginx_http_requests_total", Family::Traffic, requests),
            full("nginx_connections_reading", "connections", reading, None),
            full("nginx_connections_writing", "connections", writing, None),
            full("nginx_connections_waiting", "connections", waiting, None),
        ])
    }

    async fn redis(&mut self) -> io::Result<Vec<Observed>> {
        let redis = match &mut self.redis {
            Some(redis) => redis,
            none => none.insert(Redis::open(self.address).await?),
        };
        let Reply::Bulk(Some(text)) = redis.ask(&[b"INFO"]).await? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let text = String::from_utf8_lossy(&text).into_owned();
        let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(':')).collect();
        let field = |name: &str| fields.get(name).and_then(|value| value.trim().parse::<f64>().ok());
        let keys = fields.get("db0").and_then(|db| db.strip_prefix("keys=")?.split(',').next()?.parse().ok());
        let limit = |name: &str| field(name).filter(|limit| *limit > 0.0);
        let mut told = Vec::new();
        let mut tell = |observed: Option<Observed>| told.extend(observed);
        let some =
            |name: &str, unit: &str, field: Option<f64>, limit| field.map(|v| full(name, unit, v, limit));
        tell(some("redis_memory_used_bytes", "bytes", field("used_memory"), limit("maxmemory")));
        tell(some("redis_memory_used_rss_bytes", "bytes", field("used_memory_rss"), None));
        tell(some(
            "redis_connected_clients",
            "connections",
            field("connected_clients"),
            limit("maxclients").or(Some(self.connections)),
        ));
        tell(some("redis_blocked_clients", "connections", field("blocked_clients"), None));
        tell(some("redis_db_keys", "keys", keys, None));
        tell(some("redis_aof_current_size_bytes", "bytes", field("aof_current_size"), None));
        tell(some(
            "redis_rdb_changes_since_last_save",
            "changes",
            field("rdb_changes_since_last_save"),
            None,
        ));
        for (name, family, from) in [
            ("redis_commands_processed_total", Family::Traffic, "total_commands_processed"),
            ("redis_connections_received_total", Family::Traffic, "total_connections_received"),
            ("redis_rejected_connections_total", Family::Errors, "rejected_connections"),
            ("redis_error_replies_total", Family::Errors, "total_error_replies"),
            ("redis_keyspace_misses_total", Family::Custom, "keyspace_misses"),
        ] {
            tell(field(from).map(|value| total(name, family, value)));
        }
        for (name, from) in [
            ("redis_rdb_last_bgsave_status", "rdb_last_bgsave_status"),
            ("redis_aof_last_write_status", "aof_last_write_status"),
        ] {
            let bad = fields.get(from).map(|status| f64::from(u8::from(status.trim() != "ok")));
            tell(bad.map(|bad| gauge(name, Family::Errors, "0/1", bad)));
        }
        Ok(told)
    }

    async fn postgres(&mut self) -> io::Result<Vec<Observed>> {
        let postgres = match &mut self.postgres {
            Some(postgres) => postgres,
            none => none.insert(Postgres::open(self.address, "status").await?),
        };
        let rows = postgres.run(STATUS_QUERY).await?;
        let row = rows.first().ok_or(io::ErrorKind::InvalidData)?;
        let value = |n: usize| row.get(n).and_then(|v| v.as_deref()?.parse::<f64>().ok());
        // Three connections are the superuser's.
        let limit = Some(self.connections - 3.0);
        let mut told = Vec::new();
        for (n, name, unit, limit) in [
            (0, "pg_stat_activity_count", "connections", limit),
            (1, "pg_stat_activity_idle_in_transaction", "connections", None),
            (2, "pg_stat_activity_waiting_on_locks", "connections", None),
            (3, "pg_stat_activity_max_tx_duration", "s", None),
            (4, "pg_database_filler_bytes", "bytes", None),
        ] {
            told.extend(value(n).map(|v| full(name, unit, v, limit)));
        }
        for (n, name, family) in [
            (5, "pg_stat_database_xact_commit", Family::Traffic),
            (6, "pg_stat_database_xact_rollback", Family::Errors),
            (7, "pg_stat_database_tup_returned", Family::Traffic),
            (8, "pg_stat_database_blks_read", Family::Custom),
            (9, "pg_stat_database_deadlocks", Family::Errors),
        ] {
            told.extend(value(n).map(|v| total(name, family, v)));
        }
        Ok(told)
    }

    async fn shop(&self, at: Timestamp) -> io::Result<Vec<Observed>> {
        let answer = Http::open(self.address).await?.get("/metrics", "connection: close\r\n").await?;
        let exposed =
            exposition::parse(&answer.body, Format::Text, &Limits::default()).map_err(io::Error::other)?;
        Ok(select::select(&exposed, &selectors(), at)
            .into_iter()
            .map(|selected| (selected.spec, Some(selected.value)))
            .collect())
    }
}

const STATUS_QUERY: &str = "\
SELECT a.*, pg_relation_size('filler'), d.xact_commit, d.xact_rollback, d.tup_returned, d.blks_read, d.deadlocks FROM \
(SELECT count(*), count(*) FILTER (WHERE state LIKE 'idle in transaction%'), \
count(*) FILTER (WHERE wait_event_type = 'Lock'), \
coalesce(extract(epoch FROM max(now() - xact_start) FILTER (WHERE backend_type = 'client backend')), 0) \
FROM pg_stat_activity WHERE backend_type = 'client backend') a, \
pg_stat_database d WHERE d.datname = 'postgres'";

/// What an operator would pick from the sample service's metrics.
fn selectors() -> Vec<MetricSelector> {
    let pick = |name: &str, family, unit: &str, counter| MetricSelector {
        name: name.to_owned(),
        labels: Vec::new(),
        rename: None,
        family,
        kind: MetricKind::Unbounded,
        unit: unit.to_owned(),
        limit: None,
        limit_metric: None,
        counter,
    };
    vec![
        pick("http_requests_total", Family::Traffic, "1/s", true),
        pick("http_errors_total", Family::Errors, "1/s", true),
        pick("http_requests_in_flight", Family::Saturation, "requests", false),
        pick("http_request_duration_seconds_sum", Family::Latency, "s/s", true),
        pick("shop_inventory_call_duration_seconds_sum", Family::Latency, "s/s", true),
        pick("shop_inventory_call_duration_seconds_count", Family::Traffic, "1/s", true),
        pick("shop_inventory_errors_total", Family::Errors, "1/s", true),
        pick("shop_cache_bytes", Family::Saturation, "bytes", false),
        pick("shop_carts", Family::Custom, "carts", false),
        pick("process_resident_memory_bytes", Family::Saturation, "bytes", false),
    ]
}

/// A level; with a limit, reaching it is a failure.
pub(crate) fn full(name: &str, unit: &str, value: f64, limit: Option<f64>) -> Observed {
    let (mut spec, value) = gauge(name, Family::Saturation, unit, value);
    spec.limit = limit;
    spec.kind = if limit.is_some() { MetricKind::Exhaustible } else { MetricKind::Unbounded };
    (spec, value)
}

pub(crate) fn gauge(name: &str, family: Family, unit: &str, value: f64) -> Observed {
    (spec(name, family, unit, false), Some(value))
}

/// A running total.
pub(crate) fn total(name: &str, family: Family, value: f64) -> Observed {
    (spec(name, family, "1/s", true), Some(value))
}

fn spec(name: &str, family: Family, unit: &str, counter: bool) -> MetricSpec {
    MetricSpec {
        name: MetricName::new(name),
        family,
        kind: MetricKind::Unbounded,
        unit: unit.to_owned(),
        limit: None,
        counter,
    }
}
