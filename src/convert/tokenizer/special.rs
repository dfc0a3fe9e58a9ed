//! Tokens with a role, what is added to every text, and chat templates.

use std::collections::HashMap;
use std::fs;

use serde_json::Value;

use super::json::{Kind, TokenizerJson};
use super::{Token, ids};
use crate::convert::hf::{Field, Folder, Section, read_file};
use crate::convert::metadata::Keys;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::KeyValue;

/// Roles in the words of both worlds; "seperator" is GGUF's spelling.
const ROLES: [(&str, &str); 7] = [
    ("bos", "bos"),
    ("eos", "eos"),
    ("unk", "unknown"),
    ("sep", "seperator"),
    ("pad", "padding"),
    ("cls", "cls"),
    ("mask", "mask"),
];

/// Writes the ids of tokens with a role, and what is added to texts. Gives the token that ends sequences.
///
/// # Errors
/// [`ErrorKind::Model`] when a file has a key of another type.
pub(super) fn write(
    folder: &Folder,
    json: Option<&TokenizerJson>,
    tokens: &[Token],
    keys: &mut Keys,
) -> Result<Option<u32>> {
    let by_text = ids(tokens);
    let map = Section::read_if_present(&folder.path.join("special_tokens_map.json"))?;
    let mut found: HashMap<&str, u32> = HashMap::new();
    for (role, name) in ROLES {
        let named = |section: &Option<Section>| -> Option<u32> {
            let text = section.as_ref().and_then(|s| text_of(s.value(&format!("{role}_token"))?))?;
            by_text.get(text.as_bytes()).copied()
        };
        let configured = || -> Result<Option<u32>> {
            let list = folder.config.uints(&format!("{role}_token_id"))?;
            Ok(list.first().copied().filter(|id| (*id as usize) < tokens.len()))
        };
        let id = match named(&folder.tokenizer_config) {
            Some(id) => Some(id),
            None => configured()?.or_else(|| named(&map)),
        };
        if let Some(id) = id {
            found.insert(role, id);
            if role != "cls" {
                keys.set(format!("tokenizer.ggml.{name}_token_id"), id);
            }
        }
    }
    // Readers know two tokens around a text, by the names of those that begin and end sequences.
    for (role, stands_in, name) in [("bos", "cls", "bos"), ("eos", "sep", "eos")] {
        if let (None, Some(&id)) = (found.get(role), found.get(stands_in)) {
            keys.set(format!("tokenizer.ggml.{name}_token_id"), id);
        }
    }
    let mut adds = json.map(|j| added_around(j, &found, &by_text)).unwrap_or_default();
    if let Some(config) = &folder.tokenizer_config {
        for (role, slot) in [("bos", &mut adds.bos), ("eos", &mut adds.eos), ("sep", &mut adds.sep)] {
            if let Some(add) = config.value(&format!("add_{role}_token")).and_then(Value::as_bool) {
                *slot = Some(add);
            }
        }
    }
    for (role, add) in [("bos", adds.bos), ("eos", adds.eos), ("sep", adds.sep)] {
        if let Some(add) = add {
            keys.set(format!("tokenizer.ggml.add_{role}_token"), add);
        }
    }
    Ok(found.get("eos").copied())
}

