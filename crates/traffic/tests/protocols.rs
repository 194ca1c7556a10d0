//! HTTP/2, bodies, and requests that mean harm.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use forefend_traffic::{DirectorOptions, Protocol};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{FakeCell, Http, TestDirector, free_address};

/// Sends many requests at once over one HTTP/2 connection; the cells that answered and the bodies' sum of lengths.
fn over_http2(listen: SocketAddr, requests: usize, body: &'static [u8]) -> (BTreeSet<String>, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(listen).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let tasks: Vec<_> = (0..requests)
            .map(|n| {
                let mut sender = sender.clone();
                tokio::spawn(async move {
                    let request = Request::post("http://shop.example/item?q=1")
                        .header("x-user", format!("user-{n}"))
                        .body(Full::new(Bytes::from_static(body)))
                        .unwrap();
                    let response = sender.send_request(request).await.unwrap();
                    assert_eq!(response.status(), 200);
                    let cell = response.headers()["x-cell"].to_str().unwrap().to_owned();
                    (cell, response.into_body().collect().await.unwrap().to_bytes().len())
                })
            })
            .collect();
        let mut cells = BTreeSet::new();
        let mut bytes = 0;
        for task in tasks {
            let (cell, length) = task.await.unwrap();
            cells.insert(cell);
            bytes += length;
        }
        (cells, bytes)
    })
}

#[test]
fn http2_clients_reach_http1_and_http2_cells() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (FakeCell::start("a"), FakeCell::start("b"));
        let mut director = TestDirector::start(dir.path());
        director.set(|settings| settings.protocol = protocol);
        director.route(&[("north", &a, 0.5), ("south", &b, 0.5)]);
        director.until_up(&[&a, &b]);
        let (cells, bytes) = over_http2(director.listen, 200, b"hello");
        assert_eq!((cells.len(), bytes), (2, 1_000), "{protocol:?}");
        assert_eq!(Http::connect(director.listen).get("u", "").status, 200, "HTTP/1.1 on the same address");
        let (uri, headers) = a.echoed.lock().unwrap().last().cloned().unwrap();
        let host = match protocol {
            Protocol::Http1 => headers["host"].to_str().unwrap().to_owned(),
            Protocol::Http2 => uri.parse::<http::Uri>().unwrap().authority().unwrap().to_string(),
        };
        assert_eq!(host, "shop.example");
        assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    }
}

#[test]
fn large_bodies_pass_both_ways_whole() {
    let dir = tempfile::tempdir().unwrap();
    let a = FakeCell::start("a");
    let mut director = TestDirector::start(dir.path());
    director.route(&[("north", &a, 1.0)]);
    let body: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut http = Http::connect(director.listen);
    for method in ["POST", "PUT", "POST"] {
        let answer = http.send(method, &[("expect", "100-continue")], &body);
        // The interim answer comes first.
        let interim = answer.unwrap();
        let answer = if interim.status == 100 { http.read().unwrap() } else { interim };
        assert_eq!(answer.status, 200);
        assert!(answer.body == body, "the body was changed");
    }
    let chunked =
        b"POST /item HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(http.raw(chunked).unwrap().body, b"hello");
}

#[test]
fn what_belongs_to_the_connection_does_not_pass() {
    let dir = tempfile::tempdir().unwrap();
    let a = FakeCell::start("a");
    let mut director = TestDirector::start(dir.path());
    director.set(|settings| settings.via = true);
    director.route(&[("north", &a, 1.0)]);
    let headers =
        [("connection", "x-private"), ("x-private", "1"), ("x-forwarded-for", "9.9.9.9"), ("x-kept", "1")];
    assert_eq!(Http::connect(director.listen).send("GET", &headers, b"").unwrap().status, 200);
    let (_, seen) = a.echoed.lock().unwrap().last().cloned().unwrap();
    assert!(!seen.contains_key("x-private") && seen.contains_key("x-kept"), "{seen:?}");
    let chain: Vec<_> = seen.get_all("x-forwarded-for").iter().collect();
    assert_eq!(chain, ["9.9.9.9", "127.0.0.1"]);
    assert_eq!(seen["via"], "1.1 forefend");
}

