//! The control socket, reloads, shutdown, and watching the engine.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use forefend_domain::{
    CellId, Weight,
    ports::{DataPlane as _, PortError},
};
use forefend_traffic::{DirectorError, DirectorOptions, SOCKET, run};
use support::{FakeCell, Http, TestDirector, free_address, routing, until};

#[test]
fn what_is_no_request_is_refused_and_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    let a = FakeCell::start("a");
    let mut director = TestDirector::start(dir.path());
    director.route(&[("north", &a, 1.0)]);
    let socket = dir.path().join(SOCKET);
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let ask = |text: &str| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        answer
    };
    for bad in [
        "hello\n",
        "{}\n",
        "{\"request\":\"apply\",\"config\":{\"routing\":7}}\n",
        "{\"request\":\"dance\"}\n",
    ] {
        assert!(ask(bad).contains("refused"), "{bad}");
    }
    assert!(ask("{\"request\":\"report\"}\n").contains("\"generation\":1"));

    let refusal = |director: &mut TestDirector, routing| match director.client.apply(&routing) {
        Err(PortError::Refused { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    let why = refusal(&mut director, routing(0, &[("north", "a", a.address, 1.0)]));
    assert!(why.contains("generation 0 is older than 1"), "{why}");
    let mut nowhere = routing(5, &[("north", "a", a.address, 1.0)]);
    nowhere.services.get_mut(&support::service()).unwrap().cells.clear();
    let why = refusal(&mut director, nowhere);
    assert!(why.contains("cell a of region north has weight but no address"), "{why}");
    director.set(|settings| settings.max_tries = 0);
    let why = refusal(&mut director, routing(5, &[("north", "a", a.address, 1.0)]));
    assert!(why.contains("`max_tries` is 0"), "{why}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    director.set(|settings| {
        settings.max_tries = 2;
        settings.listen.push(taken.local_addr().unwrap());
    });
    let why = refusal(&mut director, routing(5, &[("north", "a", a.address, 1.0)]));
    assert!(why.contains("can't listen at"), "{why}");
    assert_eq!(director.report().generation, 1);
    assert_eq!(Http::connect(director.listen).get("u", "").status, 200, "the last good state is kept");
}

#[test]
fn reloads_under_load_drop_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cells: Vec<FakeCell> = (0..4).map(|n| FakeCell::start(&format!("cell-{n}"))).collect();
    let options = DirectorOptions { workers: 2, ..DirectorOptions::new(dir.path()) };
    let mut director = TestDirector::start_with(options, free_address());
    let everyone: Vec<(&str, &FakeCell, f64)> = cells.iter().map(|cell| ("north", cell, 1.0)).collect();
    director.route(&everyone);
    let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let listen = director.listen;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (stop, sent) = (&stop, &sent);
                scope.spawn(move || {
                    let mut http = Http::connect(listen);
                    for n in 0.. {
                        if stop.load(Ordering::SeqCst) {
                            return;
                        }
                        let user = format!("{client}-{n}");
                        let headers = [("x-user", user.as_str()), ("x-id", user.as_str())];
                        let method = if n % 2 == 0 { "GET" } else { "POST" };
                        let answer = http.send(method, &headers, b"x").unwrap();
                        assert_eq!(answer.status, 200, "{answer:?}");
                        sent.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        for round in 0..60usize {
            // Cells come and go; one always stays.
            let some = everyone.iter().enumerate().filter(|(n, _)| *n == 0 || (n + round) % 3 != 0);
            director.route(&some.map(|(_, cell)| *cell).collect::<Vec<_>>());
            let so_far = sent.load(Ordering::SeqCst);
            until("requests go on", || sent.load(Ordering::SeqCst) > so_far + 5);
        }
        stop.store(true, Ordering::SeqCst);
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    let executed: usize = cells.iter().map(|cell| cell.executed().len()).sum();
    assert_eq!(executed, sent.load(Ordering::SeqCst), "something was executed twice or not at all");
}

#[test]
fn a_listener_that_goes_lets_its_requests_end_and_closes_its_connections() {
    let dir = tempfile::tempdir().unwrap();
    let a = FakeCell::start("a");
    let mut director = TestDirector::start(dir.path());
    director.route(&[("north", &a, 1.0)]);
    let old = director.listen;
    let (mut idle, mut busy) = (Http::connect(old), Http::connect(old));
    assert_eq!(idle.get("u", "first").status, 200);
    a.delay_ms.store(300, Ordering::SeqCst);
    director.set(|settings| settings.try_timeout = Duration::from_secs(5));
    director.route(&[("north", &a, 1.0)]);
    std::thread::scope(|scope| {
        let request = scope.spawn(|| (busy.get("u", "late").status, busy.is_closed()));
        until("it is in flight", || director.report().cells.values().any(|cell| cell.in_flight == 1));
        let new = free_address();
        director.set(|settings| settings.listen = vec![new]);
        director.route(&[("north", &a, 1.0)]);
        assert!(idle.is_closed());
        assert_eq!(request.join().unwrap(), (200, true), "the request in flight was dropped");
        until("the old address is free", || TcpStream::connect(old).is_err());
        assert_eq!(Http::connect(new).get("u", "new").status, 200);
    });
}

#[test]
fn shutdown_waits_for_requests_in_flight_and_two_directors_never_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let a = FakeCell::start("a");
    let mut director = TestDirector::start(dir.path());
    director.set(|settings| settings.try_timeout = Duration::from_secs(5));
    director.route(&[("north", &a, 1.0)]);
    assert!(matches!(run(DirectorOptions::new(dir.path())), Err(DirectorError::Locked(_))));
    a.delay_ms.store(300, Ordering::SeqCst);
    let mut http = Http::connect(director.listen);
    std::thread::scope(|scope| {
        let request = scope.spawn(|| http.get("u", "last"));
        until("it is in flight", || director.report().cells.values().any(|cell| cell.in_flight == 1));
        director.stop(true).unwrap();
        assert_eq!(request.join().unwrap().status, 200);
    });
    assert!(TcpStream::connect(director.listen).is_err());
}

#[test]
fn an_engine_that_dies_is_started_again_and_one_that_says_goodbye_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let started = dir.path().join("started");
    let script = format!("echo up >> {}; sleep 60", started.display());
    let options = DirectorOptions {
        respawn_engine: Some(["sh", "-c", &script].map(Into::into).to_vec()),
        ..DirectorOptions::new(dir.path())
    };
    let mut director = TestDirector::start_with(options, free_address());
    let starts = || std::fs::read_to_string(&started).map_or(0, |text| text.lines().count());
    let engine = || std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let mut first = engine();
    director.client.hello(first.id()).unwrap();
    director.client.goodbye().unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    let mut second = engine();
    director.client.hello(second.id()).unwrap();
    assert_eq!(starts(), 0, "it was started after a goodbye");
    second.kill().unwrap();
    second.wait().unwrap();
    until("the engine was started", || starts() == 1);
    // The started one has not said hello; when it ends it is started once more.
    let session = std::process::Command::new("pgrep").args(["-f", &script]).output().unwrap();
    let pid = String::from_utf8(session.stdout).unwrap();
    let pid = pid.lines().next().unwrap().trim().parse().unwrap();
    let pid = nix::unistd::Pid::from_raw(pid);
    assert_eq!(nix::unistd::getsid(Some(pid)).unwrap(), pid, "it is not in a session of its own");
    nix::sys::signal::killpg(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    until("the engine was started again", || starts() == 2);
    director.stop(false).unwrap();
    let left = std::process::Command::new("pgrep").args(["-f", &script]).output().unwrap();
    for pid in String::from_utf8(left.stdout).unwrap().lines() {
        let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
        nix::sys::signal::killpg(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}

#[test]
fn a_standalone_director_serves_with_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (FakeCell::start("a"), FakeCell::start("b"));
    let listen = free_address();
    let cells = [(a.address, Weight::from_bp(9_000).unwrap()), (b.address, Weight::from_bp(1_000).unwrap())];
    let state = dir.path().to_owned();
    let settings = support::quick(listen);
    let thread =
        std::thread::spawn(move || forefend_traffic::standalone(listen, &cells, settings, &state, 1));
    until("it serves", || TcpStream::connect(listen).is_ok());
    let mut http = Http::connect(listen);
    let at_b = (0..1_000).filter(|n| http.get(&format!("user-{n}"), "").cell() == "b").count();
    assert!((60..140).contains(&at_b), "{at_b}");
    let mut client =
        forefend_traffic::DirectorClient::new(dir.path(), Duration::from_secs(5), BTreeMap::new());
    let report = client.report().unwrap();
    assert_eq!(report.cells[&CellId::new("cell-1").unwrap()].requests, at_b as u64);
    client.shutdown(true).unwrap();
    drop(http);
    thread.join().unwrap().unwrap();
}
