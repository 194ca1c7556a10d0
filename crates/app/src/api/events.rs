//! Server-sent events (the HTML standard, §9.2): a snapshot at every tick, as fast as the client takes them.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use forefend_control::Snapshot;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    problem::Problem,
    routes::{STREAMS_AT_MOST, Shared},
};

/// Without news a comment is sent this often, so that both ends notice a dead connection.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Two snapshots are at least this far apart: people don't read faster, and ticks may.
const APART: Duration = Duration::from_millis(200);

struct Stream {
    shared: Arc<Shared>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    stopping: watch::Receiver<bool>,
    not_before: Instant,
    _permit: OwnedSemaphorePermit,
}

pub(super) async fn answer(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let permit = shared.streams.clone().try_acquire_owned().map_err(|_| {
        Problem::unavailable(
            "too-many-streams",
            format!("{STREAMS_AT_MOST} streams of events are open already"),
            "close a dashboard, or poll /api/v1/snapshot instead",
        )
    })?;
    let mut snapshots = shared.engine.snapshots.clone();
    // What is known is sent at once.
    snapshots.mark_changed();
    let stream = Stream {
        snapshots,
        stopping: shared.stopping.clone(),
        not_before: Instant::now(),
        shared,
        _permit: permit,
    };
    let frames = futures_util::stream::unfold(stream, |mut stream| async {
        let frame = stream.next().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), stream))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(frames)).into_response())
}

impl Stream {
    /// The next frame; `None` when the server stops or the engine is gone.
    async fn next(&mut self) -> Option<Bytes> {
        let news = async {
            sleep_until(self.not_before).await;
            self.snapshots.changed().await
        };
        let changed = tokio::select! {
            changed = timeout(HEARTBEAT, news) => changed,
            _ = self.stopping.wait_for(|stopping| *stopping) => return None,
        };
        match changed {
            Err(_) => Some(Bytes::from_static(b": heartbeat\n\n")),
            Ok(Err(_)) => None,
            Ok(Ok(())) => {
                self.not_before = Instant::now() + APART;
                let snapshot = self.snapshots.borrow_and_update().clone();
                let json = self.shared.render(&snapshot);
                let mut frame = BytesMut::with_capacity(json.len() + 64);
                frame.extend_from_slice(format!("event: snapshot\nid: {}\ndata: ", snapshot.tick).as_bytes());
                // serde_json escapes line ends inside strings, so the data is one line.
                frame.extend_from_slice(&json);
                frame.extend_from_slice(b"\n\n");
                Some(frame.freeze())
            }
        }
    }
}
