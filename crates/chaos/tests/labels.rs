//! Labels: strict lines, a split that never leaks, censoring.

#![expect(clippy::unwrap_used, reason = "a test stops where its set-up is wrong")]

use std::{collections::BTreeSet, time::Duration};

use forefend_chaos::{
    Fault, Foresight, Ramp,
    label::{Censoring, GroupBy, Label, LeftOut, Outcome, Source, VERSION, outcome, read, split, write},
};
use forefend_domain::{CellId, ServiceId, Timestamp};
use proptest::prelude::*;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_ms(seconds * 1_000)
}

fn label(id: &str, run: &str, begun: u64, ended: Option<u64>) -> Label {
    Label {
        v: VERSION,
        id: id.into(),
        run: run.into(),
        experiment: format!("of-{run}"),
        cell: CellId::new("n1").unwrap(),
        service: ServiceId::new("shop").unwrap(),
        fault: Fault::MemoryLeak { bytes: 64 << 20 },
        ramp: Ramp::Linear { over: Duration::from_secs(120) },
        intensity: 0.8,
        peak_level: 0.8,
        mean_level: 0.4,
        begun: at(begun),
        ended: ended.map(at),
        undone: None,
        foresight: Foresight::Foreseeable,
        broke: None,
        emptied: None,
        source: Source::Fault,
        weight: 0.5,
    }
}

fn wrong(lines: &str) -> String {
    read(lines.as_bytes()).unwrap_err().to_string()
}

#[test]
fn lines_read_back_and_bad_ones_are_named() {
    let labels = [label("a", "r1", 10, Some(20)), label("b", "r1", 10, None)];
    let text: String = labels.iter().map(|l| write(l).unwrap()).collect();
    assert_eq!(read(text.as_bytes()).unwrap(), labels);
    assert_eq!(read(format!("\n{text}\r\n\n").as_bytes()).unwrap().len(), 2);
    let line = write(&labels[0]).unwrap();
    let cases = [
        (format!("{text}{line}"), "line 3: the id `a` stands here a second time"),
        (format!("{line}not json"), "line 2: it is no label: expected"),
        (line.replace("\"v\":1", "\"v\":2"), "line 1: it has version 2, this program reads version 1"),
        (
            line.replace("\"v\":1", "\"v\":2,\"new\":0"),
            "line 1: it has version 2, this program reads version 1",
        ),
        (line.replace("\"v\":1,", ""), "line 1: it is no label: it has no version `v`"),
        (line.replace("\"run\"", "\"rum\""), "line 1: it is no label: unknown field `rum`"),
        (
            line.replace("\"id\":\"a\"", "\"id\":\"a\",\"id\":\"b\""),
            "line 1: it is no label: duplicate field `id`",
        ),
        (line.replace("memory-leak", "memory-lake"), "line 1: it is no label: unknown variant `memory-lake`"),
        (line.replace("67108864", "0"), "line 1: `bytes` must be above 0, not 0"),
        (
            line.replace("\"intensity\":0.8", "\"intensity\":1.8"),
            "line 1: intensity, levels and weight must be",
        ),
        (
            line.replace("\"mean_level\":0.4", "\"mean_level\":0.9"),
            "line 1: `mean_level` is above `peak_level`",
        ),
        (line.replace("\"ended\":20000", "\"ended\":5000"), "line 1: `ended` is before `begun`"),
        (line.replace("\"undone\":null", "\"undone\":15000"), "line 1: `undone` is before `ended`"),
        (
            line.replace("\"run\":\"r1\"", "\"run\":\"\""),
            "line 1: `id`, `run` and `experiment` must not be empty",
        ),
        (format!("{}\n", "x".repeat(70_000)), "line 1: it is not a line of text"),
    ];
    for (text, message) in cases {
        let found = wrong(&text);
        assert!(found.starts_with(message), "{found}\nis not\n{message}");
    }
    assert_eq!(read(b"\xff\n").unwrap_err().line, 1);
    let mut nonsense = labels[0].clone();
    nonsense.weight = f64::NAN;
    assert!(write(&nonsense).is_err());
}

