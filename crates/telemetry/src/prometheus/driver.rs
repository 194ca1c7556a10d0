//! Asks, again and again.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use forefend_domain::{CellId, Timestamp};
use tokio::{
    net::lookup_host,
    sync::watch,
    task,
    time::{self, Instant},
};

use super::{
    AskedMetric, PrometheusOptions,
    api::{self, Answered, Unanswered},
    clock::ClockDifference,
    health::{Health, Place},
    question::{Grid, Portion, due, fresh},
};
use crate::{
    collector::{Found, Pulled},
    fetch::{Answer, Ask, Client, FetchError},
};

/// After failures it is asked less and less often, but at least this often: meanwhile there is nothing to see.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Nothing is asked more often than this.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// The times it may take too long in one round until the server is taken to be what is slow.
const SLOW_AT_MOST: usize = 2;

pub(super) struct Driver {
    options: PrometheusOptions,
    into: Pulled,
    health: Health,
    client: Option<Client>,
    clock: ClockDifference,
    metrics: Vec<Followed>,
}

/// A metric, and how far it is known.
struct Followed {
    metric: AskedMetric,
    /// Up to when it was asked for, in our clock.
    seen_to: Option<Timestamp>,
    portion: Portion,
    /// Cells that had a value when it was last asked for.
    before: BTreeSet<CellId>,
    limits: BTreeMap<CellId, f64>,
    /// Whether it ever yielded anything.
    yielded: bool,
    /// Whether the log has it that it does not.
    told: bool,
    failures: u32,
    /// It is not asked for before this, for it failed.
    not_before: Option<Instant>,
}

/// Why there is no answer.
enum Trouble {
    /// Nothing can be asked of this server.
    Server(String),
    /// This can't be asked, or not now.
    Question(String),
    /// It took too long.
    Slow(String),
    /// Less may be asked at once.
    TooMuch(String),
}

impl Driver {
    pub(super) fn new(options: PrometheusOptions, into: Pulled, health: Health) -> Self {
        let interval = options.interval.max(MIN_INTERVAL);
        let cells = into.cells();
        let followed = |metric: &AskedMetric| Followed {
            metric: metric.clone(),
            seen_to: None,
            portion: Portion::new(cells),
            before: BTreeSet::new(),
            limits: BTreeMap::new(),
            yielded: false,
            told: false,
            failures: 0,
            not_before: None,
        };
        let metrics = options.metrics.iter().map(followed).collect();
        let options = PrometheusOptions { interval, ..options };
        Self { options, into, health, client: None, clock: ClockDifference::default(), metrics }
    }

    pub(super) async fn run(mut self, rounds: watch::Sender<u64>) {
        let mut failures = 0u32;
        loop {
            let worked = self.round().await;
            failures = if worked { 0 } else { failures.saturating_add(1) };
            rounds.send_modify(|rounds| *rounds += 1);
            time::sleep(self.wait(failures)).await;
        }
    }

    /// Until the next question: a little after an instant that values are asked for, and longer after failures.
    fn wait(&self, failures: u32) -> Duration {
        let interval = self.options.interval;
        let now = self.clock.theirs(self.into.now()) + backoff(interval, failures);
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut hasher = DefaultHasher::new();
        self.options.url.to_string().hash(&mut hasher);
        // The newest scrapes need a moment, and many engines shall not ask all at once.
        let phase_ms = ms(interval) / 8 + hasher.finish() % (ms(interval) / 8).max(1);
        let in_interval = (now.unix_ms() + ms(interval) - phase_ms) % ms(interval);
        backoff(interval, failures) + Duration::from_millis(ms(interval) - in_interval)
    }

    /// Asks for all that is due; whether the server answers.
    async fn round(&mut self) -> bool {
        let began = Instant::now();
        let caught_up = self.metrics.iter().all(|followed| followed.seen_to.is_some());
        if let Err(what) = self.tell_time().await {
            return self.server_fails(what);
        }
        let mut slow = 0;
        for n in 0..self.metrics.len() {
            if self.metrics[n].not_before.is_some_and(|at| Instant::now() < at) {
                continue;
            }
            let place = Place::Metric(self.metrics[n].metric.name.to_string());
            let (problem, failed) = match self.ask_for(n).await {
                Ok(problem) => (problem, false),
                Err(Trouble::Server(what)) => return self.server_fails(what),
                Err(Trouble::Slow(what)) => {
                    slow += 1;
                    if slow >= SLOW_AT_MOST {
                        return self.server_fails(what);
                    }
                    (Some(what), true)
                }
                Err(Trouble::Question(what) | Trouble::TooMuch(what)) => (Some(what), true),
            };
            let (interval, followed) = (self.options.interval, &mut self.metrics[n]);
            followed.failures = if failed { followed.failures.saturating_add(1) } else { 0 };
            followed.not_before = failed.then(|| Instant::now() + backoff(interval, followed.failures));
            self.health.note(place, problem);
        }
        let (took, interval) = (began.elapsed(), self.options.interval);
        let late = (caught_up && took > interval).then(|| {
            format!("all answers together took {took:.1?}, and are wanted every {interval:?}; ask for fewer metrics, for recording rules, or less often")
        });
        self.health.note(Place::Pace, late);
        self.health.note(Place::Server, None);
        true
    }

