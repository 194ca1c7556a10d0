use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    path::Path,
    time::Duration,
};

use forefend_domain::{ServiceId, Timestamp};

use super::{
    mapping::{Mapping, MappingError, Query},
    query::{self, Wrong},
};
use crate::{
    access::{Access, AccessError},
    fetch::{Answer, Ask, Client},
    history::{
        error::{Complaint, HistoryError},
        load::LoadOptions,
        rows::{Gathered, Row},
        source::PrometheusUrl,
        words,
    },
    prometheus::api,
};

/// Where nobody says how far samples shall be apart: as Prometheus scrapes in its own example.
const STEP: Duration = Duration::from_secs(15);

/// Of one question, in all: a range of 10 000 points is a second's work for a busy server.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One series of 10 000 points takes half a megabyte; more is no single series.
const MAX_ANSWER_BYTES: usize = 16 * 1_024 * 1_024;

/// Tens of thousands of cells, each with its labels.
const MAX_MAPPING_BYTES: u64 = 16 * 1_024 * 1_024;

/// Waits before further tries, when the server was not to be reached or was busy.
const WAITS: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];

/// Asks for everything, one question after another.
pub(in crate::history) fn read(
    url: &PrometheusUrl,
    options: &LoadOptions,
    into: &mut Gathered,
) -> Result<(), HistoryError> {
    let no = |why: &str| HistoryError::NoSource { text: url.to_string(), why: why.to_owned() };
    let (Some(from), Some(to)) = (options.from, options.to) else {
        return Err(no("of a Prometheus it must be said from when to when is to be read; say both"));
    };
    let path = options.mapping.as_deref().ok_or_else(|| {
        no("of a Prometheus it must be said which expressions are which metrics; name a file that maps them")
    })?;
    let queries = queries(path, options)?;
    let step = options.step.unwrap_or(STEP).max(Duration::from_millis(1));
    into.told_step(step);
    let (access, ranges) = (&options.access, query::ranges(from, to, step));
    let asking = Asking { url, access, step, ranges, max_rows: options.max_rows };
    // On a thread of its own, for the caller may be inside of a runtime already.
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| no(&format!("no runtime to ask it with: {error}")))?;
            runtime.block_on(asking.all(&queries, into))
        });
        asked.join().unwrap_or_else(|_| Err(no("the asking ended in a panic, which is a bug")))
    })
}

fn queries(path: &Path, options: &LoadOptions) -> Result<Vec<Query>, HistoryError> {
    let wrong = |error: MappingError| {
        let remedy = "docs/history.md shows such a file";
        Complaint::new("mapping", error.to_string(), remedy).of(path)
    };
    let bytes = path.metadata().map_err(HistoryError::read(path))?.len();
    if bytes > MAX_MAPPING_BYTES {
        let what = format!("{bytes} bytes are too many");
        let remedy = "say what cells have in common once, under `metrics` with labels";
        return Err(Complaint::new("mapping", what, remedy).of(path));
    }
    let text = std::fs::read_to_string(path).map_err(HistoryError::read(path))?;
    let mut queries = Mapping::parse(&text).and_then(|mapping| mapping.queries()).map_err(wrong)?;
    queries.retain(|query| options.cells.as_ref().is_none_or(|cells| cells.contains(&query.cell)));
    Ok(queries)
}

struct Asking<'a> {
    url: &'a PrometheusUrl,
    access: &'a Access,
    step: Duration,
    ranges: Vec<(Timestamp, Timestamp)>,
    max_rows: u64,
}

