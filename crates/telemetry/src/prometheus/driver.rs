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
    api::{self, Answered},
    clock::ClockDifference,
    health::{Health, Place},
    question::{Grid, Portion, due, fresh},
    trouble::{LONGEST_WAIT, Trouble, backoff, not_answered, of_status, words},
};
use crate::{
    access::Tls,
    collector::{Found, Pulled},
    fetch::{Answer, Ask, Client, FetchError},
};

/// Nothing is asked more often than this.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// The times it may take too long in one round until the server is taken to be what is slow.
const SLOW_AT_MOST: usize = 2;

pub(super) struct Driver {
    options: PrometheusOptions,
    into: Pulled,
    health: Health,
    client: Option<Client>,
    /// Made once, where the server is spoken to over TLS.
    tls: Option<Tls>,
    clock: ClockDifference,
    metrics: Vec<Followed>,
}

/// A metric, and how far it is known.
struct Followed {
    metric: AskedMetric,
    /// Up to when it was asked for, in our clock.
    seen_to: Option<Timestamp>,
    /// Time before that which is still to be read, in our clock too.
    behind: Option<(Timestamp, Timestamp)>,
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
    /// The same of its past: that must not hold up what is new.
    past_not_before: Option<Instant>,
}

impl Followed {
    fn may_be_asked(&self) -> bool {
        self.not_before.is_none_or(|at| Instant::now() >= at)
    }

    /// The time that is still to be read, unless that failed a short while ago.
    fn to_catch_up(&self) -> Option<(Timestamp, Timestamp)> {
        self.behind.filter(|_| self.past_not_before.is_none_or(|at| Instant::now() >= at))
    }
}

impl Driver {
    pub(super) fn new(options: PrometheusOptions, into: Pulled, health: Health) -> Self {
        let interval = options.interval.max(MIN_INTERVAL);
        let cells = into.cells();
        let followed = |metric: &AskedMetric| Followed {
            metric: metric.clone(),
            seen_to: None,
            behind: None,
            portion: Portion::new(cells),
            before: BTreeSet::new(),
            limits: BTreeMap::new(),
            yielded: false,
            told: false,
            failures: 0,
            not_before: None,
            past_not_before: None,
        };
        let metrics = options.metrics.iter().map(followed).collect();
        let options = PrometheusOptions { interval, ..options };
        Self { options, into, health, client: None, tls: None, clock: ClockDifference::default(), metrics }
    }

