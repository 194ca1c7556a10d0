//! What windows hold of what a Prometheus says.

use super::*;

#[tokio::test]
async fn the_past_fills_windows_at_once_with_a_question_for_each_metric_however_many_cells_there_are() {
    const CELLS: usize = 300;
    let server = Server::start(by(|asked| match asked {
        None => time_is(now()),
        Some(asked) => {
            let labels: Vec<String> =
                (0..CELLS).map(|n| format!(r#""instance":"127.0.0.1:{}""#, 1_000 + n)).collect();
            let told = |at: u64| Some(at as f64 / 1_000.0);
            let series: Vec<(&str, Sampled<'_>)> =
                labels.iter().map(|labels| (labels.as_str(), &told as Sampled<'_>)).collect();
            matrix(&asked, &series)
        }
    }))
    .await;
    let mut collector = collector(CELLS);
    let follower = collector.follow_prometheus(options(&server, &[("a", "a"), ("b", "rate(b[1m])")]));
    first_round(&follower).await;
    let at_first = server.requests();
    for (n, metric) in [(0, "a"), (CELLS - 1, "b"), (CELLS / 2, "a")] {
        let values = values(&mut collector, n, metric);
        assert!(values.len() >= LENGTH - 20, "{} of {LENGTH} steps", values.len());
        assert!(values.iter().all(|(at, value)| *value == *at as f64 / 1_000.0), "each in its own step");
    }
    assert!(at_first <= 6, "{at_first} requests for the first round, and perhaps the second");
    assert_eq!(server.connections(), 1);
    assert_eq!(follower.problems(), [""; 0]);
    assert!(server.last_request().contains("host: 127.0.0.1:"));
    assert!(server.last_request().contains("&timeout=2.000&lookback_delta=60.000"));
}

#[tokio::test]
async fn late_samples_corrections_and_what_is_no_value_mean_what_they_mean_elsewhere() {
    // Every third value is NaN; the newest 300 ms come late; until `ended` is set a value is shown that is then taken back.
    let ended = Arc::new(AtomicU64::new(u64::MAX));
    let server = {
        let ended = Arc::clone(&ended);
        Server::start(by(move |asked| match asked {
            None => time_is(now()),
            Some(asked) => {
                let newest = now().unix_ms();
                let ended = ended.load(Ordering::SeqCst);
                let odd = |at: u64| Some(if (at / 100).is_multiple_of(3) { f64::NAN } else { 1.0 });
                let late = |at: u64| (at + 300 < newest).then_some(2.0);
                let ends = |at: u64| (at < ended).then_some(3.0);
                // 10 a second, and anew from 0 every two seconds.
                let total = |at: u64| Some((at % 2_000) as f64 / 100.0);
                let labels = r#""forefend_cell":"shop-0""#;
                let sampled: Sampled<'_> = match asked.query.as_str() {
                    "odd" => &odd,
                    "late" => &late,
                    "ends" => &ends,
                    _ => &total,
                };
                matrix(&asked, &[(labels, sampled)])
            }
        }))
        .await
    };
    let mut collector = collector(1);
    let mut options =
        options(&server, &[("odd", "odd"), ("late", "late"), ("ends", "ends"), ("total", "total")]);
    options.metrics[3].counter = true;
    let follower = collector.follow_prometheus(options);
    first_round(&follower).await;
    let odd = values(&mut collector, 0, "odd");
    assert!(
        !odd.is_empty() && odd.iter().all(|(at, _)| !(at / 100).is_multiple_of(3)),
        "NaN is a gap: {odd:?}"
    );
    let rates = window(&mut collector, 0, "total").unwrap().samples;
    let anew: Vec<_> = rates.iter().filter(|s| s.at.unix_ms().is_multiple_of(2_000)).collect();
    assert!(
        !anew.is_empty() && anew.iter().all(|sample| sample.value.is_none()),
        "a counter that began anew"
    );
    let known: Vec<f64> = rates.iter().filter_map(|sample| sample.value).collect();
    assert!(known.len() > 20 && known.iter().all(|rate| (rate - 10.0).abs() < 1e-6), "{known:?}");

    // What was late when it was asked for is there a little later.
    let newest = values(&mut collector, 0, "late").last().unwrap().0;
    eventually("late samples", || {
        let late = values(&mut collector, 0, "late");
        let after = late.iter().filter(|(at, _)| *at > newest).count();
        (after >= 5 && late.windows(2).all(|pair| pair[1].0 - pair[0].0 == 100)).then_some(())
    })
    .await;

    // It turns out that the series ended a little while ago: values that were shown since are taken back.
    eventually("some values", || {
        let last = values(&mut collector, 0, "ends").last()?.0;
        (last + 200 > now().unix_ms()).then_some(())
    })
    .await;
    let end = now().unix_ms() - 300;
    ended.store(end, Ordering::SeqCst);
    eventually("values that were none are gaps", || {
        values(&mut collector, 0, "ends").iter().all(|(at, _)| *at < end).then_some(())
    })
    .await;
    assert_eq!(follower.problems(), [""; 0], "a gap is nothing wrong");
}

#[tokio::test]
async fn a_clock_an_hour_ahead_is_told_and_made_up_for() {
    let ahead = Duration::from_secs(3_600);
    let server = Server::start(by(move |asked| match asked {
        None => time_is(now() + ahead),
        Some(asked) => {
            let future = (now() + ahead).unix_ms();
            let known = |at: u64| (at <= future).then_some(at as f64 / 1_000.0);
            matrix(&asked, &[(r#""forefend_cell":"shop-0""#, &known)])
        }
    }))
    .await;
    let mut collector = collector(1);
    let follower = collector.follow_prometheus(options(&server, &[("a", "a")]));
    first_round(&follower).await;
    let values = values(&mut collector, 0, "a");
    assert!(values.len() >= LENGTH - 20, "{}", values.len());
    let off = |(at, value): &(u64, f64)| (*value * 1_000.0 - *at as f64 - 3_600_000.0).abs();
    assert!(values.iter().all(|sample| off(sample) <= 200.0), "{values:?}");
    let told = follower.problems().join("\n");
    assert!(
        told.contains("ahead of ours, and its times are moved by that; set the clocks of both"),
        "{told}"
    );
}

#[tokio::test]
async fn whose_a_series_is_follows_from_labels_and_what_is_unclear_is_a_gap() {
    let server = Server::start(by(|asked| match asked {
        None => time_is(now()),
        Some(asked) => {
            let one = |_: u64| Some(1.0);
            let often = |at: u64| (at / 100).is_multiple_of(4).then_some(2.0);
            let (unknown, pod) = (r#""instance":"elsewhere:9100""#, r#""pod":"p-1","instance":"10.0.0.1:1""#);
            let (by_address, twice) =
                (r#""instance":"127.0.0.1:1000""#, r#""instance":"127.0.0.1:1000","device":"b""#);
            match asked.query.as_str() {
                "all" => matrix(&asked, &[(unknown, &one), (pod, &one), (by_address, &one), (twice, &often)]),
                "limit" => matrix(&asked, &[(pod, &|_| Some(7.0)), (by_address, &|_| Some(9.0))]),
                "limited" => matrix(&asked, &[(pod, &one), (by_address, &one)]),
                _ => matrix(&asked, &[(unknown, &one), (r#""job":"x""#, &one)]),
            }
        }
    }))
    .await;
    let mut collector = collector(3);
    let mut targets: Vec<Target> = (0..3).map(target).collect();
    targets[1].push.known_as = vec![("pod".into(), "p-1".into())];
    targets[2].paused = true;
    collector.set_targets(targets);
    let mut options = options(&server, &[("all", "all"), ("limited", "limited"), ("nobody", "nobody")]);
    options.metrics[1].what.limit_query = Some("limit".into());
    let follower = collector.follow_prometheus(options);
    first_round(&follower).await;
    let of_pod = values(&mut collector, 1, "all");
    assert!(of_pod.len() >= LENGTH - 20);
    let unclear = values(&mut collector, 0, "all");
    assert!(
        !unclear.is_empty() && unclear.iter().all(|(at, _)| !(at / 100).is_multiple_of(4)),
        "{unclear:?}"
    );
    let limited = |collector: &mut Collector, n| window(collector, n, "limited").map(|w| (w.kind, w.limit));
    assert_eq!(limited(&mut collector, 0), Some((MetricKind::Exhaustible, Some(9.0))));
    assert_eq!(limited(&mut collector, 1), Some((MetricKind::Exhaustible, Some(7.0))));
    assert_eq!(collector.newest().of(&cell(2)), [], "a parked cell is not heard");
    let told = follower.problems();
    assert!(told[0].contains("`all`: there are several series of shop-0 where one is wanted"), "{told:?}");
    let nobody = "`nobody`: none of 2 series is of a known cell (the first: instance=\"elsewhere:9100\"); keep the label";
    assert!(told[1].contains(nobody), "{told:?}");
    assert_eq!(told.len(), 2);
}
