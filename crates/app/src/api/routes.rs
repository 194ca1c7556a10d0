use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{FromRequestParts, Path, Query, State, rejection::QueryRejection},
    http::{StatusCode, header, request::Parts},
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use bytes::Bytes;
use forefend_control::Snapshot;
use forefend_domain::{CellId, LedgerEntry, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, oneshot, watch};

use super::{
    assets,
    auth::{Role, Tokens},
    commands, drills, events,
    explanation::{self, CellExplanation},
    guard::{self, Access, Guard},
    handle::{EngineHandle, HistoryPoint, MetricNow, WindowsRequest},
    metrics, models,
    problem::Problem,
    view::{self, CellDetail, CellSummary, SnapshotView},
};

/// The OpenAPI 3.1 document, as `/openapi.json` serves it. Kept by hand, so that it can describe the domain's values
/// without the domain knowing about it; tests compare it with the routes and with real answers.
pub const OPENAPI: &str = include_str!("openapi.json");

/// Streams of events open at once. Each costs one task and one socket; a dashboard needs one.
pub(super) const STREAMS_AT_MOST: usize = 32;

/// Instants that one answer of the history holds; more are thinned out evenly. A plot has fewer pixels.
const INSTANTS_AT_MOST: usize = 900;

const LEDGER_PAGE: usize = 100;
const LEDGER_PAGE_AT_MOST: usize = 1000;

/// What handlers share.
pub(super) struct Shared {
    pub(super) engine: EngineHandle,
    pub(super) streams: Arc<Semaphore>,
    /// Becomes true when the server stops: streams end then.
    pub(super) stopping: watch::Receiver<bool>,
    rendered: Mutex<Option<(Arc<Snapshot>, Bytes)>>,
}

impl Shared {
    pub(super) fn new(engine: EngineHandle, stopping: watch::Receiver<bool>) -> Self {
        let streams = Arc::new(Semaphore::new(STREAMS_AT_MOST));
        Self { engine, streams, stopping, rendered: Mutex::new(None) }
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.engine.snapshots.borrow().clone()
    }

    /// The JSON of a snapshot's view, made once for all who want it.
    pub(super) fn render(&self, snapshot: &Arc<Snapshot>) -> Bytes {
        let mut rendered = self.rendered.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((of, json)) = rendered.as_ref()
            && Arc::ptr_eq(of, snapshot)
        {
            return json.clone();
        }
        let json = serde_json::to_vec(&SnapshotView::of(snapshot)).unwrap_or_else(|error| {
            tracing::error!(%error, "a snapshot can't be written as JSON");
            b"{}".to_vec()
        });
        let json = Bytes::from(json);
        *rendered = Some((snapshot.clone(), json.clone()));
        json
    }
}

/// A route, as the OpenAPI document must describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteInfo {
    /// `get` or `post`.
    pub method: &'static str,
    /// With `{id}` for the cell.
    pub path: &'static str,
    /// The role it needs; `None`: it is open.
    pub role: Option<Role>,
}

struct Route {
    info: RouteInfo,
    handler: MethodRouter<Arc<Shared>>,
}

/// Every route but the dashboard's files.
#[must_use]
pub fn route_table() -> Vec<RouteInfo> {
    table().into_iter().map(|route| route.info).collect()
}

fn table() -> Vec<Route> {
    let open = |path, handler| Route { info: RouteInfo { method: "get", path, role: None }, handler };
    let read =
        |path, handler| Route { info: RouteInfo { method: "get", path, role: Some(Role::Viewer) }, handler };
    let command = |path, handler| Route {
        info: RouteInfo { method: "post", path, role: Some(Role::Operator) },
        handler,
    };
    // Hurting cells is more than moving traffic.
    let hurt =
        |path, handler| Route { info: RouteInfo { method: "post", path, role: Some(Role::Admin) }, handler };
    vec![
        open("/healthz", get(|| async { "ok\n" })),
        open("/openapi.json", get(|| async { ([(header::CONTENT_TYPE, "application/json")], OPENAPI) })),
        read("/metrics", get(metrics::answer)),
        read("/api/v1/snapshot", get(snapshot)),
        read("/api/v1/events", get(events::answer)),
        read("/api/v1/cells", get(cells)),
        read("/api/v1/cells/{id}", get(cell)),
        read("/api/v1/cells/{id}/metrics", get(cell_metrics)),
        read("/api/v1/cells/{id}/explanation", get(explanation)),
        read("/api/v1/history", get(history)),
        read("/api/v1/ledger", get(ledger)),
        command("/api/v1/freeze", post(commands::freeze)),
        command("/api/v1/unfreeze", post(commands::unfreeze)),
        command("/api/v1/cells/{id}/shift", post(commands::shift)),
        command("/api/v1/cells/{id}/end-shift", post(commands::end_shift)),
        command("/api/v1/cells/{id}/approve", post(commands::approve)),
        read("/api/v1/drills", get(drills::list)),
        read("/api/v1/drills/{id}", get(drills::report)),
        command("/api/v1/drills/plan", post(drills::plan)),
        hurt("/api/v1/drills/run", post(drills::run)),
        command("/api/v1/drills/{id}/approve", post(drills::approve)),
        command("/api/v1/drills/{id}/end", post(drills::end)),
        read("/api/v1/models", get(models::list)),
        read("/api/v1/models/{id}", get(models::show)),
        command("/api/v1/models/{id}/promote", post(models::promote)),
        command("/api/v1/models/rollback", post(models::rollback)),
        command("/api/v1/models/train", post(models::train)),
        command("/api/v1/cells/{id}/incident", post(models::incident)),
    ]
}

