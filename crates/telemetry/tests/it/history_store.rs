//! The engine's own store of recent history: what it is told is read again, whatever is cut off, dropped or lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use forefend_domain::{
    CellId, Family, MetricKind, MetricName, MetricWindow, ObjectiveState, Sample, ServiceId, Timestamp,
    Weight, Windows,
};
use forefend_telemetry::{
    MetricSpec, SeriesStore, StoreOptions,
    history::{
        History, HistorySource, LoadOptions, load, load_outcomes, read_incidents,
        store::{
            Batch, CellNow, Outcomes, Recorder, Recording, RecordingOptions, SegmentBounds, read_journal,
        },
    },
};
use proptest::prelude::*;

const STEP: Duration = Duration::from_secs(1);

fn at(ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(ms)
}

fn cell(name: &str) -> CellId {
    name.parse().unwrap()
}

fn gauge(name: &str, limit: Option<f64>) -> MetricSpec {
    MetricSpec {
        name: MetricName::new(name),
        family: Family::Saturation,
        kind: MetricKind::Exhaustible,
        unit: "bytes".to_owned(),
        limit,
        counter: false,
    }
}

fn series_store() -> SeriesStore {
    SeriesStore::new(StoreOptions { step: STEP, length: 12, ..StoreOptions::default() })
}

/// Windows of one metric `m` of cell `a`, whose last samples are these.
fn windows(end: u64, values: &[Option<f64>], limit: Option<f64>) -> Vec<Windows> {
    let first = end + 1 - values.len() as u64;
    let sample =
        |(n, value): (usize, &Option<f64>)| Sample { at: at((first + n as u64) * 1_000), value: *value };
    let name = MetricName::new("m");
    let window = MetricWindow {
        name: name.clone(),
        family: Family::Saturation,
        kind: MetricKind::Exhaustible,
        unit: "bytes".to_owned(),
        limit,
        samples: values.iter().enumerate().map(sample).collect(),
    };
    let metrics = BTreeMap::from([(name, window)]);
    vec![Windows { cell: cell("a"), at: at(end * 1_000), step: STEP, metrics }]
}

/// What journals of these batches hold, in the order of writing.
fn held(batches: &[Batch]) -> Vec<(u64, f64)> {
    let mut journals: Vec<Vec<u8>> = Vec::new();
    for batch in batches {
        if batch.begins.is_some() {
            journals.push(Vec::new());
        }
        journals.last_mut().expect("the first begins").extend(&batch.bytes);
    }
    let mut held = Vec::new();
    for journal in journals {
        let end = read_journal(&journal, |seen| {
            held.push((seen.at.unix_ms(), seen.value.unwrap()));
            Ok(())
        });
        assert_eq!(end.unwrap().torn_bytes, 0);
    }
    held
}

fn recorder() -> Recorder {
    Recorder::new(STEP, SegmentBounds::default(), at(9_500), &Outcomes::default())
}

#[test]
fn each_value_is_written_once_and_again_where_it_changed() {
    let mut recorder = recorder();
    let mut told = Vec::new();
    let mut tick = |now: u64, values: &[Option<f64>], limit| {
        recorder.windows(at(now * 1_000), &windows(now, values, limit), |_| None);
        told.push(recorder.take_batch());
    };
    // Steps 8 and 9 ended before the recorder began: a predecessor wrote them.
    tick(10, &[Some(8.0), Some(9.0), Some(10.0)], None);
    tick(11, &[Some(9.0), Some(10.0), None], None);
    tick(11, &[Some(9.0), Some(10.0), None], None);
    // An answer of step 11 came late, and that of step 10 was corrected.
    tick(12, &[Some(10.5), Some(11.0), Some(12.0)], Some(99.0));
    // Two ticks were missed.
    tick(15, &[Some(11.0), Some(12.0), Some(13.0), Some(14.0), Some(15.0)], Some(99.0));
    let expected = [
        (10_000, 10.0),
        (10_000, 10.5),
        (11_000, 11.0),
        (12_000, 12.0),
        (13_000, 13.0),
        (14_000, 14.0),
        (15_000, 15.0),
    ];
    assert_eq!(held(&told), expected);
    assert_eq!(told.iter().filter(|batch| batch.begins.is_some()).count(), 1);
    assert!(told[1].bytes.is_empty() && told[2].bytes.is_empty());
}

