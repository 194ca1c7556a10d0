//! `forefend check` and `forefend schema` as a person runs them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::{Command, Output};

use serde_json::Value;
use support::{FOREFEND, repository_file, rewritten, temporary_dir};

fn check(text: &str, arguments: &[&str]) -> (Output, String) {
    let dir = temporary_dir();
    let file = dir.path().join("forefend.yaml");
    std::fs::write(&file, text).unwrap();
    let output = Command::new(FOREFEND).arg("check").args(arguments).arg(&file).output().unwrap();
    (output, file.to_str().unwrap().to_owned())
}

fn example(name: &str) -> String {
    std::fs::read_to_string(repository_file("examples").join(name)).unwrap()
}

/// Where in `text` `needle` stands first, as a person counts.
fn place(text: &str, needle: &str) -> (usize, usize) {
    let at = text.find(needle).unwrap();
    let line = text[..at].lines().count().max(1);
    let start = text[..at].rfind('\n').map_or(0, |n| n + 1);
    let line = if start == at { line + 1 } else { line };
    (line, text[start..at].chars().count() + 1)
}

/// The file with one thing wrong is refused, pointing there and saying what would be right.
fn refused(old: &str, new: &str, points_at: &str, what: &str, remedy: &str) {
    let text = rewritten(&example("two-nginx.yaml"), &[(old, new)]);
    let (line, column) = place(&text, points_at);
    let (output, file) = check(&text, &[]);
    assert_eq!(output.status.code(), Some(1), "{new} was accepted");
    let words = String::from_utf8(output.stderr).unwrap();
    for part in [format!("{file}:{line}:{column}"), what.to_owned(), remedy.to_owned()] {
        assert!(words.contains(&part), "for `{new}` nothing says `{part}`:\n{words}");
    }
}

#[test]
fn the_examples_are_fine() {
    for name in ["two-nginx.yaml", "blueprint.yaml"] {
        let (output, _) = check(&example(name), &[]);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8(output.stdout).unwrap().contains("is fine"));
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place_and_a_remedy() {
    refused("latency: 250ms", "latency: 250", "250 #", "`250` has no unit", "250ms");
    refused("tier: standard", "teir: standard", "teir", "unknown key `teir`", "`tier`");
    refused("mode: observe # later", "mode: watch # later", "watch # later", "watch", "observe");
    refused("zone: rack-a", "zone: rack-z", "rack-z", "rack-z", "rack-a");
    refused("id: web-2", "id: web-1\n        # twice", "web-1\n        # twice", "web-1", "");
    refused("address: 127.0.0.1:8082", "address: 127.0.0.1", "127.0.0.1\n", "127.0.0.1", "port");
}

#[test]
fn an_api_for_others_needs_a_token() {
    let open = |more: &str| format!("engine:\n  api: {{ listen: \"0.0.0.0:7700\"{more} }}\n");
    let text = rewritten(&example("two-nginx.yaml"), &[("engine:\n", &open(""))]);
    let (output, file) = check(&text, &[]);
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains(&format!("{file}:{}:", place(&text, "0.0.0.0").0)), "{words}");
    assert!(words.contains("token"), "{words}");
    let token = ", tokens: [{ name: ops, role: operator, env: FOREFEND_TEST_OPS_TOKEN }]";
    let text = rewritten(&example("two-nginx.yaml"), &[("engine:\n", &open(token))]);
    let (output, _) = check(&text, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn programs_get_the_same_as_json() {
    let text = rewritten(&example("two-nginx.yaml"), &[("tier: standard", "teir: standard")]);
    let (output, file) = check(&text, &["--output", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let problem = &answer["problems"][0];
    let (line, column) = place(&text, "teir");
    assert_eq!(problem["file"], file);
    assert_eq!(
        (problem["place"]["line"].as_u64(), problem["place"]["column"].as_u64()),
        (Some(line as u64), Some(column as u64))
    );
    assert!(problem["remedy"].as_str().unwrap().contains("tier"));
    let (output, _) = check(&example("two-nginx.yaml"), &["--output", "json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["problems"], serde_json::json!([]));
}

#[test]
fn a_file_that_is_not_there_or_no_yaml_is_an_error_and_no_panic() {
    let output = Command::new(FOREFEND).args(["check", "/nonexistent/forefend.yaml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("/nonexistent/forefend.yaml"));
    for garbage in ["", "[", "version: 1\nservices: [", "\u{0}\u{1}", "a: &a [*a]", "- - - -"] {
        let (output, _) = check(garbage, &[]);
        assert_eq!(output.status.code(), Some(1), "{garbage:?} was accepted");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{garbage:?}");
    }
}

#[test]
fn the_published_schema_is_what_the_program_says() {
    let output = Command::new(FOREFEND).arg("schema").output().unwrap();
    assert!(output.status.success());
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let published = std::fs::read_to_string(repository_file("docs/forefend.schema.json")).unwrap();
    let published: Value = serde_json::from_str(&published).unwrap();
    assert!(said == published, "docs/forefend.schema.json is old: write it again with `forefend schema`");
}