/// The whole application: routes behind their guards, files of the dashboard, headers on every answer.
pub(super) fn router(shared: Arc<Shared>, tokens: Arc<Tokens>) -> Router {
    let guarded =
        |access| middleware::from_fn_with_state(Guard { tokens: tokens.clone(), access }, guard::check);
    let mut router = Router::new();
    for Route { info, handler } in table() {
        let access = info.role.map_or(Access::Open, Access::AtLeast);
        router = router.route(info.path, handler.fallback(wrong_method).layer(guarded(access)));
    }
    for asset in assets::ALL {
        let serve = get(move || async move { asset.answer() });
        router = router.route(asset.path, serve.fallback(wrong_method).layer(guarded(Access::Open)));
    }
    let nowhere = get(no_such_path).fallback(no_such_path).layer(guarded(Access::Open));
    router
        .fallback_service(nowhere.with_state(shared.clone()))
        .with_state(shared)
        .layer(middleware::from_fn(guard::add_headers))
}

async fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method",
        "Not the right method",
        "this path does not know the request's method",
        "GET /openapi.json lists the methods of every path",
    )
}

async fn no_such_path() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "path",
        "Nothing here",
        "there is nothing at this path",
        "GET /openapi.json lists the paths, / is the dashboard",
    )
}

/// The `{id}` of a path, decoded.
pub(super) struct CellPath(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for CellPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let id = Path::<String>::from_request_parts(parts, state).await;
        id.map(|Path(id)| Self(id)).map_err(|rejection| {
            let remedy = "GET /api/v1/cells lists the cells there are";
            Problem::bad_request("path", format!("the path: {}", rejection.body_text()), remedy)
        })
    }
}

/// The cell of a path, checked.
pub(super) fn cell_id(shared: &Shared, id: &str) -> Result<CellId, Problem> {
    let unknown = || Problem::unknown_cell(id);
    let id = CellId::new(id).map_err(|_| unknown())?;
    view::find(&shared.snapshot(), &id).map(|_| ()).ok_or_else(unknown)?;
    Ok(id)
}

async fn snapshot(State(shared): State<Arc<Shared>>) -> Response {
    let json = shared.render(&shared.snapshot());
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}

async fn cells(State(shared): State<Arc<Shared>>) -> Json<Vec<CellSummary>> {
    Json(view::summaries(&shared.snapshot()))
}

/// An engine that is busy is waited for so long; then the explanation goes without courses.
const WINDOWS_PATIENCE: Duration = Duration::from_secs(2);

async fn explanation(
    State(shared): State<Arc<Shared>>,
    CellPath(id): CellPath,
) -> Result<Json<CellExplanation>, Problem> {
    let unknown = || Problem::unknown_cell(&id);
    let cell = CellId::new(&id).map_err(|_| unknown())?;
    let snapshot = shared.snapshot();
    view::find(&snapshot, &cell).ok_or_else(unknown)?;
    let evidence = &shared.engine.evidence;
    let mut windows = None;
    if let Some(asked) = &evidence.windows {
        let (reply, answer) = oneshot::channel();
        let request = WindowsRequest { cell: cell.clone(), reply };
        if asked.try_send(request).is_ok() {
            windows =
                tokio::time::timeout(WINDOWS_PATIENCE, answer).await.ok().and_then(Result::ok).flatten();
        }
    }
    let told = explanation::explanation(&snapshot, &cell, windows.as_ref(), &evidence.past);
    told.map(Json).ok_or_else(unknown)
}