#[test]
fn a_segment_needs_nothing_that_came_before_it() {
    let bounds = SegmentBounds { time: Duration::from_secs(5), bytes: 1 << 20 };
    let mut recorder = Recorder::new(STEP, bounds, at(0), &Outcomes::default());
    let batches: Vec<Batch> = (1..=12)
        .map(|now| {
            recorder.windows(at(now * 1_000), &windows(now, &[Some(now as f64)], Some(1.0)), |_| None);
            recorder.take_batch()
        })
        .collect();
    let begun: Vec<u64> = batches.iter().filter_map(|b| b.begins).map(Timestamp::unix_ms).collect();
    assert_eq!(begun, [1_000, 6_000, 11_000]);
    assert_eq!(held(&batches).len(), 12);
    assert_eq!(held(&batches[5..]).len(), 7);
}

fn now_of(objective: ObjectiveState, away: f64) -> [CellNow; 1] {
    [CellNow { cell: cell("a"), objective, away: Weight::from_share(away) }]
}

/// What a reader would make of the outcomes in these batches.
/// Cell by cell, as the loop does.
fn tick(recording: &mut Recording, now: Timestamp, windows: &[Windows], service: Option<&ServiceId>) {
    if recording.begin(now) {
        windows.iter().for_each(|of_cell| recording.look(of_cell, service));
        recording.end();
    }
}

fn outcomes_of(batches: &[Batch]) -> Outcomes {
    let folder = tempfile::tempdir().unwrap();
    let mut path = None;
    for batch in batches {
        if let Some(begun) = batch.begins {
            path = Some(folder.path().join(format!("history-{:016}.journal", begun.unix_ms())));
        }
        let path = path.as_ref().expect("the first begins");
        let mut bytes = fs::read(path).unwrap_or_default();
        bytes.extend(&batch.bytes);
        fs::write(path, bytes).unwrap();
    }
    load_outcomes(&HistorySource::Files(folder.path().to_owned())).unwrap()
}