/// `"</s>"` or `{"content": "</s>"}`.
fn text_of(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// Whether texts get a token in front, behind, and between the two of a pair.
#[derive(Debug, Default)]
struct Adds {
    bos: Option<bool>,
    eos: Option<bool>,
    sep: Option<bool>,
}

/// What the `post_processor` adds.
fn added_around(json: &TokenizerJson, roles: &HashMap<&str, u32>, by_text: &HashMap<&[u8], u32>) -> Adds {
    // Without a template of its own the tokenizer adds nothing.
    let mut adds = Adds { bos: Some(false), eos: Some(false), sep: None };
    for step in json.steps("post_processor") {
        match step.get("type").and_then(Value::as_str) {
            Some("TemplateProcessing") => {
                let template = |key: &str| step.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let special = |part: Option<&Value>| {
                    let id = part.and_then(|p| p.get("SpecialToken")?.get("id")?.as_str());
                    id.and_then(|text| by_text.get(text.as_bytes()).copied())
                };
                let has = |id: Option<u32>, wanted: &[&str]| {
                    id.is_some() && wanted.iter().any(|role| roles.get(role).copied() == id)
                };
                let (single, pair) = (template("single"), template("pair"));
                if single.len() > 1 {
                    adds.bos = Some(has(special(single.first()), &["bos", "cls"]));
                    adds.eos = Some(has(special(single.last()), &["eos", "sep"]));
                }
                // The one that ends the first text is no separator yet.
                let ends = usize::from(adds.eos == Some(true));
                let inner = pair.get(1..pair.len().saturating_sub(1)).unwrap_or(&[]);
                let n_sep = inner.iter().filter(|part| has(special(Some(part)), &["sep"])).count();
                adds.sep = Some(n_sep > ends);
            }
            // Readers add these to texts of pieces of words.
            Some("BertProcessing") if json.kind().is_ok_and(|k| k == Kind::WordPiece) => adds = Adds::default(),
            Some("RobertaProcessing" | "BertProcessing") => {
                adds = Adds { bos: Some(true), eos: Some(true), sep: Some(true) };
            }
            _ => {}
        }
    }
    adds
}

/// Further tokens that end an answer, which `generation_config.json` lists beside the one that ends sequences.
///
/// # Errors
/// [`ErrorKind::Model`] when the list is none.
pub(super) fn further_ends(folder: &Folder, eos: u32, keys: &mut Keys) -> Result<()> {
    let name = folder.key(Field::Eos);
    let mut ends = match &folder.generation {
        Some(generation) => generation.uints(name)?,
        None => Vec::new(),
    };
    if ends.len() < 2 {
        ends = folder.config.uints(name)?;
    }
    let further = ends.into_iter().filter(|id| *id != eos);
    for (id, name) in further.zip(["eot", "eom"]) {
        keys.set(format!("tokenizer.ggml.{name}_token_id"), id);
    }
    Ok(())
}

/// Writes chat templates: `chat_template.jinja`, else those of `chat_template.json` or `tokenizer_config.json`, and
/// named ones.
///
/// # Errors
/// [`ErrorKind::Io`] or [`ErrorKind::Model`] when a file cannot be read.
pub(super) fn templates(folder: &Folder, keys: &mut Keys) -> Result<()> {
    let mut named: Vec<(String, String)> = Vec::new();
    for section in
        [Section::read_if_present(&folder.path.join("chat_template.json"))?.as_ref(), folder.tokenizer_config.as_ref()]
            .into_iter()
            .flatten()
    {
        match section.value("chat_template") {
            Some(Value::String(text)) => named.push((DEFAULT.into(), text.clone())),
            Some(Value::Array(list)) => {
                for entry in list {
                    let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
                    match (text("name"), text("template")) {
                        (Some(name), Some(template)) => named.push((name, template)),
                        _ => return Err(section.error("chat_template", "other entries", "`name` and `template`")),
                    }
                }
            }
            Some(other) => return Err(section.error("chat_template", other, "a text or a list")),
            None => {}
        }
    }
    let file = folder.path.join("chat_template.jinja");
    if file.is_file() {
        named.insert(0, (DEFAULT.into(), text_file(&file)?));
    }
    let further = folder.path.join("additional_chat_templates");
    if further.is_dir() {
        let entries = fs::read_dir(&further).map_err(|e| Error::io("cannot read the folder", &further, e))?;
        let mut paths: Vec<_> = entries.flatten().map(|e| e.path()).collect();
        paths.sort();
        for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "jinja")) {
            let name = path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            named.push((name, text_file(path)?));
        }
    }
    let mut names: Vec<String> = Vec::new();
    let mut has_default = false;
    for (name, template) in named {
        if name == DEFAULT {
            if !has_default {
                keys.set("tokenizer.chat_template", template);
            }
            has_default = true;
        } else if !names.contains(&name) {
            // Names become parts of keys.
            let part: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
            keys.set(format!("tokenizer.chat_template.{part}"), template);
            names.push(part);
        }
    }
    if !names.is_empty() {
        keys.set("tokenizer.chat_templates", KeyValue::strings(names));
    }
    Ok(())
}

const DEFAULT: &str = "default";

fn text_file(path: &std::path::Path) -> Result<String> {
    String::from_utf8(read_file(path)?).map_err(|e| Error::new(ErrorKind::Model, "no UTF-8").in_file(path).caused_by(e))
}