#[test]
fn what_is_known_of_survival_ends_where_the_looking_ends() {
    let s = Duration::from_secs;
    let of = |change: &dyn Fn(&mut Label)| {
        let mut label = label("a", "r", 100, Some(160));
        change(&mut label);
        outcome(&label, at(500), s(30))
    };
    assert_eq!(of(&|_| {}), Outcome::Censored { after: s(60), why: Censoring::FaultEnded });
    assert_eq!(of(&|l| l.broke = Some(at(140))), Outcome::Failed { after: s(40) });
    assert_eq!(
        of(&|l| l.broke = Some(at(190))),
        Outcome::Failed { after: s(90) },
        "in the grace after the end"
    );
    let late = Outcome::Censored { after: s(60), why: Censoring::FaultEnded };
    assert_eq!(of(&|l| l.broke = Some(at(191))), late, "that failure had another cause");
    assert_eq!(of(&|l| l.broke = Some(at(99))), Outcome::Unusable);
    let moved = Outcome::Censored { after: s(20), why: Censoring::TrafficMoved };
    assert_eq!(of(&|l| l.emptied = Some(at(120))), moved);
    assert_eq!(
        of(&|l| {
            l.emptied = Some(at(120));
            l.broke = Some(at(150));
        }),
        Outcome::Failed { after: s(50) },
        "it died all the same"
    );
    let held = Outcome::Censored { after: s(60), why: Censoring::FaultEnded };
    assert_eq!(
        of(&|l| {
            l.emptied = Some(at(90));
            l.source = Source::Drill;
        }),
        held,
        "a drill's cells are empty from the beginning"
    );
    assert_eq!(of(&|l| l.ended = None), Outcome::Censored { after: s(400), why: Censoring::NotEnded });
}

fn labels() -> impl Strategy<Value = Vec<Label>> {
    let one = (0u8..6, 0u8..3, 0u64..1_000, prop::option::weighted(0.9, 0u64..200), 0u64..300, 0u8..4);
    prop::collection::vec(one, 0..40).prop_map(|all| {
        all.into_iter()
            .enumerate()
            .map(|(i, (run, experiment, begun, lasted, later, what))| {
                let mut l = label(&format!("l{i}"), &format!("r{run}"), begun, lasted.map(|s| begun + s));
                l.experiment = format!("e{experiment}");
                let later = l.ended.map(|end| end + Duration::from_secs(later));
                match what {
                    0 => l.undone = later,
                    1 => l.broke = later,
                    2 => l.emptied = later,
                    _ => {}
                }
                l
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn a_split_never_leaks(all in labels(), cut in 0u64..1_300, embargo in 0u64..200, by_run: bool) {
        let by = if by_run { GroupBy::Run } else { GroupBy::Experiment };
        let group = |l: &Label| if by_run { l.run.clone() } else { l.experiment.clone() };
        let (cut, embargo) = (at(cut), Duration::from_secs(embargo));
        let parts = split(&all, cut, embargo, by);
        let groups = |labels: &[Label]| labels.iter().map(group).collect::<BTreeSet<_>>();
        let (train, test) = (groups(&parts.train), groups(&parts.test));
        prop_assert!(train.is_disjoint(&test));
        let left: BTreeSet<_> = parts.left_out.iter().map(|(l, _)| group(l)).collect();
        prop_assert!(left.is_disjoint(&train) && left.is_disjoint(&test), "no group is divided");
        for l in &parts.train {
            for end in [l.ended, l.undone, l.broke, l.emptied].into_iter().flatten() {
                prop_assert!(end + embargo <= cut);
            }
            prop_assert!(l.ended.is_some());
        }
        prop_assert!(parts.test.iter().all(|l| l.begun >= cut));
        prop_assert_eq!(parts.train.len() + parts.test.len() + parts.left_out.len(), all.len());
        // Nothing is left out without need.
        for (l, why) in &parts.left_out {
            let mine: Vec<_> = all.iter().filter(|other| group(other) == group(l)).collect();
            match why {
                LeftOut::NotEnded => prop_assert!(mine.iter().any(|l| l.ended.is_none())),
                LeftOut::Straddles => prop_assert!(mine.iter().any(|l| l.begun < cut)),
            }
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,80}") {
        let _ = (read(&bytes), read(text.as_bytes()));
    }

    #[test]
    fn written_labels_read_back(all in labels()) {
        let valid: Vec<Label> = all.into_iter().filter(|l| write(l).is_ok()).collect();
        let text: String = valid.iter().map(|l| write(l).unwrap()).collect();
        prop_assert_eq!(read(text.as_bytes()).unwrap(), valid);
    }
}