#[test]
fn outcomes_survive_a_lost_batch_and_a_new_engine() {
    let mut recorder = recorder();
    let failed = ObjectiveState::Failed { since: at(11_000) };
    let well = ObjectiveState::Met { since: at(15_000) };
    let tick = |recorder: &mut Recorder, now: u64, objective, away| {
        recorder.outcomes(at(now * 1_000), &now_of(objective, away));
        recorder.take_batch()
    };
    let first = tick(&mut recorder, 12, failed, 0.0);
    let lost = tick(&mut recorder, 13, failed, 0.5);
    assert!(!lost.bytes.is_empty());
    recorder.lost();
    let second = tick(&mut recorder, 14, failed, 0.5);
    let told = outcomes_of(&[first.clone(), second.clone()]);
    assert_eq!((told.incidents.len(), told.absences.len()), (1, 1));
    assert_eq!((told.absences[0].began, told.absences[0].most), (at(13_000), Weight::from_share(0.5)));
    // That it is well again is lost too, and told again.
    drop(tick(&mut recorder, 15, well, 0.0));
    recorder.lost();
    let third = tick(&mut recorder, 16, well, 0.0);
    let all = outcomes_of(&[first.clone(), second.clone(), third]);
    assert_eq!(all.incidents[0].ended, Some(at(15_000)));
    assert_eq!(all.absences[0].ended, Some(at(15_000)));

    // Killed while it was open: the successor closes it.
    let mut successor = Recorder::new(STEP, SegmentBounds::default(), at(20_000), &told);
    let unknown = tick(&mut successor, 21, ObjectiveState::Unknown, 0.5);
    let closed = tick(&mut successor, 22, well, 0.5);
    let later = outcomes_of(&[unknown.clone(), closed.clone()]);
    let incident = &later.incidents[0];
    assert_eq!(
        (incident.began, incident.ended),
        (at(11_000), Some(at(22_000))),
        "though the first segments went"
    );
    assert_eq!(later.absences[0].began, at(13_000));
    let all = outcomes_of(&[first, second, unknown, closed]);
    assert_eq!((all.incidents.len(), all.incidents[0].ended), (1, Some(at(22_000))));
    assert_eq!((all.absences.len(), all.absences[0].ended), (1, None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_journal_torn_at_any_byte_gives_what_was_whole_before(
        ticks in prop::collection::vec(prop::collection::vec(prop::option::of(-5.0..5.0_f64), 1..4), 1..6),
        flipped in any::<u8>(),
    ) {
        let mut recorder = Recorder::new(STEP, SegmentBounds::default(), at(0), &Outcomes::default());
        let mut journal = Vec::new();
        for (n, values) in ticks.iter().enumerate() {
            let end = 10 + n as u64;
            recorder.windows(at(end * 1_000), &windows(end, values, Some(n as f64)), |_| None);
            recorder.outcomes(at(end * 1_000), &now_of(ObjectiveState::Unknown, n as f64 / 10.0));
            journal.extend(recorder.take_batch().bytes);
        }
        let read = |bytes: &[u8]| {
            let mut rows = Vec::new();
            let end = read_journal(bytes, |seen| {
                rows.push((seen.at, seen.value.map(f64::to_bits)));
                Ok(())
            });
            (rows, end)
        };
        let (whole, end) = read(&journal);
        let end = end.unwrap();
        prop_assert_eq!((end.whole_bytes, end.torn_bytes), (journal.len(), 0));
        let mut known = 0;
        for cut in 0..=journal.len() {
            let (rows, end) = read(&journal[..cut]);
            let end = end.unwrap();
            prop_assert_eq!(end.whole_bytes + end.torn_bytes, cut);
            prop_assert!(end.whole_bytes >= known, "nothing whole is lost by what follows it");
            known = end.whole_bytes;
            prop_assert_eq!(&whole[..rows.len()], &rows[..]);
            if cut < journal.len() && cut >= 8 {
                let mut damaged = journal.clone();
                damaged[cut] ^= flipped | 1;
                let (rows, end) = read(&damaged);
                prop_assert!(end.unwrap().whole_bytes <= cut, "a flipped byte is noticed");
                prop_assert_eq!(&whole[..rows.len()], &rows[..]);
            }
        }
        prop_assert_eq!(known, journal.len());
    }
}

#[test]
fn something_else_is_no_journal() {
    let error = read_journal(b"PAR1xxxx", |_| Ok(())).unwrap_err().to_string();
    assert_eq!(
        error,
        "byte 0: it is no journal of a history; move it away if it was not written by forefend"
    );
    assert_eq!(read_journal(b"FFH", |_| Ok(())).unwrap().torn_bytes, 3);
}

fn options(folder: &Path) -> RecordingOptions {
    RecordingOptions {
        folder: folder.to_owned(),
        step: STEP,
        keep: Duration::from_secs(3_600),
        max_bytes: 1 << 30,
        segment: SegmentBounds { time: Duration::from_secs(60), bytes: 1 << 20 },
    }
}

fn open(options: RecordingOptions, now: u64) -> (Recording, Option<History>, usize) {
    let cells = BTreeSet::from([cell("a")]);
    let since = now.saturating_sub(30) * 1_000;
    let (recording, past, errors) = Recording::open(options, at(now * 1_000), at(since), cells).unwrap();
    (recording, past, errors.len())
}

fn record(recording: &mut Recording, shop: &ServiceId, ticks: std::ops::Range<u64>) {
    for now in ticks {
        tick(recording, at(now * 1_000), &windows(now, &[Some(now as f64)], Some(500.0)), Some(shop));
        recording.outcomes(at(now * 1_000), &now_of(ObjectiveState::Unknown, 0.0));
        // Seconds pass here faster than a disk writes.
        recording.flush();
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_store_is_sealed_restored_read_and_kept_within_its_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let source = HistorySource::Files(folder.path().to_owned());
    let shop: ServiceId = "shop".parse().unwrap();
    let (mut first, past, errors) = open(options(folder.path()), 1_000);
    assert!(past.is_none() && errors == 0);
    record(&mut first, &shop, 1_001..1_101);
    drop(first);
    assert_eq!(
        names(folder.path()),
        ["history-0000000001001000-0000000001060000.parquet", "history-0000000001061000.journal"]
    );
    // As if killed in the middle of a write.
    let journal = folder.path().join("history-0000000001061000.journal");
    let mut bytes = fs::read(&journal).unwrap();
    bytes.extend([9, 9, 9]);
    fs::write(&journal, bytes).unwrap();

    let (mut second, past, errors) = open(options(folder.path()), 1_110);
    assert_eq!(errors, 0);
    let past = past.expect("something was recorded");
    assert_eq!(past.span(), Some((at(1_080_000), at(1_100_000))), "of the last 30 s");
    let mut live = series_store();
    let series = &past.cells["a"].series[&MetricName::new("m")];
    assert_eq!((series.limit_at(at(1_100_000)), past.cells["a"].service.as_str()), (Some(500.0), "shop"));
    live.restore(&cell("a"), &gauge("m", Some(500.0)), &series.samples).unwrap();
    let shown = |live: &mut SeriesStore, now: u64| {
        live.windows(at(now * 1_000))[0].metrics[&MetricName::new("m")]
            .samples
            .iter()
            .map(|s| s.value)
            .collect::<Vec<_>>()
    };
    let window = shown(&mut live, 1_102);
    assert_eq!(window[..2], [Some(1_091.0), Some(1_092.0)]);
    assert_eq!(window[8..], [Some(1_099.0), Some(1_100.0), None, None], "while it was down is a gap");

    record(&mut second, &shop, 1_111..1_201);
    drop(second);
    let all = load(&source, &LoadOptions::default()).unwrap();
    let samples = &all.cells["a"].series[&MetricName::new("m")].samples;
    let expected: Vec<(Timestamp, f64)> =
        (1_001..1_101).chain(1_111..1_201).map(|s: u64| (at(s * 1_000), s as f64)).collect();
    assert_eq!(*samples, expected);
    assert_eq!(all.step, STEP);
    assert_eq!(read_incidents(folder.path()).unwrap(), []);

    // By age, then by size.
    let (mut third, ..) =
        open(RecordingOptions { keep: Duration::from_secs(150), ..options(folder.path()) }, 1_230);
    record(&mut third, &shop, 1_231..1_232);
    drop(third);
    assert!(!names(folder.path()).contains(&"history-0000000001001000-0000000001060000.parquet".to_owned()));
    let held = names(folder.path()).len();
    assert!(held > 1);
    let (mut fourth, ..) = open(RecordingOptions { max_bytes: 1, ..options(folder.path()) }, 1_240);
    record(&mut fourth, &shop, 1_241..1_242);
    drop(fourth);
    assert_eq!(names(folder.path()), ["history-0000000001241000.journal"]);
}

#[test]
fn a_folder_that_can_t_be_written_is_loud_and_damage_hinders_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let shop: ServiceId = "shop".parse().unwrap();
    fs::write(folder.path().join("history-0000000000001000-0000000000990000.parquet"), "no parquet").unwrap();
    fs::write(folder.path().join("history-0000000000002000.journal"), "no journal at all").unwrap();
    let (mut recording, past, errors) = open(options(folder.path()), 1_000);
    assert_eq!((past, errors), (None, 3), "the table, the journal, and the journal's outcomes");
    record(&mut recording, &shop, 1_001..1_003);
    drop(recording);
    assert!(names(folder.path()).contains(&"history-0000000000002000.damaged".to_owned()));

    let (mut recording, ..) = open(options(folder.path()), 1_100);
    fs::remove_dir_all(folder.path()).unwrap();
    record(&mut recording, &shop, 1_101..1_102);
    let problem = recording.problem().expect("it is told");
    assert!(problem.contains("see whether its folder is there and the disk has room"), "{problem}");
    fs::create_dir_all(folder.path()).unwrap();
    // The thread that writes may lose it before or after the tick has looked; looked at again, the tick has seen it.
    recording.outcomes(at(1_101_000), &[]);
    record(&mut recording, &shop, 1_102..1_111);
    assert!(recording.problem().is_some(), "nothing was tried yet");
    record(&mut recording, &shop, 1_111..1_120);
    assert_eq!(recording.problem(), None);
    drop(recording);
    let all = load(&HistorySource::Files(folder.path().to_owned()), &LoadOptions::default()).unwrap();
    assert_eq!(all.span(), Some((at(1_111_000), at(1_119_000))), "after ten quiet seconds it goes on");
}

#[test]
fn a_restored_counter_goes_on_as_a_rate_and_is_let_go_when_it_left_the_window() {
    let mut live = series_store();
    let past: Vec<(Timestamp, f64)> = (101..=110).map(|s: u64| (at(s * 1_000), 7.0)).collect();
    live.restore(&cell("a"), &gauge("m", None), &past).unwrap();
    let counter = MetricSpec { counter: true, ..gauge("m", None) };
    for second in 112..=114 {
        live.record(&cell("a"), &counter, at(second * 1_000), Some(second as f64 * 2.0)).unwrap();
    }
    let shown = |live: &mut SeriesStore, now: u64| {
        live.windows(at(now * 1_000))[0].metrics[&MetricName::new("m")]
            .samples
            .iter()
            .map(|s| s.value)
            .collect::<Vec<_>>()
    };
    let window = shown(&mut live, 114);
    assert_eq!(window[..8], [Some(7.0); 8]);
    assert_eq!(window[8..], [None, None, Some(2.0), Some(2.0)]);
    assert_eq!(shown(&mut live, 125).iter().flatten().count(), 1);
}

/// The CPU time of this thread so far, in nanoseconds.
fn cpu_ns() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// Telemetry as cells have it: levels that wander, noisy rates and latencies, ratios that are mostly zero.
fn made_up(cells: usize, step: u64, noise: &mut u64, levels: &mut [f64]) -> Vec<Windows> {
    let mut random = || {
        *noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*noise >> 33) as f64 / f64::from(1_u32 << 31)
    };
    (0..cells)
        .map(|n| {
            let metrics = (0..10)
                .map(|m| {
                    let level = &mut levels[n * 10 + m];
                    let value = match m {
                        0..=2 => {
                            *level += ((random() - 0.5) * 40.0).floor() * 4_096.0;
                            *level
                        }
                        3..=5 => 100.0 + random() * 20.0,
                        6..=7 => (random() * 50_000.0).round() / 1_000.0,
                        _ if random() < 0.05 => random(),
                        _ => 0.0,
                    };
                    let name = MetricName::new(&format!("metric_{m}_of_some_kind"));
                    let window = MetricWindow {
                        name: name.clone(),
                        family: Family::Custom,
                        kind: MetricKind::Unbounded,
                        unit: "bytes".to_owned(),
                        limit: None,
                        samples: vec![Sample { at: at(step * 5_000), value: Some(value) }],
                    };
                    (name, window)
                })
                .collect();
            let cell = cell(&format!("shop-{n:04}"));
            Windows { cell, at: at(step * 5_000), step: Duration::from_secs(5), metrics }
        })
        .collect()
}

/// Prints what ADR 0018 quotes.
#[test]
#[ignore = "measures, and takes a while"]
fn figures() {
    const CELLS: usize = 1_000;
    const STEPS: u64 = 180;
    let folder = tempfile::tempdir().unwrap();
    let start = 400_000_000;
    let wide = RecordingOptions {
        step: Duration::from_secs(5),
        segment: SegmentBounds { time: Duration::from_secs(86_400), bytes: 1 << 40 },
        keep: Duration::from_secs(86_400 * 365),
        ..options(folder.path())
    };
    let now = |step: u64| at(step * 5_000);
    let (mut recording, ..) = Recording::open(wide.clone(), now(start), now(start), BTreeSet::new()).unwrap();
    let (mut noise, mut levels, mut spent) = (1, vec![1e8; CELLS * 10], 0);
    for step in start + 1..=start + STEPS {
        let windows = made_up(CELLS, step, &mut noise, &mut levels);
        let before = cpu_ns();
        tick(&mut recording, now(step), &windows, None);
        recording.outcomes(now(step), &[]);
        spent += cpu_ns() - before;
        recording.flush();
    }
    drop(recording);
    let samples = STEPS * CELLS as u64 * 10;
    let size = |ending: &str| -> u64 {
        let named = names(folder.path()).into_iter().filter(|name| name.ends_with(ending));
        named.map(|name| folder.path().join(name).metadata().unwrap().len()).sum()
    };
    let journal = size(".journal");
    println!(
        "{CELLS} cells of 10 metrics, {STEPS} steps: {:.2} bytes/sample in the journal, {:.0} µs of the loop's CPU a tick, {:.0} ns a sample",
        journal as f64 / samples as f64,
        spent as f64 / STEPS as f64 / 1e3,
        spent as f64 / samples as f64,
    );
    let before = std::time::Instant::now();
    let (recording, ..) =
        Recording::open(wide.clone(), now(start + STEPS), now(start), BTreeSet::new()).unwrap();
    println!("opened with {journal} bytes of journal in {:?}", before.elapsed());
    drop(recording);
    // The next segment seals the one before.
    let before = std::time::Instant::now();
    let (mut recording, ..) =
        Recording::open(wide, now(start + STEPS), now(start + STEPS), BTreeSet::new()).unwrap();
    recording.outcomes(now(start + STEPS + 1), &now_of(ObjectiveState::Unknown, 0.0));
    drop(recording);
    println!(
        "sealed in {:?} (with opening): {:.2} bytes/sample in Parquet",
        before.elapsed(),
        size(".parquet") as f64 / samples as f64
    );
    let before = std::time::Instant::now();
    let all = load(&HistorySource::Files(folder.path().to_owned()), &LoadOptions::default()).unwrap();
    println!("loaded {} cells in {:?}", all.cells.len(), before.elapsed());
}
