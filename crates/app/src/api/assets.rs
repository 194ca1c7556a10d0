//! The dashboard's files, inside the binary: it works without a network and without files beside it.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

/// One file.
pub(super) struct Asset {
    pub(super) path: &'static str,
    kind: &'static str,
    body: &'static [u8],
}

impl Asset {
    pub(super) fn answer(&self) -> Response {
        // `no-cache`: asked for again each time, so that a new binary never meets an old script.
        ([(header::CONTENT_TYPE, self.kind), (header::CACHE_CONTROL, "no-cache")], self.body).into_response()
    }
}

macro_rules! asset {
    ($path:literal, $kind:literal, $file:literal) => {
        Asset { path: $path, kind: $kind, body: include_bytes!(concat!("../../../../ui/", $file)) }
    };
}

/// All of them.
pub(super) static ALL: &[Asset] = &[
    asset!("/", "text/html; charset=utf-8", "index.html"),
    asset!("/ui/style.css", "text/css; charset=utf-8", "style.css"),
    asset!("/ui/icon.svg", "image/svg+xml", "icon.svg"),
    asset!("/ui/js/app.js", "text/javascript; charset=utf-8", "js/app.js"),
    asset!("/ui/js/api.js", "text/javascript; charset=utf-8", "js/api.js"),
    asset!("/ui/js/charts.js", "text/javascript; charset=utf-8", "js/charts.js"),
    asset!("/ui/js/detail.js", "text/javascript; charset=utf-8", "js/detail.js"),
    asset!("/ui/js/dom.js", "text/javascript; charset=utf-8", "js/dom.js"),
    asset!("/ui/js/drills.js", "text/javascript; charset=utf-8", "js/drills.js"),
    asset!("/ui/js/flow.js", "text/javascript; charset=utf-8", "js/flow.js"),
    asset!("/ui/js/format.js", "text/javascript; charset=utf-8", "js/format.js"),
    asset!("/ui/js/ledger.js", "text/javascript; charset=utf-8", "js/ledger.js"),
    asset!("/ui/js/map.js", "text/javascript; charset=utf-8", "js/map.js"),
    asset!("/ui/vendor/uPlot.iife.min.js", "text/javascript; charset=utf-8", "vendor/uPlot.iife.min.js"),
    asset!("/ui/vendor/uPlot.min.css", "text/css; charset=utf-8", "vendor/uPlot.min.css"),
];
