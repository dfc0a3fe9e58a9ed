//! JSON schemas as the engine is to see them: every keyword is known and supported or refused by its name, references
//! are resolved, drafts are put as one (2020-12), and what the engine would read too widely is narrowed.
//!
//! The engine alone would pass over keywords that it does not know, take `1e999` for a number that readers can hold,
//! and count a property that is written twice as two.

use serde_json::{Map, Value, json};

use super::formats::FORMATS;
use super::pattern;
use crate::error::{Error, ErrorKind, Result, printable};

/// Keywords that change nothing about which texts are valid.
const ANNOTATIONS: [&str; 16] = [
    "$schema",
    "$id",
    "id",
    "$comment",
    "$defs",
    "definitions",
    "$anchor",
    "title",
    "description",
    "default",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$vocabulary",
];
/// Keywords of JSON Schema that no grammar of the engine can hold an answer to.
const UNSUPPORTED: [&str; 19] = [
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "uniqueItems",
    "propertyNames",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
    "contentEncoding",
    "contentMediaType",
];
const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];
/// Schemas in one another at most, and schemas in all.
const MAX_DEPTH: usize = 100;
const MAX_SCHEMAS: usize = 50_000;
/// Every reader of JSON holds integers up to here exactly (RFC 8259, section 6).
const MAX_NUMBER: i64 = (1 << 53) - 1;
/// Blanks between the parts of a text, as llama.cpp allows them: a model cannot write blanks for ever.
const WHITE_SPACE: &str = r"( |\n{1,2}[ \t]{0,20})";
/// Without `\u` a text has one spelling, so that a property cannot be written twice in two of them.
const ESCAPES: &str = "nrbtf\\\"";
/// The name of the schema that takes everything.
const ANY: &str = "any";

/// Reads a schema and puts it as the engine is to compile it.
///
/// # Errors
/// Usage: no JSON, with line and column; a keyword that is not supported, by name and place.
pub(super) fn prepare(text: &str) -> Result<Value> {
    let root: Value = serde_json::from_str(text).map_err(|e| {
        let place = format!("JSON schema: line {}, column {}: ", e.line(), e.column());
        let what = e.to_string();
        let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what);
        Error::new(ErrorKind::Usage, place + what)
    })?;
    let mut merges = false;
    find_merges(&root, &mut merges);
    let mut reader = Reader { root: &root, targets: Vec::new(), edges: Vec::new(), n_schema: 0, merges };
    let start = reader.target("#", "#")?;
    let mut defs = Map::new();
    let mut next = 0;
    while let Some(pointer) = reader.targets.get(next).cloned() {
        let schema = reader.resolve(&pointer, &pointer)?;
        reader.edges.push(Vec::new());
        let schema = reader.schema(schema, &Place { path: pointer, depth: 0, within: Some(next) })?;
        defs.insert(format!("s{next}"), schema);
        next += 1;
    }
    reader.check_cycles()?;
    defs.insert(ANY.into(), any());
    Ok(json!({
        "x-guidance": { "whitespace_pattern": WHITE_SPACE, "json_allowed_escapes": ESCAPES },
        "$ref": start,
        "$defs": defs,
    }))
}

/// Everything, with numbers that readers can hold.
fn any() -> Value {
    let this = json!({ "$ref": format!("#/$defs/{ANY}") });
    json!({ "anyOf": [
        { "type": "null" },
        { "type": "boolean" },
        { "type": "number", "minimum": -MAX_NUMBER, "maximum": MAX_NUMBER },
        { "type": "string" },
        { "type": "array", "items": this },
        { "type": "object", "additionalProperties": this },
    ] })
}

