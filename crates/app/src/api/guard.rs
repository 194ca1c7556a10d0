//! Who may ask for what, checked before any handler runs.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    auth::{Role, Tokens},
    problem::Problem,
};

/// Every answer but a stream of events is complete within this time, the request's body included.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// What a route demands of who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing: the dashboard's files and the liveness check tell nothing about the service.
    Open,
    /// At least this role.
    AtLeast(Role),
}

/// The rule of one route.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) tokens: Arc<Tokens>,
    pub(super) access: Access,
}

/// Lets a request through to its handler, or answers with a problem.
pub(super) async fn check(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    // Browsers send a bearer token only when a script of ours adds it, so with tokens a foreign page has nothing to
    // gain from a name that points here. Without them the name must be loopback's own.
    if guard.tokens.is_empty()
        && let Err(problem) = is_loopback_name(request.uri(), request.headers())
    {
        return problem.into_response();
    }
    if !request.method().is_safe()
        && let Err(problem) = is_no_forgery(request.uri(), request.headers())
    {
        return problem.into_response();
    }
    if let Access::AtLeast(role) = guard.access {
        match guard.tokens.principal(request.headers()) {
            Some(principal) if principal.role >= role => {
                request.extensions_mut().insert(principal);
            }
            Some(principal) => return forbidden(&principal.name, principal.role, role).into_response(),
            None => return unauthorised(request.headers()).into_response(),
        }
    }
    match tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "timeout",
            "Took too long",
            format!("the answer was not ready within {} s", ANSWER_WITHIN.as_secs()),
            "try again; if it stays so, look at `degraded` in /api/v1/snapshot",
        )
        .into_response(),
    }
}

/// Adds what browsers need to know to every answer, also to those that no route gave.
pub(super) async fn add_headers(request: Request, next: Next) -> Response {
    const HEADERS: [(&str, &str); 8] = [
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=()"),
        ("cache-control", "no-store"),
    ];
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        if !response.headers().contains_key(name) {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

/// The name the client used for this server: `:authority` of HTTP/2, else `Host`.
fn authority(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    uri.authority().cloned().or_else(|| headers.get(header::HOST)?.to_str().ok()?.parse().ok())
}

/// Against DNS rebinding: a page of `evil.example` whose name was made to point at 127.0.0.1 still says its own name.
fn is_loopback_name(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(authority) = authority(uri, headers) else {
        return Err(Problem::bad_request(
            "no-host",
            "the header `Host` is missing or not a host name",
            "send `Host: localhost`",
        ));
    };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.is_loopback()) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::MISDIRECTED_REQUEST,
        "foreign-host",
        "Not a name of this server",
        format!("the header `Host` says `{host}`, which is not a name of loopback"),
        "use http://localhost or http://127.0.0.1, or configure tokens",
    ))
}

/// Against forged requests of other pages: they can't set this content type without a preflight, which nothing here
/// answers, and browsers tell where a request comes from.
fn is_no_forgery(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not-json",
            "Commands are JSON",
            format!("the header `Content-Type` says `{content_type}`"),
            "send `Content-Type: application/json`",
        ));
    }
    let foreign = |place: &str, value: &str| {
        Problem::new(
            StatusCode::FORBIDDEN,
            "foreign-origin",
            "Another page may not give commands",
            format!("the header `{place}` says `{value}`"),
            "give commands from the dashboard itself or from the command line",
        )
    };
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or("?");
        let from = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let from = from.and_then(|rest| rest.parse::<Authority>().ok());
        if from.is_none() || from != authority(uri, headers) {
            return Err(foreign("Origin", origin));
        }
    }
    match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(other) => Err(foreign("Sec-Fetch-Site", &String::from_utf8_lossy(other))),
    }
}

fn unauthorised(headers: &HeaderMap) -> Problem {
    let detail = if headers.contains_key(header::AUTHORIZATION) {
        "the header `Authorization` holds no token that is known here"
    } else {
        "the header `Authorization` is missing"
    };
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "no-token",
        "A token is needed",
        detail,
        "send `Authorization: Bearer SECRET` with the secret of a configured token",
    )
}

pub(super) fn forbidden(name: &str, has: Role, needs: Role) -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "role-too-low",
        "The token may not do this",
        format!("the token `{name}` has the role {has:?}, and this needs {needs:?}").to_lowercase(),
        "use a token with the role named, or have the role of this one changed in the configuration",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(k, v)| (header::HeaderName::from_static(k), v.parse::<HeaderValue>().unwrap()))
            .collect()
    }

    #[test]
    fn only_names_of_loopback_pass() {
        let uri = Uri::from_static("/");
        for fine in ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "127.9.9.9", "[::1]:80", "[::1]"] {
            assert!(is_loopback_name(&uri, &headers(&[("host", fine)])).is_ok(), "{fine}");
        }
        for bad in
            ["evil.example", "localhost.evil.example", "10.0.0.1", "127.0.0.1.evil.example", "[::2]:1", ""]
        {
            assert!(is_loopback_name(&uri, &headers(&[("host", bad)])).is_err(), "{bad}");
        }
        assert!(is_loopback_name(&uri, &HeaderMap::new()).is_err());
    }

    #[test]
    fn another_origin_can_not_give_commands() {
        let uri = Uri::from_static("/");
        let ask = |more: &[(&'static str, &str)]| {
            let mut all = vec![("host", "localhost:9"), ("content-type", "application/json; charset=utf-8")];
            all.extend_from_slice(more);
            is_no_forgery(&uri, &headers(&all)).is_ok()
        };
        assert!(ask(&[]));
        assert!(ask(&[("origin", "http://localhost:9"), ("sec-fetch-site", "same-origin")]));
        assert!(!ask(&[("origin", "http://localhost:8")]));
        assert!(!ask(&[("origin", "null")]));
        assert!(!ask(&[("origin", "http://evil.example")]));
        assert!(!ask(&[("sec-fetch-site", "cross-site")]));
        assert!(!ask(&[("sec-fetch-site", "same-site")]));
    }
}
