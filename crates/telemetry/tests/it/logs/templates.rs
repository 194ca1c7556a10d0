use std::collections::BTreeMap;

use forefend_telemetry::logs::{Drain, DrainOptions, mask::mask};
use proptest::prelude::*;

fn small() -> DrainOptions {
    DrainOptions { max_templates: 8, max_children: 3, max_tokens: 6, ..DrainOptions::default() }
}

/// Lines of few words, so that they meet, and of anything.
fn lines() -> impl Strategy<Value = Vec<String>> {
    let word =
        prop::sample::select(vec!["get", "put", "user", "of", "a1", "10.0.0.1", "7", "/x/y", "é", "<*>"]);
    let few = prop::collection::vec(word, 0..9).prop_map(|words| words.join(" "));
    prop::collection::vec(prop_oneof![4 => few, 1 => "\\PC{0,60}"], 0..80)
}

fn texts(drain: &Drain) -> Vec<String> {
    drain.templates().map(|id| drain.text(id).unwrap()).collect()
}

proptest! {
    #[test]
    fn a_template_matches_all_of_its_lines(lines in lines(), depth in 3usize..7) {
        let mut drain = Drain::new(DrainOptions { depth, ..small() });
        let mut of_template: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for line in lines {
            let line = mask(&line);
            let learned = drain.learn(&line);
            if let Some(forgotten) = learned.forgotten {
                of_template.remove(&forgotten);
            }
            of_template.entry(learned.template).or_default().push(line);
        }
        for (template, lines) in of_template {
            for line in lines {
                prop_assert!(drain.fits(template, &line), "{:?} is not of {:?}", line, drain.text(template));
            }
        }
    }

    #[test]
    fn the_same_lines_in_the_same_order_give_the_same_templates(lines in lines()) {
        let (mut one, mut other) = (Drain::new(small()), Drain::new(small()));
        for line in &lines {
            prop_assert_eq!(one.learn(line), other.learn(line));
        }
        prop_assert_eq!(texts(&one), texts(&other));
    }

    #[test]
    fn nothing_grows_without_bound(lines in lines(), depth in 3usize..7) {
        let options = DrainOptions { depth, ..small() };
        let mut drain = Drain::new(options);
        let mut created = 0;
        for line in &lines {
            let learned = drain.learn(line);
            created += u64::from(learned.new);
            prop_assert!(drain.len() <= options.max_templates);
            prop_assert!(drain.nodes() <= options.max_templates * (depth - 2), "{} nodes", drain.nodes());
            prop_assert_eq!(drain.len() as u64 + drain.forgotten(), created);
            prop_assert!(drain.text(learned.template).is_some(), "the line's own template is there");
        }
    }
}

#[test]
fn the_template_not_met_for_longest_is_forgotten() {
    let mut drain = Drain::new(DrainOptions { max_templates: 2, ..DrainOptions::default() });
    let first = drain.learn("disk is full").template;
    let second = drain.learn("user logged in").template;
    assert_eq!(drain.learn("disk is full").template, first);
    assert_eq!(drain.learn("four words stand here").forgotten, Some(second));
    assert_eq!(drain.text(second), None);
    assert_eq!(texts(&drain), ["disk is full", "four words stand here"]);
}

#[test]
fn what_differs_becomes_a_wildcard() {
    let mut drain = Drain::new(DrainOptions::default());
    let first = drain.learn("connection to db refused");
    assert!(first.new && first.changed);
    let second = drain.learn("connection to cache refused");
    assert!(!second.new && second.changed && second.template == first.template);
    assert!(!drain.learn("connection to queue refused").changed);
    assert_eq!(drain.text(first.template).unwrap(), "connection to <*> refused");
    let many = (0..100).map(|i| format!("w{i}")).collect::<Vec<_>>().join(" ");
    let long = drain.learn(&many).template;
    assert_eq!(drain.text(long).unwrap().split(' ').count(), 65, "64 tokens and one for the rest");
}
