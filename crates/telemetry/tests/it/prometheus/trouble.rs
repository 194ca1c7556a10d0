//! What a Prometheus can do wrong.

use super::*;

/// What can go wrong with a whole server, and some words of what is said of it.
fn failures() -> Vec<(Answer, &'static str)> {
    let whole = |status, body: &str| Answer::Whole(status, "text/html", body.into());
    vec![
        (whole(200, "<html>"), "the answer is none of a Prometheus"),
        (whole(503, "busy"), "it answers with status 503; see its log"),
        (whole(404, "{}"), "it answers with status 404; see whether the URL is that of its API"),
        (whole(302, ""), "it answers with status 302; see whether the URL is that of its API"),
        (whole(401, ""), "it answers with status 401; say what it wants to be shown: `token`, or `user`"),
        (
            Answer::Raw("SSH-2.0-OpenSSH_9.2\r\n"),
            "see whether it speaks HTTP/1.1, and whether that is over TLS",
        ),
        (Answer::Raw("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"sta"), "no whole answer within"),
        (Answer::Never, "no whole answer within 500ms; see whether it has too much to do"),
    ]
}

#[tokio::test]
async fn a_server_that_fails_in_any_way_is_told_once_and_its_gap_is_filled_when_it_is_back() {
    for (failure, words) in failures() {
        let server = Server::start(by(telling_time)).await;
        let mut collector = collector(1);
        let options = PrometheusOptions {
            timeout: Duration::from_millis(500),
            ..options(&server, &[("a", "a"), ("b", "b")])
        };
        let follower = collector.follow_prometheus(options);
        first_round(&follower).await;
        assert_eq!(follower.problems(), [""; 0]);
        server.answer(failure);
        let told = eventually(words, || Some(follower.problems()).filter(|told| !told.is_empty())).await;
        let url =
            format!("no telemetry from Prometheus http://{}/prom, its metrics are gaps: ", server.address);
        assert!(told.len() == 1 && told[0].starts_with(&url) && told[0].contains(words), "{told:?}");
        let last = values(&mut collector, 0, "a").last().unwrap().0;
        eventually("a gap", || (now().unix_ms() > last + 400).then_some(())).await;
        assert!(values(&mut collector, 0, "a").iter().all(|(at, _)| *at <= last + 100), "nothing is made up");
        server.answer(by(telling_time));
        eventually("it is back, and the gap is filled", || {
            let values = values(&mut collector, 0, "b");
            let whole = values.windows(2).all(|pair| pair[1].0 - pair[0].0 == 100);
            (follower.problems().is_empty() && whole && values.last()?.0 > last + 400).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn nobody_listens_and_then_somebody_does() {
    let server = Server::start(by(telling_time)).await;
    let address = server.address;
    let options = options(&server, &[("a", "a")]);
    drop(server);
    let mut collector = collector(1);
    let follower = collector.follow_prometheus(options);
    first_round(&follower).await;
    let told = follower.problems();
    assert!(told[0].contains(&format!("can't connect to {address}: ")), "{told:?}");
    assert!(told[0].ends_with("; see whether it is up, and can be reached from here"), "{told:?}");
    assert_eq!(values(&mut collector, 0, "a"), []);
}

#[tokio::test]
async fn an_expression_that_is_wrong_or_too_slow_does_not_keep_out_the_others() {
    let server = Server::start(by(|asked| match asked {
        Some(asked) if asked.query == "bad" => {
            let body = r#"{"status":"error","errorType":"bad_data","error":"1:4: parse error"}"#;
            Answer::Whole(400, "application/json", body.into())
        }
        Some(asked) if asked.query == "slow" => Answer::Never,
        Some(asked) if asked.query == "scalar" => {
            json(r#"{"status":"success","data":{"resultType":"string","result":[]}}"#.into())
        }
        Some(asked) if asked.query == "partial" => {
            let Answer::Whole(_, _, body) = telling_time(Some(asked)) else { unreachable!() };
            json(body.replacen('{', r#"{"warnings":["a store is away"],"#, 1))
        }
        other => telling_time(other),
    }))
    .await;
    let mut collector = collector(1);
    let metrics = [
        ("bad", "bad"),
        ("good", "good"),
        ("partial", "partial"),
        ("scalar", "scalar"),
        ("slow", "slow"),
        ("z", "z"),
    ];
    let options = PrometheusOptions { timeout: Duration::from_millis(300), ..options(&server, &metrics) };
    let follower = collector.follow_prometheus(options);
    first_round(&follower).await;
    for metric in ["good", "partial", "z"] {
        assert!(!values(&mut collector, 0, metric).is_empty(), "{metric}");
    }
    let told = follower.problems().join("\n");
    for words in [
        "`bad`: 1:4: parse error; try the expression in Prometheus's own page",
        "`partial`: it says that its answer is not whole: a store is away; see its log",
        "`scalar`: it yields string and no series; ask for an expression that has a value at each instant",
        "`slow`: no whole answer within 300ms",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[tokio::test]
async fn what_is_too_large_is_asked_for_in_portions_and_told_when_it_cant_be() {
    let server = Server::start(by(telling_time)).await;
    let mut collector = collector(1);
    // A value takes some 30 bytes: a dozen of them fit.
    let small = PrometheusOptions { max_answer_bytes: 500, ..options(&server, &[("a", "a")]) };
    let follower = collector.follow_prometheus(small.clone());
    first_round(&follower).await;
    let all = values(&mut collector, 0, "a");
    assert!(
        all.len() >= LENGTH - 20 && follower.problems().is_empty(),
        "{} {:?}",
        all.len(),
        follower.problems()
    );
    drop(follower);
    let tiny = PrometheusOptions { max_answer_bytes: 130, ..small };
    let follower = collector.follow_prometheus(tiny);
    first_round(&follower).await;
    let told = follower.problems().join("\n");
    assert!(
        told.contains("`a`: its answer is larger than 130 bytes; keep fewer labels and series"),
        "{told}"
    );
}

#[tokio::test]
async fn what_is_new_goes_on_where_the_past_cant_be_read() {
    let server = Server::start(by(|asked| match asked {
        Some(asked) if asked.instants.len() > 12 => {
            let body = r#"{"status":"error","errorType":"execution","error":"query processing would load too many samples into memory"}"#;
            Answer::Whole(422, "application/json", body.into())
        }
        Some(asked) if asked.instants[0] + 3_000 < now().unix_ms() => Answer::Never,
        other => telling_time(other),
    }))
    .await;
    let mut collector = collector(1);
    let options =
        PrometheusOptions { timeout: Duration::from_millis(300), ..options(&server, &[("a", "a")]) };
    let follower = collector.follow_prometheus(options);
    let told = eventually("the past can't be read", || {
        let told = follower.problems().join("\n");
        told.contains("the past of `a`: no whole answer within 300ms").then_some(told)
    })
    .await;
    assert!(!told.contains("its metrics are gaps"), "{told}");
    let last = values(&mut collector, 0, "a").last().unwrap().0;
    eventually("what is new", || (values(&mut collector, 0, "a").last()?.0 > last + 500).then_some(())).await;
    first_round(&follower).await;
}

#[tokio::test]
async fn a_follower_that_is_dropped_asks_no_more() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = Server::start(by(move |question| {
        count.fetch_add(1, Ordering::SeqCst);
        telling_time(question)
    }))
    .await;
    let collector = collector(1);
    let follower = collector.follow_prometheus(options(&server, &[("a", "a")]));
    eventually("several rounds", || (follower.rounds() >= 3).then_some(())).await;
    drop(follower);
    // Whoever asks still has a connection; that it is closed says that nobody does.
    let before = eventually("quiet", || {
        let before = asked.load(Ordering::SeqCst);
        std::thread::yield_now();
        (before == asked.load(Ordering::SeqCst)).then_some(before)
    })
    .await;
    let began = now();
    eventually("three intervals", || (now().since(began) > STEP * 3).then_some(())).await;
    assert!(asked.load(Ordering::SeqCst) <= before + 1);
}
