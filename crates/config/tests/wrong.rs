//! Every wrong file of the corpus gets exactly the text beside it.
//!
//! After a change of the messages: `FOREFEND_BLESS=1 cargo test -p forefend-config --test wrong`, then read the difference.

use std::{fs, path::PathBuf};

use forefend_config::{MAX_FILE_BYTES, load, parse, parse_bytes};

fn corpus() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/wrong");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| entry.expect("a file of the corpus").path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    files
}

#[test]
fn each_wrong_file_is_explained() {
    let files = corpus();
    assert!(files.len() >= 40, "only {} files", files.len());
    let mut differing = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let Err(errors) = parse_bytes(&fs::read(&path).unwrap(), name) else { panic!("{name} was accepted") };
        for problem in &errors.problems {
            assert!(!problem.remedy.is_empty() && !problem.what.is_empty(), "{name}: {problem}");
            assert!(
                problem.place.is_some() || name == "empty.yaml" || name == "only-comments.yaml",
                "{name}: {problem}"
            );
        }
        let found = format!("{errors}\n");
        let expected = path.with_extension("err");
        if std::env::var_os("FOREFEND_BLESS").is_some() {
            fs::write(&expected, &found).unwrap();
        }
        if fs::read_to_string(&expected).unwrap_or_default() != found {
            differing.push(found);
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n---\n"));
}

#[test]
fn several_mistakes_are_told_at_once() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/wrong/many-at-once.yaml");
    let errors = load(&path).unwrap_err();
    let paths: Vec<&str> = errors.problems.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "engine.tick",
            "services.shop.objective.latency",
            "services.shop.policy.horizn",
            "services.shop.cells[0].zone"
        ]
    );
    let json = errors.to_json();
    assert_eq!(json["problems"][0]["place"]["line"], 2);
    assert_eq!(json["problems"][0]["place"]["column"], 17);
}

#[test]
fn a_missing_file_and_a_huge_one_are_explained() {
    let missing = load(&PathBuf::from("/nonexistent/forefend.yaml")).unwrap_err();
    assert!(missing.to_string().contains("can't be read"), "{missing}");
    let folder = tempfile::tempdir().unwrap();
    let huge = folder.path().join("huge.yaml");
    fs::write(&huge, vec![b'#'; MAX_FILE_BYTES + 1]).unwrap();
    assert!(load(&huge).unwrap_err().to_string().contains("larger than 2MiB"));
    assert!(load(folder.path()).is_err(), "a directory is no file");
}

#[test]
fn depth_and_aliases_can_not_exhaust_memory() {
    let deep = "[".repeat(100_000);
    assert!(parse(&deep, "deep.yaml").is_err());
    // The billion laughs, and one long text taken many times.
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let before = format!("*a{},", i - 1).repeat(9);
        laughs += &format!("a{i}: &a{i} [{before}]\n");
    }
    let errors = parse(&laughs, "laughs.yaml").unwrap_err();
    assert!(errors.to_string().contains("aliases"), "{errors}");
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a,".repeat(10_000));
    assert!(parse(&long, "long.yaml").unwrap_err().to_string().contains("aliases"));
}
