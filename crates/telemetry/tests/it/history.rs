//! Histories and incidents as files: what is written is read again, and what is wrong is named.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use forefend_domain::{Family, MetricKind, MetricName, Timestamp};
use forefend_telemetry::history::{
    CellHistory, History, HistoryError, HistorySource, Incident, IncidentSource, LoadOptions, RecordedSeries,
    load, parse_incidents, read_incidents, write_parquet,
};
use proptest::prelude::*;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(ms)
}

fn from(path: &Path) -> HistorySource {
    HistorySource::Files(path.to_owned())
}

/// A table as text, read as the file `name` of a fresh folder.
fn read_named(name: &str, text: impl AsRef<[u8]>, options: &LoadOptions) -> Result<History, HistoryError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    load(&from(&path), options)
}

fn read(text: &str) -> Result<History, HistoryError> {
    read_named("fleet.csv", text, &LoadOptions::default())
}

/// The error of a table, without its folder.
fn wrong(text: &str) -> String {
    let error = read(text).unwrap_err().to_string();
    error.split_once("fleet.csv: ").unwrap_or_else(|| panic!("{error}")).1.to_owned()
}

fn series(history: &History, cell: &str, metric: &str) -> RecordedSeries {
    history.cells[cell].series[&MetricName::new(metric)].clone()
}

#[test]
fn the_shortest_table_loads_with_the_defaults_that_are_said() {
    let history =
        read("cell,metric,at,value\na-1,queue,10000,1\na-1,queue,20000,2.5\na-1,queue,40000,3\n").unwrap();
    let expected = RecordedSeries {
        family: Family::Custom,
        kind: MetricKind::Unbounded,
        unit: String::new(),
        limits: vec![],
        samples: vec![(at(10_000), 1.0), (at(20_000), 2.5), (at(40_000), 3.0)],
    };
    assert_eq!(series(&history, "a-1", "queue"), expected);
    assert_eq!(history.step, Duration::from_secs(10), "the lower median of 10 s and 20 s");
    assert_eq!(history.cells["a-1"].service.as_str(), "recorded");
}

#[test]
fn a_full_table_says_all_of_a_metric_and_how_its_limit_moved() {
    let told = LoadOptions { step: Some(Duration::from_secs(1)), ..LoadOptions::default() };
    let text = "# how it was made\ncell,service,metric,family,kind,unit,limit,at,value\n\
        a-1,shop,mem,saturation,saturable,bytes,10,2025-11-21T10:00:00Z,1\n\
        a-1,,mem,,,,20,2025-11-21T10:00:01Z,\n\
        a-1,shop,mem,,,bytes,,1763719202000,NaN\n";
    let history = read_named("fleet.csv", text, &told).unwrap();
    let expected = RecordedSeries {
        family: Family::Saturation,
        kind: MetricKind::Saturable,
        unit: "bytes".to_owned(),
        limits: vec![
            (at(1_763_719_200_000), Some(10.0)),
            (at(1_763_719_201_000), Some(20.0)),
            (at(1_763_719_202_000), None),
        ],
        samples: vec![(at(1_763_719_200_000), 1.0)],
    };
    assert_eq!(series(&history, "a-1", "mem"), expected);
    assert_eq!(history.cells["a-1"].service.as_str(), "shop");
}

#[test]
fn a_limit_without_a_kind_must_not_be_reached() {
    let history = read("cell,metric,limit,at,value\na,m,9,1000,1\na,m,9,2000,2\n").unwrap();
    assert_eq!(series(&history, "a", "m").kind, MetricKind::Exhaustible);
}

#[test]
fn rows_in_any_order_are_sorted_and_of_two_for_one_instant_the_later_counts() {
    let told = LoadOptions { step: Some(Duration::from_secs(1)), ..LoadOptions::default() };
    let history = read_named(
        "fleet.csv",
        "cell,metric,at,value\na,m,3000,3\na,m,1000,1\na,m,2000,2\na,m,1000,9\na,m,2000,\na,m,4000,4\na,m,4900,4.9\na,m,4500,4.5\n",
        &told,
    )
    .unwrap();
    // 4500 and 4900 lie in one step, of which the last counts.
    let samples = vec![(at(1_000), 9.0), (at(3_000), 3.0), (at(4_000), 4.0), (at(4_900), 4.9)];
    assert_eq!(series(&history, "a", "m").samples, samples);
}