    fn server_fails(&mut self, what: String) -> bool {
        // Its name may have another address by now.
        self.client = None;
        self.health.note(Place::Server, Some(what));
        false
    }

    /// Asks what time it is there: shows whether there is a Prometheus, and how far its clock is from ours.
    async fn tell_time(&mut self) -> Result<(), String> {
        let sent = self.into.now();
        let answer = self.get(&api::time_path(self.options.url.prefix())).await;
        let answer = answer.map_err(|error| words(&error))?;
        let received = self.into.now();
        let theirs = api::time(&answer.body).map_err(|unanswered| match (answer.status, unanswered) {
            (200, unanswered) => format!("{unanswered}; see whether the URL is that of its API"),
            (status, _) => of_status(status),
        })?;
        let told = self.clock.measured(sent, received, theirs, self.into.store().step);
        self.health.note(Place::Clock, told);
        Ok(())
    }

    /// Asks for one metric, from where it is known to now. What does not work though there is an answer, in words.
    async fn ask_for(&mut self, n: usize) -> Result<Option<String>, Trouble> {
        let step_ms = u64::try_from(self.options.interval.as_millis()).unwrap_or(u64::MAX);
        let (now, options, followed) = (self.into.now(), &self.options, &self.metrics[n]);
        let from = due(followed.seen_to, now, options.overlap, options.look_back, self.into.window());
        let mut rest = Grid::between(self.clock.theirs(from), self.clock.theirs(now), step_ms);
        if let (Some(query), Some(grid)) = (followed.metric.what.limit_query.clone(), rest.map(Grid::newest))
        {
            self.ask_for_limits(n, &query, grid).await?;
        }
        let query = fresh(&self.metrics[n].metric.what.query, self.options.fresh_for);
        let mut problem = None;
        while let Some(grid) = rest {
            let (part, later) = grid.split(self.metrics[n].portion.instants());
            match self.ask(&query, &part).await {
                Ok(answered) => {
                    self.metrics[n].portion.answered(answered.series.len());
                    problem = self.take(n, &part, answered);
                    self.metrics[n].seen_to = Some(self.clock.ours(part.range().1));
                    rest = later;
                }
                Err(Trouble::TooMuch(_)) if self.metrics[n].portion.too_much(part.count()) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        let followed = &mut self.metrics[n];
        if !followed.yielded && !followed.told {
            followed.told = true;
            let (url, metric) = (&self.options.url, &followed.metric.name);
            tracing::warn!(
                "Prometheus {url}: `{metric}` has no series so far; see whether its expression is right"
            );
        }
        Ok(problem)
    }

    /// Puts an answer where it belongs. What is odd about it, in words.
    fn take(&mut self, n: usize, grid: &Grid, answered: Answered) -> Option<String> {
        let (clock, followed) = (&self.clock, &mut self.metrics[n]);
        let there = answered.series.len();
        let Found { of_cells, stranger } = self.into.find(&self.options.cell_labels, answered.series);
        let spec = followed.metric.spec();
        let ours = |at: Timestamp| clock.ours(at);
        let taken = self.into.take(&spec, &followed.limits, grid, ours, &of_cells, &mut followed.before);
        followed.yielded |= there > 0;
        let nobody = stranger.filter(|_| of_cells.is_empty()).map(|stranger| {
            format!(
                "none of {there} series is of a known cell (the first: {stranger}); keep the label that names the cell, and see `cell_labels` and `known_as`"
            )
        });
        let several = taken.several.map(|cell| {
            format!(
                "there are several series of {cell} where one is wanted, which is a gap; bring them together with `sum by` or `max by` the label that names the cell"
            )
        });
        let partial = answered
            .warning
            .map(|warning| format!("it says that its answer is not whole: {warning}; see its log"));
        nobody.or(several).or(taken.refused).or(partial)
    }

    /// Limits that can't be asked for now stay as they were known.
    async fn ask_for_limits(&mut self, n: usize, query: &str, grid: Grid) -> Result<(), Trouble> {
        let place = Place::Limit(self.metrics[n].metric.name.to_string());
        // Limits change rarely, so they may be as old as Prometheus likes.
        let answered = match self.ask(query, &grid).await {
            Ok(answered) => answered,
            Err(Trouble::Question(what) | Trouble::TooMuch(what)) => {
                self.health.note(place, Some(what));
                return Ok(());
            }
            Err(trouble) => return Err(trouble),
        };
        let found = self.into.find(&self.options.cell_labels, answered.series);
        let nobody = found.stranger.filter(|_| found.of_cells.is_empty()).map(|stranger| {
            format!(
                "no series is of a known cell (the first: {stranger}); keep the label that names the cell"
            )
        });
        let lowest = |series: Vec<api::Series>| {
            let values = series.iter().flat_map(|one| &one.points).map(|point| point.value);
            values.filter(|value| value.is_finite()).reduce(f64::min)
        };
        self.metrics[n].limits =
            found.of_cells.into_iter().filter_map(|(cell, series)| Some((cell, lowest(series)?))).collect();
        self.health.note(place, nobody);
        Ok(())
    }

    async fn ask(&mut self, expression: &str, grid: &Grid) -> Result<Answered, Trouble> {
        let options = &self.options;
        let mut path = api::range_path(options.url.prefix(), expression, grid.range(), options.interval);
        path.push_str(&api::bounds(options.timeout, options.fresh_for));
        let answer = self.get(&path).await.map_err(|error| match &error {
            FetchError::Timeout { .. } => Trouble::Slow(words(&error)),
            FetchError::TooLarge { .. } => Trouble::TooMuch(words(&error)),
            FetchError::BadPath { .. } => Trouble::Question(words(&error)),
            _ => Trouble::Server(words(&error)),
        })?;
        let Answer { status, body, .. } = answer;
        // A large one takes long enough to hold up whatever else is asked meanwhile.
        let read = task::spawn_blocking(move || api::series(&body)).await;
        // It ends otherwise only with the runtime, or in a panic, which that tells.
        let read =
            read.map_err(|error| Trouble::Question(format!("the answer could not be read: {error}")))?;
        read.map_err(|unanswered| not_answered(status, &unanswered))
    }

    async fn get(&mut self, path: &str) -> Result<Answer, FetchError> {
        let (timeout, max_body_bytes) = (self.options.timeout, self.options.max_answer_bytes);
        let ask = Ask { path, accept: "application/json", max_body_bytes, timeout };
        let mut client = match self.client.take() {
            Some(client) => client,
            None => self.find_server().await?,
        };
        let answer = client.get(&ask).await;
        self.client = Some(client);
        answer
    }

    async fn find_server(&self) -> Result<Client, FetchError> {
        let (url, limit) = (&self.options.url, self.options.timeout);
        let nowhere = |source| FetchError::Resolve { host: url.host().to_owned(), source };
        let found = time::timeout(limit, lookup_host((url.host(), url.port()))).await;
        let found = found.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let address = found.map_err(nowhere)?.next();
        let address = address.ok_or_else(|| nowhere(std::io::ErrorKind::NotFound.into()))?;
        Ok(Client::named(address, url.authority()))
    }
}

/// Doubles with each failure.
fn backoff(interval: Duration, failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => interval.saturating_mul(1 << (n - 1).min(16)).min(LONGEST_WAIT),
    }
}

/// What is wrong with an answer, by what the server says of it.
fn not_answered(status: u16, unanswered: &Unanswered) -> Trouble {
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

fn of_status(status: u16) -> String {
    let remedy = match status {
        401 | 403 => "name a way to it that wants no credentials, such as a proxy on this machine",
        429 | 500..=599 => "see its log, and whether it has too much to do",
        _ => "see whether the URL is that of its API",
    };
    format!("it answers with status {status}; {remedy}")
}

fn words(error: &FetchError) -> String {
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
            format!("it broke the exchange: {source}; see whether it speaks plain HTTP/1.1")
        }
        FetchError::Body { why, .. } => format!("its answer broke off: {why}; see its log"),
        FetchError::BadPath { .. } | FetchError::Resolve { .. } | FetchError::Status { .. } => {
            error.to_string()
        }
    }
}
