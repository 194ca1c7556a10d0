//! What is published agrees with the program: the schema, the reference, the examples.
//!
//! After a change of the settings: `FOREFEND_BLESS=1 cargo test -p forefend-config`.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use forefend_config::{Config, load, parse, reference, schema};
use forefend_domain::{CellRole, DataPolicy, Mode, ServiceId, Weight};
use serde_json::Value as Json;

fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn agrees(path: &str, wanted: &str) {
    let path = repository(path);
    if std::env::var_os("FOREFEND_BLESS").is_some() {
        fs::write(&path, wanted).expect("a writable checkout");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{} is out of date: FOREFEND_BLESS=1 cargo test -p forefend-config",
        path.display()
    );
}

#[test]
fn the_published_schema_is_that_of_the_program() {
    let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    agrees("docs/forefend.schema.json", &text);
}

#[test]
fn the_reference_is_that_of_the_program_and_names_every_key() {
    let text = reference();
    agrees("docs/configuration.md", &text);
    let mut keys = BTreeSet::new();
    for definition in schema()["$defs"].as_object().unwrap().values() {
        if let Some(properties) = definition["properties"].as_object() {
            keys.extend(properties.keys().cloned());
        }
    }
    assert!(keys.len() > 100, "only {} keys", keys.len());
    for key in keys {
        assert!(text.contains(&format!("`{key}`")), "the reference does not name `{key}`");
    }
}

#[test]
fn the_smallest_file_of_the_reference_works() {
    let text = reference();
    let yaml = text.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let config = parse(yaml, "smallest.yaml").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.cells().len(), 2);
}

fn example(name: &str) -> Config {
    load(&repository(&format!("examples/{name}"))).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn two_nginx_share_evenly_and_nothing_moves_by_itself() {
    let config = example("two-nginx.yaml");
    let service = &config.services()[0];
    assert_eq!(service.policy.mode, Mode::Observe);
    assert_eq!(service.policy.data, DataPolicy::Stateless);
    assert_eq!(service.objective.latency, Duration::from_millis(250));
    let cells = config.cells();
    assert_eq!(cells.len(), 2);
    assert!(cells.iter().all(|c| c.cell.home_weight.bp() == 5_000 && c.cell.role == CellRole::Primary));
    assert_eq!(cells[0].address.unwrap().to_string(), "127.0.0.1:8081");
    assert!(config.engine.state_dir.is_absolute());
    assert!(config.engine.state_dir.ends_with("examples/./forefend-state"));
    assert!(config.hints().is_empty());
}

#[test]
fn a_blueprint_makes_the_primary_and_its_mirror() {
    let config = example("blueprint.yaml");
    let service = &config.services()[0];
    assert_eq!(service.mirror_blueprint.as_ref().unwrap().as_str(), "files");
    let zones: Vec<&str> = service.mirror_zones.iter().map(|(_, zone)| zone.as_str()).collect();
    assert_eq!(zones, ["home-b", "home-a"], "in the order of the file");
    let home = config.home_weights(&ServiceId::new("files").unwrap()).unwrap();
    assert_eq!(home.regions().values().copied().collect::<Vec<_>>(), [Weight::FULL]);
    let blueprint = config.blueprints.values().next().unwrap();
    assert_eq!(blueprint.resources.memory.0, 96 << 20);
    assert_eq!(blueprint.resources.cpu.milli_cores, 500);
}

/// Enough of JSON Schema to say whether a file has the published structure: types, properties, references,
/// alternatives, words. Patterns are left to the parser, which is stricter.
fn fits(value: &Json, schema: &Json, root: &Json) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        return fits(value, root.pointer(&reference[1..]).ok_or("dangling reference")?, root);
    }
    if let Some(alternatives) = schema["anyOf"].as_array() {
        let errors: Vec<String> = alternatives.iter().filter_map(|s| fits(value, s, root).err()).collect();
        return if errors.len() < alternatives.len() { Ok(()) } else { Err(errors.join("; ")) };
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Err(format!("{value} is none of {words:?}"));
    }
    let types: Vec<&str> = match &schema["type"] {
        Json::String(one) => vec![one],
        Json::Array(several) => several.iter().filter_map(Json::as_str).collect(),
        _ => return Ok(()),
    };
    let is = match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(n) if n.is_u64() => "integer",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    };
    let fitting = types.contains(&is) || (is == "integer" && types.contains(&"number"));
    if !fitting {
        return Err(format!("{value} is {is}, not {types:?}"));
    }
    if let Some(items) = value.as_array() {
        return items.iter().try_for_each(|item| fits(item, &schema["items"], root));
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        match (&schema["properties"][key], &schema["additionalProperties"]) {
            (Json::Null, Json::Bool(false)) => return Err(format!("`{key}` is not in the schema")),
            (Json::Null, other) => fits(inner, other, root)?,
            (property, _) => fits(inner, property, root)?,
        }
        // Required keys are checked where the section is not empty.
    }
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        if value.get(required).is_none() {
            return Err(format!("`{required}` is missing in {value}"));
        }
    }
    Ok(())
}

/// The file as another YAML reader sees it.
fn as_json(path: &str) -> Json {
    let text = fs::read_to_string(repository(path)).expect("an example");
    serde_saphyr::from_str(&text).expect("YAML")
}

#[test]
fn the_examples_fit_the_schema_and_wrong_structure_does_not() {
    let schema = schema();
    for path in ["examples/two-nginx.yaml", "examples/blueprint.yaml"] {
        let file = as_json(path);
        fits(&file, &schema, &schema).unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut unknown = file.clone();
        unknown["engine"]["tack"] = "1s".into();
        assert!(fits(&unknown, &schema, &schema).is_err());
        let mut missing = file.clone();
        missing.as_object_mut().unwrap().remove("regions");
        assert!(fits(&missing, &schema, &schema).is_err());
        let mut bare = file;
        bare["engine"]["tick"] = 10.into();
        assert!(fits(&bare, &schema, &schema).is_err());
    }
}
