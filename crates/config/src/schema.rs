use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::{model::Config, setting::Setting};

/// The JSON Schema (draft 2020-12) of the configuration file.
///
/// It checks structure: keys, kinds of values, units, words. What crosses sections (weights that add up, names that
/// exist) only [`crate::parse`] checks.
#[must_use]
pub fn schema() -> Json {
    schema_of::<Config>("https://forefend.dev/schema/forefend-1.json", "Forefend configuration")
}

/// The JSON Schema (draft 2020-12) of a file whose whole is a `T`.
#[must_use]
pub fn schema_of<T: Setting>(id: &str, title: &str) -> Json {
    let mut defs = Definitions::default();
    let root = T::schema(&mut defs);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": id,
        "title": title,
        "$ref": root["$ref"],
        "$defs": defs.json,
    })
}

/// The named parts of the schema, and the sections in the order a reader meets them.
#[derive(Default)]
pub struct Definitions {
    json: Map<String, Json>,
    pub(crate) sections: Vec<Section>,
    pub(crate) scalars: BTreeMap<&'static str, &'static str>,
}

pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) doc: String,
    pub(crate) fields: Vec<Field>,
}

/// A key of a section.
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub doc: String,
    /// The schema of its values.
    pub schema: Json,
    /// Whether it must be there.
    pub required: bool,
    /// Its value when it is left out; null: none.
    pub default: Json,
}

impl Definitions {
    pub(crate) fn definition(&self, name: &str) -> Option<&Json> {
        self.json.get(&name.replace(' ', "-"))
    }

    /// Describes a value that is one word or number, and gives the reference to its description.
    pub fn scalar(&mut self, name: &'static str, doc: &'static str, mut schema: Json) -> Json {
        let key = name.replace(' ', "-");
        schema["description"] = doc.into();
        self.scalars.insert(name, doc);
        self.json.entry(key.clone()).or_insert(schema);
        json!({ "$ref": format!("#/$defs/{key}") })
    }

    /// Describes a section, and gives the reference to its description.
    pub fn section(
        &mut self,
        name: &'static str,
        doc: &[&str],
        fields: impl FnOnce(&mut Self) -> Vec<Field>,
    ) -> Json {
        let reference = json!({ "$ref": format!("#/$defs/{name}") });
        if self.json.contains_key(name) {
            return reference;
        }
        self.json.insert(name.to_owned(), Json::Null);
        let doc = doc.concat().trim().to_owned();
        let place = self.sections.len();
        self.sections.push(Section { name, doc: doc.clone(), fields: Vec::new() });
        let fields = fields(self);
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in &fields {
            let mut schema = field.schema.clone();
            schema["description"] = field.doc.clone().into();
            if !field.default.is_null() {
                schema["default"] = field.default.clone();
            }
            if field.required {
                required.push(field.name);
            } else {
                // An empty value (all of a section's keys commented out) means that it is left out.
                schema = json!({ "description": field.doc, "anyOf": [schema, { "type": "null" }] });
            }
            properties.insert(field.name.to_owned(), schema);
        }
        self.json.insert(
            name.to_owned(),
            json!({
                "type": "object", "description": doc, "additionalProperties": false,
                "properties": properties, "required": required,
            }),
        );
        self.sections[place].fields = fields;
        reference
    }
}