    pub(super) async fn run(mut self, rounds: watch::Sender<u64>) {
        let mut failures = 0u32;
        loop {
            let worked = self.round().await;
            failures = if worked { 0 } else { failures.saturating_add(1) };
            if worked && self.metrics.iter().any(|followed| followed.to_catch_up().is_some()) {
                // Each round reads some of it.
                task::yield_now().await;
                continue;
            }
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

    /// Asks for what is new of all metrics, then for what is missing of the past; whether the server answers.
    async fn round(&mut self) -> bool {
        let began = Instant::now();
        let usual = self.metrics.iter().all(|of| of.seen_to.is_some() && of.behind.is_none());
        if let Err(what) = self.tell_time().await {
            return self.server_fails(what);
        }
        let mut slow = 0;
        for n in 0..self.metrics.len() {
            if self.metrics[n].may_be_asked() {
                let asked = self.ask_for(n).await;
                if let Err(what) = self.settle(n, asked, &mut slow) {
                    return self.server_fails(what);
                }
            }
        }
        let (took, interval) = (began.elapsed(), self.options.interval);
        let late = (usual && slow == 0 && took > interval).then(|| {
            format!("all answers together took {took:.1?}, and are wanted every {interval:?}; ask for fewer metrics, for recording rules, or less often")
        });
        self.health.note(Place::Pace, late);
        // Not longer than that, or what is new would be late.
        let until = Instant::now() + interval;
        for n in 0..self.metrics.len() {
            while let Some((from, to)) = self.metrics[n].to_catch_up()
                && Instant::now() < until
            {
                let place = Place::Past(self.metrics[n].metric.name.to_string());
                let problem = match self.catch_up(n, from, to).await {
                    // What is odd about it is told of what is new, if it still is.
                    Ok(()) => None,
                    Err(Trouble::Server(what)) => return self.server_fails(what),
                    Err(Trouble::Slow(what) | Trouble::Question(what) | Trouble::TooMuch(what)) => {
                        self.metrics[n].past_not_before = Some(Instant::now() + LONGEST_WAIT);
                        Some(what)
                    }
                };
                self.health.note(place, problem);
            }
        }
        self.health.note(Place::Server, None);
        true
    }

    /// Notes how a question went. An error: it is the server that fails.
    fn settle(
        &mut self,
        n: usize,
        asked: Result<Option<String>, Trouble>,
        slow: &mut usize,
    ) -> Result<(), String> {
        let (problem, failed) = match asked {
            Ok(problem) => (problem, false),
            Err(Trouble::Server(what)) => return Err(what),
            Err(Trouble::Slow(what)) => {
                *slow += 1;
                if *slow >= SLOW_AT_MOST {
                    return Err(what);
                }
                (Some(what), true)
            }
            Err(Trouble::Question(what) | Trouble::TooMuch(what)) => (Some(what), true),
        };
        let (interval, followed) = (self.options.interval, &mut self.metrics[n]);
        followed.failures = if failed { followed.failures.saturating_add(1) } else { 0 };
        followed.not_before = failed.then(|| Instant::now() + backoff(interval, followed.failures));
        self.health.note(Place::Metric(followed.metric.name.to_string()), problem);
        Ok(())
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

    /// Asks for one metric, from where it is known to now. What is odd about the answer, in words. What is too much for one answer is left for later, the
    /// oldest first.
    async fn ask_for(&mut self, n: usize) -> Result<Option<String>, Trouble> {
        let (now, options, followed) = (self.into.now(), &self.options, &self.metrics[n]);
        let from = due(followed.seen_to, now, options.overlap, options.look_back, self.into.window());
        let Some(grid) = self.grid(from, now) else { return Ok(None) };
        if let Some(query) = followed.metric.what.limit_query.clone() {
            self.ask_for_limits(n, &query, grid.newest()).await?;
        }
        let (older, newest, answered) = self.ask_for_newest(n, grid).await?;
        let mut before = std::mem::take(&mut self.metrics[n].before);
        let problem = self.take(n, &newest, answered, &mut before);
        let older = older.map(|older| self.ours(&older));
        let followed = &mut self.metrics[n];
        followed.before = before;
        followed.seen_to = Some(self.clock.ours(newest.range().1));
        followed.behind = match (older, followed.behind) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (one, other) => one.or(other),
        };
        if !followed.yielded && !followed.told {
            followed.told = true;
            let (url, metric) = (&self.options.url, &followed.metric.name);
            tracing::warn!(
                "Prometheus {url}: `{metric}` has no series so far; see whether its expression is right"
            );
        }
        Ok(problem)
    }

    /// Asks for the newest part of what is missing of the past, from `from` to `to`.
    async fn catch_up(&mut self, n: usize, from: Timestamp, to: Timestamp) -> Result<(), Trouble> {
        let reached = self.into.now() - self.into.window();
        let Some(grid) = self.grid(from.max(reached), to) else {
            self.metrics[n].behind = None;
            return Ok(());
        };
        let (older, newest, answered) = self.ask_for_newest(n, grid).await?;
        // Nothing of that time was shown before.
        self.take(n, &newest, answered, &mut BTreeSet::new());
        self.metrics[n].behind = older.map(|older| self.ours(&older));
        Ok(())
    }

    /// The instants of a time of ours, in the other's clock.
    fn grid(&self, from: Timestamp, to: Timestamp) -> Option<Grid> {
        let step_ms = u64::try_from(self.options.interval.as_millis()).unwrap_or(u64::MAX);
        Grid::between(self.clock.theirs(from), self.clock.theirs(to), step_ms)
    }

    fn ours(&self, grid: &Grid) -> (Timestamp, Timestamp) {
        let (from, to) = grid.range();
        (self.clock.ours(from), self.clock.ours(to))
    }

    /// Asks for the newest instants of a grid, as many as can be had at once; first what was left out.
    async fn ask_for_newest(
        &mut self,
        n: usize,
        grid: Grid,
    ) -> Result<(Option<Grid>, Grid, Answered), Trouble> {
        let query = fresh(&self.metrics[n].metric.what.query, self.options.fresh_for);
        loop {
            let (older, newest) = grid.split(self.metrics[n].portion.instants());
            match self.ask(&query, &newest).await {
                Ok(answered) => {
                    self.metrics[n].portion.answered(answered.series.len());
                    return Ok((older, newest, answered));
                }
                Err(Trouble::TooMuch(_)) if self.metrics[n].portion.too_much(newest.count()) => {}
                Err(trouble) => return Err(trouble),
            }
        }
    }

    /// Puts an answer where it belongs. What is odd about it, in words.
    fn take(
        &mut self,
        n: usize,
        grid: &Grid,
        answered: Answered,
        before: &mut BTreeSet<CellId>,
    ) -> Option<String> {
        let (clock, followed) = (&self.clock, &mut self.metrics[n]);
        let there = answered.series.len();
        let Found { of_cells, stranger } = self.into.find(&self.options.cell_labels, answered.series);
        let spec = followed.metric.spec();
        let ours = |at: Timestamp| clock.ours(at);
        let taken = self.into.take(&spec, &followed.limits, grid, ours, &of_cells, before);
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
        let Answer { status, body, .. } = self.get(&path).await?;
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

    async fn find_server(&mut self) -> Result<Client, FetchError> {
        if self.tls.is_none() {
            self.tls = self.options.access.tls(&self.options.url)?;
        }
        let (url, limit) = (&self.options.url, self.options.timeout);
        let nowhere = |source| FetchError::Resolve { host: url.host().to_owned(), source };
        let found = time::timeout(limit, lookup_host((url.host(), url.port()))).await;
        let found = found.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let address = found.map_err(nowhere)?.next();
        let address = address.ok_or_else(|| nowhere(std::io::ErrorKind::NotFound.into()))?;
        Ok(Client::of(address, url, &self.options.access, self.tls.clone()))
    }
}