/// Are there schemas that are met together? The engine then intersects them, which a schema that refers to itself
/// everywhere, as [`any`] does, would not survive.
fn find_merges(value: &Value, merges: &mut bool) {
    match value {
        Value::Object(map) => {
            let is_option = |k: &str| matches!(k, "anyOf" | "oneOf" | "$ref");
            let is_plain = |k: &str| !ANNOTATIONS.contains(&k) && !is_option(k);
            let n_option = map.keys().filter(|k| is_option(k)).count();
            *merges |= map.contains_key("allOf") || map.contains_key("patternProperties");
            *merges |= n_option > 1 || n_option == 1 && map.keys().any(|k| is_plain(k));
            map.values().for_each(|v| find_merges(v, merges));
        }
        Value::Array(items) => items.iter().for_each(|v| find_merges(v, merges)),
        _ => {}
    }
}

/// Where a schema stands.
#[derive(Clone)]
struct Place {
    /// A JSON pointer.
    path: String,
    depth: usize,
    /// The target whose texts are texts of this schema, with nothing around them.
    within: Option<usize>,
}

impl Place {
    fn of(&self, key: &str) -> Self {
        Self { path: format!("{}/{}", self.path, escaped(key)), depth: self.depth + 1, within: self.within }
    }

    /// A part of a text of this schema.
    fn part(&self, key: &str) -> Self {
        Self { within: None, ..self.of(key) }
    }

    fn error(&self, what: impl std::fmt::Display) -> Error {
        let path = if self.path == "#" { "#/" } else { &self.path };
        Error::new(ErrorKind::Usage, format!("JSON schema: {}: {what}", printable(path)))
    }
}

struct Reader<'r> {
    root: &'r Value,
    /// Pointers that are referred to; their schemas become definitions.
    targets: Vec<String>,
    /// For each target the targets that its texts are texts of.
    edges: Vec<Vec<usize>>,
    n_schema: usize,
    merges: bool,
}

impl<'r> Reader<'r> {
    /// The reference to a target, by the engine's name for it.
    fn target(&mut self, reference: &str, from: &str) -> Result<String> {
        self.resolve(reference, from)?;
        let place = self.targets.iter().position(|t| t == reference).unwrap_or_else(|| {
            self.targets.push(reference.to_owned());
            self.targets.len() - 1
        });
        Ok(format!("#/$defs/s{place}"))
    }