#[test]
fn wrong_tables_get_errors_that_name_the_place_and_the_remedy() {
    let golden = [
        (
            "cell,metric,at\n",
            "header: column value is missing; begin the file with a line of names such as cell,metric,at,value",
        ),
        (
            "cell,metric,at,value,famly\n",
            "header: `famly` is no column that means anything here; leave it out; the columns are cell, service, metric, family, kind, unit, limit, at, value",
        ),
        ("cell,metric,at,value,at\n", "header: column at stands there twice; leave one of them out"),
        (
            "cell,metric,at,value\na,m,1000,1\na,m,2000,1\na,m,yesterday,2\n",
            "row 4, column at: `yesterday` is no instant since 1970; write whole milliseconds since 1970, or RFC 3339 as 2026-11-21T10:00:00Z",
        ),
        (
            "cell,metric,at,value\na,m,1000,12MB\n",
            "row 2, column value: `12MB` is no number; write it with a point, without a unit, or leave it empty",
        ),
        (
            "cell,metric,at,value\na,,1000,1\n",
            "row 2, column metric: nothing stands there; every row needs it",
        ),
        (
            "cell,metric,at,value\na/b,m,1000,1\n",
            "row 2, column cell: `a/b` is not a valid cell id; use 1 to 63 letters, digits, `-`, `_` or `.`, beginning with a letter or digit",
        ),
        (
            "cell,metric,at,value\na,m,1000\n",
            "row 2: 3 fields, where the header has 4; give every row as many fields as the header; quote text that holds commas",
        ),
        (
            "cell,metric,at,value,family\na,m,1000,1,memory\n",
            "row 2, column family: `memory` is no family; write one of saturation, latency, traffic, errors, logs, restarts, custom",
        ),
        (
            "cell,metric,at,value,kind\na,m,1000,1,hard\n",
            "row 2, column kind: `hard` is no kind; write one of exhaustible, depletable, saturable, unbounded",
        ),
    ];
    for (text, expected) in golden {
        assert_eq!(wrong(text), expected);
    }
    let latin = read_named("fleet.csv", b"cell,metric,at,value\na,\xe9,1000,1\n", &LoadOptions::default());
    assert!(latin.unwrap_err().to_string().ends_with("row 2: it is not UTF-8; write the file as UTF-8"));
}

#[test]
fn sources_that_hold_nothing_readable_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let error = |path: &Path, options: &LoadOptions| load(&from(path), options).unwrap_err().to_string();
    let all = LoadOptions::default();
    assert!(error(&folder.path().join("none"), &all).ends_with("see whether it is there and may be read"));
    assert!(error(folder.path(), &all).contains("holds no sample; name a file with rows"));
    let other = folder.path().join("notes.txt");
    fs::write(&other, "x").unwrap();
    assert!(error(&other, &all).contains("its name ends in neither .parquet nor .csv"));
    let table = folder.path().join("a.csv");
    fs::write(&table, "cell,metric,at,value\na,m,1000,1\na,m,2000,1\na,m,3000,1\n").unwrap();
    let later = LoadOptions { from: Some(at(3_001)), ..all.clone() };
    assert!(
        error(folder.path(), &later)
            .ends_with("holds no sample of the time and the cells asked for; ask for more")
    );
    let few = LoadOptions { max_rows: 2, ..all.clone() };
    assert!(error(folder.path(), &few).contains("holds more than 2 rows; read a shorter time"));
    assert!(load(&from(folder.path()), &LoadOptions { max_rows: 3, ..all }).is_ok());
    fs::write(&table, "cell,metric,at,value\na,m,1000,1\nb,m,2000,1\n").unwrap();
    assert!(
        error(&table, &LoadOptions::default())
            .ends_with("no metric has two samples; say it, for example 10s")
    );
    assert!("".parse::<HistorySource>().is_err());
}