#[test]
fn a_request_with_two_lengths_is_one_request_and_the_connection_ends() {
    let dir = tempfile::tempdir().unwrap();
    let a = FakeCell::start("a");
    let mut director = TestDirector::start(dir.path());
    director.route(&[("north", &a, 1.0)]);
    // RFC 9112 §6.3: the encoding counts, the length is removed, and what follows is not trusted.
    let smuggled = b"POST /item HTTP/1.1\r\nhost: x\r\nx-id: one\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n\
        0\r\n\r\nGET /item HTTP/1.1\r\nhost: x\r\nx-id: two\r\n\r\n";
    let mut http = Http::connect(director.listen);
    let answer = http.raw(smuggled);
    assert!(
        answer.as_ref().map_or(true, |answer| answer.status == 200 || answer.status == 400),
        "{answer:?}"
    );
    assert!(http.is_closed());
    let executed = a.executed();
    assert!(!executed.contains(&"GET two".to_owned()), "{executed:?}");
    for (_, headers) in a.echoed.lock().unwrap().iter() {
        assert!(!(headers.contains_key("content-length") && headers.contains_key("transfer-encoding")));
    }
    for bad in [
        &b"POST /item HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!"[..],
        b"POST /item HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
        b"GET /item HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
        b"GET /item HTTP/1.1\r\nbad header: x\r\n\r\n",
        b"CONNECT other:443 HTTP/1.1\r\nhost: other:443\r\n\r\n",
    ] {
        let answer = Http::connect(director.listen).raw(bad).unwrap();
        assert_eq!(answer.status, 400, "{}", String::from_utf8_lossy(bad));
    }
}

#[test]
fn slow_and_oversized_headers_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let a = FakeCell::start("a");
    let options =
        DirectorOptions { header_timeout: Duration::from_millis(300), ..DirectorOptions::new(dir.path()) };
    let mut director = TestDirector::start_with(options, free_address());
    director.route(&[("north", &a, 1.0)]);
    let huge = format!("GET /item HTTP/1.1\r\nhost: x\r\nx-huge: {}\r\n\r\n", "x".repeat(200_000));
    match Http::connect(director.listen).raw(huge.as_bytes()) {
        Ok(answer) => assert_eq!(answer.status, 431),
        // The director closed while we were still sending.
        Err(error) => assert!(error.kind() != std::io::ErrorKind::WouldBlock, "{error}"),
    }
    for start in ["G", "GET /item HTTP/1.1\r\nhost: x\r\nx-sl"] {
        let begun = Instant::now();
        let mut http = Http::connect(director.listen);
        assert!(http.raw(start.as_bytes()).is_err(), "an answer to half a request");
        assert!(begun.elapsed() < Duration::from_secs(5), "the slow sender was kept");
    }
    // One that has been served before is bounded too.
    let mut http = Http::connect(director.listen);
    assert_eq!(http.get("u", "").status, 200);
    let begun = Instant::now();
    assert!(http.raw(b"GET /item HTT").is_err());
    assert!(begun.elapsed() < Duration::from_secs(5), "the slow sender was kept");
}

#[test]
fn a_client_that_closes_its_half_after_the_request_still_gets_the_answer() {
    use std::io::{Read as _, Write as _};
    let dir = tempfile::tempdir().unwrap();
    let cell = FakeCell::start("a");
    let mut director = TestDirector::start(dir.path());
    director.route(&[("north", &cell, 1.0)]);
    director.until_up(&[&cell]);
    cell.delay_ms.store(100, std::sync::atomic::Ordering::SeqCst);
    let mut stream = std::net::TcpStream::connect(director.listen).unwrap();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    stream.write_all(b"GET /item HTTP/1.1\r\nhost: shop.example\r\n\r\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}
