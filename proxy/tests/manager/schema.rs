//! The interface's description of itself, held against its answers: as much of JSON schema as it uses.

use pgherd_testkit::{Context, Result, bail, ensure};
use serde_json::{Map, Value as Json};

use crate::web::all;

/// The document at `openapi.json`.
pub(crate) struct Schema(pub(crate) Json);

impl Schema {
    /// Each path with its methods.
    pub(crate) fn paths(&self) -> Result<Vec<(&str, Vec<&str>)>> {
        let paths = self.0["paths"].as_object().context("paths")?;
        Ok(paths.iter().map(|(path, it)| (path.as_str(), keys(it).collect())).collect())
    }

    /// Holds an answer against what is said of it.
    pub(crate) fn check(&self, method: &str, path: &str, status: &str, answer: &Json) -> Result<()> {
        let responses = &self.0["paths"][path][method]["responses"];
        ensure!(!responses[status].is_null(), "{method} {path} says nothing of {status}");
        self.fits(&responses[status]["content"]["application/json"]["schema"], answer, path)
    }

    /// Whether a value is what a schema of this name says.
    pub(crate) fn is_a(&self, name: &str, value: &Json) -> Result<()> {
        self.fits(&serde_json::json!({ "$ref": format!("#/components/schemas/{name}") }), value, name)
    }

    fn fits(&self, schema: &Json, value: &Json, at: &str) -> Result<()> {
        if let Some(name) = schema["$ref"].as_str() {
            let found = self.0.pointer(name.trim_start_matches('#'));
            return self.fits(found.with_context(|| format!("{at}: {name}"))?, value, at);
        }
        for whole in all(&schema["allOf"]) {
            self.fits(whole, value, at)?;
        }
        let choices = all(&schema["oneOf"]);
        if !choices.is_empty() && choices.iter().all(|it| self.fits(it, value, at).is_err()) {
            bail!("{at}: {value} is none of {choices:?}");
        }
        let kinds = match &schema["type"] {
            Json::String(kind) => vec![kind.as_str()],
            kinds => all(kinds).iter().filter_map(Json::as_str).collect(),
        };
        ensure!(
            kinds.is_empty() || kinds.iter().any(|kind| is(kind, value)),
            "{at}: {value} is no {kinds:?}"
        );
        let allowed = all(&schema["enum"]);
        ensure!(allowed.is_empty() || allowed.contains(value), "{at}: {value} is not in {allowed:?}");
        if let Json::Array(items) = value {
            for item in items {
                self.fits(&schema["items"], item, &format!("{at}[]"))?;
            }
        }
        if let (Json::Object(fields), Some(properties)) = (value, schema["properties"].as_object()) {
            self.has(schema, properties, fields, at)?;
        }
        Ok(())
    }

    fn has(
        &self,
        schema: &Json,
        properties: &Map<String, Json>,
        fields: &Map<String, Json>,
        at: &str,
    ) -> Result<()> {
        for name in all(&schema["required"]).iter().filter_map(Json::as_str) {
            ensure!(fields.contains_key(name), "{at} lacks {name}: {fields:?}");
        }
        for (name, field) in fields {
            let schema = properties.get(name).with_context(|| format!("{at} has {name}, which is new"))?;
            self.fits(schema, field, &format!("{at}.{name}"))?;
        }
        Ok(())
    }
}

fn keys(json: &Json) -> impl Iterator<Item = &str> {
    json.as_object().into_iter().flat_map(Map::keys).map(String::as_str)
}

fn is(kind: &str, value: &Json) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}
