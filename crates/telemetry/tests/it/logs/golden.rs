//! Templates agree with those of drain3, the reference in Python. The files are made by tests/golden/logs/make.py.

use std::collections::{BTreeMap, BTreeSet};

use forefend_telemetry::logs::{Drain, DrainOptions, line, mask::mask};

const LINES: &str = include_str!("../../golden/logs/lines.tsv");
const CORE: &str = include_str!("../../golden/logs/core.tsv");

/// One line: its program, its statement, drain3's group, our group.
struct Row {
    program: &'static str,
    statement: String,
    theirs: String,
    ours: String,
}

fn rows() -> Vec<Row> {
    let mut drains: BTreeMap<&str, Drain> = BTreeMap::new();
    LINES
        .lines()
        .map(|row| {
            let mut columns = row.splitn(4, '\t');
            let mut next = || columns.next().unwrap();
            let (program, statement, theirs, text) = (next(), next(), next(), next());
            let drain = drains.entry(program).or_insert_with(|| Drain::new(DrainOptions::default()));
            let template = drain.learn(&mask(&line::read(text).text)).template;
            let of = |group: &dyn std::fmt::Debug| format!("{program} {group:?}");
            Row { program, statement: of(&statement), theirs: of(&theirs), ours: of(&template) }
        })
        .collect()
}

/// The share of lines whose group holds the same lines in both groupings (grouping accuracy: Zhu et al., ICSE-SEIP 2019,
/// <https://doi.org/10.1109/ICSE-SEIP.2019.00021>), and the share of pairs of lines on which both agree (Rand index).
fn agreement(one: &[&str], other: &[&str]) -> (f64, f64) {
    let groups = |labels: &[&str]| {
        let mut groups: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for (i, label) in labels.iter().enumerate() {
            groups.entry((*label).to_owned()).or_default().insert(i);
        }
        groups
    };
    let (a, b) = (groups(one), groups(other));
    let same = (0..one.len()).filter(|i| a[one[*i]] == b[other[*i]]).count();
    let pairs = (0..one.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
    let (mut agreed, mut all) = (0, 0);
    for (i, j) in pairs {
        agreed += usize::from((one[i] == one[j]) == (other[i] == other[j]));
        all += 1;
    }
    (same as f64 / one.len() as f64, agreed as f64 / all as f64)
}

#[test]
fn lines_of_real_programs_are_grouped_as_drain3_groups_them() {
    let rows = rows();
    let column = |of: fn(&Row) -> &String| -> Vec<&str> { rows.iter().map(|row| of(row).as_str()).collect() };
    let (truth, theirs, ours) = (column(|r| &r.statement), column(|r| &r.theirs), column(|r| &r.ours));
    let with_drain3 = agreement(&ours, &theirs);
    let with_truth = agreement(&ours, &truth);
    let drain3_with_truth = agreement(&theirs, &truth);
    println!(
        "{} lines of {} programs: grouping accuracy and Rand index with drain3 {with_drain3:?}, \
         with the statements {with_truth:?}; drain3 with the statements {drain3_with_truth:?}",
        rows.len(),
        rows.iter().map(|row| row.program).collect::<BTreeSet<_>>().len(),
    );
    assert!(rows.len() >= 500);
    assert!(with_drain3.0 >= 0.97 && with_drain3.1 >= 0.999, "with drain3: {with_drain3:?}");
    assert!(with_truth.0 >= drain3_with_truth.0 - 0.02, "with the statements: {with_truth:?}");
}

#[test]
fn the_algorithm_is_that_of_drain3_line_by_line() {
    let mut drains: BTreeMap<String, (Drain, BTreeMap<String, String>)> = BTreeMap::new();
    for (number, row) in CORE.lines().enumerate() {
        let columns: Vec<&str> = row.splitn(6, '\t').collect();
        let [depth, similarity, children, group, template, text] = columns[..] else { panic!("{row}") };
        let (drain, groups) = drains.entry(format!("{depth} {similarity} {children}")).or_insert_with(|| {
            let options = DrainOptions {
                depth: depth.parse().unwrap(),
                similarity: similarity.parse().unwrap(),
                max_children: children.parse().unwrap(),
                max_templates: 10_000,
                ..DrainOptions::default()
            };
            (Drain::new(options), BTreeMap::new())
        });
        let learned = drain.learn(text);
        assert_eq!(drain.text(learned.template).unwrap(), template, "row {}: {row}", number + 1);
        let ours = groups.entry(group.to_owned()).or_insert_with(|| format!("{:?}", learned.template));
        assert_eq!(*ours, format!("{:?}", learned.template), "row {}: {row}", number + 1);
    }
    assert!(drains.len() >= 5);
}

/// Not a promise: prints what a line costs. `cargo test -p forefend-telemetry -- --ignored --nocapture a_line_costs`
#[test]
#[ignore = "a measurement"]
fn a_line_costs() {
    use forefend_domain::Timestamp;
    use forefend_telemetry::logs::{CellLogs, LogOptions};
    let texts: Vec<&str> = LINES.lines().filter_map(|row| row.splitn(4, '\t').nth(3)).collect();
    let mut logs = CellLogs::new(LogOptions::default());
    let at = Timestamp::from_unix_ms(1_800_000_000_000);
    let rounds = 200;
    let begun = std::time::Instant::now();
    for _ in 0..rounds {
        texts.iter().for_each(|text| logs.line(at, None, text));
    }
    let lines = rounds * texts.len();
    let each = begun.elapsed().as_secs_f64() * 1e6 / lines as f64;
    let bytes = texts.iter().map(|text| text.len()).sum::<usize>() / texts.len();
    let begun = std::time::Instant::now();
    (0..1_000).for_each(|_| drop(logs.sample(at, true)));
    let sample = begun.elapsed().as_secs_f64() * 1e3;
    println!(
        "{each:.2} us a line of {bytes} bytes, {} templates; {sample:.1} us a sample",
        logs.counts().templates
    );
}