#[test]
fn only_what_is_asked_for_is_read_from_all_files_of_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("b.csv"), "cell,metric,at,value\na,m,1000,9\nb,m,1000,1\nb,m,3000,3\n")
        .unwrap();
    fs::write(folder.path().join("incidents.csv"), "cell,began\na,1000\n").unwrap();
    fs::write(folder.path().join("notes.txt"), "x").unwrap();
    fs::create_dir(folder.path().join("c.csv")).unwrap();
    let first = read("cell,metric,at,value\na,m,1000,1\na,m,2000,2\n").unwrap();
    write_parquet(folder.path().join("a.parquet"), &first).unwrap();
    let history = load(&from(folder.path()), &LoadOptions::default()).unwrap();
    assert_eq!(series(&history, "a", "m").samples, [(at(1_000), 9.0), (at(2_000), 2.0)], "b.csv comes later");
    assert_eq!(history.step, Duration::from_secs(1), "the Parquet file says it");
    let some = LoadOptions {
        cells: Some(BTreeSet::from(["b".parse().unwrap()])),
        to: Some(at(2_000)),
        step: Some(Duration::from_secs(5)),
        ..LoadOptions::default()
    };
    let history = load(&from(folder.path()), &some).unwrap();
    assert_eq!((history.cells.len(), history.step), (1, Duration::from_secs(5)));
    assert_eq!(series(&history, "b", "m").samples, [(at(1_000), 1.0)]);
}