impl Asking<'_> {
    async fn all(&self, queries: &[Query], into: &mut Gathered) -> Result<(), HistoryError> {
        let no =
            |why: AccessError| HistoryError::NoSource { text: self.url.to_string(), why: why.to_string() };
        let tls = self.access.tls(self.url).map_err(no)?;
        let mut client = Client::of(self.address()?, self.url, self.access, tls);
        for query in queries {
            for range in &self.ranges {
                let values = self.ask(&mut client, &query.what.query, *range).await?;
                let limits = match &query.what.limit_query {
                    Some(expression) => self.ask(&mut client, expression, *range).await?,
                    None => Vec::new(),
                };
                self.keep(query, &values, &limits, into)?;
            }
        }
        Ok(())
    }

    fn address(&self) -> Result<SocketAddr, HistoryError> {
        let why = match (self.url.host(), self.url.port()).to_socket_addrs() {
            Ok(mut found) => match found.next() {
                Some(address) => return Ok(address),
                None => "its name has no address".to_owned(),
            },
            Err(error) => format!("its address is not known: {error}"),
        };
        Err(HistoryError::NoSource {
            text: self.url.to_string(),
            why: format!("{why}; see whether the name is right"),
        })
    }

    fn keep(
        &self,
        query: &Query,
        values: &[(Timestamp, f64)],
        limits: &[(Timestamp, f64)],
        into: &mut Gathered,
    ) -> Result<(), HistoryError> {
        for (at, value) in values {
            if into.rows() >= self.max_rows {
                let source_name = self.url.to_string();
                return Err(HistoryError::TooMuch { source_name, max_rows: self.max_rows });
            }
            let known = limits.partition_point(|(from, _)| from <= at);
            let moving = known.checked_sub(1).and_then(|n| limits.get(n)).map(|(_, limit)| *limit);
            let row = Row {
                cell: query.cell.as_str(),
                service: query.service.as_ref().map(ServiceId::as_str),
                metric: &query.metric,
                family: query.what.family.map(words::family_word),
                kind: query.what.kind.map(words::kind_word),
                unit: query.what.unit.as_deref(),
                limit: query.what.limit.or(moving),
                at: *at,
                value: Some(*value),
            };
            into.add(&row).map_err(|complaint| {
                self.wrong(&query.what.query, &complaint.to_string(), "correct the mapping")
            })?;
        }
        Ok(())
    }

    fn wrong(&self, expression: &str, what: &str, remedy: &str) -> HistoryError {
        HistoryError::Query {
            source_name: self.url.to_string(),
            expression: expression.to_owned(),
            what: what.to_owned(),
            remedy: remedy.to_owned(),
        }
    }

    async fn ask(
        &self,
        client: &mut Client,
        expression: &str,
        range: (Timestamp, Timestamp),
    ) -> Result<Vec<(Timestamp, f64)>, HistoryError> {
        let path = api::range_path(self.url.prefix(), expression, range, self.step);
        let ask = Ask {
            path: &path,
            accept: "application/json",
            max_body_bytes: MAX_ANSWER_BYTES,
            timeout: TIMEOUT,
        };
        let mut waits = WAITS.into_iter();
        loop {
            let (what, may_pass) = match client.get(&ask).await {
                Ok(answer) if !is_busy(&answer) => {
                    return answered(&answer).map_err(|w| self.wrong(expression, &w.what, w.remedy));
                }
                Ok(answer) => (format!("it answers with status {}", answer.status), true),
                Err(error) => (error.to_string(), error.may_pass()),
            };
            match waits.next().filter(|_| may_pass) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => {
                    return Err(self.wrong(expression, &what, "see whether it is up and can answer this"));
                }
            }
        }
    }
}

fn is_busy(answer: &Answer) -> bool {
    matches!(answer.status, 429 | 500 | 502 | 503 | 504)
}

/// Prometheus says what is wrong in the body, whatever the status.
fn answered(answer: &Answer) -> Result<Vec<(Timestamp, f64)>, Wrong> {
    query::points(&answer.body).map_err(|wrong| match answer.status {
        200 | 400 | 422 => wrong,
        status => Wrong {
            what: format!("it answers with status {status}"),
            remedy: "see whether the address is that of its API",
        },
    })
}
