//! Every dependency's licence is on the list of `deny.toml`, checked without cargo-deny and without the network.

use std::path::Path;

use cargo_metadata::MetadataCommand;
use spdx::{Expression, Licensee, ParseMode};

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The licences that `deny.toml` allows.
fn allowed() -> Vec<Licensee> {
    let config: toml::Table =
        std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml").parse().expect("valid TOML");
    config["licenses"]["allow"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|licence| Licensee::parse(licence.as_str().expect("text")).expect("an SPDX name"))
        .collect()
}

/// Why a crate under `expression` may not be used, if so.
fn refusal(expression: Option<&str>, allowed: &[Licensee]) -> Option<String> {
    let Some(text) = expression else {
        return Some("names no licence in its manifest".to_owned());
    };
    match Expression::parse_mode(text, ParseMode::LAX) {
        Err(e) => Some(format!("its licence {text:?} can't be read: {}", e.reason)),
        Ok(parsed) if parsed.evaluate(|term| allowed.iter().any(|a| a.satisfies(term))) => None,
        Ok(_) => Some(format!("its licence {text:?} is not on the list")),
    }
}

#[test]
fn every_dependency_is_under_a_licence_of_the_list() {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(vec![
            "--filter-platform".to_owned(),
            format!("{}-unknown-linux-gnu", std::env::consts::ARCH),
        ])
        .exec()
        .expect("cargo metadata");
    let allowed = allowed();
    let used: std::collections::BTreeSet<_> =
        metadata.resolve.iter().flat_map(|resolve| &resolve.nodes).map(|node| &node.id).collect();
    assert!(used.len() > 50, "only {} packages seen", used.len());
    let refused: Vec<String> = metadata
        .packages
        .iter()
        .filter(|package| used.contains(&package.id))
        .filter_map(|p| {
            refusal(p.license.as_deref(), &allowed).map(|why| format!("{} {}: {why}", p.name, p.version))
        })
        .collect();
    assert!(refused.is_empty(), "add nothing to deny.toml lightly:\n{}", refused.join("\n"));
}

/// What is built with optional features is asked of `cargo tree`: `cargo metadata` counts crates in that are never built, for it takes weak features
/// (`name?/feature`) for strong ones.
#[test]
#[ignore = "fetches some five hundred crates of which half is built: run it when the ML framework changes"]
fn so_is_every_dependency_of_the_ml_framework() {
    let output = std::process::Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["tree", "--package", "forefend-learn", "--features", "gpu", "--edges", "normal,build"])
        .args(["--prefix", "none", "--format", "{p}|{l}"])
        .output()
        .expect("cargo tree");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let allowed = allowed();
    let tree = String::from_utf8(output.stdout).expect("text");
    let crates: std::collections::BTreeSet<&str> =
        tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    for framework in ["burn ", "burn-wgpu ", "wgpu "] {
        assert!(crates.iter().any(|line| line.starts_with(framework)), "{framework}: {tree}");
    }
    let refused: Vec<String> = crates
        .iter()
        .filter_map(|line| line.split_once('|'))
        .filter_map(|(name, licence)| {
            let licence = Some(licence).filter(|licence| !licence.is_empty());
            refusal(licence, &allowed).map(|why| format!("{name}: {why}"))
        })
        .collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn copyleft_and_nameless_licences_are_refused() {
    let allowed = allowed();
    for bad in ["GPL-3.0-only", "AGPL-3.0-or-later", "LGPL-2.1-or-later", "MIT AND GPL-2.0-only", "SSPL-1.0"]
    {
        assert!(refusal(Some(bad), &allowed).is_some(), "{bad} was let through");
    }
    assert!(refusal(None, &allowed).is_some());
    assert!(refusal(Some("whatever you like"), &allowed).is_some());
    for good in ["MIT OR Apache-2.0", "MIT/Apache-2.0", "MPL-2.0", "GPL-3.0-only OR MIT"] {
        assert_eq!(refusal(Some(good), &allowed), None);
    }
}
