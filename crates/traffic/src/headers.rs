//! What a proxy changes in headers: as little as RFC 9110 §7.6 asks for.
//!
//! Fields that are about one connection are removed, in both directions. `x-forwarded-for` gets the client's address
//! appended (unless switched off), whatever the client claimed before: a cell should trust the last address only.
//! `via` is appended to requests if asked for. Nothing else is touched.

use std::net::SocketAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{CONNECTION, COOKIE, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE, VIA},
    uri::{PathAndQuery, Scheme},
};

use crate::{
    io::Client,
    slots::hash_key,
    wire::{Protocol, ServiceSettings, Sticky},
};

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
static VIA_US: HeaderValue = HeaderValue::from_static("1.1 forefend");

/// Removes the fields that are about the connection they came on (RFC 9110 §7.6.1).
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // One pass over what is there is cheaper than a lookup for each that might be.
    let found = headers.keys().any(|name| {
        *name == CONNECTION
            || *name == TRANSFER_ENCODING
            || *name == TE
            || *name == UPGRADE
            || *name == KEEP_ALIVE
            || *name == PROXY_CONNECTION
    });
    if !found {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [&CONNECTION, &TRANSFER_ENCODING, &UPGRADE, &KEEP_ALIVE, &PROXY_CONNECTION] {
        headers.remove(name);
    }
    // `te: trailers` says what the client can take, which gRPC insists on; any other coding is ours to choose.
    if let Some(te) = headers.remove(TE)
        && te
            .to_str()
            .is_ok_and(|te| te.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")))
    {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Makes a client's request one to the cell at `address`.
///
/// # Errors
/// In words for the client, when there is no such request.
pub(crate) fn to_cell<B>(
    request: &mut Request<B>,
    settings: &ServiceSettings,
    client: &Client,
) -> Result<(), &'static str> {
    if *request.method() == Method::CONNECT {
        return Err("this is no forward proxy: CONNECT is not served");
    }
    let authority = request.uri().authority().cloned();
    let headers = request.headers_mut();
    strip_hop_by_hop(headers);
    if headers.contains_key(EXPECT) {
        // hyper answers 100-continue to the client as soon as the body is wanted.
        headers.remove(EXPECT);
    }
    if let Some(authority) = &authority
        && let Ok(host) = HeaderValue::try_from(authority.as_str())
    {
        // RFC 9112 §3.2.2: the target's authority counts, not what `host` says.
        headers.insert(HOST, host);
    }
    if headers.get_all(HOST).iter().nth(1).is_some() {
        return Err("there is more than one `host`");
    }
    if settings.protocol == Protocol::Http1 {
        headers.remove(TE);
    }
    if settings.forwarded_for {
        headers.append(&X_FORWARDED_FOR, client.forwarded_for());
    }
    if settings.via {
        headers.append(VIA, VIA_US.clone());
    }
    match settings.protocol {
        Protocol::Http1 => {
            *request.version_mut() = Version::HTTP_11;
            if authority.is_some() {
                let path = request.uri().path_and_query().cloned();
                *request.uri_mut() = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
            }
        }
        Protocol::Http2 => {
            *request.version_mut() = Version::HTTP_2;
            let host = match &authority {
                Some(authority) => authority.as_str(),
                None => {
                    request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost")
                }
            };
            let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
            let uri = Uri::builder().scheme(Scheme::HTTP).authority(host).path_and_query(path).build();
            *request.uri_mut() = uri.map_err(|_| "`host` is not valid")?;
            request.headers_mut().remove(HOST);
        }
    }
    Ok(())
}

/// The hashed key of the user who sent a request, if it has one.
pub(crate) fn user_key(sticky: &Sticky, headers: &HeaderMap, client: SocketAddr) -> Option<u64> {
    match sticky {
        Sticky::None => None,
        Sticky::Header { name } => headers.get(name.as_str()).map(|value| hash_key(value.as_bytes())),
        Sticky::Cookie { name } => headers.get_all(COOKIE).iter().find_map(|value| {
            value.as_bytes().split(|byte| *byte == b';').find_map(|pair| {
                let pair = pair.trim_ascii();
                pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(hash_key)
            })
        }),
        Sticky::ClientAddress => Some(match client {
            SocketAddr::V4(v4) => hash_key(&v4.ip().octets()),
            SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
                Some(v4) => hash_key(&v4.octets()),
                None => hash_key(&v6.ip().octets()),
            },
        }),
    }
}

/// Whether doing it twice is the same as doing it once (RFC 9110 §9.2.2).
pub(crate) fn is_idempotent(method: &Method) -> bool {
    method.is_idempotent()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn what_belongs_to_the_connection_stays_there() {
        let mut headers = map(&[
            ("connection", "close, x-private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, trailers"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("te", "trailers"), ("accept", "*/*")]));
    }

    #[test]
    fn a_user_is_known_by_what_the_service_says() {
        let client: SocketAddr = "10.0.0.1:5".parse().unwrap();
        let headers = map(&[("cookie", "a=1; sid=u7; b=2"), ("x-user", "u7")]);
        let key = Some(hash_key(b"u7"));
        assert_eq!(user_key(&Sticky::Cookie { name: "sid".into() }, &headers, client), key);
        assert_eq!(user_key(&Sticky::Cookie { name: "si".into() }, &headers, client), None);
        assert_eq!(user_key(&Sticky::Header { name: "x-user".into() }, &headers, client), key);
        assert_eq!(user_key(&Sticky::None, &headers, client), None);
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:9".parse().unwrap();
        let by_address = |client| user_key(&Sticky::ClientAddress, &headers, client);
        assert_eq!(by_address(client), by_address(mapped));
    }
}