async fn cell(
    State(shared): State<Arc<Shared>>,
    CellPath(id): CellPath,
) -> Result<Json<CellDetail>, Problem> {
    let snapshot = shared.snapshot();
    let detail = CellId::new(&id).ok().and_then(|id| view::detail(&snapshot, &id));
    detail.map(Json).ok_or_else(|| Problem::unknown_cell(&id))
}

async fn cell_metrics(
    State(shared): State<Arc<Shared>>,
    CellPath(id): CellPath,
) -> Result<Json<Vec<MetricNow>>, Problem> {
    let id = cell_id(&shared, &id)?;
    let history = shared.engine.history.clone();
    Ok(Json(blocking(move || history.metrics(&id)).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    since_ms: Option<u64>,
}

#[derive(Serialize)]
struct HistoryAnswer {
    points: Vec<HistoryPoint>,
}

async fn history(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<HistoryAnswer>, Problem> {
    let Query(query) =
        query.map_err(|e| bad_query(&e, "`since_ms` is a number of milliseconds since 1970"))?;
    let since = Timestamp::from_unix_ms(query.since_ms.unwrap_or(0));
    let history = shared.engine.history.clone();
    let points = blocking(move || history.series(since)).await?;
    Ok(Json(HistoryAnswer { points: thinned(points) }))
}

/// Keeps every n-th instant (always the newest), so that at most [`INSTANTS_AT_MOST`] remain.
fn thinned(points: Vec<HistoryPoint>) -> Vec<HistoryPoint> {
    let mut instants: Vec<Timestamp> = points.iter().map(|p| p.at).collect();
    instants.dedup();
    let step = instants.len().div_ceil(INSTANTS_AT_MOST).max(1);
    if step == 1 {
        return points;
    }
    let kept: std::collections::BTreeSet<Timestamp> = instants.into_iter().rev().step_by(step).collect();
    points.into_iter().filter(|p| kept.contains(&p.at)).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LedgerQuery {
    before: Option<u64>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct LedgerAnswer {
    entries: Vec<LedgerEntry>,
    /// To be given as `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_before: Option<u64>,
}

async fn ledger(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<LedgerQuery>, QueryRejection>,
) -> Result<Json<LedgerAnswer>, Problem> {
    let remedy = "`before` is the place of an entry, `limit` a number from 1 to 1000";
    let Query(query) = query.map_err(|e| bad_query(&e, remedy))?;
    let limit = query.limit.unwrap_or(LEDGER_PAGE);
    if !(1..=LEDGER_PAGE_AT_MOST).contains(&limit) {
        return Err(Problem::bad_request("query", format!("the query's `limit` is {limit}"), remedy));
    }
    let history = shared.engine.history.clone();
    let entries = blocking(move || history.ledger(query.before, limit)).await?.map_err(|why| {
        Problem::unavailable("ledger", format!("the ledger can't be read: {why}"), "look at the engine's log")
    })?;
    let next_before = entries.last().filter(|e| entries.len() == limit && e.seq.0 > 1).map(|e| e.seq.0);
    Ok(Json(LedgerAnswer { entries, next_before }))
}

fn bad_query(rejection: &QueryRejection, remedy: &str) -> Problem {
    Problem::bad_request("query", format!("in the query: {}", rejection.body_text()), remedy)
}

/// Runs what may block (a store) where that is allowed, and gives up on it in time.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let failed = |what: &str| {
        Problem::unavailable(
            "history",
            format!("reading the past {what}"),
            "try again; look at the engine's log",
        )
    };
    match tokio::time::timeout(Duration::from_secs(10), tokio::task::spawn_blocking(work)).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) => Err(failed("failed")),
        Err(_) => Err(failed("took more than 10 s")),
    }
}

#[cfg(test)]
mod tests {
    use forefend_domain::ServiceId;

    use super::*;

    #[test]
    fn a_long_history_is_thinned_evenly_and_keeps_its_end() {
        let point = |at, cell: &str| HistoryPoint {
            at: Timestamp::from_unix_ms(at),
            service: ServiceId::new("shop").unwrap(),
            cell: CellId::new(cell).unwrap(),
            effective_bp: None,
            observed_bp: None,
            probability: None,
            health: None,
        };
        let long: Vec<_> = (0..5000).flat_map(|at| [point(at, "a"), point(at, "b")]).collect();
        let thin = thinned(long);
        assert!(thin.len() <= 2 * INSTANTS_AT_MOST);
        assert_eq!(thin.last().unwrap().at.unix_ms(), 4999);
        assert_eq!(thin.iter().filter(|p| p.cell.as_str() == "a").count() * 2, thin.len());
        assert_eq!(thinned(vec![point(1, "a")]).len(), 1);
    }
}