/// Histories in the form in which they come out of a file: no two limits alike in a row, none lifted that never was, no metric empty.
fn histories() -> impl Strategy<Value = History> {
    let limits = prop::collection::btree_map(0_u64..40, prop::option::of(0_u8..3), 0..4);
    let samples =
        prop::collection::btree_map(1_u64..40, prop::num::f64::NORMAL | prop::num::f64::ZERO, 0..20);
    let one =
        (limits, samples, 0_usize..3, "[a-zé,\"{}= ]{0,8}").prop_map(|(limits, samples, kind, unit)| {
            let mut steps: Vec<(Timestamp, Option<f64>)> = Vec::new();
            for (from, limit) in limits {
                let limit = limit.map(f64::from);
                if steps.last().map_or(limit.is_some(), |(_, before)| *before != limit) {
                    steps.push((at(from * 500), limit));
                }
            }
            RecordedSeries {
                family: [Family::Logs, Family::Errors, Family::Custom][kind],
                kind: [MetricKind::Exhaustible, MetricKind::Saturable, MetricKind::Unbounded][kind],
                unit: unit.trim().to_owned(),
                limits: steps,
                samples: samples.into_iter().map(|(step, value)| (at(step * 1_000), value)).collect(),
            }
        });
    let one = one.prop_filter("something to write", |s| !s.limits.is_empty() || !s.samples.is_empty());
    let cell = prop::collection::btree_map("[a-z]{1,3}(\\{x=\"é, \"\\})?", one, 1..4);
    prop::collection::btree_map("[a-z]{1,2}", ("[a-z]{1,2}", cell), 1..4).prop_map(|cells| {
        let cells = cells.into_iter().map(|(cell, (service, series))| {
            let series = series.into_iter().map(|(name, s)| (MetricName::new(&name), s)).collect();
            let service = service.parse().unwrap();
            (cell.parse().unwrap(), CellHistory { service, series })
        });
        History { step: Duration::from_secs(1), cells: cells.collect::<BTreeMap<_, _>>() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_again(history in histories()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("h.parquet");
        write_parquet(&path, &history).unwrap();
        let again = load(&from(&path), &LoadOptions::default()).unwrap();
        prop_assert_eq!(&again, &history);
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        prop_assert_eq!(names, ["h.parquet"], "nothing unfinished is left");
    }

    #[test]
    fn a_damaged_file_is_an_error_or_other_numbers_but_never_a_panic(
        history in histories(), places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("h.parquet");
        write_parquet(&path, &history).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        for (place, byte) in places {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&path, bytes).unwrap();
        if let Err(error) = load(&from(&path), &LoadOptions::default()) {
            prop_assert!(error.to_string().contains("h.parquet"), "{error}");
        }
    }
}

#[test]
fn incidents_are_read_from_lines_and_from_tables_alike() {
    let lines = r#"
{"cell":"b","began":1763719300000,"kind":"memory leak","event":"e-1","source":"drill"}
{"cell":"a","began":"2025-11-21T10:00:00Z","ended":"2025-11-21T11:00:00+00:30"}
"#;
    let table = "\u{feff}cell,began,ended,kind,event,source\nb,1763719300000,,memory leak,e-1,drill\n\
                 a,2025-11-21T10:00:00Z,1763721000000,,,\n";
    let incident = |cell: &str, began, ended: Option<u64>, kind: &str, event: &str, source| Incident {
        cell: cell.parse().unwrap(),
        began: at(began),
        ended: ended.map(at),
        kind: kind.to_owned(),
        event: event.to_owned(),
        source,
    };
    let expected = vec![
        incident("a", 1_763_719_200_000, Some(1_763_721_000_000), "", "", IncidentSource::Imported),
        incident("b", 1_763_719_300_000, None, "memory leak", "e-1", IncidentSource::Drill),
    ];
    assert_eq!(parse_incidents(lines.as_bytes()).unwrap(), expected);
    assert_eq!(parse_incidents(table.as_bytes()).unwrap(), expected);
    let written: String =
        expected.iter().map(|incident| serde_json::to_string(incident).unwrap() + "\n").collect();
    assert_eq!(parse_incidents(written.as_bytes()).unwrap(), expected);
    assert_eq!(parse_incidents(b"cell,began\n").unwrap(), []);
}

#[test]
fn wrong_incidents_get_errors_that_name_the_place_and_the_remedy() {
    let object = "write one object a line, as {\"cell\":\"a-1\",\"began\":\"2026-11-21T10:00:00Z\"}";
    let golden = [
        ("{\"cell\":\"a\"}\n".to_owned(), format!("row 1, character 12: missing field `began`; {object}")),
        (
            "{\"cell\":\"a\",\"began\":1}\n{\"cell\":\"a\",\"began\":\"noon\"}".to_owned(),
            format!("row 2, character 27: `noon` is no instant since 1970; {object}"),
        ),
        (
            "{\"cell\":\"a\",\"began\":-1}".to_owned(),
            format!(
                "row 1, character 23: an instant: whole milliseconds since 1970, or RFC 3339 text; {object}"
            ),
        ),
        (
            "{\"cell\":\"a\",\"began\":1,\"end\":2}".to_owned(),
            format!(
                "row 1, character 27: unknown field `end`, expected one of `cell`, `began`, `ended`, `kind`, `event`, `source`; {object}"
            ),
        ),
        (
            "{\"cell\":\"a\",\"began\":2,\"ended\":1}".to_owned(),
            "row 1, column ended: it ended at 1970-01-01T00:00:00.001Z, before it began; exchange the two, or leave `ended` out where it is not known".to_owned(),
        ),
        (
            "cell,ended\n".to_owned(),
            "header: column began is missing; begin the file with a line of names such as cell,began".to_owned(),
        ),
        (
            "cell,began,source\na,1,guess\n".to_owned(),
            "row 2, column source: unknown variant `guess`, expected one of `objective`, `canary`, `fault`, `drill`, `operator`, `imported`; leave it empty for `imported`".to_owned(),
        ),
        (
            "cell,began,ended\na,2,1\n".to_owned(),
            "row 2, column ended: it ended at 1970-01-01T00:00:00.001Z, before it began; exchange the two, or leave `ended` out where it is not known".to_owned(),
        ),
        (
            String::new(),
            "header: column cell is missing; begin the file with a line of names such as cell,began".to_owned(),
        ),
    ];
    for (text, expected) in golden {
        assert_eq!(parse_incidents(text.as_bytes()).unwrap_err().to_string(), expected);
    }
    let latin = parse_incidents(b"cell,began\n\xe9,1\n").unwrap_err().to_string();
    assert_eq!(latin, "row 2: it is not UTF-8; write the file as UTF-8");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("i.csv");
    fs::write(&path, "cell,began\na,x\n").unwrap();
    let error = read_incidents(&path).unwrap_err().to_string();
    assert!(error.contains("i.csv: row 2, column began: `x` is no instant"), "{error}");
}