    /// The schema that a reference means.
    fn resolve(&self, reference: &str, from: &str) -> Result<&'r Value> {
        let at = Place { path: from.to_owned(), depth: 0, within: None };
        let shown = printable(reference);
        let id = self.root.get("$id").and_then(Value::as_str).unwrap_or_default();
        let local = reference.strip_prefix(id.trim_end_matches('#')).unwrap_or(reference);
        let Some(pointer) = local.strip_prefix('#').or(Some("").filter(|_| local.is_empty())) else {
            return Err(at.error(format!(
                "`$ref` to `{shown}`, which is elsewhere: only references within the schema \
                                         (`#/...`) are supported"
            )));
        };
        let decoded = decoded(pointer).ok_or_else(|| at.error(format!("`$ref` to `{shown}` is malformed")))?;
        let found = match decoded.strip_prefix('/') {
            None if decoded.is_empty() => Some(self.root),
            None => find_anchor(self.root, &decoded, 0),
            Some(_) => self.root.pointer(&decoded),
        };
        found.ok_or_else(|| at.error(format!("`$ref` to `{shown}`, which does not exist")))
    }

    /// Refuses targets whose texts are by definition texts of themselves.
    fn check_cycles(&self) -> Result<()> {
        let n = self.targets.len();
        for start in 0..n {
            let (mut seen, mut waiting) = (vec![false; n], self.edges[start].clone());
            while let Some(next) = waiting.pop() {
                if next == start {
                    let at = Place { path: self.targets[start].clone(), depth: 0, within: None };
                    return Err(at.error("this schema refers to itself without a property or an item in between"));
                }
                if !std::mem::replace(&mut seen[next], true) {
                    waiting.extend(&self.edges[next]);
                }
            }
        }
        Ok(())
    }

    fn schema(&mut self, schema: &Value, at: &Place) -> Result<Value> {
        self.n_schema += 1;
        if self.n_schema > MAX_SCHEMAS {
            return Err(at.error(format!("more than {MAX_SCHEMAS} schemas")));
        }
        if at.depth > MAX_DEPTH {
            return Err(at.error(format!("more than {MAX_DEPTH} schemas in one another")));
        }
        match schema {
            Value::Bool(true) => Ok(self.everything()),
            Value::Bool(false) => Ok(Value::Bool(false)),
            Value::Object(map) => self.object(map, at),
            _ => Err(at.error("a schema is an object, `true` or `false`")),
        }
    }

    fn everything(&self) -> Value {
        if self.merges { Value::Bool(true) } else { json!({ "$ref": format!("#/$defs/{ANY}") }) }
    }

    fn object(&mut self, map: &Map<String, Value>, at: &Place) -> Result<Value> {
        let mut out = Map::new();
        if let Some(value) = map.get("type") {
            out.insert("type".into(), types(value, at)?);
        }
        for (key, value) in map {
            self.keyword(key, value, map, at, &mut out)?;
        }
        if out.is_empty() {
            return Ok(self.everything());
        }
        let is = |names: &[&str], out: &Map<String, Value>| match out.get("type") {
            Some(Value::String(ty)) => names.contains(&ty.as_str()),
            Some(Value::Array(all)) => all.iter().any(|ty| ty.as_str().is_some_and(|ty| names.contains(&ty))),
            // What is said of no type is said of all; options and constants bring their own.
            _ => !["$ref", "enum", "const", "anyOf", "oneOf", "allOf"].iter().any(|k| out.contains_key(*k)),
        };
        let is_listed = out.contains_key("enum") || out.contains_key("const");
        if is(&["number", "integer"], &out) && !is_listed {
            let bound = |keys: [&str; 2]| keys.iter().find_map(|k| out.get(*k)).and_then(Value::as_f64);
            let (low, high) = (bound(["minimum", "exclusiveMinimum"]), bound(["maximum", "exclusiveMaximum"]));
            let limit = MAX_NUMBER as f64;
            if low.is_none() && high.is_none_or(|high| high > -limit) {
                out.insert("minimum".into(), (-MAX_NUMBER).into());
            }
            if high.is_none() && low.is_none_or(|low| low < limit) {
                out.insert("maximum".into(), MAX_NUMBER.into());
            }
        }
        if is(&["object"], &out) && !is_listed && !self.merges && !out.contains_key("additionalProperties") {
            out.insert("additionalProperties".into(), self.everything());
        }
        if is(&["array"], &out) && !is_listed && !self.merges && !out.contains_key("items") {
            out.insert("items".into(), self.everything());
        }
        self.check_counts(map, at)?;
        Ok(Value::Object(out))
    }

    fn keyword(
        &mut self,
        key: &str,
        value: &Value,
        map: &Map<String, Value>,
        at: &Place,
        out: &mut Map<String, Value>,
    ) -> Result<()> {
        let here = at.of(key);
        let converted = match key {
            "type" => return Ok(()),
            "$id" | "id" if at.path != "#" && value.is_string() => {
                return Err(at.error(format!("`{key}` is supported at the root alone")));
            }
            _ if ANNOTATIONS.contains(&key) || key.starts_with("x-") => return Ok(()),
            "$ref" => {
                let reference = value.as_str().ok_or_else(|| here.error("a reference is a string"))?;
                let target = self.target(reference, &at.path)?;
                let place = self.targets.iter().position(|t| t == reference);
                if let (Some(within), Some(place)) = (at.within, place) {
                    self.edges[within].push(place);
                }
                Value::String(target)
            }
            "enum" => match value.as_array() {
                Some(values) if !values.is_empty() => value.clone(),
                _ => return Err(here.error("`enum` is a list of at least one value")),
            },
            "const" => value.clone(),
            "allOf" | "anyOf" | "oneOf" => {
                let options = list(value, &here)?.iter().enumerate().map(|(i, option)| {
                    let place = here.of(&i.to_string());
                    // Options can be told apart only where they are seen.
                    if key == "oneOf" { self.inlined(option, &place) } else { self.schema(option, &place) }
                });
                Value::Array(options.collect::<Result<_>>()?)
            }
            "properties" | "patternProperties" => {
                let properties = value.as_object().ok_or_else(|| here.error(format!("`{key}` is an object")))?;
                let mut converted = Map::new();
                for (name, schema) in properties {
                    let place = here.part(name);
                    let is_constant = self.constant(schema, &place)?;
                    let schema = if is_constant { self.inlined(schema, &place)? } else { self.schema(schema, &place)? };
                    let name = if key == "properties" { name.clone() } else { ecma(name, &place)? };
                    converted.insert(name, schema);
                }
                Value::Object(converted)
            }
            // Before 2020-12 a list of items was what `prefixItems` is now, and the rest `additionalItems`.
            "items" if value.is_array() => {
                out.insert("prefixItems".into(), self.parts(value, &here)?);
                return Ok(());
            }
            "prefixItems" => self.parts(value, &here)?,
            "additionalItems" => {
                if map.get("items").is_some_and(Value::is_array) {
                    let rest = self.schema(value, &at.part(key))?;
                    out.insert("items".into(), rest);
                }
                return Ok(());
            }
            "items" | "additionalProperties" => self.schema(value, &at.part(key))?,
            "required" => {
                if !list(value, &here)?.iter().all(Value::is_string) {
                    return Err(here.error("`required` is a list of names"));
                }
                value.clone()
            }
            "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties" => {
                let count = value.as_u64().or_else(|| value.as_f64().filter(|x| x.fract() == 0.0).map(|x| x as u64));
                let count = count.filter(|n| *n <= 1_000_000_000 && !value.as_f64().is_some_and(|x| x < 0.0));
                count.ok_or_else(|| here.error(format!("`{key}` is a count up to 1,000,000,000")))?.into()
            }
            "minimum" | "maximum" if value.is_number() => value.clone(),
            // In draft 4 these said whether the bound itself is left out.
            "exclusiveMinimum" | "exclusiveMaximum" if value.is_number() || value.is_boolean() => value.clone(),
            "multipleOf" if value.as_f64().is_some_and(|x| x > 0.0 && x <= 65_536.0) => value.clone(),
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
                return Err(here.error(format!("`{key}` is a number")));
            }
            "multipleOf" => return Err(here.error("`multipleOf` is supported above 0 and up to 65536")),
            "pattern" => {
                let text = value.as_str().ok_or_else(|| here.error("`pattern` is a string"))?;
                Value::String(ecma(text, &here)?)
            }
            "format" => {
                let name = value.as_str().ok_or_else(|| here.error("`format` is a string"))?;
                let Some((_, regex)) = FORMATS.iter().find(|(known, _)| *known == name) else {
                    let known: Vec<&str> = FORMATS.iter().map(|(known, _)| *known).collect();
                    let text = format!("the `format` `{}` is not supported", printable(name));
                    return Err(here.error(text).with_hint(format!("formats are {}", known.join(", "))));
                };
                // A `pattern` may stand beside it; other types than strings are free of both.
                let all_of = out.entry("allOf").or_insert_with(|| Value::Array(Vec::new()));
                if let (Value::Array(parts), Some(ty)) = (all_of, map.get("type").cloned()) {
                    parts.push(json!({ "type": ty, "pattern": regex }));
                } else {
                    out.remove("allOf");
                    out.insert("pattern".into(), (*regex).into());
                }
                return Ok(());
            }
            _ if UNSUPPORTED.contains(&key) => {
                return Err(at.error(format!("the keyword `{key}` is not supported")));
            }
            _ => {
                let text = format!("`{}` is no keyword of JSON Schema", printable(key));
                return Err(at
                    .error(text)
                    .with_hint("a misspelt keyword would be ignored; own keywords begin with `x-`"));
            }
        };
        // An `allOf` may be there already, from a format.
        match (out.get_mut(key), converted) {
            (Some(Value::Array(there)), Value::Array(more)) if key == "allOf" => there.extend(more),
            (_, converted) => {
                out.insert(key.into(), converted);
            }
        }
        Ok(())
    }

    /// The schemas of the first items.
    fn parts(&mut self, value: &Value, at: &Place) -> Result<Value> {
        let items = list(value, at)?.iter().enumerate();
        let items = items.map(|(i, item)| self.schema(item, &at.part(&i.to_string())));
        items.collect::<Result<Vec<_>>>().map(Value::Array)
    }

    /// A schema with what it refers to in the place of the reference.
    fn inlined(&mut self, schema: &Value, at: &Place) -> Result<Value> {
        match reference(schema) {
            Some(reference) => {
                let target = self.resolve(reference, &at.path)?;
                self.inlined(target, &Place { path: reference.to_owned(), depth: at.depth + 1, within: at.within })
            }
            None => self.schema(schema, at),
        }
        .and_then(|out| if at.depth > MAX_DEPTH { Err(at.error("references lead to themselves")) } else { Ok(out) })
    }

    /// Does a schema refer to one of constants?
    fn constant(&self, schema: &Value, at: &Place) -> Result<bool> {
        let Some(reference) = reference(schema) else { return Ok(false) };
        let target = self.resolve(reference, &at.path)?;
        Ok(target.get("const").is_some() || target.get("enum").is_some())
    }

    /// Counts that the engine gets wrong are refused.
    fn check_counts(&self, map: &Map<String, Value>, at: &Place) -> Result<()> {
        let n_required = map.get("required").and_then(Value::as_array).map_or(0, Vec::len) as u64;
        let min = map.get("minProperties").and_then(Value::as_u64).unwrap_or(0);
        if min > n_required + 1 {
            let text = "`minProperties` is supported up to one more than there are `required` properties";
            return Err(at.error(text).with_hint("a property that is written twice would count as two"));
        }
        Ok(())
    }
}

/// The reference, where a schema is nothing else.
fn reference(schema: &Value) -> Option<&str> {
    let map = schema.as_object()?;
    let is_alone = map.keys().all(|k| k == "$ref" || ANNOTATIONS.contains(&k.as_str()) || k.starts_with("x-"));
    map.get("$ref").filter(|_| is_alone)?.as_str()
}

fn types(value: &Value, at: &Place) -> Result<Value> {
    let is_type = |v: &Value| v.as_str().is_some_and(|name| TYPES.contains(&name));
    let is_sound = is_type(value) || value.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(is_type));
    if is_sound { Ok(value.clone()) } else { Err(at.error(format!("`type` is one or a list of {}", TYPES.join(", ")))) }
}

fn list<'v>(value: &'v Value, at: &Place) -> Result<&'v Vec<Value>> {
    value
        .as_array()
        .filter(|items| !items.is_empty() || at.path.ends_with("required"))
        .ok_or_else(|| at.error("a list of at least one is expected here"))
}

fn ecma(text: &str, at: &Place) -> Result<String> {
    pattern::from_ecma(text).map_err(|what| at.error(format!("`pattern`: {what}")))
}

/// The schema with this `$anchor`.
fn find_anchor<'v>(value: &'v Value, name: &str, depth: usize) -> Option<&'v Value> {
    match value {
        _ if depth > MAX_DEPTH => None,
        Value::Object(map) if map.get("$anchor").and_then(Value::as_str) == Some(name) => Some(value),
        Value::Object(map) => map.values().find_map(|v| find_anchor(v, name, depth + 1)),
        Value::Array(items) => items.iter().find_map(|v| find_anchor(v, name, depth + 1)),
        _ => None,
    }
}

/// A key as a part of a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// A fragment of a URI without its percent signs.
fn decoded(text: &str) -> Option<String> {
    let (mut out, mut bytes) = (Vec::with_capacity(text.len()), text.bytes());
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).ok()
}
